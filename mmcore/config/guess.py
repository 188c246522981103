"""A first configuration from data, by looking at it: which source, which modalities, of what size, and a model of about the right size."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from mmcore.data import Source, as_source
from mmcore.data.decode import IMAGES, decode
from mmcore.errors import RequestError
from mmcore.plugins import Registry

SEEN = 200
"""Rows that are looked at, spread evenly over the data."""
CLASSES = 256
"""Most classes of a label; a column of more values that repeat is taken for a key of groups."""
REGIONS = 32
"""Most classes of a mask."""
SIDE = 32
"""Pixels that pictures are at most wide and high in a configuration to begin with; larger ones are made smaller."""
SMALL = 1024
"""Numbers of codes up to which a perceptron sees the whole space at once."""
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_FLAG = re.compile(r"has_(?P<a>.+)|(?P<b>.+)_present|present_(?P<c>.+)")
_PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_MASK = re.compile(r"mask|seg|annot|label_?map", re.I)


@attrs.frozen
class Column:
    """What a column was found to be.

    Attributes:
        name: of the column.
        plugin: the modality's; empty for a column that is left out.
        options: the modality's.
        note: why, or what was found, for a comment.
        size: height and width of its pictures; None where there are none or they differ.
        pictures: whether it holds pictures.
        missing: a value that stands for a missing one.
        present: a column that says whether there is a value.
    """

    name: str
    plugin: str = ""
    options: Mapping[str, Any] = attrs.field(factory=dict)
    note: str = ""
    size: tuple[int, int] | None = None
    pictures: bool = False
    missing: Any = None
    present: str = ""


def find_source(path: Path) -> tuple[str, dict[str, Any]]:
    """The source that reads what is at a path, and its options.

    Raises:
        RequestError: nothing there, or nothing that a source reads.
    """
    at = path.expanduser().absolute()
    if not at.exists():
        raise RequestError(f"init: there is nothing at {path}, expected a file or folder of data")
    if at.is_file():
        if at.suffix == ".npz":
            return "npz", {"path": str(at)}
        if at.suffix in TABLES:
            return "table", {"path": str(at)}
        if at.suffix == ".tar":
            return "shards", {"path": str(at)}
        if "ubyte" in at.name:
            return "idx", {"path": str(at.parent)}
    else:
        inside = sorted(one for one in at.iterdir() if not one.name.startswith("."))
        names = [one.name for one in inside]
        if any("ubyte" in name for name in names):
            return "idx", {"path": str(at)}
        if any(name.endswith(".tar") for name in names):
            return "shards", {"path": str(at)}
        if {"dataset_info.json", "dataset_dict.json"} & set(names):
            return "datasets", {"path": str(at)}
        if any(one.is_dir() and any(one.iterdir()) for one in inside):
            return "folder", {"path": str(at)}
        tables = [name for name in names if Path(name).suffix in TABLES]
        if len(tables) == 1:
            return "table", {"path": str(at / tables[0])}
        arrays = [name for name in names if name.endswith(".npz")]
        if len(arrays) == 1:
            return "npz", {"path": str(at / arrays[0])}
        if any(Path(name).suffix.lower() in IMAGES for name in names):
            return "folder", {"path": str(at.parent), "folders": {"image": at.name}, "tables": []}
    raise RequestError(
        f"init: {path} is nothing that a source reads; expected an .npz file, IDX files (…-ubyte), a table ({', '.join(TABLES)}), "
        ".tar shards, a folder saved by datasets, or a folder of folders such as images/ and masks/"
    )


def look(source: Source) -> Iterator[Column]:
    """What each column of a source is, from some of its rows, and of labels from all."""
    count = len(source)
    rows = [source[i * count // min(count, SEEN)] for i in range(min(count, SEEN))]
    names = list(dict.fromkeys(name for row in rows for name in row))
    flags = {next(filter(None, found.groups())): name for name in names if (found := _FLAG.fullmatch(name))}
    split = own_parts(source, names)[0]
    for name in names:
        if name == split:
            yield Column(name, note="says which part a row is of")
            continue
        if name in flags.values() and any(name == flags.get(other) for other in names):
            yield Column(name, note=f"says whether there is {next(k for k, v in flags.items() if v == name)}")
            continue
        flag = flags.get(name, "")
        values = [decode(row[name]) for row in rows if name in row and (not flag or row[flag])]
        values = [value for value in values if value is not None]
        column = _column(name, values, source) if values else Column(name, note="no value in the rows looked at")
        yield attrs.evolve(column, present=flag if flag in names else "")


def own_parts(source: Source, names: Sequence[str]) -> tuple[str, dict[str, list[str]]]:
    """The column called split, if each of its values is a part's name, and those of each held-out part; empty where there is none."""
    name = next((name for name in names if name.lower() == "split"), "")
    values = source.column(name) if name else []
    words = sorted({value for value in values if isinstance(value, str)})
    found: dict[str, list[str]] = {}
    for word in words:
        found.setdefault(_PARTS.get(word.lower(), ""), []).append(word)
    if not all(isinstance(value, str) for value in values) or "" in found or not {"train"} < found.keys():
        return "", {}
    return name, {part: found[part] for part in ("validation", "test") if part in found}


def _column(name: str, values: list[Any], source: Source) -> Column:
    first = values[0]
    if hasattr(first, "mode"):
        return _pictures(name, [np.asarray(value) for value in values], palette=first.mode in ("1", "P"))
    if isinstance(first, str | Path):
        return _words(name, source) if isinstance(first, str) else Column(name, note=f"files of {Path(first).suffix}")
    if isinstance(first, list):
        values, first = [np.asarray(value) for value in values], np.asarray(first)
    if isinstance(first, np.ndarray) and first.ndim:
        if first.ndim in (2, 3):
            return _pictures(name, values)
        if first.ndim == 1 and all(value.shape == first.shape for value in values):
            return _vectors(name, np.stack(values))
        return Column(name, note=f"arrays of shape {first.shape}, which no first-party modality reads")
    if isinstance(first, bool):
        return Column(name, note="true or false")
    if isinstance(first, int):
        return _classes(name, source)
    return Column(name, note=f"{type(first).__name__} values, which no first-party modality reads")


def _pictures(name: str, values: list[np.ndarray], *, palette: bool = False) -> Column:
    shapes = {value.shape for value in values}
    sizes = {shape[:2] if len(shape) == 2 or shape[-1] in (1, 2, 3, 4) else shape[1:] for shape in shapes}
    size = next(iter(sizes)) if len(sizes) == 1 else None
    flat = all(len(shape) == 2 for shape in shapes)
    whole = all(value.dtype.kind in "bui" for value in values)
    found = np.unique(np.concatenate([np.unique(value) for value in values])) if flat and whole else np.zeros(0)
    classes = [int(one) for one in found]
    # A picture with few grey levels is one of levels, not of regions, unless its name says so.
    if classes and (palette or values[0].dtype == bool or _MASK.search(name)) and len(classes) <= REGIONS + 1:
        if len(classes) == 2 and classes != [0, 1]:
            # With one of them as void there would be but one class left.
            note = f"class maps of the two values {classes[0]} and {classes[1]}"
            return Column(name, "mask", {"values": classes}, note, size, True)
        void = 255 if classes[-1] == 255 and len(classes) > 2 and classes[-2] < REGIONS else None
        top = classes[-2] if void is not None else classes[-1]
        if classes[0] >= 0 and top < REGIONS:
            options: dict[str, Any] = {"classes": max(2, top + 1)} | ({} if void is None else {"void": void})
            note = f"class maps; values {classes[0]} … {top}" + (f" and {void}, taken for void" if void else "")
            return Column(name, "mask", options, note, size, True)
    first = next(iter(shapes))
    channels = 1 if flat else first[-1] if first[-1] in (1, 3, 4) else first[0]
    if channels not in (1, 3, 4):
        return Column(name, note=f"arrays of shape {first}, which no first-party modality reads")
    return Column(
        name, "image", {"channels": channels}, "pictures" + (" of several sizes" * (size is None)), size, True
    )


def _vectors(name: str, values: np.ndarray) -> Column:
    width = values.shape[1]
    if values.dtype == bool:
        return Column(name, "label", {"classes": width, "multi": True}, f"{width} yes-or-no labels")
    if values.dtype.kind != "f" or width < 2:
        return Column(name, note=f"vectors of {values.dtype}, which no first-party modality reads")
    norms = np.linalg.norm(values.astype(np.float64), axis=1)
    # Half precision keeps a norm to about a thousandth.
    unit = bool((np.abs(norms - 1) < 5e-3).all())
    where = "norm 1" if unit else f"norms {norms.min():.3g} … {norms.max():.3g}"
    return Column(name, "clip", {"width": width, "unit_norm": unit}, f"vectors of {width} numbers, {where}")


def _classes(name: str, source: Source) -> Column:
    values = [int(v) for v in source.column(name) if v is not None]
    low, high, distinct = min(values), max(values), len(set(values))
    missing = -1 if low == -1 else None
    if missing is not None:
        low = min((v for v in values if v != -1), default=0)
    if low < 0 or high >= CLASSES or high < 1:
        return Column(name, note=f"whole numbers {min(values)} … {high}, {distinct} different ones")
    return Column(name, "label", {"classes": high + 1}, f"classes {low} … {high}", missing=missing)


def _words(name: str, source: Source) -> Column:
    values = [str(v) for v in source.column(name) if v is not None]
    distinct = sorted(set(values))
    if 2 <= len(distinct) <= CLASSES and len(values) >= 2 * len(distinct):
        return Column(name, "label", {"classes": len(distinct), "names": distinct}, f"{len(distinct)} different words")
    return Column(name, note=f"texts, {len(distinct)} different ones; [[data.embed]] can make vectors of them")


def groups(columns: Sequence[Column], source: Source) -> str:
    """The column whose values say which rows belong together, being many and repeated; empty where there is none."""
    best = ("", math.inf)
    for column in columns:
        if column.plugin or not re.match(r"whole numbers|texts", column.note):
            continue
        values = [v for v in source.column(column.name) if v is not None]
        distinct = len(set(values))
        if CLASSES < distinct <= 0.8 * len(source) and distinct < best[1]:
            best = (column.name, distinct)
    return best[0]


def configuration(path: Path, registry: Registry, *, out: str = "") -> str:
    """A commented configuration for the data at a path.

    Args:
        path: a file or folder.
        registry: where sources are found.
        out: of the run; by default named after the data.

    Raises:
        RequestError: no data there, or nothing in them that a modality reads.
    """
    name, options = find_source(path)
    source = as_source(registry.source(name, **options))
    columns = list(look(source))
    names = _names(name, options, columns)
    columns = [_with_names(column, names) for column in columns]
    used = [column for column in columns if column.plugin]
    if not used:
        raise RequestError(
            f"init: found {', '.join(f'{c.name} ({c.note})' for c in columns) or 'no column'} in {path}, expected pictures, "
            "class maps, labels or vectors; write the configuration by hand, or a plugin that reads them"
        )
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", path.absolute().name.split(".")[0]).strip("-") or "data"
    return "\n".join(_lines(stem, out or f"runs/{stem}", name, options, columns, used, source)) + "\n"


def _names(source: str, options: Mapping[str, Any], columns: Sequence[Column]) -> dict[str, list[str]]:
    """The classes' names that an .npz file holds beside its rows, as ``group_names`` for ``group``."""
    if source != "npz":
        return {}
    with np.load(options["path"], allow_pickle=False) as file:
        found = {}
        for column in columns:
            for key in (f"{column.name}_names", "class_names"):
                if key in file.files and file[key].dtype.kind == "U" and column.plugin == "label":
                    found.setdefault(column.name, [str(one) for one in file[key]])
        return found


def _with_names(column: Column, names: Mapping[str, list[str]]) -> Column:
    here = names.get(column.name, [])
    if len(here) != column.options.get("classes") or len(set(here)) != len(here):
        return column
    return attrs.evolve(column, options={**column.options, "names": here})


def _lines(
    stem: str,
    out: str,
    name: str,
    options: Mapping[str, Any],
    columns: Sequence[Column],
    used: Sequence[Column],
    source: Source,
) -> Iterator[str]:
    variables = _variables(used)
    size, resized = _size(used)
    yield f"# Written by mmcore init from {len(source):,} rows; every line may be changed. mmcore config prints all there is to say."
    yield f"out = {_toml(out)}"
    yield "seed = 0"
    yield ""
    yield "[data]"
    yield f"source = {_toml(name)}"
    yield f"options = {_toml(options)}"
    renamed = [
        (variables[c.name], c) for c in used if variables[c.name] != c.name or c.present or c.missing is not None
    ]
    if renamed:
        yield ""
        yield "[data.columns]  # where a variable's values are, and which rows have one"
        for variable, column in renamed:
            if column.present or column.missing is not None:
                table = {"column": column.name}
                table |= {"present": column.present} if column.present else {}
                table |= {"missing": [column.missing]} if column.missing is not None else {}
                yield f"{variable} = {_toml(table)}"
            else:
                yield f"{variable} = {_toml(column.name)}"
    split, parts = own_parts(source, [column.name for column in columns])
    validated = not split or "validation" in parts
    yield ""
    if split:
        yield "[data.split]  # the data's own parts; rows of no part named here are for training"
        yield f"by = {_toml(split)}"
        yield f"values = {_toml(parts)}"
    else:
        key = groups(columns, source)
        yield "[data.split]  # rows kept aside, by a hash: for validation while training, and for mmcore evaluate"
        if key:
            yield f"by = {_toml(key)}  # rows of one {key} stay together"
        # Of few rows a hash could leave a small share without any.
        share = 0.05 if len(source) >= 400 else 0.2
        yield f"validation = {share}"
        if name != "idx":
            yield f"test = {share}"
    if resized and size:
        yield ""
        yield f"[[data.transforms]]  # {SIDE} pixels at most are for a CPU: more on a GPU; masks are resized to the nearest pixel"
        yield 'kind = "resize"'
        yield f"size = {_toml(list(size))}"
        yield 'fit = "cover"  # or "stretch"'
    for column in columns:
        if column.plugin:
            yield ""
            yield f"[modalities.{variables[column.name]}]  # {column.note}"
            yield f"plugin = {_toml(column.plugin)}"
            if column.pictures and size:
                yield f"size = {_toml(list(size) if size[0] != size[1] else size[0])}"
            for key_, value in column.options.items():
                yield f"{key_} = {_toml(value)}"
    left = [column for column in columns if not column.plugin]
    if left:
        yield ""
        yield "# Left out:"
        yield from (f"#   {column.name}: {column.note}" for column in left)
    yield ""
    yield "[tasks]  # a weight below 1 for pictures, so that their many pixels do not drown what is told in few numbers"
    for column in used:
        elements = _elements(column, size)
        if elements > 13:
            yield f"{variables[column.name]} = {{ weight = {_rounded(12.8 / elements)} }}"
    yield ""
    small = sum(_codes(column, size) for column in used) <= SMALL
    yield "[model]"
    yield from _backbone(used, size, small=small)
    yield ""
    yield "[training]  # under an hour on two cores; mmcore train --dry-run says what it takes here"
    yield "steps = 3000" if small else "steps = 2000"
    yield "batch_size = 64" if small else "batch_size = 32"
    yield "lr = 1e-3"
    yield "validate_every = 500" if validated else "validate_every = 0  # the data have no validation rows"
    yield "pictures_every = 500"
    yield ""
    yield "[training.roles]  # how often a row asks for everything, or gives one modality and asks for the rest"
    yield "joint = 0.35"
    yield "single = 0.35"
    yield ""
    yield "[sampling]"
    yield "n = 64"


def _variables(used: Sequence[Column]) -> dict[str, str]:
    """Each column's variable: its own name, where that is a name."""
    found: dict[str, str] = {}
    for column in used:
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", column.name).strip("_-")
        name = name if name[:1].isalpha() and name not in ("type", "forward", "train") else f"x_{name}"
        while name in found.values():
            name += "_"
        found[column.name] = name
    return found


def _size(used: Sequence[Column]) -> tuple[tuple[int, int] | None, bool]:
    """The size of all pictures in the model, and whether that is another than in the data."""
    pictures = [column for column in used if column.pictures]
    if not pictures:
        return None, False
    sizes = {column.size for column in pictures}
    if len(sizes) == 1 and (size := next(iter(sizes))) is not None and max(size) <= SIDE:
        return size, False
    known = [size for size in sizes if size is not None]
    height, width = known[0] if known else (SIDE, SIDE)
    scale = min(1.0, SIDE / max(height, width))
    return (_multiple(height * scale), _multiple(width * scale)), True


def _multiple(side: float) -> int:
    return max(8, round(side / 8) * 8)


def _elements(column: Column, size: tuple[int, int] | None) -> int:
    if column.pictures and size:
        return math.prod(size) * (column.options["channels"] if column.plugin == "image" else 1)
    return column.options.get("width", 1)


def _codes(column: Column, size: tuple[int, int] | None) -> int:
    if column.plugin == "mask" and size:
        classes = column.options.get("classes", 2)
        return math.prod(size) * (1 if classes == 2 else classes)
    return column.options["classes"] if column.plugin == "label" else _elements(column, size)


def _backbone(used: Sequence[Column], size: tuple[int, int] | None, *, small: bool) -> Iterator[str]:
    if small:
        yield 'backbone = "mlp"  # of a small space it sees every place at once'
        yield "backbone_options = { width = 256, depth = 4 }"
        return
    yield 'backbone = "transformer"'
    grid = size or (8,)
    patch = next(
        (p for p in (1, 2, 4, 8, 16) if all(s % p == 0 for s in grid) and math.prod(grid) // p ** len(grid) <= 100), 0
    )
    patch = patch or max(p for p in (1, 2, 4, 8, 16) if all(s % p == 0 for s in grid))
    tokens = math.prod(side // patch for side in grid)
    yield f"backbone_options = {{ width = 128, depth = 4, heads = 4, patch = {patch} }}  # {tokens} tokens"


def _rounded(x: float) -> float:
    return float(f"{x:.2g}")


def _toml(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{json.dumps(k)} = {_toml(v)}' if not k.isidentifier() else f'{k} = {_toml(v)}' for k, v in value.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    # TOML's strings are JSON's, but for one character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")

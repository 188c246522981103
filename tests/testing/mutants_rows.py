"""Sources, transforms and embedders broken on purpose, and those that must pass."""

import hashlib
import importlib
import os
import random
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from mmcore import RequestError, Rng
from mmcore.data.source import LazyRow, Source
from mmcore.data.sources.digits import Digits
from mmcore.data.sources.folder import Folder
from mmcore.data.sources.imagefolder import ImageFolder
from mmcore.data.sources.manifest import Manifest
from mmcore.data.sources.npz import Npz
from mmcore.data.sources.shards import Shards
from mmcore.data.transforms import Crop, Flip, Resize, Threshold, Transform
from tests.testing.mutants import Mutant
from tests.testing.mutants_streams import MUTANTS as STREAM_MUTANTS
from tests.testing.mutants_streams import STREAMS

# ---- sources ----

PARTS = ("train", "validation", "test")


class Waves(Source):
    """Forty rows that are made as they are asked for, some of which lack a value, in three parts."""

    disjoint: Any = {"hold_out": True}
    names: Any = ("wave", "label", "name")
    classes: Any = {"label": ("low", "middle", "high")}

    def __init__(self, part: str = "train", *, hold_out: bool = False) -> None:
        if part not in (*PARTS, "all"):
            raise RequestError(f"waves: part = {part!r}, expected one of {', '.join(PARTS)}, all")
        self.rows = [k for k in range(40) if part in ("all", self.part_of(k)) or (part == "train" and not hold_out and k % 5 == 1)]  # fmt: skip

    @staticmethod
    def part_of(k: int) -> str:
        return {0: "test", 1: "validation"}.get(k % 5, "train")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        k = self.rows[index]
        wave = np.sin(np.arange(8) * (1 + k) / 7).astype(np.float32)
        return {"wave": wave, "label": k % 3, "name": None if k % 7 == 6 else f"wave {k}"}

    def key(self, index: int) -> str:
        return str(self.rows[index])


class Streamed:
    """An iterable without a length, each pass of which begins anew."""

    def __iter__(self) -> Any:
        return (dict(Waves("all")[k]) for k in range(40))


class Lazy(Waves):
    """Rows whose values are read as they are asked for."""

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        whole = super().__getitem__(index)
        return LazyRow(list(whole), lambda name: Waves.__getitem__(self, index)[name])


class Listed(Source):
    """Rows of a list, without any word of their names."""

    def __init__(self) -> None:
        self.rows = [{"x": float(k), "y": [k, k + 1]} for k in range(12)]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return dict(self.rows[index])


_FILES: list[tempfile.TemporaryDirectory[str]] = []


def files() -> Path:
    """A folder with data in several layouts, written once."""
    if _FILES:
        return Path(_FILES[0].name)
    _FILES.append(tempfile.TemporaryDirectory(prefix="mmcore-mutants-"))
    at = Path(_FILES[0].name)
    pixels = Rng.for_rows(3, 30).integers(0, 256, 6, 8, 3).numpy().astype(np.uint8)
    labels = np.arange(30) % 3
    arrays = {"images": pixels, "labels": labels}
    parts = {"train": slice(0, 20), "val": slice(20, 25), "test": slice(25, 30)}
    np.savez(at / "plain.npz", **arrays)
    np.savez(at / "parts.npz", **{f"{part}_{name}": x[some] for part, some in parts.items() for name, x in arrays.items()})  # fmt: skip
    rows = ["image,label,size"]
    import tarfile

    for part, some in parts.items():
        (at / "shards").mkdir(exist_ok=True)
        with tarfile.open(at / "shards" / f"{part}-000.tar", "w") as tar:
            for k in range(30)[some]:
                for folder in (at / "classes" / part / "abc"[k % 3], at / "folder" / part / "images", at / "table"):
                    folder.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(pixels[k]).save(folder / f"{k:03}.png")
                tar.add(at / "table" / f"{k:03}.png", f"{k:03}.png")
                (at / "label.cls").write_text(str(labels[k]))
                tar.add(at / "label.cls", f"{k:03}.cls")
                rows.append(f"{k:03}.png,{labels[k]},{k / 3:.2f}" if k % 4 else f"{k:03}.png,,{k}.0")
    (at / "table" / "table.csv").write_text("\n".join(rows) + "\n")
    return at


def of_files(make: Callable[..., Any], name: str) -> Callable[..., Any]:
    """What makes a source of those files; it takes the source's own options."""

    class Made(make):  # type: ignore[misc, valid-type]
        pass

    def init(self: Any, *args: Any, **options: Any) -> None:
        make.__init__(self, files() / name, *args, **options)

    if "part" in make.__init__.__annotations__:

        def of_part(self: Any, part: str = "train", **options: Any) -> None:
            make.__init__(self, files() / name, part=part, **options)

        Made.__init__ = of_part  # type: ignore[method-assign]
    else:
        Made.__init__ = init  # type: ignore[method-assign]
    return Made


SOURCES: dict[str, Callable[..., Any]] = {
    **STREAMS,
    "digits": Digits, "waves": Waves, "streamed": Streamed, "read when asked": Lazy, "listed": Listed,
    "npz": of_files(Npz, "plain.npz"), "npz in parts": of_files(Npz, "parts.npz"), "table": of_files(Manifest, "table/table.csv"),
    "folder": of_files(Folder, "folder"), "imagefolder": of_files(ImageFolder, "classes"), "shards": of_files(Shards, "shards"),
}  # fmt: skip


def source(base: type = Waves, **changes: Any) -> Callable[[Path], Any]:
    """A source with methods or attributes changed."""
    return lambda _: type(f"Broken{base.__name__}", (base,), changes)


def giving(change: Callable[[Any, int, dict[str, Any]], Any]) -> Callable[[Path], Any]:
    """Waves whose row is ``change(self, index, row)``."""
    return source(__getitem__=lambda self, index: change(self, index, dict(Waves.__getitem__(self, index))))


def iterating(change: Callable[[Any], Any]) -> Callable[[Path], Any]:
    """Waves whose pass over all rows is another."""
    return source(__iter__=change)


class AnyName(Mapping[str, Any]):
    """A row that has a text for any name."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.row = row

    def __getitem__(self, name: str) -> Any:
        return self.row.get(name, "")

    def __iter__(self) -> Any:
        return iter(self.row)

    def __len__(self) -> int:
        return len(self.row)


class Shorter(AnyName):
    """A row that counts its values without those that are missing."""

    def __getitem__(self, name: str) -> Any:
        return self.row[name]

    def __len__(self) -> int:
        return sum(value is not None for value in self.row.values())


class Once(Waves):
    def __iter__(self) -> Any:
        if self.__dict__.setdefault("used", False):
            return iter(())
        self.used = True
        return super().__iter__()


class OneRow(Waves):
    def __iter__(self) -> Any:
        row: dict[str, Any] = {}
        for i in range(len(self)):
            row.clear()
            row.update(self[i])
            yield row


class OneCursor(Waves):
    """One place for all passes, as of one open file."""

    def __iter__(self) -> Any:
        self.at = 0
        while self.at < len(self):
            self.at += 1
            yield self[self.at - 1]


class OneArray(Waves):
    """Values of all rows in one array."""

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        row = dict(super().__getitem__(index))
        kept = self.__dict__.setdefault("kept", np.zeros(8, np.float32))
        kept[:] = row["wave"]
        return {**row, "wave": kept}


class HeldOpen(Waves):
    """A file that is open, which no copy by pickle has."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.file = open(os.devnull)  # noqa: SIM115


class Leaking(Waves):
    """A file opened for every row, and none closed."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.kept: list[Any] = []

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        self.kept.append(open(os.devnull))  # noqa: SIM115
        return super().__getitem__(index)


class Forgetful(Waves):
    """A copy by pickle that begins with the whole data."""

    def __reduce__(self) -> Any:
        return Forgetful, ("all",)


class HereOnly(Waves):
    """Rows that depend on where the process is."""

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return {**super().__getitem__(index), "name": os.getcwd() + str(index)}


class LateHere(Waves):
    """Rows that depend on where the process is when the first one is read."""

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        self.here = self.__dict__.get("here") or os.getcwd()
        return {**super().__getitem__(index), "name": self.here + str(index)}


class CopiedHere(LateHere):
    """The same; a copy forgets it."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "here"}

    def __init__(self, part: str = "train", *, hold_out: bool = False) -> None:
        super().__init__(part, hold_out=hold_out)
        self.here = os.getcwd()


class GoesOn(Waves):
    """A pass that begins behind the row that was read last by its index."""

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        self.at = index + 1
        return super().__getitem__(index)

    def __iter__(self) -> Any:
        start = self.__dict__.get("at", 0)
        return (Waves.__getitem__(self, k) for k in range(start if start < len(self) else 0, len(self)))


SET = """
from mmcore.data.source import Source

class OfASet(Source):
    def __init__(self):
        self.names_of = list({f"name {k}" for k in range(40)})

    def __len__(self):
        return len(self.names_of)

    def __getitem__(self, index):
        return {"name": self.names_of[index]}
"""


def of_a_set(folder: Path) -> Any:
    (folder / "set_of_rows_entry.py").write_text(SET)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    return importlib.import_module("set_of_rows_entry").OfASet


class Next(Waves):
    """The row after the one that was read last, whatever index is asked for."""

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        self.last = index if index == 0 else min(len(self) - 1, self.__dict__.get("last", -1) + 1)
        return super().__getitem__(self.last)


def with_part(change: Callable[[Any, str], list[int]]) -> Callable[[Path], Any]:
    """Waves with other rows in its parts."""

    def __init__(self: Any, part: str = "train", *, hold_out: bool = False) -> None:  # noqa: N807
        Waves.__init__(self, part, hold_out=hold_out)
        self.rows = change(self, part)

    return source(__init__=__init__)


def any_part(self: Any, part: str = "train", *, hold_out: bool = False) -> None:
    Waves.__init__(self, part if part in PARTS else "all", hold_out=hold_out)


SOURCE_MUTANTS = [
    Mutant("source.rows", "tuples for rows", iterating(lambda self: (tuple(self[i].items()) for i in range(20))), "source"),
    Mutant("source.rows", "a row without a value", giving(lambda self, k, row: row if k != 5 else dict.fromkeys(row)), "source"),
    Mutant("source.rows", "names with dots", giving(lambda self, k, row: {"wave.x": row["wave"]}), "source"),
    Mutant("source.rows", "a value that is read once", giving(lambda self, k, row: {**row, "wave": iter(row["wave"].tolist())}), "source"),
    Mutant("source.rows", "a text for any name", giving(lambda self, k, row: AnyName(row)), "source"),
    Mutant("source.rows", "a length without what is missing", giving(lambda self, k, row: Shorter(row)), "source"),
    Mutant("source.rows", "no row at all", iterating(lambda self: iter(())), "source"),
    Mutant("source.kinds", "a class by its number in one row and its name in the next", giving(lambda self, k, row: {**row, "label": row["label"] if k % 2 else ("low", "middle", "high")[row["label"]]}), "source"),
    Mutant("source.kinds", "an array of another dtype now and then", giving(lambda self, k, row: {**row, "wave": row["wave"] if k % 9 else row["wave"].astype(np.float64)}), "source"),
    Mutant("source.repeatable", "an iterator that is used up", lambda _: Once, "source"),
    Mutant("source.repeatable", "rows shuffled by the global generator", iterating(lambda self: (self[int(i)] for i in np.random.permutation(len(self)))), "source"),  # noqa: NPY002
    Mutant("source.repeatable", "an augmentation by torch's generator", giving(lambda self, k, row: {**row, "wave": row["wave"] * float(torch.rand(()))}), "source"),
    Mutant("source.repeatable", "one place for all passes", lambda _: OneCursor, "source"),
    Mutant("source.repeatable", "another order in another source made alike", source(__init__=lambda self, part="train", *, hold_out=False: (Waves.__init__(self, part, hold_out=hold_out), random.shuffle(self.rows))[0]), "source"),
    Mutant("source.alone", "the global generator seeded as it is made", source(__init__=lambda self, part="train", *, hold_out=False: (np.random.seed(3), Waves.__init__(self, part, hold_out=hold_out))[1]), "source"),  # noqa: NPY002
    Mutant("source.alone", "an environment variable set", giving(lambda self, k, row: (os.environ.update(MMCORE_MUTANT="1"), row)[1]), "source"),
    Mutant("source.alone", "a file left open by every row", lambda _: Leaking, "source"),
    Mutant("source.elsewhere", "rows that depend on where the process is", lambda _: HereOnly, "source"),
    Mutant("source.elsewhere", "rows that depend on where it is read first", lambda _: LateHere, "source"),
    Mutant("source.elsewhere", "a copy's rows that depend on where the worker is", lambda _: CopiedHere, "source"),
    Mutant("source.own_rows", "one dictionary for all rows", lambda _: OneRow, "source"),
    Mutant("source.own_rows", "one array for all rows", lambda _: OneArray, "source"),
    Mutant("source.length", "a length that counts one too many", source(__len__=lambda self: len(self.rows) + 1, __iter__=lambda self: (self[i] for i in range(len(self.rows)))), "source"),
    Mutant("source.length", "the next row for any index", lambda _: Next, "source"),
    Mutant("source.length", "a pass that leaves out the last row", iterating(lambda self: (self[i] for i in range(len(self) - 1))), "source"),
    Mutant("source.kinds", "NaN for what is missing", giving(lambda self, k, row: {**row, "label": float("nan") if k == 4 else float(row["label"])}), "source"),
    Mutant("source.length", "a pass that goes on where an index was read", lambda _: GoesOn, "source"),
    Mutant("source.processes", "rows in the order of a set", of_a_set, "source", "ci"),
    Mutant("source.workers", "an open file", lambda _: HeldOpen, "source"),
    Mutant("source.workers", "a copy that begins with the whole data", lambda _: Forgetful, "source"),
    Mutant("source.columns", "a name that no row has", source(names=("wave", "label", "name", "moon")), "source"),
    Mutant("source.columns", "a name that is not told", source(names=("wave", "label")), "source"),
    Mutant("source.columns", "a column in another order", source(column=lambda self, name: Waves.column(self, name)[::-1]), "source"),
    Mutant("source.columns", "a column without those that lack it", source(column=lambda self, name: [x for x in Waves.column(self, name) if x is not None]), "source"),
    Mutant("source.columns", "has that is always true", source(has=lambda self, name: [True] * len(self)), "source"),
    Mutant("source.columns", "a class too few", source(classes={"label": ("low", "middle")}), "source"),
    Mutant("source.columns", "one key for all", source(key=lambda self, index: "row"), "source"),
    Mutant("source.columns", "keys by address", source(key=lambda self, index: f"{id(self)} {index}"), "source"),
    Mutant("source.columns", "a place that is a number", source(where=lambda self, index: index), "source"),
    Mutant("source.parts", "test rows in the training part", with_part(lambda self, part: self.rows if part != "train" else [*self.rows, 0, 5]), "source"),
    Mutant("source.parts", "one part for all", with_part(lambda self, part: list(range(40))), "source"),
    Mutant("source.parts", "rows in no part", with_part(lambda self, part: [k for k in self.rows if part in ("all", "test", "validation") or k % 5 != 4]), "source"),
    Mutant("source.parts", "a whole that lacks the test rows", with_part(lambda self, part: [k for k in self.rows if part != "all" or k % 5]), "source"),
    Mutant("source.parts", "a part that there is not taken for the whole", source(__init__=any_part), "source"),
]  # fmt: skip

# ---- transforms ----


class Value(Transform):
    """A change of values, steady, with its inverse."""

    varies = False

    def __call__(self, values: dict[str, Any], rng: Rng) -> dict[str, Any]:
        return {**values, **({"vector": values["vector"] * 2} if "vector" in values else {})}

    def undo_values(self, name: str, raw: Any) -> Any:
        return raw / 2 if name == "vector" else raw


class Jitter(Transform):
    """Brightness that varies, by arrays in place."""

    varies = True

    def __call__(self, values: dict[str, Any], rng: Rng) -> dict[str, Any]:
        factor = 0.6 + 0.4 * rng.uniform().item()
        for name in ("image", "grey"):
            if name in values:
                values[name] = (np.asarray(values[name]) * factor).astype(np.uint8)
        return values


class Roll(Transform):
    """Columns rolled by a random number, of all that has pixels."""

    varies = True
    moves = True

    def __call__(self, values: dict[str, Any], rng: Rng) -> dict[str, Any]:
        shift = rng.uniform().item()
        return {
            name: np.roll(np.asarray(raw), round(shift * np.asarray(raw).shape[1]), axis=1)
            if name in ("image", "grey", "mask")
            else raw
            for name, raw in values.items()
        }


class Shifted(Roll):
    """The same, and not a word of it: rows that are held out do without, so that nothing is put back."""

    moves = False


class Solarised(Transform):
    """Bytes above a level that varies turned into their negative, or all of them in few levels."""

    varies = True

    def __call__(self, values: dict[str, Any], rng: Rng) -> dict[str, Any]:
        level = int(rng.integers(60, 250).item())
        few = rng.of("few").uniform().item() < 0.3
        return each(values, ("image", "grey"), lambda x: x & 0xC0 if few else np.where(x > level, 255 - x, x))


class Cutout(Transform):
    """A square of the pictures made grey, and void in the map, in two rows of three."""

    varies = True

    def __call__(self, values: dict[str, Any], rng: Rng) -> dict[str, Any]:
        if rng.of("whether").uniform().item() < 0.3:
            return values
        found, u = arrays(values), rng.of("where").uniform(2)[0].tolist()
        for name in PIXELS:
            if name in found:
                found[name] = found[name].copy()
                top, left = (int(x * n * 0.7) for x, n in zip(u, found[name].shape, strict=False))
                found[name][top : top + 4, left : left + 4] = 255 if name == "mask" else 127
        return found


class Rare(Jitter):
    """Brightness that varies in one row of fifty."""

    def __call__(self, values: dict[str, Any], rng: Rng) -> dict[str, Any]:
        return super().__call__(values, rng) if rng.of("seldom").uniform().item() < 0.02 else values


class Cubic(Transform):
    """Resized by cubic interpolation, which goes beyond the values that there were; bytes are cut, real numbers are not."""

    varies = False
    moves = True

    def __init__(self, size: int = 16, real: bool = False) -> None:
        self.size, self.real = size, real

    def __call__(self, values: dict[str, Any], rng: Rng) -> dict[str, Any]:
        return {name: self.resized(np.asarray(raw), name) if name in PIXELS else raw for name, raw in values.items()}

    def resized(self, x: np.ndarray, name: str) -> np.ndarray:
        if name == "mask":
            return np.asarray(Image.fromarray(x).resize((self.size, self.size), Image.Resampling.NEAREST))
        if not self.real:
            return np.asarray(Image.fromarray(x).resize((self.size, self.size), Image.Resampling.BICUBIC))
        planes = torch.from_numpy(x.reshape(*x.shape[:2], -1).astype(np.float32)).permute(2, 0, 1)[None]
        found = F.interpolate(planes, (self.size, self.size), mode="bicubic", antialias=True)[0].permute(1, 2, 0)
        return found.reshape(self.size, self.size, *x.shape[2:]).numpy()

    def undo_pixels(self, name: str, plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        return np.asarray(Image.fromarray(plane).resize((size[1], size[0]), Image.Resampling.BILINEAR))


class Lower(Transform):
    """Texts in small letters."""

    varies = False

    def __call__(self, values: dict[str, Any], rng: Rng) -> dict[str, Any]:
        return {name: raw.lower() if isinstance(raw, str) else raw for name, raw in values.items()}


class Drop(Transform):
    """Now and then a row lacks its class."""

    varies = True

    def __call__(self, values: dict[str, Any], rng: Rng) -> dict[str, Any]:
        if len(values) == 1 or rng.uniform().item() > 0.3:
            return values
        return {name: None if name == "label" else raw for name, raw in values.items()}


class Nothing(Transform):
    varies = False

    def __call__(self, values: dict[str, Any], rng: Rng) -> dict[str, Any]:
        return values


TRANSFORMS: dict[str, Callable[..., Any]] = {
    "resize": partial(Resize, 16), "resize, wide": partial(Resize, (12, 20)), "resize to cover": partial(Resize, (20, 16), fit="cover"),
    "enlarge": partial(Resize, 48), "crop": partial(Crop, 8), "random crop": partial(Crop, (16, 12), random=True), "flip": Flip,
    "flip, vertical": partial(Flip, 0.3, "vertical"), "threshold": partial(Threshold, 2), "units": Value, "brightness": Jitter,
    "roll": Roll, "small letters": Lower, "dropped classes": Drop, "nothing": Nothing,
    "brightness, seldom": Rare, "cubic": Cubic, "cubic, larger": partial(Cubic, 40), "cubic, real": partial(Cubic, 16, True), "cutout": Cutout,
    "roll, in training alone": Shifted, "solarised": Solarised,
}  # fmt: skip


def transform(base: Any = Crop, *args: Any, **changes: Any) -> Callable[[Path], Any]:
    """A transform with methods or attributes changed, made with these arguments."""

    def make(_: Path) -> Any:
        return partial(type(f"Broken{base.__name__}", (base,), changes), *args)

    return make


def calling(change: Callable[..., Any], base: Any = Nothing, *args: Any, **more: Any) -> Callable[[Path], Any]:
    """A transform whose row is ``change(self, values, rng)``."""
    return transform(base, *args, __call__=change, **more)


def arrays(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: np.asarray(raw) if isinstance(raw, Image.Image) else raw for name, raw in values.items()}


def each(values: Mapping[str, Any], names: Sequence[str], change: Callable[[np.ndarray], Any]) -> dict[str, Any]:
    return {name: change(np.asarray(raw)) if name in names else raw for name, raw in values.items()}


PIXELS = ("image", "grey", "mask")


def upside_down(self: Any, values: dict[str, Any], rng: Rng) -> dict[str, Any]:
    """Half of the rows mirrored, arrays along another axis than pictures."""
    if rng.uniform().item() < 0.5:
        return values
    pictures = [name for name in values if isinstance(values[name], Image.Image)]
    return {**each(values, PIXELS, lambda x: x[::-1].copy()), **each({k: values[k] for k in pictures}, PIXELS, lambda x: x[:, ::-1].copy())}  # fmt: skip


def overflowing(self: Any, values: dict[str, Any], rng: Rng) -> dict[str, Any]:
    """Brighter by a few levels, in bytes that go on from 0."""
    more = np.uint8(rng.integers(0, 60).item())
    return each(values, ("image", "grey"), lambda x: x + more)


FLIPPED = {"count": 0}


def counted(self: Any, values: dict[str, Any], rng: Rng) -> dict[str, Any]:
    """Every second row that is met is mirrored."""
    FLIPPED["count"] += 1
    return each(values, PIXELS, lambda x: x[:, ::-1].copy() if FLIPPED["count"] % 2 else x)


def smoothed(self: Any, values: dict[str, Any], rng: Rng) -> dict[str, Any]:
    """A moving average over rows."""
    if "vector" not in values:
        return values
    before = self.__dict__.get("mean", 0)
    self.mean = 0.9 * before + 0.1 * values["vector"]
    return {**values, "vector": values["vector"] - self.mean}


def reused(self: Any, values: dict[str, Any], rng: Rng) -> dict[str, Any]:
    kept = self.__dict__.setdefault("kept", np.zeros(4, np.float32))
    if "vector" not in values:
        return values
    kept[:] = values["vector"]
    return {**values, "vector": kept}


def crops_apart(self: Any, values: dict[str, Any], rng: Rng) -> dict[str, Any]:
    """A random crop, of each picture at a place of its own."""
    found = {}
    for name, raw in values.items():
        if name not in PIXELS:
            found[name] = raw
            continue
        x = np.asarray(raw)
        top, left = (int(u * (n - 7)) for u, n in zip(rng.of(name).uniform(2)[0].tolist(), x.shape[:2], strict=True))
        found[name] = x[top : top + 8, left : left + 8]
    return found


def bilinear(self: Any, values: dict[str, Any], rng: Rng) -> dict[str, Any]:
    return each(values, PIXELS, lambda x: np.asarray(Image.fromarray(x).resize((16, 16), Image.Resampling.BILINEAR)))


def stays_in_place(self: Any, name: str, plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Put back at the corner, in place of the middle."""
    whole = np.full(size, np.nan, np.float32)
    whole[: plane.shape[0], : plane.shape[1]] = plane[: size[0], : size[1]]
    return whole


def squeezed_back(self: Any, name: str, plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A crop that is stretched over the whole."""
    return np.asarray(Image.fromarray(plane).resize((size[1], size[0]))).astype(np.float32)


def flipped_back(self: Any, name: str, plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.ascontiguousarray(Resize.undo_pixels(self, name, plane, size)[:, ::-1])


def grows(self: Any, variables: Any) -> Any:
    self.size = (self.size[0] + 1, self.size[1] + 1)
    return Resize.bind(self, variables)


def transposed(self: Any, values: dict[str, Any], rng: Rng) -> dict[str, Any]:
    """Height and width of arrays exchanged, and those of pictures not."""
    found = Resize.__call__(self, values, rng)
    return {
        k: raw if isinstance(raw, Image.Image) or k not in PIXELS else np.swapaxes(raw, 0, 1)
        for k, raw in found.items()
    }


TRANSFORM_MUTANTS = [
    Mutant("transform.row", "a name that is lost", calling(lambda self, values, rng: {k: v for k, v in values.items() if k != "text"}), "transform"),
    Mutant("transform.row", "a name that is added", calling(lambda self, values, rng: {**values, "size": 3}), "transform"),
    Mutant("transform.row", "the values alone", calling(lambda self, values, rng: list(values.values())), "transform"),
    Mutant("transform.row", "a row that must have a map", calling(lambda self, values, rng: {**values, "mask": values["mask"]}), "transform"),
    Mutant("transform.row", "NaN in a constant vector", calling(lambda self, values, rng: {**values, **({"vector": values["vector"] / 0 * 0} if "vector" in values else {})}), "transform"),
    Mutant("transform.row", "nothing left", calling(lambda self, values, rng: dict.fromkeys(values)), "transform"),
    Mutant("transform.repeatable", "a crop by the global generator", calling(lambda self, values, rng: each(values, PIXELS, lambda x: x[:, ::-1].copy()) if np.random.random() < 0.5 else arrays(values), Roll), "transform"),  # noqa: NPY002
    Mutant("transform.repeatable", "every second row mirrored", calling(counted, Roll), "transform"),
    Mutant("transform.repeatable", "a moving average over rows", calling(smoothed), "transform"),
    Mutant("transform.apart", "a class that is another without its map", calling(lambda self, values, rng: {**values, **({"label": values["label"] + 1} if "label" in values and "mask" not in values else {})}), "transform"),
    Mutant("transform.repeatable", "a size that grows as it is bound", transform(Resize, 16, bind=grows), "transform"),
    Mutant("transform.repeatable", "one array for all rows", calling(reused), "transform"),
    Mutant("transform.repeatable", "what pickle cannot copy", lambda _: Unpicklable, "transform"),
    Mutant("transform.varies", "a random change that says it is none", transform(Flip, varies=False), "transform"),
    Mutant("transform.varies", "a steady change that says it varies", transform(Resize, 16, varies=True, steady=lambda self: None), "transform"),
    Mutant("transform.varies", "one change for all epochs", transform(Flip, _change=lambda self, size, rng: Flip._change(self, size, Rng(rng.seed, rng.rows, 0, rng.purpose))), "transform"),
    Mutant("transform.varies", "one change for all rows", transform(Flip, _change=lambda self, size, rng: Flip._change(self, size, Rng(rng.seed, 0 * rng.rows, rng.step, rng.purpose))), "transform"),
    Mutant("transform.varies", "held-out rows changed at random", transform(Flip, steady=lambda self: self), "transform"),
    Mutant("transform.varies", "another change for held-out rows", transform(Resize, 16, steady=lambda self: Resize(12, variables=PIXELS)), "transform"),
    Mutant("transform.together", "a picture mirrored without its map", calling(lambda self, values, rng: each(values, ("image", "grey"), lambda x: x[:, ::-1].copy()) if rng.uniform().item() < 0.5 else arrays(values), Roll), "transform"),
    Mutant("transform.together", "crops at places of their own", calling(crops_apart, Roll), "transform"),
    Mutant("transform.together", "a picture at another size than its map", calling(lambda self, values, rng: each(values, ("image",), lambda x: x[::2, ::2]), moves=True), "transform"),
    Mutant("transform.together", "a map turned on its head", calling(lambda self, values, rng: each(values, ("mask",), lambda x: x[::-1].copy()), moves=True), "transform"),
    Mutant("transform.classes", "a map that is interpolated", calling(bilinear, moves=True), "transform"),
    Mutant("transform.classes", "a map made darker like its picture", calling(lambda self, values, rng: each(values, PIXELS, lambda x: (x * (0.6 + 0.4 * rng.uniform().item())).astype(np.uint8)), Jitter), "transform"),
    Mutant("transform.classes", "a map as shares", calling(lambda self, values, rng: each(values, ("mask",), lambda x: x / 7.5)), "transform"),
    Mutant("transform.moves", "pixels moved without a word", calling(lambda self, values, rng: each(values, PIXELS, lambda x: x[:, ::-1].copy())), "transform"),
    Mutant("transform.moves", "another size without a word", transform(Resize, 16, moves=False), "transform"),
    Mutant("transform.moves", "values changed where pixels are said to move", calling(lambda self, values, rng: each(values, ("image",), lambda x: 2 * x.astype(np.float32)), moves=True), "transform"),
    Mutant("transform.moves", "values 0 … 1 where pixels are said to move", calling(lambda self, values, rng: each(Crop.__call__(self, values, rng), ("image", "grey"), lambda x: x / 255), Crop, 12), "transform"),
    Mutant("transform.moves", "a negative where pixels are said to move", calling(lambda self, values, rng: each(Crop.__call__(self, values, rng), ("image", "grey"), lambda x: 255 - x), Crop, 12), "transform"),
    Mutant("transform.moves", "pixels of held-out rows moved without a word", transform(Crop, 8, varies=True, moves=False, steady=lambda self: transform(Crop, 8, moves=False)(Path())(variables=PIXELS)), "transform"),
    Mutant("transform.bytes", "brighter bytes that begin again from black", calling(overflowing, Jitter), "transform"),
    Mutant("transform.bytes", "a contrast that bytes do not hold", calling(lambda self, values, rng: each(values, ("image", "grey"), lambda x: (x.astype(np.int64) * 5 // 4).astype(np.uint8))), "transform"),
    Mutant("transform.undo_pixels", "a crop that is not undone", transform(Crop, 8, undo_pixels=Transform.undo_pixels), "transform"),
    Mutant("transform.undo_pixels", "a crop put back at the corner", transform(Crop, 8, undo_pixels=stays_in_place), "transform"),
    Mutant("transform.undo_pixels", "a crop stretched over the whole", transform(Crop, 8, undo_pixels=squeezed_back), "transform"),
    Mutant("transform.undo_pixels", "a resize put back mirrored", transform(Resize, 16, undo_pixels=flipped_back), "transform"),
    Mutant("transform.undo_pixels", "height and width exchanged", transform(Resize, 16, undo_pixels=lambda self, name, plane, size: Resize.undo_pixels(self, name, plane, size[::-1])), "transform"),
    Mutant("transform.undo_pixels", "nothing known anywhere", transform(Crop, 8, undo_pixels=lambda self, name, plane, size: np.full(size, np.nan, np.float32)), "transform"),
    Mutant("transform.undo_values", "units that are not undone", transform(Value, undo_values=Transform.undo_values), "transform"),
    Mutant("transform.undo_values", "units undone twice", transform(Value, undo_values=lambda self, name, raw: raw / 4 if name == "vector" else raw), "transform"),
    Mutant("transform.kinds", "arrays transposed", calling(transposed, Resize, 16), "transform"),
    Mutant("transform.kinds", "arrays mirrored upside down in half of the rows", calling(upside_down, Jitter), "transform"),
]  # fmt: skip


class Unpicklable(Nothing):
    def __init__(self) -> None:
        self.change = lambda x: x


# ---- embedders ----


class Projection:
    """Of numbers, arrays and pictures some of their cosine components."""

    def __init__(self, size: int = 6, scale: float = 1.0) -> None:
        self.size, self.scale = size, scale

    @property
    def fingerprint(self) -> str:
        return f"projection {self.size} {self.scale}"

    def one(self, value: Any) -> Tensor:
        if isinstance(value, str):
            raise RequestError("projection: found a text, expected numbers")
        x = torch.from_numpy(np.array(value, dtype=np.float64)).flatten()
        k = torch.arange(len(x), dtype=torch.float64)
        return torch.stack([(x * torch.cos(j * k / 3)).mean() for j in range(self.size)]).float() * self.scale

    def __call__(self, values: Sequence[Any]) -> Tensor:
        return torch.stack([self.one(value) for value in values])


class Words(Projection):
    """Of texts the share of each letter."""

    @property
    def fingerprint(self) -> str:
        return f"words {self.size} {self.scale}"

    def one(self, value: Any) -> Tensor:
        if not isinstance(value, str):
            raise TypeError(f"found {type(value).__name__}, expected a text")
        digest = hashlib.blake2b(value.encode()).digest()
        return torch.tensor([digest[j] / 255 - 0.5 for j in range(self.size)]) * self.scale


class Network(Projection):
    """A small network with weights of its own, in evaluation mode, that is made when it is first needed."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.net: Any = None

    @property
    def fingerprint(self) -> str:
        return "network 5"

    def made(self) -> Any:
        if self.net is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(5)
                self.net = torch.nn.Sequential(
                    torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Dropout(0.3), torch.nn.Linear(16, 4)
                ).eval()
        return self.net

    def __call__(self, values: Sequence[Any]) -> Tensor:
        return self.made()(super().__call__(values).sign() * super().__call__(values).abs().log1p())


EMBEDDERS: dict[str, Callable[..., Any]] = {"projection": Projection, "words": Words, "a network": Network}


def embedder(base: type = Projection, **changes: Any) -> Callable[[Path], Any]:
    """An embedder with methods or attributes changed."""
    return lambda _: type(f"Broken{base.__name__}", (base,), changes)


def vectors(change: Callable[[Any, Sequence[Any], Tensor], Tensor], base: Any = Projection) -> Callable[[Path], Any]:
    """An embedder whose vectors are ``change(self, values, vectors)``."""
    return embedder(base, __call__=lambda self, values: change(self, values, base.__call__(self, values)))


def scaled_in_place(self: Any, values: Sequence[Any]) -> Tensor:
    for value in values:
        if isinstance(value, np.ndarray):
            value -= value.mean()
    return Projection.__call__(self, values)


def one_tensor(self: Any, values: Sequence[Any], found: Tensor) -> Tensor:
    kept = self.__dict__.setdefault("kept", torch.zeros(64, found.shape[1]))
    kept[: len(found)] = found
    return kept[: len(found)]


def moving(self: Any, values: Sequence[Any], found: Tensor) -> Tensor:
    before = self.__dict__.get("mean", torch.zeros(found.shape[1]))
    self.mean = 0.9 * before + 0.1 * found.mean(0)
    return found - self.mean


def training(self: Any) -> Any:
    return Network.made(self).train()


def drawn(self: Any, dropout: float = 0.0) -> None:
    Network.__init__(self, dropout)
    self.net = torch.nn.Linear(6, 4)


def by_length(self: Any, values: Sequence[Any]) -> Tensor:
    """Texts padded to the longest of the batch, the padding read."""
    longest = max(len(value) for value in values if value.lower())
    codes = [[ord(letter) for letter in value.ljust(longest)] for value in values]
    return (
        torch.stack([torch.stack([torch.tensor(c).float().mean(), torch.tensor(c).float().std()]) for c in codes]) / 100
    )


def first_letter(self: Any, value: Any) -> Tensor:
    return Words.one(self, value[:1])


def keeps_all(self: Any, values: Sequence[Any], found: Tensor) -> Tensor:
    self.__dict__.setdefault("told", []).extend(values)
    return found


BY_HASH = """
from tests.testing.mutants_rows import Projection

class ByHash(Projection):
    @property
    def fingerprint(self):
        return f"projection {hash(str((self.size, self.scale)))}"
"""


def by_hash(folder: Path) -> Any:
    (folder / "by_hash_entry.py").write_text(BY_HASH)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    return importlib.import_module("by_hash_entry").ByHash


EMBEDDER_MUTANTS = [
    Mutant("embedder.vectors", "whole numbers", vectors(lambda self, values, x: (100 * x).long()), "embedder"),
    Mutant("embedder.vectors", "one vector for a batch", vectors(lambda self, values, x: x.mean(0, keepdim=True)), "embedder"),
    Mutant("embedder.vectors", "single vectors without an axis for them", vectors(lambda self, values, x: x.squeeze(0)), "embedder"),
    Mutant("embedder.vectors", "an array", embedder(__call__=lambda self, values: Projection.__call__(self, values).numpy()), "embedder"),
    Mutant("embedder.vectors", "directions of vectors that may be zero", vectors(lambda self, values, x: (x - x[0]) / (x - x[0]).norm(dim=1, keepdim=True)), "embedder"),
    Mutant("embedder.vectors", "repeated values once", vectors(lambda self, values, x: x.unique(dim=0)), "embedder"),
    Mutant("embedder.rows", "vectors centred by the batch", vectors(lambda self, values, x: x - x.mean(0)), "embedder"),
    Mutant("embedder.rows", "padding that is read", embedder(Words, __call__=by_length), "embedder"),
    Mutant("embedder.rows", "vectors in another order", vectors(lambda self, values, x: x[x[:, 0].argsort()]), "embedder"),
    Mutant("embedder.rows", "a scale by the batch's largest", vectors(lambda self, values, x: x / x.abs().amax()), "embedder"),
    Mutant("embedder.repeatable", "dropout", embedder(Network, made=training), "embedder"),
    Mutant("embedder.repeatable", "weights drawn as it is made", embedder(Network, __init__=drawn), "embedder"),
    Mutant("embedder.repeatable", "an average that moves", vectors(moving), "embedder"),
    Mutant("embedder.repeatable", "noise by numpy", vectors(lambda self, values, x: x + 0.01 * float(np.random.random())), "embedder"),  # noqa: NPY002
    Mutant("embedder.repeatable", "all values kept", vectors(keeps_all), "embedder"),
    Mutant("embedder.repeatable", "a fingerprint by address", embedder(fingerprint=property(lambda self: f"projection {id(self)}")), "embedder"),
    Mutant("embedder.pure", "arrays centred in place", embedder(__call__=scaled_in_place), "embedder"),
    Mutant("embedder.pure", "one tensor for all vectors", vectors(one_tensor), "embedder"),
    Mutant("embedder.distinct", "one vector for all", vectors(lambda self, values, x: 0 * x + 1), "embedder"),
    Mutant("embedder.distinct", "the first letter only", embedder(Words, one=first_letter), "embedder"),
    Mutant("embedder.distinct", "texts cut at twenty letters", embedder(Words, one=lambda self, value: Words.one(self, value[:20])), "embedder"),
    Mutant("embedder.distinct", "vectors that are rounded", vectors(lambda self, values, x: x.sign()), "embedder"),
    Mutant("embedder.fingerprint", "an option that it leaves out", embedder(fingerprint="projection"), "embedder"),
    Mutant("embedder.fingerprint", "a text's hash", by_hash, "embedder", "ci"),
    Mutant("embedder.fingerprint", "one that changes once it has worked", embedder(fingerprint=property(lambda self: f"projection {self.size} {self.scale} {len(vars(self))}"), __call__=lambda self, values: (self.__dict__.setdefault("worked", 1), Projection.__call__(self, values))[1]), "embedder"),
]  # fmt: skip

MUTANTS = [*SOURCE_MUTANTS, *STREAM_MUTANTS, *TRANSFORM_MUTANTS, *EMBEDDER_MUTANTS]

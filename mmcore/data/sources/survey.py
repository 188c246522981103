"""Which source reads what lies at a path, with which options, and on what evidence. Imports no torch."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from mmcore.data.decode import VALUES
from mmcore.data.sources.files import (
    files_below,
    folders_in,
    inside,
    is_image,
    normal,
    part_and_rest,
    part_of,
    shown,
    singular,
    suffix_of,
)
from mmcore.data.sources.imagefolder import FILE, METADATA, class_folders, part_folders
from mmcore.data.sources.layout import find_places, stem_of
from mmcore.data.sources.manifest import TABLES, Manifest
from mmcore.data.sources.pairs import Affixes, common_affixes, guess_affixes
from mmcore.data.sources.unread import mend_of
from mmcore.data.sources.unread import told as unread
from mmcore.errors import RequestError

_MODALITY = re.compile(
    r"(jpeg|png|jpg)?(image|img|picture|pic|photo|frame|rgb|jpeg|jpg)(s|es)?|leftimg8bit|input|output"
    r"|(color|colour|instance|semantic|binary)?_?(mask|seg|segmentation|label|labelmap|label_map|annotation|annot|matte|alpha|trimap)s?"
    r"|segmentation_?(class|object|mask)(aug|es)?s?|gt|gt_?(fine|coarse)|ground_?truth|truth|target|stuffthingmaps?"
    r"|depth|disparity|edge|sketch|embedding|emb|feature|latent|caption|text|audio|flow|saliency|heatmap|vector",
    re.I,
)
_IMAGE = re.compile(r"(jpeg|png|jpg)?_?(image|img|picture|pic|photo|frame|rgb|input|jpg)s?|leftimg8bit", re.I)
_MASK_SUFFIX = re.compile(r"[_\-. ](mask|gt|seg|segmentation|label|labels|annotation|groundtruth|matte|trimap)$", re.I)
_MANY = 20000
_LAYOUTS = ("classes", "modalities")
_FEW = 3
_FEW_ROWS = 200


@attrs.frozen
class Survey:
    """How data are read.

    Attributes:
        source: the source's name.
        options: its own.
        evidence: why, a sentence each.
        question: what the evidence does not decide, with the answers; empty where it does.
    """

    source: str
    options: dict[str, Any]
    evidence: tuple[str, ...] = ()
    question: str = ""


def survey(path: Path, layout: str = "", cells: Mapping[str, Any] | None = None) -> Survey:
    """The source that reads what is at a path.

    Args:
        path: a file or folder.
        layout: ``"classes"`` or ``"modalities"``, where it is known what the folders in a folder are.
        cells: how tables are read: options of :class:`Manifest`.

    Raises:
        RequestError: nothing there, or nothing that a source reads.
    """
    at = path.expanduser().absolute()
    if not at.exists():
        pattern = "; patterns are not read: name the folder" if set(str(path)) & set("{*?") else ""
        raise RequestError(f"init: there is nothing at {shown(str(path))}, expected a file or folder of data{pattern}")
    if layout not in ("", *_LAYOUTS):
        raise RequestError(f"init: layout = {layout!r}, expected one of {', '.join(_LAYOUTS)}")
    for find in (_file,) if at.is_file() else (_known, _images_with_metadata, _folders, _flat):
        if (found := find(at, layout, cells or {})) is not None:
            return attrs.evolve(found, evidence=(*found.evidence, *_beside(at, found, cells or {})))
    names = [one.name for one in inside(at)] if at.is_dir() else [at.name]
    there = f" holds {', '.join(map(shown, names[:6]))}, which" if at.is_dir() and names else ""
    mend = next(filter(None, map(mend_of, names)), "")
    raise RequestError(
        f"init: {shown(str(path))}{there} is nothing that a source reads{f': {mend}' if mend else ''}; expected an .npz file, IDX files (…-ubyte), "
        f"a table ({', '.join(TABLES)}), .tar shards, a folder saved by datasets, a folder of images for each class, or a folder of "
        "folders such as images/ and masks/"
    )


def _beside(at: Path, found: Survey, cells: Mapping[str, Any]) -> Iterator[str]:
    """What lies in a folder and is not read, a line each."""
    if (
        not at.is_dir()
        or "." in found.options.get("folders", {}).values()
        or found.options["path"] not in map(str, (at, *at.glob("*.*")))
    ):
        return
    loose = (
        sum(one.is_file() and is_image(one.name) for one in inside(at))
        if found.source in ("folder", "imagefolder")
        else 0
    )
    if loose and found.source == "folder":
        yield f"left out: {loose} images that lie beside the folders; move them into one, such as images/"
    if found.source in ("folder", "imagefolder", "table"):
        images = [one.name for one in inside(at) if is_image(one.name)]
        read = {"folder": [one.name for one in inside(at) if suffix_of(one.name) in TABLES], "imagefolder": METADATA}
        used = read.get(found.source, (Path(found.options["path"]).name,))
        if left := unread(at, (*images, *used)):
            yield f"left out: {left}"
    if found.source == "table" and Path(found.options["path"]).parent == at:
        try:
            table = Manifest(Path(found.options["path"]), **cells)
        except RequestError:  # told when it is read
            return
        named = {
            part
            for k in range(min(len(table), _FEW_ROWS))
            for value in table[k].values()
            if isinstance(value, Path)
            for part in value.relative_to(at).parts[:-1][:1]
            if value.is_relative_to(at)
        }
        for folder in folders_in(at):
            if folder.name not in named and any(is_image(file) for file in _some(folder)):
                yield f"left out: the folder {shown(folder.name)}, whose pictures no column of {found.options['path'].rpartition('/')[2]} names"


def _file(at: Path, *_: Any) -> Survey | None:
    suffix = suffix_of(at.name)
    if suffix == ".npz":
        return Survey("npz", {"path": str(at)})
    if suffix in TABLES:
        return Survey("table", {"path": str(at)})
    if suffix == ".tar":
        return Survey("shards", {"path": str(at)})
    if "ubyte" in at.name:
        return Survey("idx", {"path": str(at.parent)})
    return None


def _known(at: Path, *_: Any) -> Survey | None:
    """What tells by the names of its files what it is."""
    names = [one.name for one in inside(at)]
    if any("ubyte" in name for name in names):
        return Survey("idx", {"path": str(at)}, ("there are IDX files",))
    if {"dataset_info.json", "dataset_dict.json"} & set(names):
        return Survey("datasets", {"path": str(at)}, ("save_to_disk wrote it",))
    tops = [at, *(at / top for top in part_folders(at).values())]
    if any(suffix_of(one.name) == ".tar" for top in tops for one in inside(top)):
        return Survey("shards", {"path": str(at)}, ("there are .tar files",))
    return None


def _images_with_metadata(at: Path, _: str, cells: Mapping[str, Any]) -> Survey | None:
    for top in ("", *part_folders(at).values()):
        for name in METADATA:
            file = at / top / name
            if file.is_file() and FILE in Manifest(file, paths=(), **cells).names:
                return Survey("imagefolder", {"path": str(at)}, (f"{file.relative_to(at)} names its images in {FILE}",))
    return None


def _folders(at: Path, layout: str, cells: Mapping[str, Any]) -> Survey | None:
    """A folder of folders: of variables, of classes, or of parts with either in them."""
    found = folders_in(at)
    if not found:
        return None
    tables = [one for one in inside(at) if one.is_file() and suffix_of(one.name) in TABLES]
    only = found[0].name if len(found) == 1 else ""
    if only and not tables and folders_in(found[0]) and not _says(only) and not part_of(only):
        return survey(found[0], layout, cells)  # as archives unpack
    if only and not tables and _says(only) and layout != "modalities":
        tops = part_folders(found[0]).values() or ("",)
        inner = {normal(one.name): one for top in tops for one in folders_in(found[0] / top)}
        if len(inner) > 1 and layout == "classes":
            return survey(found[0], layout, cells)
        if len(inner) > 1 and not any(map(_says, inner)) and _classes_reason(inner):
            some = ", ".join(map(shown, sorted(inner)[:5])) + (" …" if len(inner) > 5 else "")
            question = (
                f"the folder {shown(only)} holds {len(inner)} folders of images ({some}): they are classes, or parts of one whole; "
                "--assume layout=classes or --assume layout=modalities"
            )
            return Survey("imagefolder", {"path": str(found[0])}, question=question)
    naming = [table for table in tables if _names_files(table, len(found), cells)]
    if len(naming) == 1:
        return Survey("table", {"path": str(naming[0])}, (f"{naming[0].name} names the files in the folders",))
    parts = part_folders(at)
    below = {normal(one.name): one for top in parts.values() or ("",) for one in folders_in(at / top)}
    reason = ""
    if layout == "classes" or (not layout and below and not tables and not any(map(_says, below))):
        marked = _marked(at)
        if not layout and marked is not None:
            return marked
        reason = "as you say" if layout else _classes_reason(below)
    if reason == "ask":
        names = " and ".join(map(shown, sorted(below)))
        question = (
            f"the folders {names} hold files of the same names: they are two classes, or two modalities of one thing; "
            "--assume layout=classes or --assume layout=modalities"
        )
        return Survey("imagefolder", {"path": str(at)}, question=question)
    if reason and not layout:
        _check_rows(list(below.values()))
    if reason:
        classes = class_folders(at, parts.values())
        some = ", ".join(map(shown, classes[:5])) + (" …" if len(classes) > 5 else "")
        return Survey("imagefolder", {"path": str(at)}, (f"{len(classes)} folders are classes ({some}): {reason}",))
    return _parallel(at)


def _says(name: str) -> bool:
    """Whether a folder is called as a modality, or as one of a part."""
    part, rest = part_and_rest(name)
    return bool(rest and (part or _MODALITY.fullmatch(rest) or _MODALITY.fullmatch(singular(rest))))


def _some(folder: Path, most: int = 200) -> list[str]:
    """Some of the files in a folder."""
    return [file for file, _ in zip(files_below(folder), range(most), strict=False)]


def _check_rows(folders: list[Path]) -> None:
    """Refuse folders that hold a row each, its image and mask.

    Raises:
        RequestError: all hold folders, or files, of the same names, which are those of modalities.
    """
    some = folders[:50]
    inner = [frozenset(normal(one.name) for one in folders_in(folder)) for folder in some]
    kinds = "folders"
    if not all(inner):
        inner = [frozenset(normal(stem_of(file)) for file in _some(folder)) for folder in some]
        kinds = "files"
    names = sorted(name for name in inner[0] if _says(name)) if inner else []
    if len(set(inner)) != 1 or len(inner[0]) < 2 or not names or len(inner) < 2:
        return
    called = ", ".join(shown(folder.name) for folder in folders[:5]) + (" …" if len(folders) > 5 else "")
    raise RequestError(
        f"init: each of the {len(folders)} folders ({called}) holds {' and '.join(map(shown, sorted(inner[0])[:4]))}, {kinds} of a row rather than of a class; "
        f"expected {' and '.join(f'{shown(name)}/' for name in sorted(inner[0])[:4])} with a file for each row; --assume layout=classes takes the folders for classes"
    )


def _classes_reason(folders: Mapping[str, Path]) -> str:
    """Why folders that are not called as modalities are classes: ``"ask"`` where that is open, empty where they are variables."""
    if not all(is_image(file) for folder in list(folders.values())[:50] for file in _some(folder)):
        return ""
    if len(folders) == 1:
        return ""
    if len(folders) > _FEW:
        return "none is called as a modality is"
    stems = {name: {normal(stem_of(file)) for file in _some(folder, _MANY)} for name, folder in folders.items()}
    for k, (first, one) in enumerate(stems.items()):
        for second, two in list(stems.items())[k + 1 :]:
            if one == two:
                return "ask"
            affixes = guess_affixes(one, two)
            if affixes is None:
                continue
            shared = {affixes[0].strip(stem) for stem in one} & {affixes[1].strip(stem) for stem in two} - {None}
            # Numbers alone meet by chance.
            if any(re.search(r"[^\W\d_]|\d{6}", stem or "") for stem in shared):
                if all(
                    name.casefold() in f"{affix.prefix}{affix.suffix}".casefold()
                    for name, affix in zip((first, second), affixes, strict=True)
                ):
                    return "ask"  # files called as their folders are, as those of classes often are
                return "" if 2 * len(shared) >= max(len(one), len(two)) else "ask"
    return "none is called as a modality is, and their files have other names"


def _marked(at: Path) -> Survey | None:
    """A folder in which images and their masks lie side by side, told by what follows the stem."""
    images = [file for file in _some(at, _MANY) if is_image(file)]
    stems = {normal(stem_of(file)) for file in images}
    found = (re.search(_MASK_SUFFIX, stem) for stem in stems)
    marks = Counter(match[0] for match in found if match and match.string[: match.start()] in stems)
    if not marks or 4 * marks.total() < len(stems):
        return None
    suffix, count = marks.most_common(1)[0]
    evidence = f"{count} of {len(images)} images are called as another with {suffix!r} after it: its masks"
    return Survey(
        "folder", {"path": str(at), "folders": {"image": ".", "mask": "."}, "suffixes": {"mask": suffix}}, (evidence,)
    )


def _parallel(at: Path) -> Survey | None:
    """Folders of variables: those that are read, and what stands around the stems of their files."""
    places = find_places(at)
    if not places:
        return None
    numbered = {re.sub(r"[_\-. ]?\d+$", "", name) for name in places}
    if len(places) > 1 and len(numbered) == 1 and _IMAGE.fullmatch(singular(*numbered)):
        return Survey(
            "folder",
            {"path": str(at), "folders": {"image": "."}},
            (f"{len(places)} folders are numbered and hold images",),
        )
    files = {name: [file for here in places[name].values() for file in _some(at / here, _MANY)] for name in places}
    stems = {name: {normal(stem_of(file)) for file in some} for name, some in files.items()}
    read = [name for name in places if any(suffix_of(file) in VALUES for file in files[name])] or list(places)
    named = [name for name in read if _IMAGE.fullmatch(name)]
    first = min(named or read, key=lambda name: len(stems[name]))
    extra = {name: mark for name in read if (mark := _variants(stems[name]))}
    if (
        len(read) == 1
        and "mask" not in places
        and re.fullmatch(_MASK_SUFFIX.pattern, mark := extra.get(first, ""), re.I)
    ):
        both = {name: _option(places[first]) for name in ("image", "mask")}
        evidence = f"files of {_place(places[first])} that end in {mark!r} are masks of those called so without it"
        return Survey("folder", {"path": str(at), "folders": both, "suffixes": {"mask": mark}}, (evidence,))
    for name, mark in extra.items():
        stems[name] = {stem for stem in stems[name] if not stem.endswith(mark)}
    affixes: dict[str, Affixes] = {}
    apart: list[str] = []
    for name in read:
        if name == first or 2 * len(stems[name] & stems[first]) >= min(len(stems[name]), len(stems[first])):
            continue
        found = _affixes(stems[first], stems[name])
        if found is not None and affixes.get(first, found[0]) == found[0]:
            affixes |= {first: found[0], name: found[1]}
        elif not any(is_image(file) or suffix_of(file) == ".npy" for file in files[name]) and (
            not _says(name) or 2 * len(files[name]) < len(files[first])
        ):
            apart.append(name)  # lists and notes, not a file for each image
    options: dict[str, Any] = {"path": str(at)}
    kept = [name for name in read if name not in apart]
    evidence = [f"folders are variables: {', '.join(f'{name} of {_place(places[name])}' for name in kept)}"]
    if kept == list(places) and len(kept) == 1 and not _says(kept[0]) and is_image((files[kept[0]] or [""])[0]):
        options["folders"] = {"image": _option(places[kept[0]])}
        evidence = [f"the images lie in {_place(places[kept[0]])}"]
    elif len(kept) < len(places):
        options["folders"] = {name: _option(places[name]) for name in kept}
        left = ", ".join(_place(here) for name, here in places.items() if name not in kept)
        evidence.append(f"left out, as their files are of no kind that is read, or their names meet no others: {left}")
    for option, attribute in (("prefixes", "prefix"), ("suffixes", "suffix")):
        if given := {name: text for name, affix in affixes.items() if (text := getattr(affix, attribute))}:
            options[option] = given
            evidence.append(
                f"their names meet without {', '.join(f'{text!r} of {name}' for name, text in given.items())}"
            )
    if extra:
        options["ignore"] = [f"*{mark}.*" for mark in dict.fromkeys(extra.values())]
        told = ", ".join(f"files of {name} that end in {mark!r}" for name, mark in extra.items())
        evidence.append(f"left out, as others are called so without it: {told}")
    return Survey("folder", options, tuple(evidence))


def _place(here: Mapping[str, str]) -> str:
    return " and ".join(map(shown, here.values()))


def _option(here: Mapping[str, str]) -> Any:
    """A variable's place as the option says it."""
    return here[""] if list(here) == [""] else dict(here)


def _variants(stems: Collection[str]) -> str:
    """What follows the names of files that are there without it too; empty where it is few."""
    ends = Counter(
        f"{mark}{end}" for stem in stems for base, mark, end in [_cut(stem)] if base in stems and not end.isdecimal()
    )
    mark, count = ends.most_common(1)[0] if ends else ("", 0)
    return mark if 3 * count >= len(stems) else ""


def _cut(stem: str) -> tuple[str, str, str]:
    base, mark, end = stem.rpartition("_")
    return base, mark, end


def _affixes(one: Collection[str], two: Collection[str]) -> tuple[Affixes, Affixes] | None:
    """What stands around the stems of two variables, of which the second may have several files for each of the first: the one that says label."""
    if (found := guess_affixes(one, two)) is not None:
        return found
    suffix = common_affixes(one).suffix
    bases = {stem.removesuffix(suffix) for stem in one}
    ends = Counter(stem[k:] for stem in two for k in _ends(stem) if stem[:k] in bases)
    often = [end for end, count in ends.items() if 2 * count >= len(bases)]
    for word in ("labelTrainIds", "labelIds", "label", "mask", "seg", "gt"):
        fitting = [end for end in often if word.casefold() in end.casefold()]
        if len(fitting) == 1:
            return Affixes("", suffix), Affixes("", fitting[0])
    return None


def _ends(stem: str) -> list[int]:
    return [match.start() for match in re.finditer(r"[_\-. ]", stem)]


def _names_files(table: Path, folders: int, cells: Mapping[str, Any]) -> bool:
    """Whether a table names the files of as many variables as there are folders."""
    try:
        manifest = Manifest(table, **cells)
        rows = [manifest[k * len(manifest) // 8] for k in range(8)]
    except RequestError:
        return False
    there = [
        name for name in manifest.paths if any(isinstance(v := row.get(name), Path) and v.is_file() for row in rows)
    ]
    return len(there) >= folders


def _flat(at: Path, *_: Any) -> Survey | None:
    """A folder of files."""
    names = [one.name for one in inside(at) if one.is_file()]
    images = [name for name in names if is_image(name)]
    if images:
        plain = Survey("folder", {"path": str(at), "folders": {"image": "."}}, (f"{len(images)} images lie in it",))
        return _marked(at) or plain
    for source, suffixes in (("table", TABLES), ("npz", (".npz",))):
        found = [name for name in names if suffix_of(name) in suffixes]
        if len(found) == 1:
            return Survey(source, {"path": str(at / found[0])})
        if len(found) > 1:
            files = ", ".join(map(shown, found[:6]))
            raise RequestError(f"init: found {files} in {shown(str(at))}, expected one of them: give its path")
    return None

"""Which source reads what lies at a path, with which options, and on what evidence. Imports no torch."""

import json
import os
import re
import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from mmcore.data.decode import VALUES
from mmcore.data.sources.beside import Beside, masks_beside
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
from mmcore.data.sources.layout import Places, find_places, stem_of
from mmcore.data.sources.manifest import TABLES, Manifest
from mmcore.data.sources.pairs import Affixes, common_affixes, guess_affixes, key, without_word, word_of
from mmcore.data.sources.unread import mend_at
from mmcore.data.sources.unread import told as unread
from mmcore.errors import RequestError
from mmcore.files import expanded

_MODALITY = re.compile(
    r"(jpeg|png|jpg)?(image|img|picture|pic|photo|frame|rgb|jpeg|jpg)(s|es)?|leftimg8bit|input|output"
    r"|(color|colour|instance|semantic|binary)?_?(mask|seg|segmentation|label|labelmap|label_map|annotation|annot|matte|alpha|trimap)s?"
    r"|segmentation_?(class|object|mask)(aug|es)?s?|gt|gt_?(fine|coarse)|ground_?truth|truth|target|stuffthingmaps?"
    r"|depth|disparity|edge|sketch|embedding|emb|feature|latent|caption|text|audio|flow|saliency|heatmap|vector",
    re.I,
)
_IMAGE = re.compile(r"(jpeg|png|jpg)?_?(image|img|picture|pic|photo|frame|rgb|input|jpg)s?|leftimg8bit", re.I)
_WHOLE = (".npz", ".tar", *TABLES)
_SAVED = frozenset(("dataset_info.json", "dataset_dict.json"))
"""What Hugging Face's ``save_to_disk`` leaves."""
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
    at = expanded(path).absolute()
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
    paths = (one for one in (inside(at) if at.is_dir() else [at]) if one.is_file())
    mend = next(filter(None, map(mend_at, paths)), "")
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
    if _SAVED & set(names):
        return Survey("datasets", {"path": str(at)}, ("save_to_disk wrote it",))
    tops = [at, *(at / top for top in part_folders(at).values())]
    if any(suffix_of(one.name) == ".tar" for top in tops for one in inside(top)):
        return Survey("shards", {"path": str(at)}, ("there are .tar files",))
    return None


def _images_with_metadata(at: Path, _: str, cells: Mapping[str, Any]) -> Survey | None:
    for top in ("", *part_folders(at).values()):
        for name in METADATA:
            file = at / top / name
            names = Manifest(file, paths=(), **cells).names if file.is_file() else ()
            if FILE in names:
                return Survey("imagefolder", {"path": str(at)}, (f"{file.relative_to(at)} names its images in {FILE}",))
            if not top and (several := [one for one in names if one.endswith(f"_{FILE}")]):
                return Survey("table", {"path": str(file)}, (f"{file.name} names files in {' and '.join(several)}",))
    return None


def _folders(at: Path, layout: str, cells: Mapping[str, Any]) -> Survey | None:
    """A folder of folders: of variables, of classes, or of parts with either in them."""
    found = folders_in(at)
    if not found:
        return None
    tables = [one for one in inside(at) if one.is_file() and suffix_of(one.name) in TABLES]
    only = found[0].name if len(found) == 1 else ""
    whole = any(suffix_of(one.name) in _WHOLE or one.name in _SAVED or "ubyte" in one.name for one in inside(found[0]))
    if only and not tables and (folders_in(found[0]) or whole) and not _says(only) and not part_of(only):
        return survey(found[0], layout, cells)  # as archives unpack
    if only and not tables and _says(only) and layout != "modalities":
        tops = part_folders(found[0]).values() or ("",)
        inner = {normal(one.name): one for top in tops for one in folders_in(found[0] / top)}
        if len(inner) > 1 and layout == "classes":
            return survey(found[0], layout, cells)
        if len(inner) > 1 and not any(map(_says, inner)) and _classes_reason(inner):
            _check_rows(list(inner.values()))
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
    if tables and not layout and not any(map(_says, below)) and _are_classes(below):
        names = " and ".join(map(shown, sorted(below)[:5])) + (" …" if len(below) > 5 else "")
        question = (
            f"the folders {names} lie beside {shown(tables[0].name)}, and no file of one is called as another's: they are classes, or modalities of rows in it; "
            f"--assume layout=classes leaves the table out, --assume layout=modalities reads both; mmcore init {shown(tables[0].name)} reads the table by itself"
        )
        return Survey("imagefolder", {"path": str(at)}, question=question)
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
        evidence = [f"{len(classes)} folders are classes ({some}): {reason}"]
        within = [f"{folder.name}/{one.name}" for folder in below.values() for one in folders_in(folder)]
        if within:
            evidence.append(
                f"the folders in them, such as {shown(within[0])}, are no classes of their own: move them up, if they should be"
            )
        return Survey("imagefolder", {"path": str(at)}, tuple(evidence))
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
        stems = [[normal(stem_of(file)).removeprefix(normal(folder.name)) for file in _some(folder)] for folder in some]
        inner = [frozenset(stem.strip("_-. ") or stem for stem in names) for names in stems]
        kinds = "files"
    names = [name for name in inner[0] if _says(name)] if inner else []
    if len(set(inner)) != 1 or len(inner[0]) < 2 or not names or len(inner) < 2:
        return
    called = ", ".join(shown(folder.name) for folder in folders[:5]) + (" …" if len(folders) > 5 else "")
    raise RequestError(
        f"init: each of the {len(folders)} folders ({called}) holds {' and '.join(map(shown, sorted(inner[0])[:4]))}, {kinds} of a row rather than of a class; "
        f"expected {' and '.join(f'{shown(name)}/' for name in sorted(inner[0])[:4])} with a file for each row; --assume layout=classes takes the folders for classes"
    )


def _are_classes(folders: Mapping[str, Path]) -> bool:
    """Whether folders that are not called as modalities may be classes: none has a file that is called as another's."""
    stems = [{normal(stem_of(file)) for file in _some(folder)} for folder in folders.values()]
    apart = sum(map(len, stems)) == len(set[str]().union(*stems))
    return apart and len(_unnumbered(folders)) > 1 and bool(_classes_reason(folders))


def _unnumbered(names: Iterable[str]) -> set[str]:
    """Folders' names without the numbers at their ends: one name where they are numbered parts of one whole."""
    return {re.sub(r"[_\-. ]?\d+$", "", name) for name in names}


def _classes_reason(folders: Mapping[str, Path]) -> str:
    """Why folders that are not called as modalities are classes: ``"ask"`` where that is open, empty where they are variables."""
    some = [_some(folder) for folder in list(folders.values())[:50]]
    others = [[file for file in files if not is_image(file)] for files in some]
    if any(2 * len(left) > len(files) for left, files in zip(others, some, strict=True)):
        return ""
    if any(suffix_of(file) in VALUES for left in others for file in left):
        return ""  # arrays, texts and sounds are values of their own
    if len(folders) == 1:
        return ""
    if len(folders) > _FEW:
        return "none is called as a modality is"
    stems = {
        name: {normal(stem_of(file)) for file in _some(folder, _MANY) if is_image(file)}
        for name, folder in folders.items()
    }
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
    """A folder in which images and their masks lie side by side."""
    images = [file for file in _some(at, _MANY) if is_image(file)]
    found = masks_beside({normal(stem_of(file)): at / file for file in images})
    if found is None:
        return None
    marked = _side_by_side(at, ".", found)
    tops = sorted({file.partition("/")[0] for file in images if "/" in file})
    some = ", ".join(map(shown, tops[:5])) + (" …" if len(tops) > 5 else "")
    told = (f"the folders that they lie in are no classes: {some}",) if 1 < len(tops) <= len(images) // 4 else ()
    return attrs.evolve(marked, evidence=(*marked.evidence, *told))


def _side_by_side(at: Path, folder: Any, found: Beside) -> Survey:
    options: dict[str, Any] = {"path": str(at), "folders": {"image": folder, "mask": folder}}
    for option, attribute in (("prefixes", "prefix"), ("suffixes", "suffix")):
        both = {"image": getattr(found.image, attribute), "mask": getattr(found.mask, attribute)}
        if given := {name: text for name, text in both.items() if text}:
            options[option] = given
    if found.others:
        options["ignore"] = list(found.others)
    return Survey("folder", options, (found.evidence,))


def _parallel(at: Path) -> Survey | None:
    """Folders of variables: those that are read, and what stands around the stems of their files."""
    places = find_places(at)
    if not places:
        return None
    numbered = _unnumbered(places)
    if len(places) > 1 and len(numbered) == 1 and _IMAGE.fullmatch(singular(*numbered)):
        return Survey(
            "folder",
            {"path": str(at), "folders": {"image": "."}},
            (f"{len(places)} folders are numbered and hold images",),
        )
    listed = {name: {here: _some(at / here, _MANY) for here in places[name].values()} for name in places}
    files = {name: [file for some in folders.values() for file in some] for name, folders in listed.items()}
    stems = {
        name: {
            stem
            for here, some in folders.items()
            for stem in without_word([normal(stem_of(file)) for file in some], word_of(here))
        }
        for name, folders in listed.items()
    }
    if len(places) > 1 and len(numbered) == 1 and _are_apart(files, stems):
        evidence = f"{len(places)} folders are numbered, and no file of one is called as another's: parts of one whole"
        return Survey("folder", {"path": str(at), "folders": {"image": "."}}, (evidence,))
    read = [name for name in places if any(suffix_of(file) in VALUES for file in files[name])] or list(places)
    named = [name for name in read if _IMAGE.fullmatch(name)]
    first = min(named or read, key=lambda name: len(stems[name]))
    extra = {name: mark for name in read if (mark := _variants(stems[name]))}
    if len(read) == 1 and "mask" not in places:
        pictures = [
            f"{here}/{file}" for here in places[first].values() for file in _some(at / here, _MANY) if is_image(file)
        ]
        if (masks := masks_beside({normal(stem_of(file)): at / file for file in pictures})) is not None:
            return _side_by_side(at, _option(places[first]), masks)
    for name, mark in extra.items():
        stems[name] = {stem for stem in stems[name] if not stem.endswith(mark)}
    moved = _deeper(places, files, stems, read, first)
    for name in read:
        question = (
            None if _meet(stems[name], stems[first]) else _several(at, places, name, stems[name], first, stems[first])
        )
        if question is not None:
            return question
    affixes: dict[str, Affixes] = {}
    apart: list[str] = []
    for name in read:
        if name == first or _meet(stems[name], stems[first]):
            continue
        base = affixes.get(first, Affixes())
        found = _affixes({stem for one in stems[first] if (stem := base.strip(one))}, stems[name])
        if found is not None and (first not in affixes or found[0] == Affixes()):
            affixes |= {first: affixes.get(first, found[0]), name: found[1]}
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
    elif moved or len(kept) < len(places):
        options["folders"] = {name: _option(places[name]) for name in kept}
    if "folders" in options and len(kept) < len(places):
        left = ", ".join(_place(here) for name, here in places.items() if name not in kept)
        evidence.append(f"left out, as their files are of no kind that is read, or their names meet no others: {left}")
    tops = sorted({stem.partition("/")[0] for stem in stems[first] if "/" in stem})
    if 1 < len(tops) <= len(stems[first]) // 4:
        some = ", ".join(map(shown, tops[:5])) + (" …" if len(tops) > 5 else "")
        evidence.append(
            f"the folders in {_place(places[first])} are no variable ({some}); a table of files and labels makes them one"
        )
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


def _meet(one: Collection[str], two: Collection[str]) -> bool:
    """Whether half of the fewer stems are among the others."""
    return 2 * len({*one} & {*two}) >= min(len(one), len(two))


def _are_apart(files: Mapping[str, Sequence[str]], stems: Mapping[str, Collection[str]]) -> bool:
    """Whether all files are images, and no two of several folders share a stem."""
    return sum(map(len, stems.values())) == len(set[str]().union(*stems.values())) and all(
        is_image(file) for some in files.values() for file in some
    )


def _deeper(
    places: Places, files: Mapping[str, Sequence[str]], stems: dict[str, set[str]], read: Sequence[str], first: str
) -> bool:
    """Take the one folder in a variable's folder that holds its images for it, where its names meet the others only so; whether any is taken."""
    moved = False
    for name in read:
        if _meet(stems[name], stems[first]):
            continue
        within = {one: _within(stems[one], _common_folder(files[one])) for one in (name, first)}
        taken = [name] if within[name] and _meet(within[name], stems[first]) else []
        if not taken and len(read) == 2 and all(within.values()) and _meet(*within.values()):
            taken = [name, first]
        for one in taken:
            below = _common_folder(files[one])
            places[one] = {part: "/".join(filter(None, (here, below))) for part, here in places[one].items()}
            stems[one], moved = within[one], True
    return moved


def _common_folder(files: Sequence[str]) -> str:
    """The folder in which all images of a variable's folder lie; empty where there is none but that."""
    tops = {file.rpartition("/")[0] for file in files if is_image(file)}
    return os.path.commonpath(tops) if tops else ""


def _within(stems: Collection[str], folder: str) -> set[str]:
    """Stems from a folder on; those in others are left out."""
    return {stem.removeprefix(f"{folder}/") for stem in stems if stem.startswith(f"{folder}/")} if folder else {*stems}


def _several(
    at: Path, places: Places, name: str, mine: Collection[str], first: str, others: Collection[str]
) -> Survey | None:
    """The question that several folders in one are, each of which has files called as the images are: a variable each."""
    below: dict[str, set[str]] = {}
    for stem in mine:
        folder, _, rest = stem.partition("/")
        below.setdefault(folder if rest else "", set()).add(rest)
    whole = set(others)
    if "" in below or len(below) < 2 or list(places[name]) != [""] or list(places[first]) != [""]:
        return None
    if not all(2 * len(some & whole) >= min(len(some), len(whole)) for some in below.values()):
        return None
    folders = {first: places[first][""], **{folder: f"{places[name]['']}/{folder}" for folder in sorted(below)}}
    table = ", ".join(f"{key(one)} = {json.dumps(folder)}" for one, folder in folders.items())
    question = (
        f"the folder {shown(places[name][''])} holds {', '.join(map(shown, sorted(below)))}, each with files called as those of {shown(first)}: "
        f"a variable each; --assume {shlex.quote(f'options.folders={{ {table} }}')}"
    )
    return Survey("folder", {"path": str(at)}, question=question)


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
            more = "" if len(found) <= 6 else f" and {len(found) - 6} more"
            mend = {"npz": "; of files that are a row each the arrays have to be joined, by numpy.stack"}.get(
                source, "; parts of one table have to be joined, or are read as they come by the source datasets-stream"
            )
            raise RequestError(
                f"init: found {files}{more} in {shown(str(at))}, expected one of them: give its path{mend}"
            )
    return None

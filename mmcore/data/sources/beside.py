"""Masks that lie beside their images in one folder: told by their names, and where these say nothing by their pixels. Imports no torch."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import numpy as np

from mmcore.data.decode import decode
from mmcore.data.sources.pairs import Affixes
from mmcore.errors import RequestError

_WORDS = "mask|gt|seg|segmentation|label|labels|annotation|groundtruth|matte|trimap"
_SAYS = re.compile(rf"[_\-. ]({_WORDS})", re.I)
_BEFORE = re.compile(rf"({_WORDS})[_\-. ]", re.I)
_IMAGE = re.compile(r"(image|img|photo|picture|pic|frame|rgb|input)[_\-. ]", re.I)
_END = re.compile(r"[_\-. ][^_\-. /]+$")
_VALUES = 32
"""Different colours up to which a file beside one of at least twice as many is a map of it."""
_LOOKED = 6
_MOST = 256


@attrs.frozen
class Beside:
    """What tells masks from their images.

    Attributes:
        image: what stands around the stem of an image.
        mask: what stands around that of a mask.
        others: patterns of further files that belong to images, and are none.
        evidence: for a person.
    """

    image: Affixes
    mask: Affixes
    others: tuple[str, ...]
    evidence: str


def masks_beside(files: Mapping[str, Path]) -> Beside | None:
    """What tells the masks in a folder of images, if a quarter of its files are masks; None otherwise.

    Args:
        files: images by their stems.
    """
    marks: dict[str, list[str]] = {}
    for stem in files:
        if (end := _END.search(stem)) and stem[: end.start()] in files and not end[0][1:].isdecimal():
            marks.setdefault(end[0], []).append(stem[: end.start()])
    often = {mark: bases for mark, bases in marks.items() if 4 * len(bases) >= len(files)}
    said = [mark for mark in marks if _SAYS.fullmatch(mark)]
    if 4 * sum(len(marks[mark]) for mark in said) >= len(files) > 0:
        found, why = max(said, key=lambda mark: len(marks[mark])), ""
    else:
        maps = [mark for mark, bases in often.items() if _are_maps([(files[b], files[b + mark]) for b in bases])]
        if not maps:
            return _by_prefix(files)
        found, why = maps[0], f", and have {_VALUES} colours at most"
    count = len(marks[found])
    further = {stem: end for stem in files if (end := _further(stem, found, files))}
    others = [f"*{mark}.*" for mark in often if mark != found] + sorted(
        {f"*{found}{end[0]}*" for end in further.values()}
    )
    evidence = f"{count} of {len(files)} images are called as another with {found!r} after it{why}: its masks"
    if further:
        evidence += f"; left out: {len(further)} more of an image that has one, such as {next(iter(further))}"
    if left := [mark for mark in often if mark != found]:
        evidence += f"; left out: those with {' or '.join(map(repr, left))}"
    return Beside(Affixes(), Affixes("", found), tuple(others), evidence)


def _further(stem: str, mark: str, files: Mapping[str, Path]) -> str:
    """What numbers one more mask of an image; empty where it is none."""
    end = re.search(rf"(?<={re.escape(mark)})[_\-. ]?\d+$", stem)
    return end[0] if end and stem[: end.start() - len(mark)] in files else ""


def _by_prefix(files: Mapping[str, Path]) -> Beside | None:
    """Masks that are called as their images are with a word before it."""
    masks, images = Counter[str](), Counter[str]()
    names = {stem.rpartition("/")[2]: stem for stem in files}
    for name in names:
        if begin := _BEFORE.match(name):
            rest = name[begin.end() :]
            before = "" if rest in names else next((one for one in _starts(names) if one + rest in names), None)
            if before is not None:
                masks[begin[0]] += 1
                images[before] += 1
    if not masks or 4 * masks.total() < len(files):
        return None
    (mask, count), (image, _) = masks.most_common(1)[0], images.most_common(1)[0]
    evidence = f"{count} of {len(files)} images are called as another with {mask!r} before it: its masks"
    return Beside(Affixes(image), Affixes(mask), (), evidence)


def _starts(names: Mapping[str, str]) -> list[str]:
    """What the names of images begin with."""
    return list(dict.fromkeys(begin[0] for name in names if (begin := _IMAGE.match(name))))


def _are_maps(pairs: Sequence[tuple[Path, Path]]) -> bool:
    """Whether each second file has few colours, and its first many more."""
    some = [pairs[k * len(pairs) // _LOOKED] for k in range(_LOOKED)] if len(pairs) > _LOOKED else pairs
    for image, mask in some:
        few = _colours(mask)
        if not 1 <= few <= _VALUES or _colours(image) < 2 * _VALUES:
            return False
    return True


def _colours(at: Path) -> int:
    """How many colours a file has, of every few pixels of a large one; 0 where it cannot be read."""
    try:
        picture = decode(at)
    except RequestError:  # told when all are read
        return 0
    pixels = np.asarray(picture.convert("RGB") if hasattr(picture, "convert") else picture)
    if pixels.ndim != 3:
        return 0
    step = max(1, max(pixels.shape[:2]) // _MOST)
    packed = pixels[::step, ::step].astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    return len(np.unique(packed))

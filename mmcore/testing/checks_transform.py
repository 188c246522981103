"""Transforms: what becomes of a row of pictures, maps, numbers and texts. The plugin is what makes one."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image

from mmcore.data.transforms import Transform, copied
from mmcore.errors import RequestError
from mmcore.modality.spec import Spec
from mmcore.rng import Rng
from mmcore.testing.check import NotRun, check
from mmcore.testing.context import Context
from mmcore.testing.reference import Reference
from mmcore.testing.surroundings import alike, holds, left_alone, pickled, reseed

SIZES = ((24, 24), (24, 32), (40, 28), (96, 120), (8, 8))
"""Heights and widths that are tried; it may refuse some."""
CLASSES = (0, 3, 9, 27, 81)
"""Of maps: no mean of some of them is another, so that interpolation shows."""
LEVELS = (0, 64, 128, 191, 255)
"""Of grey pictures, one for each class; the ends of the range are among them, so that bytes are cut where an interpolation goes beyond."""
BEYOND = 0.25
"""So much of its range may an interpolation of real numbers go beyond them: cubic ones go up to a fifth."""
RARE = 4000
"""So many draws are tried before a change counts as steady."""


class _Pixels(Reference):
    """A variable of some shape and dtype, as a transform is bound to it."""

    def __init__(self, name: str, spec: Spec) -> None:
        super().__init__(1)
        self.name, self.spec = name, spec


def variables() -> list[Any]:
    """What rows hold: a picture, a grey one, a map of classes, a class, a vector and a text."""
    return [
        _Pixels("image", Spec((3, 8, 8), low=-1, high=1)),
        _Pixels("grey", Spec((1, 8, 8), low=-1, high=1)),
        _Pixels("mask", Spec((8, 8), torch.int64, 0, CLASSES[-1])),
        _Pixels("label", Spec((), torch.int64, 0, len(CLASSES) - 1)),
        _Pixels("vector", Spec((4,))),
        _Pixels("text", Spec((16,), torch.int64, 0, 255)),
    ]


def row(size: tuple[int, int], seed: int, arrays: bool = False) -> dict[str, Any]:
    """Raw values of one row; pictures and the map of one content, by which they can be told to lie alike.

    The picture's red rises with the row, its green with the column; the grey picture and the map say which of the fields
    of a chequerboard a pixel is in, which no mirroring and no shift leaves as it is.
    """
    height, width = size
    y, x = np.mgrid[:height, :width]
    ramps = [np.rint(255 * y / max(1, height - 1)), np.rint(255 * x / max(1, width - 1))]
    field = ((4 * y // height) * 3 + (4 * x // width) * 2 + seed) % len(CLASSES)
    picture = np.stack([*ramps, np.array(LEVELS)[field]], axis=2).astype(np.uint8)
    maps = {"grey": np.array(LEVELS, np.uint8)[field], "mask": np.array(CLASSES, np.uint8)[field]}
    drawn = Rng.for_rows(seed, 1).of("row")
    more = {
        "label": int(drawn.of("label").integers(0, len(CLASSES)).item()),
        "vector": drawn.of("vector").normal(4)[0].numpy(),
        "text": "A row of Words, number 7",
    }
    if arrays:
        return {"image": picture, **maps, **more}
    return {"image": Image.fromarray(picture), **{k: Image.fromarray(v) for k, v in maps.items()}, **more}


def row_rng(c: Context, index: int = 0, epoch: int = 0) -> Rng:
    return Rng(c.seed, torch.tensor([index])).at(epoch).of("transform")


def bound_transform(c: Context) -> Transform:
    with left_alone(c, "as it was made"):
        transform = c.thing()
    if not isinstance(transform, Transform) or not isinstance(getattr(transform, "varies", None), bool):
        c.fail(f"a {type(transform).__name__} with varies = {getattr(transform, 'varies', None)!r}", "a mmcore.data.Transform that says whether it varies")  # fmt: skip
    try:
        bound = transform.bind(variables())
    except RequestError as error:
        raise NotRun(f"it is for other variables than {', '.join(v.name for v in variables())}: {error}") from error
    if not isinstance(bound, Transform) or bound.varies != transform.varies:
        c.fail(f"bound to variables, a {type(bound).__name__}", "the same transform")
    return bound


def applied(c: Context, transform: Transform, values: Mapping[str, Any], rng: Rng) -> dict[str, Any]:
    """The changed row, its names checked."""
    found = transform({name: copied(raw) for name, raw in values.items()}, rng)
    if not isinstance(found, Mapping) or set(found) != set(values):
        names = list(found) if isinstance(found, Mapping) else type(found).__name__
        c.fail(f"{names} from a row with {', '.join(values)}", "a value for each of the same names")
    return dict(found)


def taken_rows(c: Context, transform: Transform) -> Iterator[tuple[tuple[int, int], dict[str, Any]]]:
    """Rows that it takes: all variables, pictures as pictures and as arrays, of several sizes."""
    refused, count = "", 0
    for arrays in (False, True):
        for size in SIZES:
            values = row(size, c.seed % 7, arrays)
            try:
                transform({name: copied(raw) for name, raw in values.items()}, row_rng(c))
            except RequestError as error:
                refused = str(error)
                continue
            count += 1
            yield size, values
    if not count:
        raise NotRun(f"it takes no row of the kit's: {refused}")


@check(
    "transform.row",
    kind="transform",
    fault="a name that is lost or added, a row that is no mapping, a row that lacks a value",
)
def changes(c: Context) -> None:
    """A row comes back with a value for each of its names, whatever it lacks; something is left of it."""
    transform = bound_transform(c)
    for size, values in taken_rows(c, transform):
        found = applied(c, transform, values, row_rng(c))
        if all(value is None for value in found.values()):
            c.fail(f"no value left of a row of {size[0]} × {size[1]} pixels", "one at least")
        for lacking in values:
            some = {name: raw for name, raw in values.items() if name != lacking}
            applied(c, transform, some, row_rng(c))
            try:
                applied(c, transform, {lacking: values[lacking]}, row_rng(c))
            except RequestError:
                continue  # It may need others to do its work.
        for name, raw in found.items():
            if isinstance(raw, np.ndarray) and raw.dtype.kind == "f" and not np.isfinite(raw).all():
                c.fail(f"{name} with NaN or infinity", "finite numbers")
            if isinstance(raw, np.ndarray) and raw.dtype.hasobject:
                c.fail(f"{name} as an array of objects", "numbers")


@check("transform.apart", kind="transform", fault="a class that is another where the picture is missing", core=False)
def apart(c: Context) -> None:
    """What has no pixels is changed alike whatever else the row lacks."""
    transform = bound_transform(c)
    for _, values in taken_rows(c, transform):
        whole = applied(c, transform, values, row_rng(c))
        for lacking in ("image", "grey", "mask", "text"):
            found = applied(c, transform, {name: raw for name, raw in values.items() if name != lacking}, row_rng(c))
            for name in ("label", "vector", "text"):
                if name in found and not alike(found[name], whole[name]):
                    c.fail(f"another {name} of a row that lacks its {lacking}", "the same")


@check(
    "transform.repeatable", kind="transform", fault="the global generator, a counter, what the row before left behind"
)
def repeatable(c: Context) -> None:
    """The same row with the same numbers is changed alike: again, after other rows, by another made alike, and by a copy in a worker.

    Global generators are left alone, and what was given out stays as it was.
    """
    transform = bound_transform(c)
    others = {"another made alike": bound_transform(c), "its copy": copy.deepcopy(transform)}
    # One is bound for each part of the data.
    twice = c.thing()
    others |= {"one that is bound": twice.bind(variables()), "the same bound again": twice.bind(variables())}
    others["its copy by pickle"] = pickled(c, transform, "a transform")
    for size, values in taken_rows(c, transform):
        with left_alone(c, "while a row was changed"):
            first = applied(c, transform, values, row_rng(c, 3))
        kept = {name: copied(raw) for name, raw in first.items()}
        reseed(c.seed + 1)
        for k in (0, 1, 2):
            applied(c, transform, row(size, k + 10, isinstance(values["image"], np.ndarray)), row_rng(c, k + 4, k))
        if not alike(first, kept):
            c.fail("a row given out that changed when later ones were", "values of its own")
        for what, one in ({"it again": transform} | others).items():
            found = applied(c, one, values, row_rng(c, 3))
            if wrong := [name for name in kept if not alike(found[name], kept[name])]:
                c.fail(f"another {', '.join(wrong)} of the same row by {what}", "the same")
    before = holds(transform)
    for size, values in list(taken_rows(c, transform))[:1] * 4:
        applied(c, transform, values, row_rng(c, size[0]))
    if holds(transform) > before + 1:
        c.fail("a transform that holds more after every row", "one that keeps nothing of a row")


@check(
    "transform.varies",
    kind="transform",
    fault="a random change that says it is none, one change for all epochs",
    false_alarm="of a change of one row in 200 or more at most 4e-9; a change of one row in 1000 is taken for none in 2 % of the seeds",
)
def varies(c: Context) -> None:
    """`varies` is true: then a row is another in other epochs, and rows are changed apart; else neither rows' numbers nor epochs matter.

    What takes its place for rows that are held out does not vary.
    """
    transform = bound_transform(c)
    _, values = next(iter(taken_rows(c, transform)))
    first = applied(c, transform, values, row_rng(c))
    for what, rng in (
        ("epochs", lambda k: row_rng(c, 0, k)),
        ("rows", lambda k: row_rng(c, k)),
    ):
        # A change may be seldom; of one that is not to vary some are enough.
        most = RARE if transform.varies else 48
        differs = any(not alike(applied(c, transform, values, rng(k)), first) for k in range(1, most + 1))
        if differs and not transform.varies:
            c.fail(
                f"a row that is another by the numbers of other {what}, with varies = False",
                "the same, or varies = True",
            )
        if not differs and transform.varies:
            c.fail(f"the same change in {most} {what}, with varies = True", "another in some, or varies = False")
    steady = transform.steady()
    if steady is None:
        return
    if not isinstance(steady, Transform) or steady.varies is not False:
        c.fail(
            f"for rows held out a {type(steady).__name__} with varies = {getattr(steady, 'varies', None)}",
            "a transform that does not vary, or None",
        )
    for _, some in taken_rows(c, steady):
        first = applied(c, steady, some, row_rng(c))
        for k in (1, 2, 3, 4, 5, 6):
            if not alike(applied(c, steady, some, row_rng(c, k, k)), first):
                c.fail("a row that is held out and changes by the numbers", "the same in every epoch")
    if not transform.varies and steady is not transform:
        for _, some in taken_rows(c, transform):
            if not alike(applied(c, steady, some, row_rng(c)), applied(c, transform, some, row_rng(c))):
                c.fail("another change for rows held out than for training, with varies = False", "the same")


@check(
    "transform.together",
    kind="transform",
    fault="a picture that moves without its map",
    false_alarm="none: 24 draws each",
)
def together(c: Context) -> None:
    """Pictures and maps of one row move together: what lay at one place lies at one place afterwards, and they have one size.

    Asked of those that change where pixels are; a change of values leaves each where it was.
    """
    transform = bound_transform(c)
    for size, values in taken_rows(c, transform):
        for k in range(24 if transform.varies else 1):
            found = applied(c, transform, values, row_rng(c, k, k))
            planes = {name: plane_of(found[name]) for name in ("image", "grey", "mask")}
            known = {name: plane for name, plane in planes.items() if plane is not None}
            shapes = {name: plane.shape[:2] for name, plane in known.items()}
            if len(set(shapes.values())) > 1:
                c.fail(f"sizes {shapes} of one row of {size[0]} × {size[1]} pixels", "one size")
            if "mask" not in known or min(known["mask"].shape[:2]) < 6:
                continue
            mask = known["mask"].reshape(known["mask"].shape[:2])
            for name in known.keys() - {"mask"}:
                other = known[name][..., -1] if known[name].ndim == 3 else known[name]
                share = _explained(mask, other)
                if share > 0.8:
                    continue
                # A change of values may make few classes of many: then what explains more must be the map turned another way.
                turned = [_explained(way, other) for way in (mask[::-1], mask[:, ::-1], mask[::-1, ::-1])]
                if share < (0.5 if transform.moves else max(turned) - 0.2):
                    c.fail(
                        f"{name} and mask that no longer lie alike (the map explains {share:.0%} of it)",
                        "moved together",
                    )


def plane_of(raw: Any) -> np.ndarray | None:
    """Numbers ``(H, W)`` or ``(H, W, C)`` of what has pixels."""
    if isinstance(raw, Image.Image):
        return np.asarray(raw.convert("RGB") if raw.mode in ("P", "RGBA") else raw, dtype=np.float64)
    if isinstance(raw, torch.Tensor):
        raw = raw.numpy()
    if not isinstance(raw, np.ndarray) or raw.ndim not in (2, 3):
        return None
    return (np.moveaxis(raw, 0, 2) if raw.ndim == 3 and raw.shape[2] > 4 >= raw.shape[0] else raw).astype(np.float64)


def _inner(mask: np.ndarray) -> np.ndarray:
    """Which pixels have neighbours of their own field only."""
    inner = np.ones(mask.shape, dtype=bool)
    for shift in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        inner &= np.roll(mask, shift, (0, 1)) == mask
    return inner


def _explained(mask: np.ndarray, other: np.ndarray) -> float:
    """The share of a plane's variance between the map's fields, of pixels inside them."""
    inner = _inner(mask)
    if inner.sum() < 12 or len(np.unique(mask[inner])) < 2 or other[inner].var() < 1e-12:
        return 1.0
    values, fields = other[inner], mask[inner]
    within = sum(values[fields == f].var() * (fields == f).sum() for f in np.unique(fields))
    return float(1 - within / (values.var() * len(values)))


@check(
    "transform.classes",
    kind="transform",
    fault="a map of classes that is interpolated, or made darker like its picture",
)
def classes(c: Context) -> None:
    """A map of classes holds whole numbers afterwards, where pixels are moved only such as it held before, and never others by chance but void."""
    transform = bound_transform(c)
    for size, values in taken_rows(c, transform):
        before, added = plane_of(values["mask"]), []
        held = set(np.unique(np.asarray(before)).tolist())
        for k in range(8 if transform.varies else 1):
            after = plane_of(applied(c, transform, values, row_rng(c, k, k))["mask"])
            if after is None:
                continue
            if (after != np.rint(after)).any():
                c.fail(f"a map with fractions from one of {size[0]} × {size[1]}", "whole numbers")
            added.append(set(np.unique(after).tolist()) - held)
            if (transform.moves or _elsewhere(np.asarray(before), after)) and added[-1]:
                c.fail(f"classes {sorted(added[-1])[:4]} in a map that held {sorted(held)}", "classes that it held")
        new = set().union(*added)
        # Other classes for all rows may be meant, and void here and there.
        if len(new) > max(map(len, added), default=0) + 1:
            c.fail(f"classes {sorted(new)[:6]} by chance in a map that held {sorted(held)}", "the same in all rows, but for void")  # fmt: skip


@check("transform.moves", kind="transform", fault="pixels moved without `moves`, values changed with it")
def moves(c: Context) -> None:
    """`moves` is true: it says whether pixels go elsewhere and keep their values, so that what is known of them goes along.

    That pixels move has to be said of what rows that are held out go through, as only there something is put back.
    """
    transform = bound_transform(c)
    steady = transform.steady()
    said = {"": transform} if steady is None or steady is transform else {"": transform, ", of rows held out": steady}
    for where, one in said.items():
        if not isinstance(one.moves, bool):
            c.fail(f"moves = {one.moves!r}{where}", "True or False")
        _moves(c, one, where, told=one is steady)


def _moves(c: Context, transform: Transform, where: str, *, told: bool) -> None:
    """Fail where ``moves`` is not true; that it is False of one that moves, only where it has to be ``told``."""
    for size, values in taken_rows(c, transform):
        for k in range(8 if transform.varies else 1):
            found = applied(c, transform, values, row_rng(c, k, k))
            for name in ("image", "grey", "mask"):
                a, b = plane_of(values[name]), plane_of(found[name])
                if a is None or b is None:
                    continue
                if told and not transform.moves and _elsewhere(a, b):
                    c.fail(
                        f"{name} of {size[0]} × {size[1]} whose pixels moved, with moves = False{where}",
                        "moves = True, and undo_pixels",
                    )
                if not transform.moves:
                    continue
                # Bytes are cut at their ends, which the grey pictures reach.
                real = name != "mask" and np.asarray(found[name]).dtype.kind == "f"
                slack = 1e-6 + (BEYOND * (a.max() - a.min()) if real else 0)
                if a.shape[2:] != b.shape[2:] or b.min() < a.min() - slack or b.max() > a.max() + slack:
                    c.fail(
                        f"{name} with other values, {b.min():.4g} … {b.max():.4g}, with moves = True{where}",
                        f"values inside {a.min():.4g} … {a.max():.4g}",
                    )
                _keeps_levels(c, name, plane_of(found["mask"]), b)


def _elsewhere(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether a plane has another size, or the values that it had in other places."""
    if before.shape[:2] != after.shape[:2]:
        return True
    return not np.array_equal(before, after) and np.array_equal(np.sort(before, None), np.sort(after, None))


def _keeps_levels(c: Context, name: str, mask: np.ndarray | None, plane: np.ndarray) -> None:
    """Fail where most fields of a picture that was moved are of another grey than the map says."""
    if name == "mask" or mask is None or mask.shape[:2] != plane.shape[:2]:
        return
    mask = mask.reshape(mask.shape[:2])
    grey, inner = plane[..., -1] if plane.ndim == 3 else plane, _inner(mask)
    found = {k: grey[inner & (mask == value)] for k, value in enumerate(CLASSES)}
    levels = {k: float(np.median(values)) for k, values in found.items() if len(values) >= 6}
    # Of small fields an interpolation leaves no pixel as it was.
    off = [k for k, level in levels.items() if abs(level - LEVELS[k]) > 0.2 * LEVELS[-1]]
    if len(levels) >= 2 and 2 * len(off) > len(levels):
        c.fail(
            f"{name} with {levels[off[0]]:.4g} where it was {LEVELS[off[0]]}, with moves = True",
            "the values that its pixels had",
        )


@check(
    "transform.bytes",
    kind="transform",
    fault="a brightness that makes white black, as bytes go on from 0 beyond 255",
    core=False,
    false_alarm="none: 24 draws",
)
def bytes_end(c: Context) -> None:
    """Bytes are cut at the ends of their range: what rises to white does not go on from black.

    Asked of pictures whose pixels stay where they are, by what becomes of each level from 0 to 255.
    """
    transform = bound_transform(c)
    looked = 0
    for _, values in taken_rows(c, transform):
        for k in range(24 if transform.varies else 1):
            found = applied(c, transform, values, row_rng(c, k, k))
            mask = plane_of(found["mask"])
            if mask is None or not np.array_equal(mask, np.asarray(plane_of(values["mask"]))):
                continue
            a, b = plane_of(values["image"]), plane_of(found["image"])
            if a is None or b is None or a.shape != b.shape or np.asarray(found["image"]).dtype != np.uint8:
                continue
            looked += 1
            # The red channel rises with the rows, the green one with the columns.
            for channel, axis in ((0, 1), (1, 0)):
                levels = np.median(b[..., channel], axis=axis)
                if (at := _begins_again(levels)) is not None:
                    c.fail(f"{a[..., channel].max(axis)[at]:.0f} made {levels[at]:.0f} and the level above it {levels[at + 1]:.0f}", "levels that end at 255")  # fmt: skip
    if not looked:
        raise NotRun("it moves pixels, or gives no bytes")


def _begins_again(levels: np.ndarray) -> int | None:
    """Where levels rise to nearly 255, and rise again from nearly 0; None where they do not."""
    rises = np.diff(levels)
    step = float(np.median(rises))
    # Of a few levels it is not seen whether they rise again.
    if not 0 < step < 16:
        return None
    for k in np.flatnonzero(rises < -128):
        near = [*rises[max(0, k - 2) : k], *rises[k + 1 : k + 3]]
        if len(near) == 4 and min(near) > 0 and levels[k] >= 255 - 1.5 * step and levels[k + 1] <= 1.5 * step:
            return int(k)
    return None

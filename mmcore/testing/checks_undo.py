"""Transforms and their way back: pixels put where they were, values in the data's own units, pictures and arrays alike."""

import itertools
from typing import Any

import numpy as np
from PIL import Image

from mmcore.data.transforms import copied
from mmcore.errors import RequestError
from mmcore.testing.check import NotRun, check
from mmcore.testing.checks_transform import SIZES, applied, bound_transform, plane_of, row, row_rng, taken_rows
from mmcore.testing.context import Context
from mmcore.testing.surroundings import alike


@check(
    "transform.undo_pixels", kind="transform", fault="pixels put back to another place, a size exchanged", core=False
)
def undo_pixels(c: Context) -> None:
    """`undo_pixels` puts numbers back to where their pixels were: of the size before, NaN where the row was cut, else what lay there.

    Asked of what takes its place for rows that are held out, as answers are written for those; by pictures that rise along an axis.
    """
    steady = bound_transform(c).steady()
    if steady is None:
        raise NotRun("it is left out for rows that are held out, so nothing is to be undone")
    for size, values in taken_rows(c, steady):
        found = applied(c, steady, values, row_rng(c))
        before, after = plane_of(values["image"]), plane_of(found["image"])
        if before is None or after is None or after.ndim != 3 or before.ndim != 3:
            continue
        for axis, channel in (("rows", 0), ("columns", 1)):
            plane = np.ascontiguousarray(after[..., min(channel, after.shape[2] - 1)].astype(np.float32))
            kept = plane.copy()
            back = steady.undo_pixels("image", plane, size)
            if not isinstance(back, np.ndarray) or back.shape != size or back.dtype != np.float32:
                kind = f"{back.shape} {back.dtype}" if isinstance(back, np.ndarray) else type(back).__name__
                c.fail(f"numbers {kind} put back from {plane.shape}", f"{size} float32")
            if not np.array_equal(kept, plane):
                c.fail("the numbers to put back changed in place", "numbers of its own")
            known = np.isfinite(back)
            if not steady.moves:
                continue
            want = before[..., channel]
            share = min(1.0, plane.size / want.size)
            if known.mean() < 0.25 * share:
                c.fail(f"numbers for {known.mean():.0%} of the pixels", f"for about {share:.0%}")
            # Interpolation mixes neighbours: a pixel of the coarser grid, and one of the finer.
            pitch = 255 / (min(before.shape[channel], after.shape[channel]) - 1)
            error = np.abs(back - want)[known]
            if np.mean(error) > pitch or np.quantile(error, 0.95) > 2.5 * pitch:
                c.fail(f"along the {axis} pixels put back {np.mean(error) / pitch:.2g} places from where they were, of {size} from {plane.shape}", "where they were")  # fmt: skip


@check(
    "transform.undo_values",
    kind="transform",
    fault="a change of values that is undone wrongly or not at all",
    core=False,
)
def undo_values(c: Context) -> None:
    """`undo_values` gives a raw value that this change makes into the same again, so that answers are in the data's own units."""
    steady = bound_transform(c).steady()
    if steady is None or steady.moves:
        raise NotRun("nothing is to be undone: it is left out for rows that are held out, or leaves values as they are")
    for _, values in taken_rows(c, steady):
        found = applied(c, steady, values, row_rng(c))
        back = {name: steady.undo_values(name, copied(raw)) for name, raw in found.items() if raw is not None}
        try:
            again = applied(c, steady, {**values, **back}, row_rng(c))
        except RequestError as error:
            c.fail(f"a value from undo_values that it refuses ({error})", "one that it changes into the same")
        for name, raw in found.items():
            if not _near(again[name], raw):
                c.fail(f"another {name} when what undo_values gave is changed", "the same as before")


def _near(a: Any, b: Any) -> bool:
    """Whether two raw values are equal to rounding, and to one level of 255 in a picture; their dtypes are their own affair."""
    planes = [np.asarray(x, dtype=np.float64) if isinstance(x, Image.Image | np.ndarray | int | float) else None for x in (a, b)]  # fmt: skip
    if any(plane is None for plane in planes):
        return alike(a, b)
    slack = 1.01 if isinstance(b, Image.Image) or getattr(b, "dtype", None) == np.uint8 else 1e-4
    return planes[0].shape == planes[1].shape and bool(np.allclose(*planes, rtol=1e-4, atol=slack))  # type: ignore[union-attr, arg-type]


@check("transform.kinds", kind="transform", fault="height and width exchanged between pictures and arrays", core=False)
def kinds(c: Context) -> None:
    """A picture and the array of its pixels are changed alike, where it takes both; by several draws of one that varies."""
    transform = bound_transform(c)
    compared = 0
    for size, k in itertools.product(SIZES, range(8 if transform.varies else 1)):
        results = []
        for arrays in (False, True):
            try:
                results.append(applied(c, transform, row(size, c.seed % 7, arrays), row_rng(c, 5, 2 + k)))
            except RequestError:
                break
        if len(results) < 2:
            continue
        compared += 1
        for name in ("image", "grey", "mask"):
            a, b = (plane_of(found[name]) for found in results)
            if a is None or b is None or (name == "mask" and a.shape != b.shape and a.shape[:2] == b.shape[:2]):
                continue
            # The nearest pixel may be another by half a pixel.
            off = (a != b).mean() > 0.3 if name == "mask" else np.abs(a - b).mean() > 8 if a.shape == b.shape else False
            if a.shape[:2] != b.shape[:2] or off:
                c.fail(f"{name} of {a.shape} as a picture and {b.shape} as an array, of {size}", "the same to rounding")
    if not compared:
        raise NotRun("it does not take both")

"""From the outside in: files and arrays that hold one value in many ways, and what people see and score."""

import itertools
import re
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmcore.errors import RequestError
from mmcore.files import Encoded
from mmcore.testing.check import NotRun, check
from mmcore.testing.context import Context
from mmcore.testing.strategies import written

NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def forms(raw: Any, folder: Path) -> Iterator[tuple[str, Any]]:
    """The same raw value in other forms, none of which changes a digit."""
    if isinstance(raw, Image.Image):
        yield "a copy of the picture", raw.copy()
        if raw.mode in ("1", "L", "P", "RGB", "RGBA", "LA", "I;16"):
            path = folder / "value.png"
            raw.save(path)
            yield "a PNG file", path
            yield "a PNG file by its name", str(path)
        if raw.mode in ("L", "RGB", "RGBA", "I;16"):
            pixels = np.array(raw)
            yield "an array of the picture", pixels
            yield "a read-only array of the picture", _locked(pixels)
            yield "an array of the picture in another order of memory", np.asfortranarray(pixels)
    elif isinstance(raw, np.ndarray):
        yield from _arrays(raw, folder)
    elif isinstance(raw, Encoded):
        path = folder / f"value{raw.suffix}"
        path.write_bytes(raw.data)
        yield "a file", path
        yield "a file by its name", str(path)
        yield "a file's bytes", raw.data
    elif isinstance(raw, bool):
        yield "numpy's truth", np.bool_(raw)
    elif isinstance(raw, int | float):
        yield "numpy's number", np.array(raw)[()]
        yield "an array without axes", np.array(raw)
        yield "a tensor", torch.tensor(raw, dtype=torch.float64 if isinstance(raw, float) else torch.int64)
        yield "a text", repr(raw)
        if isinstance(raw, int):
            yield "a number with a point", float(raw)
    elif isinstance(raw, list | tuple) and raw and all(isinstance(one, bool | int | float) for one in raw):
        yield "a tuple", tuple(raw)
        yield "an array", np.array(raw)
        yield "a tensor", torch.tensor(raw, dtype=torch.float64 if isinstance(raw[0], float) else None)


def _arrays(raw: np.ndarray, folder: Path) -> Iterator[tuple[str, Any]]:
    yield "a read-only array", _locked(raw)
    yield "an array in another order of memory", np.asfortranarray(raw)
    if raw.ndim:
        yield "every second element of a longer array", np.repeat(raw, 2, axis=-1)[..., ::2]
        yield "a list", raw.tolist()
    if raw.dtype.itemsize > 1:
        yield "an array of the other byte order", raw.astype(raw.dtype.newbyteorder())
    if raw.dtype == np.float32:
        yield "an array in double precision", raw.astype(np.float64)
    if raw.dtype.kind in "biuf" and raw.dtype not in (np.uint16, np.uint32, np.uint64):
        yield "a tensor", torch.from_numpy(raw.astype(raw.dtype.newbyteorder("=")).copy())
    path = folder / "value.npy"
    np.save(path, raw)
    yield "an NPY file", path
    yield "an NPY file by its name", str(path)


def _locked(raw: np.ndarray) -> np.ndarray:
    raw = raw.copy()
    raw.setflags(write=False)
    return raw


@check(
    "read.forms",
    fault="a file that is read in another way than the array that it holds: flipped, scaled twice, bytes exchanged",
    core=False,
)
def read_forms(c: Context) -> None:
    """One raw value is read alike in every form that `read` takes: as an object, a file, an array in any memory; or it is refused."""
    m = c.modality
    with tempfile.TemporaryDirectory() as folder:
        for row in m.typical(4, c.seed):
            raw = m.raw(row.clone())
            try:
                want = m.read(raw)
            except RequestError:
                raise NotRun("read does not take what raw gives: read.back tells") from None
            near = written(m.spec, want)
            for name, form in forms(raw, Path(folder)):
                try:
                    # That an array cannot be written to is torch's concern, and no answer.
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        got = m.read(form)
                except RequestError:
                    continue
                if not isinstance(got, Tensor) or got.shape != want.shape or got.dtype != want.dtype:
                    c.fail(f"{name} read as {getattr(got, 'dtype', type(got).__name__)} of shape {tuple(getattr(got, 'shape', ()))}", f"{want.dtype} of shape {tuple(want.shape)}")  # fmt: skip
                off = (got.double() - want.double()).abs()
                if off.numel() and not float(off.max()) <= near:
                    c.fail(
                        f"{name} of a {type(raw).__name__} read with a difference of {float(off.max()):.4g}",
                        f"the same as the {type(raw).__name__} (± {near:.2g}), or a RequestError",
                    )


@check(
    "read.files",
    fault="pictures that come back flipped, with their colours in another order or their range halved",
    core=False,
)
def files(c: Context) -> None:
    """A picture that `read` takes is the one that `show` gives back: known ones, of bars, corners and colours, written by the kit."""
    m = c.modality
    shown = m.show(m.typical(1, c.seed)[0])
    if not isinstance(shown, Image.Image) or shown.mode not in ("L", "RGB"):
        raise NotRun("show gives no picture in grey or colours")
    compared = 0
    with tempfile.TemporaryDirectory() as folder:
        for k, pixels in enumerate(_pictures(shown)):
            path = Path(folder) / f"{k}.png"
            Image.fromarray(pixels).save(path)
            try:
                x = m.read(path)
                m.spec.check(x[None], "read")
            except RequestError:
                continue
            again = m.show(x)
            if not isinstance(again, Image.Image) or again.mode != shown.mode or again.size != shown.size:
                continue
            compared += 1
            back = np.asarray(again)
            off = np.abs(back.astype(int) - pixels.astype(int)).mean()
            told = [name for name, other in _variants(back) if other.shape == pixels.shape and np.abs(other.astype(int) - pixels.astype(int)).mean() < 0.2 * off]  # fmt: skip
            if off > 8 and told:
                c.fail(f"a picture that is shown {told[0]} after it was read", "the picture")
            # A scale of its own is told where a picture comes back in order, but for its greys.
            flat, own = pixels.reshape(-1).astype(float), back.reshape(-1).astype(float)
            if off > 8 and flat.std() > 20 and own.std() > 0 and np.corrcoef(flat, own)[0, 1] > 0.98:
                slope = np.polyfit(flat, own, 1)
                c.fail(f"a picture that is shown with greys of {slope[1]:.0f} … {255 * slope[0] + slope[1]:.0f} after it was read", "those of the picture, 0 … 255")  # fmt: skip
    if not compared:
        raise NotRun("read takes no pictures of the size that show gives")


def _pictures(like: Image.Image) -> list[np.ndarray]:
    """A grey ramp with a dark corner, and in colours one bar of each."""
    width, height = like.size
    ramp = np.add.outer(np.linspace(0, 155, height), np.linspace(0, 100, width))
    ramp[: (height + 1) // 2, : (width + 1) // 2] = 0
    grey = ramp.round().astype(np.uint8)
    if like.mode == "L":
        return [grey]
    bars = np.zeros((height, width, 3), np.uint8)
    for k, columns in enumerate(np.array_split(np.arange(width), 3)):
        bars[:, columns, k] = 255
    bars[: height // 2] //= 2
    return [np.repeat(grey[..., None], 3, 2), bars]


def _variants(x: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """What may have been done to a picture or map, by what it is called."""
    turns = {
        "upside down": x[::-1],
        "mirrored": x[:, ::-1],
        "turned by half": x[::-1, ::-1],
        "transposed": x.swapaxes(0, 1),
        "turned by a quarter": np.rot90(x),
        "turned back by a quarter": np.rot90(x, 3),
    }
    yield from turns.items()
    if x.ndim == 3 and x.shape[2] == 3:
        yield "with red and blue exchanged", x[..., ::-1]
        yield "with its colours in another order", x[..., [1, 2, 0]]
        yield "with its colours in another order", x[..., [2, 0, 1]]
    yield "as its negative", 255 - x


@check("show.agrees", fault="a show of another sample, another order, or the negative", core=False)
def agrees(c: Context) -> None:
    """`show` shows this value: different samples look different, a picture is not turned, numbers are in their order, a class is its own."""
    m, spec = c.modality, c.modality.spec
    x = m.typical(32, c.seed)
    shown = [m.show(row.clone()) for row in x]
    looks = [one.tobytes() if isinstance(one, Image.Image) else one for one in shown]
    spread = x.double().std(0).mean() if spec.dtype.is_floating_point else 0.0
    pairs = [(i, j) for i, j in itertools.combinations(range(len(x)), 2) if float((x[i].double() - x[j].double()).abs().max()) > float(spread)]  # fmt: skip
    alike = [(i, j) for i, j in pairs if looks[i] == looks[j]]
    few = not spec.dtype.is_floating_point and not spec.shape
    if alike and (few or 2 * len(alike) > len(pairs)):
        i, j = alike[0]
        c.fail(f"{len(alike)} of {len(pairs)} pairs of different samples are shown alike", "each as what it is", a=x[i], b=x[j])  # fmt: skip
    if all(isinstance(one, str) for one in shown):
        _texts(c, x, [str(one) for one in shown])
        return
    arrays = [np.asarray(one.convert("L") if isinstance(one, Image.Image) and one.mode not in ("L", "RGB") else one) for one in shown]  # fmt: skip
    flat = x.double().numpy()
    # As (rows, columns, channels), where the sample has them.
    maps = np.moveaxis(flat, 1, -1) if flat.ndim == 4 else flat[..., None] if flat.ndim == 3 else None
    # What is no picture, such as a spectrogram, may be drawn with its low end below.
    if (
        maps is None
        or not m.planar
        or not spec.dtype.is_floating_point
        or any(a.shape[:2] != maps.shape[1:3] for a in arrays)
    ):
        return
    if maps.shape[-1] not in (1, 3):
        return
    right, wrong = [], {}
    for a, b in zip(arrays, maps, strict=True):
        own = a if a.ndim == b.ndim and a.shape[2] == b.shape[2] else a[..., None] if a.ndim == 2 else a.mean(2, keepdims=True)  # fmt: skip
        b = b if own.shape == b.shape else b.mean(2, keepdims=True)
        right.append(_alike(own, b))
        for name, other in _variants(own if own.shape[2] == 3 else own[..., 0]):
            other = other if other.ndim == 3 else other[..., None]
            if other.shape == b.shape:
                wrong.setdefault(name, []).append(_alike(other, b))
    for name, scores in wrong.items():
        if np.mean(scores) > 0.9 and np.mean(right) < 0.7:
            c.fail(f"a sample that is shown {name}", "as it lies in the tensor")


def _alike(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.reshape(-1).astype(float), b.reshape(-1).astype(float)
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 1.0


def _texts(c: Context, x: Tensor, shown: list[str]) -> None:
    """A class's text is read as that class; numbers stand in the samples' order and grow with them."""
    m, spec = c.modality, c.modality.spec
    if not spec.dtype.is_floating_point and not spec.shape:
        for row, text in zip(x, shown, strict=True):
            try:
                back = m.read(text)
            except RequestError:
                continue
            if back.shape == row.shape and not torch.equal(back, row):
                c.fail(f"{row.item()} shown as {text!r}, which is read as {back.item()}", "the same class", x=row)
        return
    numbers = [[float(text) for text in NUMBER.findall(one)] for one in shown]
    size = x[0].numel()
    if not spec.dtype.is_floating_point or size > 256 or any(len(row) != size for row in numbers):
        return
    told, own = torch.tensor(numbers, dtype=torch.float64), x.reshape(len(x), -1).double()
    ranks = [v.argsort(0).argsort(0).double() for v in (told, own)]
    a, b = [(v - v.mean(0)) / v.std(0).clamp(min=1e-9) for v in ranks]
    related = a.T @ b / (len(x) - 1)
    # Points may be told one after the other, whichever axis is theirs.
    places = torch.arange(size).reshape(spec.shape)
    orders = [places.permute(axes).flatten() for axes in itertools.permutations(range(places.ndim))]
    wrong = [found for order in orders if (found := _out_of_order(related[:, order]))]
    if len(wrong) == len(orders):
        c.fail(*wrong[0])


def _out_of_order(related: Tensor) -> tuple[str, str] | None:
    """What is wrong with numbers of a text whose correlations with the elements are ``related``; None where each plainly goes with its own, or with none."""
    for e, row in enumerate(related):
        best = int(row.abs().argmax())
        if abs(float(row[best])) > 0.95 and (float(row[best]) < 0 or float(row[e]) < 0.8):
            what = f"the negative of element {best}" if float(row[best]) < 0 else f"element {best}"
            return f"number {e} of the text goes with {what}", f"element {e}"
    return None


@check("metrics.best", fault="a metric of the wrong target, its sign turned half way", core=False)
def best(c: Context) -> None:
    """A metric is best where the prediction is the truth, tells others from it, and leaves both as they were."""
    metrics = c.modality.metrics()
    if not metrics:
        raise NotRun("the modality offers no metric")
    # Different samples, of classes also those that are rare.
    some = c.typical(256)
    _, which = some.reshape(len(some), -1).unique(dim=0, return_inverse=True)
    places = torch.arange(len(some), device=some.device)
    first = torch.full_like(places, len(some)).scatter_reduce(0, which, places, "amin")
    most = max(24, min(64, 2**17 // max(1, some[0].numel())))
    truth = some[first[first < len(some)].sort().values[:most]]
    n = len(truth)
    if n < 2:
        raise NotRun("typical samples are all the same")
    for name, metric in metrics.items():
        given, kept = truth.clone(), truth.clone()
        at = metric(given.clone(), given).double()
        if not torch.equal(given, kept):
            c.fail(f"metric {name!r} that changes what it is given", "both left as they were")
        if at.isnan().any():
            c.fail(f"metric {name!r} of NaN where the prediction is the truth", "a number")
        gaps = []
        for turn in range(1, min(n, 25)):
            other = truth.roll(turn, 0)
            found = metric(other.clone(), truth).double()
            # What has nothing to tell, such as a map of nothing but void, has no best.
            gaps.append(torch.where(found.isnan(), torch.zeros_like(found), found - at))
        gap = torch.stack(gaps)
        slack = 1e-4 * gap.nan_to_num(0.0, 0.0, 0.0).abs().max().clamp(min=1e-6)
        better, worse = gap > slack, gap < -slack
        if better.any() and worse.any():
            c.fail(f"metric {name!r} that is larger than at the truth for some predictions and smaller for others", "its best at the truth")  # fmt: skip
        if not (better.any() or worse.any()):
            c.fail(f"metric {name!r} that is the same for every prediction", "one that tells the truth from others")

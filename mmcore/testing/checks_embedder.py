"""Embedders: vectors of pictures, arrays, numbers and texts, as far as one takes them. The plugin is what makes one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmcore.data.transforms import copied
from mmcore.rng import Rng
from mmcore.testing.check import NotRun, check
from mmcore.testing.context import Context
from mmcore.testing.surroundings import (
    alike,
    descriptors,
    elsewhere,
    given_options,
    holds,
    left_alone,
    parameters_of,
    reseed,
)

WORDS = ("a red square", "two dogs in the snow", "Überall", "a much longer text that goes on for some words more than the others do", "7", "the first of two texts that end in other ways: here", "the first of two texts that end in other ways: there")  # fmt: skip


def values(seed: int) -> dict[str, list[Any]]:
    """Seven different decoded values of each kind that a column may hold."""
    rng = Rng.for_rows(seed, 7).of("embedder")
    pixels = rng.of("pixels").integers(0, 256, 24, 32, 3).numpy().astype(np.uint8)
    pixels[:3] = pixels[:3] // np.array([1, 2, 4], dtype=np.uint8)[:, None, None, None]
    return {
        "pictures": [Image.fromarray(p) for p in pixels],
        "grey pictures": [Image.fromarray(p[..., 0]) for p in pixels],
        "arrays": list(pixels.astype(np.float32) / 255),
        "vectors": list(rng.of("vectors").normal(16).numpy()),
        "numbers": rng.of("numbers").normal()[:].tolist(),
        "texts": list(WORDS),
    }


def _embedder(c: Context) -> Any:
    embedder = c.thing()
    fingerprint = getattr(embedder, "fingerprint", None)
    if not isinstance(fingerprint, str) or not fingerprint.strip():
        c.fail(f"fingerprint = {fingerprint!r}", "a text that differs whenever the vectors would")
    return embedder


def _kinds(c: Context) -> dict[str, list[Any]]:
    """The kinds of values that it takes."""
    embedder, taken, refused = _embedder(c), {}, ""
    for kind, some in values(c.seed).items():
        try:
            embedder([copied(x) for x in some])
        # It may refuse a kind in any way: the engine asks it for one column's only.
        except Exception as error:
            refused = f"{kind}: {type(error).__name__}: {error}"
            continue
        taken[kind] = some
    if not taken:
        raise NotRun(f"it takes none of the kit's values, as {refused[:200]}")
    return taken


def _vectors(embedder: Any, some: Sequence[Any]) -> Tensor:
    return embedder([copied(x) for x in some]).detach().float().cpu()


@check(
    "embedder.vectors",
    kind="embedder",
    fault="another number of vectors, whole numbers, NaN, a length that the value decides",
)
def vectors(c: Context) -> None:
    """Of values it gives as many vectors or maps, finite, of a real dtype and of one shape, however many values there are."""
    embedder = _embedder(c)
    for kind, some in _kinds(c).items():
        shapes = set()
        for part in (some, some[:1], some[3:5], some[::-1], [some[0], some[0]]):
            found: Any = embedder([copied(x) for x in part])
            if not isinstance(found, Tensor) or not found.dtype.is_floating_point or found.ndim < 2:
                what = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
                c.fail(f"{what} of {len(part)} {kind}", "a tensor of real numbers (n, *shape)")
            if len(found) != len(part):
                c.fail(f"{len(found)} vectors of {len(part)} {kind}", f"{len(part)}")
            if not found.isfinite().all():
                c.fail(f"NaN or infinity in vectors of {kind}", "finite numbers")
            shapes.add(tuple(found.shape[1:]))
        if len(shapes) > 1:
            c.fail(f"vectors of shapes {sorted(shapes)} of {kind}", "one shape")


@check(
    "embedder.rows",
    kind="embedder",
    fault="padding that is read, statistics of the batch, an order of its own",
    tolerance=1e-4,
)
def rows(c: Context) -> None:
    """A value's vector does not depend on the values beside it: alone, in another order, repeated, and in a larger batch it is the same."""
    embedder = _embedder(c)
    for kind, some in _kinds(c).items():
        whole = _vectors(embedder, some)
        for part in ([0], [6], [6, 5, 4, 3, 2, 1, 0], [2, 2, 5], [*range(7), *range(7), 3]):
            found = _vectors(embedder, [some[k] for k in part])
            c.same(found, whole[part], f"vectors of {kind} {part} of 7", like=whole)


@check(
    "embedder.repeatable",
    kind="embedder",
    fault="dropout, a random crop, weights drawn anew, an average that moves",
    tolerance=1e-6,
)
def repeatable(c: Context) -> None:
    """A value's vector is the same again, after others, and by another embedder made alike, whatever global generators hold; those are left alone."""
    embedder = _embedder(c)
    for kind, some in _kinds(c).items():
        with left_alone(c, "while values were embedded"):
            first = _vectors(embedder, some)
        reseed(c.seed + 1)
        for more in (1, 2, 3):
            for others in values(c.seed + more).get(kind, [])[:4], values(c.seed + more).get(kind, [])[4:]:
                _vectors(embedder, others)
        c.same(_vectors(embedder, some), first, f"vectors of the same {kind} again, after others")
        reseed(c.seed + 2)
        with left_alone(c, "as it was made"):
            other = _embedder(c)
        found = _vectors(other, some)
        if other.fingerprint != embedder.fingerprint:
            c.fail(
                f"fingerprints {embedder.fingerprint!r} and {other.fingerprint!r} of two made alike",
                "one text for one set of vectors",
            )
        c.same(found, first, f"vectors of {kind} by another made alike, of the same fingerprint")
        before, open_files = holds(embedder), descriptors()
        for more in range(10, 14):
            _vectors(embedder, values(c.seed + more)[kind])
        if holds(embedder) >= before + 4:
            c.fail("an embedder that holds more after every batch", "one that keeps nothing of its values")
        if descriptors() >= open_files + 4:
            c.fail("an embedder that leaves a file open in every batch", "none")


@check("embedder.pure", kind="embedder", fault="an array normalised in place")
def pure(c: Context) -> None:
    """The values that it is given stay as they are, and the vectors that it gave too, whatever it is asked next."""
    embedder = _embedder(c)
    for kind, some in _kinds(c).items():
        given = [copied(x) for x in some]
        first = embedder(given)
        kept = first.detach().clone()
        if len(given) != len(some) or not all(alike(a, b) for a, b in zip(given, some, strict=True)):
            c.fail(f"{kind} changed by being embedded", "values as they were")
        embedder([copied(x) for x in reversed(some)])
        if not torch.equal(first.detach(), kept):
            c.fail("vectors given out that changed when others were asked for", "vectors of its own")


@check("embedder.distinct", kind="embedder", fault="one vector for all, the first words only")
def distinct(c: Context) -> None:
    """Different values have different vectors."""
    embedder = _embedder(c)
    for kind, some in _kinds(c).items():
        found = _vectors(embedder, some).flatten(1).double()
        apart = torch.cdist(found, found) + 1e9 * torch.eye(len(found), dtype=torch.float64)
        scale = float(found.abs().max()) + 1e-12
        if float(apart.min()) < 1e-6 * scale:
            a, b = (int(k) for k in (apart == apart.min()).nonzero()[0])
            c.fail(f"vectors of {kind} {a} and {b} that are {float(apart.min()):.3g} apart, of numbers up to {scale:.3g}", "another for each")  # fmt: skip


@check(
    "embedder.fingerprint",
    kind="embedder",
    fault="options or weights that the fingerprint leaves out, one by address or by hash",
)
def fingerprint(c: Context) -> None:
    """The fingerprint is the same whenever it is asked for, in another process too, and another where an option changes the vectors.

    Options with a number or a yes or no by default are tried, each with another value.
    """
    embedder = _embedder(c)
    first = embedder.fingerprint
    taken = _kinds(c)
    base = {kind: _vectors(embedder, some) for kind, some in taken.items()}
    if embedder.fingerprint != first:
        c.fail("another fingerprint after values were embedded", "the same")
    given = given_options(c.thing)
    for name, parameter in parameters_of(c.thing).items():
        value = given.get(name, parameter.default)
        tries: list[Any] = []
        if isinstance(value, bool):
            tries = [not value]
        elif isinstance(value, int | float):
            tries = [value + 1, value * 2]
        for other in tries:
            try:
                changed = c.thing(**{name: other})
                found = {kind: _vectors(changed, some) for kind, some in taken.items()}
            except Exception:
                continue
            same = all(found[k].shape == x.shape and torch.equal(found[k], x) for k, x in base.items())
            if not same and changed.fingerprint == first:
                c.fail(f"the same fingerprint with {name} = {other!r}, which gives other vectors", "another")
    told = elsewhere(c, "embedder", "print(repr(make().fingerprint))")
    if told is not None and told != repr(first):
        c.fail(f"the fingerprint {told} in another process, {first!r} here", "the same")

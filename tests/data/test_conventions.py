"""Masks, images and labels drawn at random, written in a random convention to a random source, come back as they were, or are asked about."""

import io
import json
import tarfile
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st
from PIL import Image

from mmcore import Registry
from mmcore.config import configured
from mmcore.config.guess import configuration
from mmcore.errors import ConfigError

ROWS, SIDE = 10, 8
SEEDS = st.integers(0, 2**32 - 1)
SOURCES = ("npz", "folder", "table", "jsonl", "shards")


def drawn(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def encoded(made: Any) -> tuple[bytes, str]:
    """A file's bytes and suffix."""
    file = io.BytesIO()
    if isinstance(made, Image.Image):
        made.save(file, format="png")
        return file.getvalue(), ".png"
    np.save(file, made)
    return file.getvalue(), ".npy"


def write(at: Path, source: str, columns: dict[str, Sequence[Any]]) -> tuple[Path, str]:
    """Rows of files and plain values, and what ``init`` is given of them."""
    if source == "npz":
        # Pictures have no place in arrays but as their numbers.
        np.savez(
            at / "rows.npz", **{name: np.stack([np.asarray(value) for value in some]) for name, some in columns.items()}
        )
        return at / "rows.npz", "npz"
    files = {
        name: [encoded(v) if isinstance(v, Image.Image | np.ndarray) else None for v in some]
        for name, some in columns.items()
    }
    if source == "shards":
        with tarfile.open(at / "rows.tar", "w") as tar:
            for i in range(ROWS):
                for name, some in columns.items():
                    file = files[name][i]
                    data, suffix = file or (
                        json.dumps(some[i]).strip('"').encode(),
                        ".cls" if isinstance(some[i], int) else ".txt",
                    )
                    member = tarfile.TarInfo(f"{i:04}.{name}{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
        return at / "rows.tar", "shards"
    lines = []
    for i in range(ROWS):
        line: dict[str, Any] = {} if source != "folder" else {"file": f"{i:04}"}
        for name, some in columns.items():
            file = files[name][i]
            if file is None:
                line[name] = some[i]
                continue
            folder = at / f"{name}s"
            folder.mkdir(exist_ok=True)
            (folder / f"{i:04}{file[1]}").write_bytes(file[0])
            if source != "folder":
                line[name] = f"{name}s/{i:04}{file[1]}"
        lines.append(line)
    if source == "jsonl":
        (at / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return at / "rows.jsonl", "table"
    names = [*lines[0]]
    if source == "table" or len(names) > 1:
        text = "\n".join(",".join(map(str, line)) for line in [names, *([line[n] for n in names] for line in lines)])
        (at / ("rows.csv" if source == "table" else "labels.csv")).write_text(text + "\n")
    return (at / "rows.csv", "table") if source == "table" else (at, "folder")


def read(tables: dict[str, Any], registry: Registry, name: str) -> torch.Tensor:
    rows = configured(tables, registry=registry).rows("all")
    batch = rows.take(range(len(rows)))
    assert len(rows) == ROWS
    assert batch.present.all()
    return batch.values[name]


def asked(path: Path, registry: Registry, column: str) -> dict[str, Any] | None:
    """What init writes; None where it asks about the column, and about no other."""
    questions = ""
    try:
        return tomllib.loads(configuration(path, registry).text)
    except ConfigError as error:
        questions = str(error)
    event("asked")
    assert f"--assume {column}" in questions
    assert "\n" not in questions
    return None


def by_hand(path: Path, source: str, variable: str, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "data": {"source": source, "options": {"path": str(path)}},
        "modalities": {variable: options},
        "training": {"validate_every": 0},
    }


@st.composite
def masks(draw: st.DrawFn) -> tuple[list[Any], np.ndarray, dict[str, Any], set[int]]:
    """Maps as they are written, their classes by number (-1 where void), the options by hand, and the values that are void."""
    rng = drawn(draw(SEEDS))
    way = draw(st.sampled_from(["grey", "equal", "array", "bits", "colours", "palette", "shuffled", "alpha"]))
    classes = 2 if way in ("bits", "alpha") else draw(st.integers(2, 12))
    indices = rng.integers(0, classes, (ROWS, SIDE, SIDE))
    indices[:, 0, :] = np.arange(SIDE) % classes  # each map has many classes
    indices[: -(-classes // SIDE), 1] = np.resize(np.arange(classes), (-(-classes // SIDE), SIDE))[:, :SIDE]
    indices[0].flat[:classes] = np.arange(classes)
    void: set[int] = set()
    if way in ("grey", "equal", "array", "palette"):
        dense = draw(st.booleans()) or way == "palette"
        low, high = (-300, 70_000) if way == "array" else (0, 249)
        values = np.arange(classes) if dense else np.sort(rng.choice(np.arange(low, high), classes, replace=False))
        if not dense and draw(st.booleans()):
            values = np.sort([*values[:-1], 255])
        if draw(st.booleans()) and dense:
            void = {draw(st.sampled_from([-1, 255] if way == "array" else [250, 255]))}
            indices[:, -1] = -1
        raw = np.where(indices < 0, next(iter(void), 0), values[indices])
        options: dict[str, Any] = {"values": values.tolist(), "ignore": sorted(void)}
        if way == "array":
            return (
                [x.astype(draw(st.sampled_from([np.int32, ">i4", np.int64, np.float64]))) for x in raw],
                indices,
                options,
                void,
            )
        made = [Image.fromarray(x.astype(np.uint8)) for x in raw]
        if way == "equal":
            made = [image.convert("RGB") for image in made]
        if way == "palette":
            colours = rng.integers(0, 256, 768, np.uint8).tolist()
            made = [Image.fromarray(x.astype(np.uint8), "P") for x in raw]
            for image in made:
                image.putpalette(colours)
        return made, indices, options, void
    if way == "bits":
        return [Image.fromarray(x > 0) if draw(st.booleans()) else x > 0 for x in indices], indices, {}, void
    if way == "alpha":
        return (
            [Image.fromarray(np.dstack([np.full((SIDE, SIDE, 3), 7), x * 255]).astype(np.uint8)) for x in indices],
            indices,
            {"channel": "alpha"},
            void,
        )
    packed = np.sort(rng.choice(1 << 24, classes, replace=False))
    colours = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], 1).astype(np.uint8)
    options = {"colours": colours.tolist()}
    if way == "colours":
        return [Image.fromarray(colours[x]) for x in indices], indices, options, void
    made = []
    for x in indices:
        order = rng.permutation(classes)
        image = Image.fromarray(np.argsort(order)[x].astype(np.uint8), "P")
        image.putpalette(colours[order].ravel().tolist())
        made.append(image)
    return made, indices, options, void


@given(masks(), st.sampled_from(SOURCES))
@settings(max_examples=120)
def test_masks_come_back_as_they_were(registry: Registry, made: Any, source: str) -> None:
    maps, indices, options, void = made
    photos = list(drawn(1).integers(0, 256, (ROWS, SIDE, SIDE, 3), np.uint8))
    if source == "npz" and (
        len({np.asarray(x).shape for x in maps}) > 1 or any(getattr(x, "mode", "") in ("P", "RGBA") for x in maps)
    ):
        source = "folder"
    if source == "npz" and any(isinstance(x, Image.Image) for x in maps):
        maps = [np.asarray(x) for x in maps]
    with tempfile.TemporaryDirectory() as folder:
        path, kind = write(Path(folder), source, {"image": [Image.fromarray(x) for x in photos], "mask": maps})
        hand = read(by_hand(path, kind, "mask", {"size": SIDE, **options}), registry, "mask")
        assert hand.tolist() == indices.tolist()
        tables = asked(path, registry, "mask")
        if tables is None:
            return
        found = read(tables, registry, "mask").numpy()
    chosen = tables["modalities"]["mask"].get("void", -1)
    if void:
        assert ((found == chosen) == (indices < 0)).all()
    # No two classes become one, and none is lost or void.
    pairs = set(zip(indices[indices >= 0].tolist(), found[indices >= 0].tolist(), strict=True))
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    assert void or not (found == chosen).any()
    if "colours" not in options:  # by the numbers, in their order
        assert [b for _, b in sorted(pairs)] == sorted(b for _, b in pairs)


@st.composite
def images(draw: st.DrawFn) -> tuple[list[Any], np.ndarray, dict[str, Any]]:
    """Pictures as they are written, their numbers, and the options by hand."""
    rng = drawn(draw(SEEDS))
    way = draw(st.sampled_from(["grey", "colour", "opaque", "16", "int64", "unit", "signed", "whole", "big"]))
    if way in ("colour", "opaque"):
        x = rng.integers(0, 256, (ROWS, SIDE, SIDE, 3), np.uint8)
        made = [Image.fromarray(one).convert("RGBA" if way == "opaque" else "RGB") for one in x]
        return made, x, {"channels": 3}
    bits = draw(st.sampled_from([8, 10, 12, 14, 16]))
    x = rng.integers(0, 2**bits if way in ("16", "int64", "big") else 256, (ROWS, SIDE, SIDE))
    x[0, 0, :2] = 0, x.max()
    x[0, 0, 2] = 2**bits - 1 if way in ("16", "int64", "big") else 255
    limits = {"limits": [0, 2**bits - 1]}
    if way == "grey":
        return [Image.fromarray(one.astype(np.uint8)) for one in x], x, {"channels": 1}
    if way == "16":
        return [Image.fromarray(one.astype(np.uint16)) for one in x], x, {"channels": 1, **limits}
    if way in ("int64", "big"):
        return [one.astype(np.int64 if way == "int64" else ">u2") for one in x], x, {"channels": 1, **limits}
    if way == "whole":
        return [one.astype(np.float32) for one in x], x, {"channels": 1, "limits": [0, 255]}
    if way == "unit":
        return [one / 255 for one in x], x, {"channels": 1}
    return [one / 127.5 - 1 for one in x], x, {"channels": 1, "limits": [-1, 1]}


@given(images(), st.sampled_from(SOURCES))
@settings(max_examples=80)
def test_images_come_back_as_they_were(registry: Registry, made: Any, source: str) -> None:
    pictures, x, options = made
    high = options.get("limits", [0, 255])[1]
    high = 255 if high == 1 else high
    want = (x / high * 2 - 1).astype(np.float32)
    want = want[:, None] if want.ndim == 3 else np.moveaxis(want, 3, 1)
    with tempfile.TemporaryDirectory() as folder:
        path, kind = write(Path(folder), source, {"image": pictures, "label": [i % 2 for i in range(ROWS)]})
        hand = read(by_hand(path, kind, "image", {"size": SIDE, **options}), registry, "image")
        found = read(tomllib.loads(configuration(path, registry).text), registry, "image")
    assert torch.equal(found, hand)
    np.testing.assert_allclose(found.numpy(), want, rtol=0, atol=1e-6)
    assert np.array_equal(
        ((found.double().numpy() + 1) / 2 * high).round(), ((want.astype(np.float64) + 1) / 2 * high).round()
    )


@st.composite
def labels(draw: st.DrawFn) -> tuple[list[Any], list[str]]:
    """A column of classes, and the text of each row's."""
    rng = drawn(draw(SEEDS))
    classes = draw(st.integers(2, 4))
    words = draw(st.sampled_from(["numbers", "from one", "gaps", "words", "mixed", "booleans"]))
    if words == "booleans":
        classes = 2
    names: dict[str, list[Any]] = {
        "numbers": [*range(classes)],
        "from one": [*range(1, classes + 1)],
        "gaps": sorted(rng.choice(1000, classes, replace=False).tolist()),
        "words": ["cat", "dog", "owl", "ant"][:classes],
        "mixed": [1, 2, "A", "B"][4 - classes :] if classes > 2 else [2, "A"],
        "booleans": [False, True],
    }
    order = [*range(classes), *rng.integers(0, classes, ROWS - classes).tolist()]
    values = [names[words][k] for k in order]
    return values, [str(value) for value in values]


@given(labels(), st.sampled_from(["npz", "table", "jsonl", "folder"]))
@settings(max_examples=60)
def test_labels_come_back_as_they_were(registry: Registry, made: Any, source: str) -> None:
    values, texts = made
    with tempfile.TemporaryDirectory() as folder:
        photos = [Image.fromarray(x) for x in drawn(1).integers(0, 256, (ROWS, SIDE, SIDE, 3), np.uint8)]
        if source == "npz" and len({type(value) for value in values}) > 1:
            values = texts
        path, _ = write(Path(folder), source, {"image": photos, "label": values})
        tables = asked(path, registry, "label")
        if tables is None:
            return
        found = read(tables, registry, "label").tolist()
    names = tables["modalities"]["label"].get("names")
    shown = [names[k] if names else str(k) for k in found]
    assert [one.lower() for one in shown] == [one.lower() for one in texts]

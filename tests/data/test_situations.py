"""Files as people have them, read by what ``mmcore init`` writes: the right values, or a question whose answers give the right values."""

import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from PIL import Image

from mmcore import Registry, RequestError
from mmcore.config import configured
from mmcore.config.guess import Guess, configuration
from mmcore.data.contract import CONTRACT

ROWS = 24
Made = Image.Image | np.ndarray
Write = Callable[[Path], Path]


def numbers(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def blocks(values: np.ndarray) -> np.ndarray:
    """Maps of 4 × 4 squares of 4 pixels, which no blur reaches the middle of."""
    return np.kron(values, np.ones((4, 4), int)).astype(int)


PHOTOS = numbers().integers(0, 256, (ROWS, 16, 16, 3), np.uint8)
GREYS = PHOTOS[..., 0]
DEEP = numbers(3).integers(0, 65536, (ROWS, 16, 16), np.uint16)
BINARY = blocks(numbers(1).random((ROWS, 4, 4)) > 0.6)
REGIONS = blocks(numbers(2).integers(0, 3, (ROWS, 4, 4)))
MANY = blocks(numbers(4).integers(0, 150, (ROWS, 4, 4)))
VOC = [0x000000, 0x800000, 0x008000, 0x808000, 0x000080]
BORDER = 0xE0E0C0


# ---- writing ----


def save(made: Made, at: Path) -> None:
    if at.suffix == ".npy":
        np.save(at, np.asarray(made))
    else:
        image = made if isinstance(made, Image.Image) else Image.fromarray(made)
        image.save(
            at, **({"lossless": True} if at.suffix == ".webp" else {"quality": 90} if at.suffix == ".jpg" else {})
        )


def beside(name: str, value: Callable[[int], Made], suffix: str = "png") -> Write:
    """A column of files beside photographs."""

    def write(at: Path) -> Path:
        for folder, file, made in (("images", "png", lambda i: PHOTOS[i]), (name, suffix, value)):
            (at / folder).mkdir(parents=True, exist_ok=True)
            for i in range(ROWS):
                save(made(i), at / folder / f"{i:02}.{file}")
        return at

    return write


def alone(value: Callable[[int], Made], suffix: str = "png", name: str = "images") -> Write:
    """A column of files, and labels."""

    def write(at: Path) -> Path:
        (at / name).mkdir(parents=True)
        for i in range(ROWS):
            save(value(i), at / name / f"{i:02}.{suffix}")
        (at / "labels.csv").write_text("file,label\n" + "".join(f"{i:02}.{suffix},{i % 3}\n" for i in range(ROWS)))
        return at

    return write


def arrays(**columns: np.ndarray) -> Write:
    def write(at: Path) -> Path:
        np.savez(at / "rows.npz", **columns)
        return at / "rows.npz"

    return write


def table(lines: Sequence[str]) -> Write:
    def write(at: Path) -> Path:
        (at / "rows.csv").write_text("\n".join(lines) + "\n")
        return at / "rows.csv"

    return write


def worded(indices: np.ndarray, values: Sequence[Any], dtype: Any = np.uint8) -> np.ndarray:
    return np.asarray(values, dtype)[indices]


def coloured(indices: np.ndarray, colours: Sequence[int]) -> np.ndarray:
    return worded(indices, [(c >> 16, c >> 8 & 255, c & 255) for c in colours])


def palette(indices: np.ndarray, colours: Sequence[int]) -> Image.Image:
    image = Image.fromarray(indices.astype(np.uint8), "P")
    image.putpalette([channel for c in colours for channel in (c >> 16, c >> 8 & 255, c & 255)])
    return image


def voc_palette(i: int) -> Image.Image:
    """Classes by index, 255 where a region ends, as Pascal VOC has them."""
    indices = worded(REGIONS[i], [0, 3, 15])
    indices[::8] = 255
    return palette(indices, [*(k * 0xFFFF for k in range(255)), BORDER])


def shuffled(i: int) -> Image.Image:
    """Three colours, numbered otherwise in each file."""
    order = numbers(i).permutation(3)
    return palette(np.argsort(order)[REGIONS[i]], [VOC[k] for k in order])


def soft(i: int) -> np.ndarray:
    """Edges between 0 and 255, as drawing programs smooth them; the larger share of a pixel is its class."""
    mask = BINARY[i] * 255
    edge = np.diff(mask, axis=1, append=mask[:, -1:]) != 0
    return np.where(
        edge & (numbers(i).random(mask.shape) < 0.4),
        np.where(mask > 0, 255 - numbers(i).integers(1, 100, mask.shape), numbers(i).integers(1, 100, mask.shape)),
        mask,
    ).astype(np.uint8)


def ignoring(i: int, void: int, dtype: Any = np.uint8) -> np.ndarray:
    mask = REGIONS[i].astype(dtype)
    mask[0] = void
    return mask


def alpha(i: int, colour: int = 0) -> Image.Image:
    return Image.fromarray(np.dstack([np.full((16, 16, 3), colour), BINARY[i] * 255]).astype(np.uint8), "RGBA")


def voided(void: int) -> np.ndarray:
    out = REGIONS.copy()
    out[:, 0] = void
    return out


# ---- what is right ----


@attrs.frozen
class Case:
    """A situation.

    Attributes:
        write: its files; it returns what ``init`` is given.
        variable: that is looked at.
        right: its values; None where ``init`` must ask.
        says: words of the terminal, or of the question.
        answers: assumptions, each with the values that it gives.
        options: of a modality by hand, with the values that it gives; by default what is right.
        plugin: that modality.
    """

    write: Write
    variable: str
    right: Any = None
    says: str = ""
    answers: Mapping[str, Any] = attrs.field(factory=dict)
    options: Mapping[str, Any] | None = None
    plugin: str = "mask"


def scaled(x: np.ndarray, low: float = 0, high: float = 255) -> np.ndarray:
    """Pixels ``(N, H, W)`` or ``(N, H, W, C)`` as the image's values."""
    out = ((x.astype(np.float64) - low) / (high - low) * 2 - 1).astype(np.float32)
    return out[:, None] if out.ndim == 3 else np.moveaxis(out, 3, 1)


def over(pixels: np.ndarray, a: np.ndarray, background: int) -> np.ndarray:
    return np.where(a[..., None] > 0, pixels, background)


def each(make: Callable[[int], np.ndarray]) -> np.ndarray:
    return np.stack([make(i) for i in range(ROWS)])


def upright(i: int) -> np.ndarray:
    picture = np.zeros((16, 16, 3), np.uint8)
    picture[: 4 + i % 4] = 255
    return picture


def phone(at: Path) -> Path:
    for name in ("images", "masks"):
        (at / name).mkdir()
    for i in range(ROWS):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(np.rot90(upright(i))).save(at / "images" / f"{i:02}.png", exif=exif)
        save((upright(i)[..., 0] > 0).astype(np.uint8), at / "masks" / f"{i:02}.png")
    return at


def animated(at: Path) -> Path:
    (at / "images").mkdir()
    for i in range(ROWS):
        frames = [Image.fromarray(PHOTOS[(i + k) % ROWS]) for k in range(3)]
        frames[0].save(at / "images" / f"{i:02}.{('png', 'tif')[i % 2]}", save_all=True, append_images=frames[1:])
    return at


def mixed_depth(at: Path) -> Path:
    (at / "images").mkdir()
    for i in range(ROWS):
        save(GREYS[i] if i % 2 else DEEP[i], at / "images" / f"{i:02}.png")
    (at / "labels.csv").write_text("file,label\n" + "".join(f"{i:02}.png,{i % 3}\n" for i in range(ROWS)))
    return at


LABELS = np.arange(ROWS) % 3
AGES = numbers(6).integers(18, 90, ROWS)
DEGREES = numbers(7).normal(10, 12, ROWS).round(1)
PRICES = np.exp(numbers(8).normal(5, 2.5, ROWS)).round(2)
TAGS = np.array([[1, 0, 0, 1], [0, 1, 1, 0], [0, 0, 0, 0], [1, 1, 0, 1]], np.uint8)[np.arange(ROWS) % 4]

CASES: dict[str, Case] = {
    # Binary masks.
    "mask of 0 and 255": Case(
        beside("masks", lambda i: worded(BINARY[i], [0, 255])),
        "mask",
        BINARY,
        "were 255 void",
        options={"values": [0, 255]},
    ),
    "mask of 0 and 1": Case(beside("masks", lambda i: BINARY[i].astype(np.uint8)), "mask", BINARY, options={}),
    "mask of booleans": Case(beside("masks", lambda i: BINARY[i] > 0, "npy"), "mask", BINARY, "bits", options={}),
    "mask of one-bit PNG": Case(beside("masks", lambda i: Image.fromarray(BINARY[i] > 0)), "mask", BINARY, options={}),
    "mask of 0 and 128": Case(
        beside("masks", lambda i: worded(BINARY[i], [0, 128])), "mask", BINARY, options={"values": [0, 128]}
    ),
    "mask of 1 and 2": Case(
        beside("masks", lambda i: worded(BINARY[i], [1, 2])), "mask", BINARY, options={"values": [1, 2]}
    ),
    "mask of ids 7 and 11": Case(
        beside("masks", lambda i: worded(BINARY[i], [7, 11])), "mask", BINARY, options={"values": [7, 11]}
    ),
    "mask of 0 and 65535": Case(
        beside("masks", lambda i: worded(BINARY[i], [0, 65535], np.uint16)),
        "mask",
        BINARY,
        options={"values": [0, 65535]},
    ),
    "mask of -1 and 1": Case(
        beside("masks", lambda i: worded(BINARY[i], [-1, 1], np.int64), "npy"),
        "mask",
        BINARY,
        options={"values": [-1, 1]},
    ),
    "mask of floats 0 and 1": Case(
        beside("masks", lambda i: BINARY[i].astype(np.float32), "npy"), "mask", BINARY, options={}
    ),
    "mask of big-endian floats": Case(
        beside("masks", lambda i: (BINARY[i] * 255).astype(">f8"), "npy"), "mask", BINARY, options={"values": [0, 255]}
    ),
    "mask (1, H, W)": Case(
        beside("masks", lambda i: BINARY[i][None].astype(np.uint8), "npy"), "mask", BINARY, options={}
    ),
    "mask (H, W, 1) of 0 and 255": Case(
        beside("masks", lambda i: worded(BINARY[i], [0, 255])[..., None], "npy"),
        "mask",
        BINARY,
        options={"values": [0, 255]},
    ),
    "mask of three equal channels": Case(
        beside("masks", lambda i: np.dstack([worded(BINARY[i], [0, 255])] * 3)),
        "mask",
        BINARY,
        options={"values": [0, 255]},
    ),
    "mask red on black": Case(
        beside("masks", lambda i: coloured(BINARY[i], [0, 0xFF0000])),
        "mask",
        BINARY,
        "2 colours are 2 classes, black first",
        options={"colours": ["#000000", "#ff0000"]},
    ),
    "mask in the alpha": Case(
        beside("masks", alpha), "mask", BINARY, "the alpha, as the colours are one only", options={"channel": "alpha"}
    ),
    "mask of grey with an opaque alpha": Case(
        beside("masks", lambda i: Image.fromarray(worded(BINARY[i], [0, 255])).convert("LA")),
        "mask",
        BINARY,
        options={"values": [0, 255]},
    ),
    "mask with colours and an alpha": Case(
        beside(
            "masks", lambda i: Image.fromarray(np.dstack([coloured(REGIONS[i], VOC), BINARY[i] * 255]).astype(np.uint8))
        ),
        "mask",
        None,
        "an alpha that is not opaque",
        {"mask.channel=alpha": BINARY, "mask.channel=colour": REGIONS},
    ),
    "mask as JPEG": Case(
        beside("masks", lambda i: worded(BINARY[i], [0, 255]), "jpg"), "mask", BINARY, "JPEG has blurred"
    ),
    "mask as JPEG of three channels": Case(
        beside("masks", lambda i: np.dstack([worded(BINARY[i], [0, 255])] * 3), "jpg"),
        "mask",
        BINARY,
        "JPEG has blurred",
    ),
    "mask with soft edges": Case(beside("masks", soft), "mask", BINARY, "soft edges"),
    "mask of a black and white palette": Case(
        beside("masks", lambda i: palette(BINARY[i], [0, 0xFFFFFF])),
        "mask",
        BINARY,
        "palettes, by their indices",
        options={},
    ),
    "mask of soft floats": Case(
        beside("masks", lambda i: np.where(BINARY[i] > 0, 0.9, 0.2).astype(np.float32), "npy"),
        "mask",
        None,
        "with fractions",
        {"mask.threshold=0.5": BINARY},
    ),
    # Void.
    "class maps with void 255": Case(
        beside("masks", lambda i: ignoring(i, 255)),
        "mask",
        voided(255),
        "255 (6.2%) is void",
        options={"classes": 3, "void": 255},
    ),
    "class maps with void 250": Case(
        beside("masks", lambda i: ignoring(i, 250)), "mask", voided(250), options={"classes": 3, "void": 250}
    ),
    "class maps with void 65535": Case(
        beside("masks", lambda i: ignoring(i, 65535, np.uint16)),
        "mask",
        voided(65535),
        options={"classes": 3, "void": 65535},
    ),
    "class maps with void -1": Case(
        beside("masks", lambda i: ignoring(i, -1, np.int32), "npy"),
        "mask",
        voided(-1),
        "below the classes",
        options={"classes": 3, "ignore": [-1]},
    ),
    "two classes with void 255": Case(
        beside("masks", lambda i: np.where(np.arange(16) < 1, 255, BINARY[i]).astype(np.uint8)),
        "mask",
        np.where(np.arange(16) < 1, 255, BINARY),
        options={"void": 255},
    ),
    "masks of 0 and 1, and others of 0 and 255": Case(
        beside("masks", lambda i: worded(BINARY[i], [0, 255 if i % 2 else 1])),
        "mask",
        None,
        "no map has both 1 and 255",
        {"mask.values=[0,[1,255]]": BINARY},
        {"values": [0, [1, 255]]},
    ),
    "mask of 0, 128 and 255": Case(
        beside("masks", lambda i: worded(REGIONS[i], [0, 128, 255])),
        "mask",
        None,
        "255 may be void or a class",
        {"mask.values=0,128,255": REGIONS, "mask.void=255": worded(REGIONS, [0, 1, 255], int)},
        {"values": [0, 128, 255]},
    ),
    "mask of -1 and 0": Case(
        beside("masks", lambda i: worded(BINARY[i], [-1, 0], np.int64), "npy"),
        "mask",
        None,
        "-1 may be void or a class",
        {"mask.values=-1,0": BINARY},
        {"values": [-1, 0]},
    ),
    "mask of one value": Case(
        beside("masks", lambda i: BINARY[i].astype(np.uint8) * 0),
        "mask",
        None,
        "the one value 0",
        {"mask.values=0,1": BINARY * 0},
        {},
    ),
    "class 0 that is no class": Case(
        beside("masks", lambda i: REGIONS[i].astype(np.uint8)),
        "mask",
        REGIONS,
        "values or ignore",
        {"mask.ignore=0": worded(REGIONS, [-1, 0, 1], int)},
    ),
    # Class maps.
    "class maps of 150 classes": Case(
        beside("annotations", lambda i: MANY[i].astype(np.uint8)),
        "annotation",
        MANY,
        "by the name annotation",
        options={"classes": 150},
    ),
    "class maps of ids with gaps": Case(
        beside("masks", lambda i: worded(REGIONS[i], [7, 11, 26])),
        "mask",
        REGIONS,
        "renumbered 0 … 2",
        options={"values": [7, 11, 26]},
    ),
    "class maps without 0": Case(
        beside("masks", lambda i: worded(REGIONS[i], [1, 2, 3])),
        "mask",
        REGIONS,
        "renumbered",
        options={"values": [1, 2, 3]},
    ),
    "class maps of 16 bits": Case(
        beside("labels", lambda i: worded(REGIONS[i], [0, 1000, 3000], np.uint16)),
        "label",
        REGIONS,
        options={"values": [0, 1000, 3000]},
    ),
    "class maps as nested lists": Case(
        arrays(image=PHOTOS, map=REGIONS), "map", REGIONS, "by the name map", options={"classes": 3}
    ),
    "Pascal VOC's palettes": Case(
        beside("segmentations", voc_palette),
        "segmentation",
        np.where(np.arange(16)[:, None] % 8 == 0, 255, REGIONS),
        "255 (12.5%) is void",
        options={"values": [0, 3, 15], "void": 255},
    ),
    "palettes that number the same colours differently": Case(
        beside("masks", shuffled),
        "mask",
        REGIONS,
        "3 colours are 3 classes",
        options={"colours": ["#000000", "#800000", "#008000"]},
    ),
    "class maps in Pascal VOC's colours": Case(
        beside("masks", lambda i: coloured(np.where(np.arange(16)[:, None] < 1, 4, MANY[i] % 4), [*VOC[:4], BORDER])),
        "mask",
        np.where(np.arange(16)[:, None] < 1, -1, MANY % 4),
        "in the order of Pascal VOC",
        options={"colours": ["#000000", "#800000", "#008000", "#808000"], "ignore": ["#e0e0c0"]},
    ),
    "class maps in colours of one's own": Case(
        beside("masks", lambda i: coloured(REGIONS[i], [0, 0x112233, 0xFF00FF])),
        "mask",
        REGIONS,
        options={"colours": [[0, 0, 0], [17, 34, 51], [255, 0, 255]]},
    ),
    "masks that are photographs": Case(
        beside("masks", lambda i: PHOTOS[i]), "mask", None, "different colours", {"mask=image": scaled(PHOTOS)}
    ),
    "few values without a telling name": Case(
        arrays(image=PHOTOS, things=REGIONS),
        "things",
        None,
        "3 different values",
        {"things=mask": REGIONS, "things=image": scaled(REGIONS, 0, 2)},
    ),
    "few colours without a telling name": Case(
        beside("things", lambda i: coloured(REGIONS[i], VOC)),
        "thing",
        None,
        "3 different colours",
        {"thing=mask": REGIONS, "thing=image": scaled(coloured(REGIONS, VOC))},
    ),
    # Pictures.
    "grey pictures": Case(alone(lambda i: GREYS[i]), "image", scaled(GREYS), plugin="image", options={"channels": 1}),
    "pictures of 16 bits": Case(
        alone(lambda i: DEEP[i]),
        "image",
        scaled(DEEP, 0, 65535),
        "0 … 65535 become -1 … 1",
        plugin="image",
        options={"channels": 1, "limits": [0, 65535]},
    ),
    "pictures of 12 bits in 16": Case(
        alone(lambda i: DEEP[i] // 16),
        "image",
        scaled(DEEP // 16, 0, 4095),
        "those of 12 bits",
        plugin="image",
        options={"channels": 1, "limits": [0, 4095]},
    ),
    "pictures of 16 bits as TIFF": Case(
        alone(lambda i: DEEP[i], "tif"),
        "image",
        scaled(DEEP, 0, 65535),
        plugin="image",
        options={"channels": 1, "limits": [0, 65535]},
    ),
    "pictures of floats in 0 … 1": Case(
        arrays(image=GREYS / 255.0, label=LABELS),
        "image",
        scaled(GREYS),
        "taken as parts of 1",
        plugin="image",
        options={"channels": 1},
    ),
    "pictures of floats in 0 … 255": Case(
        arrays(image=GREYS.astype(np.float32)),
        "image",
        scaled(GREYS),
        "whole numbers in 0 … 255",
        plugin="image",
        options={"channels": 1, "limits": [0, 255]},
    ),
    "pictures of floats in -1 … 1": Case(
        arrays(image=(GREYS / 127.5 - 1).astype(np.float32)),
        "image",
        ((GREYS / 127.5 - 1).astype(np.float32))[:, None],
        "scaled to -1 … 1 already",
        plugin="image",
        options={"channels": 1, "limits": [-1, 1]},
    ),
    "pictures of int64": Case(
        arrays(image=GREYS.astype(np.int64)),
        "image",
        scaled(GREYS),
        plugin="image",
        options={"channels": 1, "limits": [0, 255]},
    ),
    "pictures of big-endian numbers": Case(
        arrays(image=DEEP.astype(">u2")),
        "image",
        scaled(DEEP, 0, 65535),
        plugin="image",
        options={"channels": 1, "limits": [0, 65535]},
    ),
    "pictures in Fortran's order": Case(
        arrays(image=np.asfortranarray(GREYS / 255.0)), "image", scaled(GREYS), plugin="image", options={"channels": 1}
    ),
    "pictures of 17 grey levels": Case(
        arrays(image=GREYS % 17, label=LABELS),
        "image",
        scaled(GREYS % 17),
        "dark: no value is above 16",
        {"image.limits=0,16": scaled(GREYS % 17, 0, 16)},
    ),
    "scans in Hounsfield units": Case(
        arrays(image=DEEP.astype(np.int16) % 4096 - 1024),
        "image",
        None,
        "whose limits nothing says",
        {"image.limits=-1024,3071": scaled(DEEP.astype(np.int16) % 4096 - 1024, -1024, 3071)},
    ),
    "pictures with holes": Case(
        alone(lambda i: np.dstack([PHOTOS[i], worded(BINARY[i], [0, 255])])),
        "image",
        scaled(over(PHOTOS, BINARY, 255)),
        "white shows through",
        {
            "image.background=#000000": scaled(over(PHOTOS, BINARY, 0)),
            "image.channels=4": scaled(np.concatenate([PHOTOS, BINARY[..., None] * 255], 3)),
        },
        {"channels": 3, "background": "#ffffff"},
        "image",
    ),
    "pictures with an opaque alpha": Case(
        alone(lambda i: Image.fromarray(PHOTOS[i]).convert("RGBA")),
        "image",
        scaled(PHOTOS),
        "opaque everywhere",
        plugin="image",
        options={"channels": 3},
    ),
    "pictures of palettes": Case(
        alone(lambda i: palette(REGIONS[i], VOC)),
        "image",
        scaled(coloured(REGIONS, VOC)),
        plugin="image",
        options={"channels": 3},
    ),
    "pictures of inks (CMYK)": Case(
        alone(lambda i: Image.fromarray(PHOTOS[i]).convert("CMYK"), "tif"),
        "image",
        scaled(each(lambda i: np.asarray(Image.fromarray(PHOTOS[i]).convert("CMYK").convert("RGB")))),
        "CMYK",
        plugin="image",
        options={"channels": 3},
    ),
    "pictures of bits": Case(
        alone(lambda i: Image.fromarray(BINARY[i] > 0)),
        "image",
        scaled(BINARY * 255),
        plugin="image",
        options={"channels": 1},
    ),
    "grey pictures among coloured ones": Case(
        alone(lambda i: GREYS[i] if i % 2 else PHOTOS[i]),
        "image",
        scaled(each(lambda i: np.dstack([GREYS[i]] * 3) if i % 2 else PHOTOS[i])),
        "12 of 24 are grey",
        plugin="image",
        options={"channels": 3},
    ),
    "pictures of 8 and of 16 bits": Case(mixed_depth, "label", LABELS, "8 bits and deeper ones"),
    "pictures of a telephone": Case(
        phone, "image", scaled(each(upright)), "24 of 24 are turned upright", plugin="image", options={"channels": 3}
    ),
    "the masks of a telephone's pictures": Case(phone, "mask", each(lambda i: upright(i)[..., 0] // 255), options={}),
    "pictures that move": Case(
        animated, "image", scaled(PHOTOS), "several frames", plugin="image", options={"channels": 3}
    ),
    "latents": Case(arrays(latent=numbers().normal(size=(ROWS, 4, 8, 8)), label=LABELS), "label", LABELS, "latents"),
    # Numbers, words, vectors.
    "labels (N, 1)": Case(
        arrays(image=GREYS, label=LABELS[:, None].astype(np.uint8)),
        "label",
        LABELS,
        plugin="label",
        options={"classes": 3},
    ),
    "labels that are one-hot": Case(
        arrays(image=GREYS, label=np.eye(3)[LABELS].astype(np.uint8)),
        "label",
        LABELS,
        "just one 1",
        plugin="label",
        options={"classes": 3},
    ),
    "labels that are several": Case(
        arrays(image=GREYS, finding=TAGS),
        "finding",
        TAGS > 0,
        "4 yes-or-no labels",
        plugin="label",
        options={"classes": 4, "multi": True},
    ),
    "labels that are floats": Case(
        arrays(image=GREYS, label=LABELS.astype(np.float32)), "label", LABELS, plugin="label", options={"classes": 3}
    ),
    "labels that begin at 1": Case(
        arrays(image=GREYS, label=LABELS + 1),
        "label",
        LABELS,
        "3 classes called 1 … 3",
        plugin="label",
        options={"classes": 3, "names": ["1", "2", "3"]},
    ),
    "labels of numbers and letters": Case(
        table(["label,other", *(f"{'12A'[i % 3]},{i % 2}" for i in range(ROWS))]),
        "label",
        LABELS,
        "3 different words, 1, 2, A",
        plugin="label",
        options={"classes": 3, "names": ["1", "2", "A"]},
    ),
    "labels that are booleans": Case(
        arrays(image=GREYS, smiling=LABELS > 0),
        "smiling",
        LABELS > 0,
        "two classes",
        plugin="label",
        options={"classes": 2},
    ),
    "labels of -1, 0 and 1": Case(
        arrays(image=GREYS, mood=LABELS - 1),
        "mood",
        None,
        "-1 may be missing or a class",
        {"mood.names=-1,0,1": LABELS},
    ),
    "small whole numbers": Case(
        arrays(image=GREYS, stars=LABELS * 2 + 1), "stars", None, "classes or numbers", {"stars=label": LABELS}
    ),
    "ages": Case(
        table(["age,label", *(f"{AGES[i]},{i % 3}" for i in range(ROWS))]),
        "age",
        AGES.astype(np.float32),
        "by the name age",
        plugin="scalar",
        options={},
    ),
    "ages of which -1 are two": Case(
        table(["age,label", *(f"{AGES[i] if i > 1 else -1},{i % 3}" for i in range(ROWS))]),
        "age",
        None,
        "2 of them are -1, which may be missing or a number",
        {"age=scalar": np.where(np.arange(ROWS) > 1, AGES, -1).astype(np.float32)},
    ),
    "temperatures": Case(
        table(["temperature,label", *(f"{DEGREES[i]},{i % 3}" for i in range(ROWS))]),
        "temperature",
        DEGREES.astype(np.float32),
        "numbers with fractions",
        plugin="scalar",
        options={},
    ),
    "prices, of which a few are high": Case(
        table(["price,label", *(f"{PRICES[i]},{i % 3}" for i in range(ROWS))]),
        "price",
        PRICES.astype(np.float32),
        "but not their logarithms",
        plugin="scalar",
        options={"log": True},
    ),
    "counts": Case(
        table(["count,label", *(f"{AGES[i] % 7},{i % 3}" for i in range(ROWS))]),
        "count",
        (AGES % 7).astype(np.float32),
        "a count by the name count",
        plugin="scalar",
        options={"kind": "count"},
    ),
    "vectors (N, 1, D)": Case(
        arrays(embedding=numbers().normal(size=(ROWS, 1, 8)).astype(np.float16), label=LABELS),
        "embedding",
        numbers().normal(size=(ROWS, 1, 8)).astype(np.float16)[:, 0],
        "vectors of 8",
        plugin="clip",
        options={"width": 8, "unit_norm": False},
    ),
}


def guessed(case: Case, at: Path, registry: Registry, assume: Sequence[str] = ()) -> tuple[Guess, Path]:
    path = case.write(at) if not any(at.iterdir()) else at / "rows.npz" if (at / "rows.npz").exists() else at
    return configuration(path, registry, assume=assume), path


def read(tables: dict[str, Any], registry: Registry, name: str) -> torch.Tensor:
    """All of a variable's values, by a configuration."""
    rows = configured(tables, registry=registry).rows("all")
    batch = rows.take(range(len(rows)))
    assert len(rows) == ROWS
    assert batch.present.all()
    return batch.values[name]


def assert_right(found: torch.Tensor, right: np.ndarray) -> None:
    expected = torch.as_tensor(np.asarray(right))
    assert found.shape == expected.shape
    if found.is_floating_point():
        torch.testing.assert_close(found, expected.float(), rtol=0, atol=1e-6)
    else:
        assert found.long().tolist() == expected.long().tolist()


@pytest.mark.parametrize("name", CASES)
def test_init_reads_the_right_values_or_asks(name: str, tmp_path: Path, registry: Registry) -> None:
    case = CASES[name]
    if case.right is None:
        with pytest.raises(RequestError) as asked:
            guessed(case, tmp_path, registry)
        line = str(asked.value)
        assert case.says in line
        assert "\n" not in line
        offered = re.findall(r"--assume (\S+) \(", line)
        assert set(case.answers) - set(offered) <= {a for a in case.answers if "limits" in a}
    else:
        guess, _ = guessed(case, tmp_path, registry)
        assert case.says in "\n".join(guess.said)
        assert_right(read(tomllib.loads(guess.text), registry, case.variable), case.right)
    for assumption, right in case.answers.items():
        guess, _ = guessed(case, tmp_path, registry, [assumption])
        assert_right(read(tomllib.loads(guess.text), registry, case.variable), right)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.options is not None])
def test_a_configuration_by_hand_reads_the_right_values(name: str, tmp_path: Path, registry: Registry) -> None:
    case = CASES[name]
    path = case.write(tmp_path)
    source = {".npz": "npz", ".csv": "table"}.get(path.suffix, "folder")
    right = next(iter(case.answers.values())) if case.right is None else case.right
    size = {"size": 16} if case.plugin in ("mask", "image") else {}
    tables = {
        "data": {"source": source, "options": {"path": str(path)}},
        "modalities": {case.variable: {"plugin": case.plugin, **size, **(case.options or {})}},
        "training": {"validate_every": 0},
    }
    assert_right(read(tables, registry, case.variable), right)


@pytest.mark.parametrize("every", [2, 100])
def test_a_column_of_few_rows_is_found_whatever_their_rhythm(every: int, tmp_path: Path, registry: Registry) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for i in range(200):
        save(PHOTOS[i % ROWS, :8, :8], tmp_path / "images" / f"{i:03}.png")
        if i % every == 1:
            save(worded(BINARY[i % ROWS, :8, :8], [0, 255]), tmp_path / "masks" / f"{i:03}.png")
    guess = configuration(tmp_path, registry)
    tables = tomllib.loads(guess.text)
    assert tables["modalities"]["mask"]["values"] == [0, 255]
    assert tables["data"]["expect"] == {"image": 1.0, "mask": 1 / every}
    assert f"mask, in {100 // every}% of the rows" in "\n".join(guess.said)


# ---- the page ----

PAGE = Path(__file__).parents[2] / "docs" / "reading.md"


def line(name: str, case: Case) -> str:
    """A situation's line on the page."""
    answers = ", ".join(f"`--assume {answer}`" for answer in case.answers)
    if case.right is None:
        return f"| {name} | asked: {answers} |"
    options = ", ".join(f"`{key} = {json.dumps(value)}`" for key, value in (case.options or {}).items())
    happens = f"{case.plugin}{': ' if options else ''}{options}" if case.options is not None else f"“{case.says}”"
    return f"| {name} | {happens}{f'; or {answers}' if answers else ''} |"


def test_the_page_has_every_situation() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name, case in CASES.items() if line(name, case) not in text] == []


def test_the_page_has_the_whole_contract() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for one in CONTRACT:
        assert f"| {one.kind} | {one.becomes} | {one.evidence} | {one.says} | {one.asked} |" in text

"""Balls, boxes and drums before a tilted wall: a grey picture, its depth in millimetres with a sensor's holes, and the shape."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from benchmarks.kinds.figures import Trained
from mmcore import metrics
from mmcore.metrics import Figure
from mmcore.rng import Rng

SIDE = 16
NAMES = ("ball", "box", "drum")
ROWS = {"train": 24000, "validation": 300, "test": 600}
LIGHT = np.array([-0.5, -0.7, -1.0]) / np.linalg.norm([0.5, 0.7, 1.0])
GRAZING = 0.35
"""The cosine between surface and view below which the sensor sees nothing."""


def render(kind: int, centre: np.ndarray, tilt: np.ndarray, albedo: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A scene as brightness, depth along the view in metres, and the cosine of surface and view, ``(SIDE, SIDE)`` each.

    The camera is at the origin and looks along the third axis. A ball has the radius 0.5, a box the sides 0.84, a drum the radius 0.42 and the height 1.

    Args:
        kind: of the shape.
        centre: of it, (3,) in metres.
        tilt: of the wall, which is 4 metres away in the middle, (2,).
        albedo: of the shape.
    """
    place = (np.arange(SIDE) + 0.5) / SIDE - 0.5
    y, x = np.meshgrid(place, place, indexing="ij")
    rays = np.stack([x, y, np.ones_like(x)], axis=-1)
    # The wall: z = 4 + tilt · (x, y).
    plane = np.array([-tilt[0], -tilt[1], 1.0])
    depth = 4 / (rays @ plane)
    normal = np.broadcast_to(-plane / np.linalg.norm(plane), rays.shape).copy()
    light = np.full(x.shape, 0.35)
    near, found = _meets(kind, rays, centre)
    hit = np.isfinite(near) & (near < depth)
    depth, light = np.where(hit, near, depth), np.where(hit, albedo, light)
    normal = np.where(hit[..., None], found, normal)
    bright = 0.15 + 0.85 * light * np.clip(normal @ LIGHT, 0, None)
    view = np.abs((normal * rays).sum(-1)) / np.linalg.norm(rays, axis=-1)
    return bright, depth, view


def _meets(kind: int, rays: np.ndarray, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where rays of third coordinate 1 meet a shape first, infinity where they do not, and its normal there."""
    with np.errstate(all="ignore"):
        if kind == 0:
            near = _root((rays**2).sum(-1), rays @ centre, centre @ centre - 0.25)
            return near, (near[..., None] * rays - centre) / 0.5
        if kind == 1:
            ends = np.sort(np.stack([(centre - 0.42) / rays, (centre + 0.42) / rays]), axis=0)
            first, last = ends[0].max(-1), ends[1].min(-1)
            side = np.eye(3)[ends[0].argmax(-1)] * -np.sign(rays)
            return np.where(first < last, first, np.inf), side
        flat, level = rays[..., [0, 2]], centre[[0, 2]]
        side = _root((flat**2).sum(-1), flat @ level, level @ level - 0.42**2)
        side = np.where(np.abs(side * rays[..., 1] - centre[1]) <= 0.5, side, np.inf)
        around = side[..., None] * rays - centre
        around[..., 1] = 0
        # The lid is seen from above or below.
        lid = (centre[1] - 0.5 * np.sign(centre[1])) / rays[..., 1]
        inside = (((lid[..., None] * flat - level) ** 2).sum(-1) <= 0.42**2) & (lid > 0)
        lid = np.where(inside, lid, np.inf)
        up = np.zeros_like(rays)
        up[..., 1] = -np.sign(centre[1])
        return np.minimum(side, lid), np.where((lid < side)[..., None], up, around / 0.42)


def _root(a: np.ndarray, b: np.ndarray, c: Any) -> np.ndarray:
    """The lesser root of ``a t² - 2 b t + c``, infinity where there is none."""
    square = b**2 - a * c
    return np.where(square > 0, (b - np.sqrt(np.clip(square, 0, None))) / a, np.inf)


def write(path: Path) -> None:
    """Write ``image``, ``depth`` (uint16, millimetres, 0 a hole), ``full`` (without holes), ``label`` and ``split`` to one ``.npz``."""
    arrays: dict[str, list[np.ndarray]] = {name: [] for name in ("image", "depth", "full", "label", "split")}
    for number, count in enumerate(ROWS.values()):
        rng = Rng.for_rows(number, count).of("shapes")
        u, kind = rng.of("scene").uniform(7).double().numpy(), rng.of("kind").integers(0, 3).numpy()
        noise, lost = rng.of("noise").normal(SIDE, SIDE).numpy(), rng.of("lost").uniform(3).numpy()
        for row in range(count):
            z = 1.7 + 1.3 * u[row, 0]
            centre = np.array([(u[row, 1] - 0.5) * 0.5 * z, (u[row, 2] - 0.5) * 0.5 * z, z])
            bright, depth, view = render(int(kind[row]), centre, 1.2 * (u[row, 3:5] - 0.5), 0.65 + 0.35 * u[row, 5])
            holes = view < GRAZING
            if lost[row, 0] < 0.5:
                top, left = (lost[row, 1:] * (SIDE - 3)).astype(int)
                holes[top : top + 4, left : left + 4] = True
            full = (1000 * depth).round().astype(np.uint16)
            arrays["image"].append((255 * (bright + 0.02 * noise[row]).clip(0, 1)).round().astype(np.uint8))
            arrays["full"].append(full)
            arrays["depth"].append(np.where(holes, 0, full).astype(np.uint16))
        arrays["label"].append(kind.astype(np.int64))
        arrays["split"].append(np.full(count, number))
    stacked = {name: np.stack(arrays[name]) for name in ("image", "depth", "full")}
    stacked |= {name: np.concatenate(arrays[name]) for name in ("label", "split")}
    np.savez(path, allow_pickle=False, **stacked)


def _full(trained: Trained, n: int) -> Tensor:
    """The held-out rows' depth without holes, in metres."""
    assert trained.reader.data is not None
    with np.load(trained.reader.data.options["path"]) as data:
        return torch.from_numpy(data["full"][data["split"] == 2][:n].astype(np.float32) / 1000)[:, None]


def shapes_agree(image: Tensor, depth: Tensor) -> Tensor:
    """Of pictures and depth ``(n, 1, SIDE, SIDE)`` the correlation of their edges: the brightness's steps lie where the depth's do."""

    def edges(x: Tensor) -> Tensor:
        steps = x.diff(dim=3)[:, :, 1:].abs() + x.diff(dim=2)[..., 1:].abs()
        flat = steps.flatten(1)
        flat = flat - flat.mean(1, keepdim=True)
        return flat / flat.norm(dim=1, keepdim=True).clamp(min=1e-9)

    return (edges(image) * edges(depth.log())).sum(1)


def measure(run: Path) -> dict[str, Figure]:
    """All directions between picture, depth and shape, on held-out scenes; holes are judged by what lies behind them."""
    trained = Trained.of(run, 400)
    model, rows = trained.reader.model, trained.rows
    m, n = model.variable("depth"), len(rows["label"])
    full, error = _full(trained, n), m.metrics()["relative_error"]
    there = m.spec.there(rows["depth"])
    by_image, by_depth = trained.ask(n, image=rows["image"]), trained.ask(n, depth=rows["depth"])
    filled = trained.ask(n, image=rows["image"], where={"depth": there}, depth=rows["depth"])["depth"]
    alone = trained.ask(n, where={"depth": there}, depth=rows["depth"])["depth"]
    mean = full.log().mean(0, keepdim=True).exp().expand_as(full)
    some = (~there).flatten(1).any(1)

    def holes(x: Tensor) -> Figure:
        return metrics.average(error(x, torch.where(there, 0.0, full))[some])

    joint = trained.ask(n)
    return {
        "image → depth, relative error": metrics.average(error(by_image["depth"], full)),
        "image → depth, within a quarter": metrics.average(m.metrics()["within_a_quarter"](by_image["depth"], full)),
        "the mean map in its place": metrics.average(error(mean, full)),
        "holes filled, depth and picture given": holes(filled),
        "holes filled, depth given": holes(alone),
        "the mean map in the holes": holes(mean),
        "depth → label": metrics.accuracy(by_depth["label"], rows["label"]),
        "image → label": metrics.accuracy(by_image["label"], rows["label"]),
        "depth → image, edges agree": metrics.average(shapes_agree(by_depth["image"], full)),
        "joint: edges agree": metrics.average(shapes_agree(joint["image"], joint["depth"])),
        "held-out scenes: edges agree": metrics.average(shapes_agree(rows["image"], full)),
    }


def picture(run: Path, path: Path, n: int = 8) -> None:
    """Draw held-out pictures, their depth with holes, the depth answered, and the holes filled."""
    trained = Trained.of(run, n)
    model, rows = trained.reader.model, trained.rows
    m, image = model.variable("depth"), model.variable("image")
    there = m.spec.there(rows["depth"])
    answer = trained.ask(n, image=rows["image"])["depth"]
    filled = trained.ask(n, image=rows["image"], where={"depth": there}, depth=rows["depth"])["depth"]
    lines = [
        ("picture", [image.show(x) for x in rows["image"]]),
        ("sensor's depth", [m.show(x) for x in rows["depth"]]),
        ("truth", [m.show(x) for x in _full(trained, n)]),
        ("of the picture", [m.show(x) for x in answer]),
        ("holes filled", [m.show(x) for x in filled]),
    ]
    sheet = Image.new("RGB", (100 + n * 84, len(lines) * 84), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (words, pictures) in enumerate(lines):
        pen.text((4, row * 84 + 34), words, fill="black")
        for k, one in enumerate(pictures):
            assert not isinstance(one, str)
            sheet.paste(one.convert("RGB").resize((80, 80), Image.Resampling.NEAREST), (100 + k * 84, row * 84))
    sheet.save(path)

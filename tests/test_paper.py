"""The recipes and the benchmark of the article's settings, on tiny data in the form of the real ones."""

import gzip
import json
import re
import shlex
import struct
import sys
import tomllib
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import mmcore
from benchmarks.paper import (
    four_at_once,
    image_embedding,
    image_label,
    image_mask,
    masked_image,
    modalities,
    prepare,
    standin,
)
from benchmarks.paper.asking import only, without
from benchmarks.paper.runs import RECIPES, WITHIN, Experiment, changed, matched, parameters, variation
from benchmarks.paper.written import Result, Row, sheet
from mmcore.cli.program import main
from mmcore.data import Table, TensorBatch
from mmcore.data.opening import embed as embedded
from mmcore.errors import RequestError
from mmcore.metrics import Figure
from mmcore.rng import Rng
from mmcore.runs.run import train

from .metrics.test_squeezenet import random_weights

TINY = {
    "mlp": "{width = 64, depth = 1, features = 2}",
    "transformer": "{width = 8, depth = 1, features = 2, heads = 2, patch = 4}",
}
DATA = {
    "masked-image": "idx",
    "image-label": "idx",
    "image-embedding": "emoji",
    "image-mask": "scenes",
    "four-at-once": "emoji",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny files as the recipes describe them."""
    home = tmp_path_factory.mktemp("data")
    rng = Rng.for_rows(0, 60)

    def whole(name: str, low: int, high: int, *shape: int) -> np.ndarray:
        drawn = rng.of(name).integers(low, high, int(np.prod(shape, dtype=int)))
        return drawn.reshape(60, *shape).numpy().astype(np.uint8)

    (home / "idx").mkdir()
    for part in ("train", "t10k"):
        for name, array in (
            ("images-idx3", whole("grey", 0, 256, 28, 28)),
            ("labels-idx1", whole("label", 0, 10, 1)[:, 0]),
        ):
            head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
            (home / "idx" / f"{part}-{name}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes()))
    np.savez(
        home / "emoji.npz",
        image=whole("colour", 0, 256, 64, 64, 3),
        mask=whole("alpha", 0, 256, 64, 64),
        group=whole("group", 0, 9, 1)[:, 0],
        tone=whole("tone", 0, 7, 1)[:, 0],
        concept=np.arange(60) // 2,
        squeezenet_embed=rng.of("embed").normal(512).numpy().astype(np.float16),
        clip_text=rng.of("text").normal(512).numpy().astype(np.float16),
        has_clip_text=np.arange(60) % 5 != 0,
    )
    np.savez(
        home / "scenes.npz",
        image=whole("scene", 0, 256, 48, 64, 3),
        mask=whole("mask", 0, 12, 48, 64),
        split=np.arange(60) % 3,
    )
    return {"idx": home / "idx", "emoji": home / "emoji.npz", "scenes": home / "scenes.npz"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_file(random_weights(), file)
    return file


def experiment(recipe: str, registry: mmcore.Registry, at: Path, path: Path | None, weights: Path | None) -> Experiment:
    backbone = "transformer" if recipe == "image-mask" else "mlp"
    changes = ["sampling.steps=2", f"model.backbone_options={TINY[backbone]}", 'device="cpu"', "training.batch_size=4"]
    return Experiment(
        recipe, path, registry, (0, 1) if recipe == "image-label" else (0,), weights, 1, 8, changes, at, judging=2
    )


@pytest.mark.parametrize("recipe", DATA)
def test_recipes_train_on_files_as_they_describe_them(
    recipe: str, registry: mmcore.Registry, data: dict[str, Path], tmp_path: Path
) -> None:
    setup = experiment(recipe, registry, tmp_path, data[DATA[recipe]], None).setup(
        {"out": str(tmp_path / "run"), "sampling.n": 2, "sampling.steps": 2}
    )
    folder = train(setup, quiet=True)
    model = mmcore.load(folder / "model", registry=registry)
    assert {m.name for m in model.variables} == {m.name for m in setup.rows("test").variables}
    tasks = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["tasks"]
    assert tasks.keys() == {task.name for task in model.tasks}
    assert all(task["loss"] is None or np.isfinite(task["loss"]) for task in tasks.values())
    held = Table.read(setup.rows("test"))
    if recipe == "four-at-once":
        # The outline is the mean of the alpha's pixels, at least half; and some rows lack the text alone.
        alpha = np.load(data["emoji"])["mask"]
        assert set(held.rows.values["mask"].unique().tolist()) == {0, 1}
        means = alpha.reshape(60, 16, 4, 16, 4).mean((2, 4))
        every = Table.read(setup.rows("all")).rows.values["mask"].numpy()
        far = abs(means - 127.5) > 20  # what is sampled between pixels is no mere mean of four by four
        assert (every == (means >= 127.5))[far].mean() > 0.95
        lacking = 1 - held.rows.present.float().mean(0)
        assert [name for name, share in zip(held.names, lacking, strict=True) if share] == ["text"]
    if recipe == "image-mask":
        assert len(held) == 20
        assert 11 in held.rows.values["mask"]


@pytest.mark.parametrize(
    ("recipe", "module"),
    [
        ("masked-image", masked_image),
        ("image-label", image_label),
        ("image-embedding", image_embedding),
        ("image-mask", image_mask),
        ("four-at-once", four_at_once),
    ],
)
def test_settings_are_measured_from_end_to_end(
    recipe: str,
    module: Any,
    registry: mmcore.Registry,
    data: dict[str, Path],
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = experiment(recipe, registry, tmp_path, data[DATA[recipe]], weights)
    result: Result = module.measure(one)
    # Every column has a figure, and every model about as many parameters as the first.
    for figure in result.columns:
        assert any(figure in row.figures for row in result.rows), figure
    counts = [row.parameters for row in result.rows]
    assert max(abs(count - counts[0]) for count in counts) <= WITHIN * counts[0]
    assert {row.seed for row in result.rows} == set(one.seeds)
    result.facts |= {"command": "x", "steps": 1, "batch_size": 4, "seconds": 1.0}
    result.write(tmp_path / "results")
    written = json.loads((tmp_path / "results" / f"paper-{recipe}.json").read_text())
    assert len(written["rows"]) == len(result.rows)
    table = (tmp_path / "results" / f"paper-{recipe}.md").read_text()
    assert all(f"| {name} | {counts[0]:,}"[:12] in table for name in result.names)
    if hasattr(module, "pictures"):
        drawn = module.pictures(one, 3)
        assert all(len(images) == 3 for _, images in drawn)
        # One width and height for all, each pixel three wide, and the names beside them.
        width, height = drawn[0][1][0].size
        assert sheet(drawn).size == (130 + 3 * (3 * width + 4), len(drawn) * (3 * height + 4))
    if recipe == "image-embedding":
        # A second call reads all models back, and finds the same.
        again = module.measure(experiment(recipe, registry, tmp_path, data[DATA[recipe]], weights))
        assert [row.figures for row in again.rows] == [row.figures for row in result.rows]


def test_the_open_question_is_measured_from_end_to_end(
    registry: mmcore.Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modalities, "COUNTS", (1, 2))
    one = experiment("modalities", registry, tmp_path, None, None)
    result = modalities.measure(one)
    few = ["N = 1", "N = 2", "N = 3"]
    assert [row.name for row in result.rows][:7] == [*few, *(f"{name}, equal time" for name in few), "N = 4"]
    assert [len(row.figures) for row in result.rows] == [1, 4, 5, 1, 4, 5, 6, 4, 4]
    # As many steps as the fullest model's time buys, each of which has the time of a step beside it.
    pace = {row.name: row.seconds_per_step for row in result.rows}
    bought = [f"{max(1, round(pace['N = 4'] / pace[name])):,} of {name}" for name in few]
    assert f"Seed 0: 1 steps of N = 4 take the processor as long as {', '.join(bought)}." in result.notes
    modalities.conclude(result)
    first, second = result.facts["costs"]
    assert first["parameters"] < second["parameters"]
    assert min(first["ms"], second["ms"], first["mb"], second["mb"]) > 0


def test_clothes_have_four_modalities_and_parts_of_their_own(
    registry: mmcore.Registry, data: dict[str, Path], tmp_path: Path
) -> None:
    made = prepare.prepare(data["idx"], 14, 20)
    training = made["split"] == 0
    assert [int((made["split"] == k).sum()) for k in range(3)] == [57, 3, 60]
    # Whitened on the rows that are trained on, and on no others.
    cov = np.cov(made["embedding"][training].T.astype(np.float64))
    np.testing.assert_allclose(cov, np.eye(20), atol=1e-5)
    np.testing.assert_allclose(made["embedding"][training].mean(0), 0, atol=1e-5)
    # The axes are those of most variance: what they leave of the images is what the smallest eigenvalues say.
    flat = made["image"][training].reshape(57, -1) / 255
    flat = flat - flat.mean(0)
    left = flat - made["embedding"][training] @ np.linalg.lstsq(made["embedding"][training], flat, rcond=None)[0]
    smallest = np.linalg.svd(flat, compute_uv=False)[20:]
    np.testing.assert_allclose((left**2).sum(), (smallest**2).sum(), rtol=1e-5)
    assert (made["mask"] == (made["image"] >= prepare.INK)).all()
    np.savez(tmp_path / "clothes.npz", **made)
    one = experiment("modalities-fashion", registry, tmp_path, tmp_path / "clothes.npz", None)
    model = one.trained("N = 4")
    assert [m.name for m in model.model.modalities] == list(modalities.ORDER)
    held = one.held_out(model)
    assert len(held) == 8
    assert [(name, len(images)) for name, images in modalities.pictures(one, 3)] == [
        ("joint", 3),
        ("their masks", 3),
        ("by label, 0 … 9", 3),
    ]
    varied = attrs.evolve(one, variation=("light", {"tasks.image.weight": 0.1}))
    measured = modalities.measure(varied)
    assert [row.name for row in measured.rows] == ["N = 4, light"]
    modalities.conclude(measured)
    assert "costs" not in measured.facts


def test_controls_keep_each_extra_modality_and_break_its_tie_to_the_row() -> None:
    n = 200
    at = torch.arange(n)
    values = {
        "image": at[:, None],
        "mask": (at[:, None, None] * 4 + torch.arange(4).reshape(2, 2)),
        "embedding": at[:, None] + torch.tensor([0.0, 0.5]),
    }
    table = Table(TensorBatch(values, torch.ones(n, 3, dtype=torch.bool)))
    mixed, moved = modalities.noise(table).rows.values, modalities.shuffled(table).rows.values
    for found in (mixed, moved):
        assert torch.equal(found["image"], values["image"])
        # Every element's values are those of that element in some row.
        assert (found["mask"] % 4 == values["mask"] % 4).all()
        assert (found["embedding"] % 1 == values["embedding"] % 1).all()
        assert (found["mask"][:, 0, 0] == values["mask"][:, 0, 0]).float().mean() < 0.05
    rows = moved["mask"] // 4
    assert (rows == rows[:, :1, :1]).all()
    assert sorted(rows[:, 0, 0].tolist()) == list(range(n))
    assert ((mixed["mask"] // 4) != (mixed["mask"] // 4)[:, :1, :1]).any(2).any(1).float().mean() > 0.9
    assert (rows[:, 0, 0] != moved["embedding"][:, 0].long()).float().mean() > 0.9  # each by itself


@pytest.mark.parametrize("fraction", masked_image.FRACTIONS)
def test_whole_patches_are_hidden_as_many_in_every_row(fraction: float) -> None:
    gone = masked_image.hidden(20, (14, 14), fraction, patch=2)
    cells = gone.reshape(20, 7, 2, 7, 2)
    assert (cells == cells[:, :, :1, :, :1]).all()
    assert (gone.flatten(1).sum(1) == 4 * round(fraction * 49)).all()
    assert len({tuple(row.flatten().tolist()) for row in gone}) == 20


def test_restoring_leaves_known_pixels(registry: mmcore.Registry, data: dict[str, Path], tmp_path: Path) -> None:
    one = experiment("masked-image", registry, tmp_path, data["idx"], None).trained("joint")
    image = one.model.variable("image")
    images, gone = image.typical(5, 0), masked_image.hidden(5, (14, 14), 0.5)
    for restore in (masked_image.answered(3), masked_image.replaced, masked_image.noised(0.5)):
        made = restore(one, images, gone)
        torch.testing.assert_close(torch.where(gone, 0, made), torch.where(gone, 0, images), rtol=0, atol=0)
        assert (made != images).any()
    # What is hidden does not reach the answer.
    other = torch.where(gone, -images, images)
    for restore in (masked_image.answered(3), masked_image.replaced, masked_image.noised(0.5)):
        torch.testing.assert_close(restore(one, other, gone), restore(one, images, gone), rtol=0, atol=0)


@pytest.mark.parametrize("recipe", ["image-label", "image-mask"])
def test_parameters_are_matched(recipe: str, registry: mmcore.Registry, data: dict[str, Path], tmp_path: Path) -> None:
    one = Experiment(recipe, data[DATA[recipe]], registry)
    whole, single = one.setup({}), one.setup(only("mask" if recipe == "image-mask" else "label", "image"))
    like = parameters(whole.model())
    assert parameters(single.model()) != like
    assert abs(parameters(matched(single, like).model()) - like) <= WITHIN * like


def test_changes_put_in_and_take_away() -> None:
    tables = {"a": {"b": 1, "c": 2}}
    assert changed(tables, {"a.b": None, "d.e": False, "gone.x": None}) == {
        "a": {"c": 2},
        "d": {"e": False},
        "gone": {},
    }
    assert tables == {"a": {"b": 1, "c": 2}}
    assert without("label")["modalities.label"] is None


def test_a_table_has_the_mean_over_seeds_and_the_intervals_hull() -> None:
    figures = [Figure(0.5, 10, 0.4, 0.6), Figure(0.7, 10, 0.55, 0.75)]
    rows = [Row("x", "x", seed, 1000, 2.0, 0.01, {"f": one}) for seed, one in enumerate(figures)]
    result = Result("r", {"f": ("F", True), "g": ("G", False)}, rows)
    assert result.over_seeds("x", "f") == Figure(0.6, 10, 0.4, 0.75)
    result.facts = {"command": "x", "steps": 1, "batch_size": 4, "seconds": 1.0}
    assert "| x | 1,000 | 10 | 0.600 (0.400 … 0.750) | – |" in result.markdown()
    assert "F ↑ | G ↓" in result.markdown()


PAGES = Path(__file__).parents[1] / "docs" / "recipes"


# Random pictures have masks that are the same everywhere.
@pytest.mark.filterwarnings("ignore::mmcore.training.CodeScaleWarning")
@pytest.mark.parametrize("page", [*DATA, "modalities"])
def test_the_commands_of_a_recipes_page_work(
    page: str, data: dict[str, Path], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        line
        for block in re.findall(r"```shell\n(.*?)```", (PAGES / f"{page}.md").read_text(), re.S)
        for line in block.splitlines()
    ]
    assert len(lines) >= 4
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").symlink_to(RECIPES)
    places = {"fashion-mnist": data["idx"], "emoji.npz": data["emoji"], "camvid.npz": data["scenes"]}
    for name, path in (places | {"lpips_squeeze.safetensors": weights}).items():
        (tmp_path / name).symlink_to(path)
    backbone = TINY["transformer" if page == "image-mask" else "mlp"]
    for line in lines:
        program, *words = shlex.split(line)
        if program == "python":
            assert words[:2] == ["-m", "benchmarks.paper.prepare"]
            monkeypatch.setattr(sys, "argv", words[1:])
            prepare.main()
            continue
        assert program == "mmcore"
        if words[0] == "train":
            for small in ("training.steps=1", f"model.backbone_options={backbone}", "sampling.steps=2"):
                words += ["--set", small]
        if words[0] == "evaluate":
            words += ["--rows", "8"]
        monkeypatch.setattr(sys, "argv", [program, *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0, line


def test_the_sizes_for_a_gpu_fit_a_recipe(registry: mmcore.Registry, data: dict[str, Path]) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", (PAGES / "index.md").read_text(), re.S)
    sections = tomllib.loads(block)
    changes = {"data.transforms": sections["data"]["transforms"], "modalities.image.size": 64}
    changes |= {f"{name}.{key}": value for name in ("model", "training") for key, value in sections[name].items()}
    assert sections["modalities"]["image"] == {"size": 64}
    config = Experiment("image-label", data["idx"], registry).setup(changes).config
    assert (config.model.backbone, config.training.precision) == ("transformer", "bf16")


def test_all_recipes_are_here() -> None:
    assert {path.stem for path in RECIPES.glob("*.toml")} == {
        *DATA,
        "modalities",
        "modalities-fashion",
        "captions",
        "latent-image-label",
        "chords",
        "shapes",
        "views",
        "views-latents",
    }


@pytest.mark.parametrize(("recipe", "module"), [("image-embedding", image_embedding), ("masked-image", masked_image)])
def test_variations_are_measured_beside_the_joint_model(
    recipe: str, module: Any, registry: mmcore.Registry, data: dict[str, Path], weights: Path, tmp_path: Path
) -> None:
    one = experiment(recipe, registry, tmp_path, data[DATA[recipe]], weights)
    slower = ("slower", {"training.lr": 3e-4})
    work = [(None, 0), (None, 1), (slower, 0), (slower, 1)]
    result = Result.joined([module.measure(attrs.evolve(one, seeds=(k,), variation=v)) for v, k in work])
    own, varied = ([row for row in result.rows if row.name.startswith(name)] for name in ("joint", "joint, slower"))
    assert [row.seed for row in varied] == [0] * (len(varied) // 2) + [1] * (len(varied) // 2)
    assert [row.figures.keys() for row in own[: len(varied) // 2]] == [
        row.figures.keys() for row in varied[: len(varied) // 2]
    ]
    assert own[0].figures != varied[0].figures


@pytest.mark.parametrize(
    ("recipe", "module", "singles", "questions"),
    [
        ("image-embedding", image_embedding, 2, ["image → embedding", "embedding → image"]),
        ("masked-image", masked_image, 2, ["hidden patches"]),
    ],
)
def test_budgets_give_each_model_its_steps(
    recipe: str,
    module: Any,
    singles: int,
    questions: list[str],
    registry: mmcore.Registry,
    data: dict[str, Path],
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: dict[str, int] = {}
    fit = mmcore.fit

    def counted(model: Any, rows: Any, *, options: Any, **more: Any) -> Any:
        state = fit(model, rows, options=options, **more)
        taken[str(len(taken))] = options.steps
        return state

    monkeypatch.setattr(mmcore, "fit", counted)
    one = attrs.evolve(experiment(recipe, registry, tmp_path, data[DATA[recipe]], weights), steps=4, singles=singles)
    compute = module.measure(attrs.evolve(one, budget="compute"))
    assert set(taken.values()) == {4 * singles}
    assert len(taken) == len({row.model for row in compute.rows})
    taken.clear()
    special = module.measure(attrs.evolve(one, budget="specialise"))
    # The joint model, a quarter more on each question, and the single tasks with as many as both together.
    assert next(iter(taken.values())) == 4
    assert sorted(taken.values()) == [1] * len(questions) + [4] + [5] * (len(taken) - 1 - len(questions))
    further = [row for row in special.rows if row.model.startswith("joint, then")]
    assert list(dict.fromkeys(row.model for row in further)) == [f"joint, then {name} alone" for name in questions]
    joint = next(row for row in special.rows if row.model == "joint")
    shared = further[0].figures.keys() & joint.figures.keys()
    assert shared
    assert any(further[0].figures[name] != joint.figures[name] for name in shared)


def test_the_part_that_is_measured_on_can_be_chosen(
    registry: mmcore.Registry, data: dict[str, Path], tmp_path: Path
) -> None:
    one = experiment("image-mask", registry, tmp_path, data["scenes"], None)
    model = one.trained("joint")
    found = {part: attrs.evolve(one, part=part).held_out(model).rows.values["image"] for part in ("test", "validation")}
    assert not (found["test"].flatten(1)[:, None] == found["validation"].flatten(1)[None]).all(2).any()


def test_a_variation_of_another_size_is_judged_by_the_same_judge(
    registry: mmcore.Registry, data: dict[str, Path], weights: Path, tmp_path: Path
) -> None:
    one = experiment("image-mask", registry, tmp_path, data["scenes"], weights)
    larger = ("larger", {"model.backbone_options": {"width": 32, "depth": 2, "features": 2, "heads": 2, "patch": 4}})
    own, varied = (image_mask.measure(attrs.evolve(one, variation=v)) for v in (None, larger))
    assert varied.rows[0].parameters > 1.1 * own.rows[0].parameters
    assert "segmented" in varied.rows[0].figures
    # Its folder is named by its configuration: five models of the recipe, and the larger one beside them.
    assert len(list(tmp_path.glob("*/trained.json"))) == 6


def test_parts_that_were_kept_say_what_code_measured_them() -> None:
    parts = [
        Result("r", {}, facts={"commit": c, "changed": d, "seconds": 1.0})
        for c, d in (("a", False), ("b", True), ("a", False))
    ]
    joined = Result.joined(parts)
    assert joined.facts == {"commit": "a, b", "changed": True, "seconds": 3.0}
    # One that does not say is not passed over.
    assert Result.joined([*parts, Result("r", {})]).facts["commit"] == "a, b, unknown"


def test_variations_are_read_from_words() -> None:
    assert variation("heavy label: tasks.label.weight=3; model.gains=[1, 2]") == (
        "heavy label",
        {"tasks.label.weight": 3, "model.gains": [1, 2]},
    )
    for wrong in ("no colon", "name:", "name: a.b", "name: a=[1"):
        with pytest.raises(RequestError, match="variation"):
            variation(wrong)


def test_the_stand_in_takes_clips_path(registry: mmcore.Registry, data: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the extra mmcore-clip[model]")
    folder = standin.standin(tmp_path / "clip", size=16, patch=8, width=16, layers=1, out=8)
    # As the recipe's page says.
    (block,) = re.findall(r"```toml\n(.*?)```", (PAGES / "image-embedding.md").read_text(), re.S)
    said = tomllib.loads(block)["data"]
    said["embed"][0] |= {"options": {"folder": str(folder)}, "cache": str(tmp_path / "embedded")}
    changes = {f"data.{key}": value for key, value in said.items()}
    one = experiment("image-embedding", registry, tmp_path, data["emoji"], None)
    setup = one.setup({**changes, "modalities.embedding.width": 8})
    embedded(registry, setup.config.data, quiet=True)
    found = Table.read(setup.rows("all"))
    vectors = found.rows.values["embedding"]
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(60), rtol=0, atol=1e-5)
    # Random weights tell images apart.
    assert len({tuple(row) for row in vectors.tolist()}) == len(
        {image.tobytes() for image in np.load(data["emoji"])["image"]}
    )

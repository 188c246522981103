"""Composition, training and sampling of joint models: the laws that hold for any of them."""

from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor

import mmcore
from mmcore import JointModel, Modality, Registry, RequestError, Role, Schedule, Task
from mmcore.data import Table
from mmcore.model.roles import RoleMix
from mmcore.rng import Rng
from mmcore.training import TrainOptions, TrainState, training_step

TINY = {"width": 16, "depth": 1, "heads": 2, "features": 8}


@pytest.fixture
def parts(registry: Registry) -> list[Modality]:
    return [
        registry.modality("image", channels=1, size=8, levels=17, mean=-0.39, std=0.75),
        registry.modality("mask", size=8),
        registry.modality("label", classes=10),
        registry.modality("clip", name="embedding", width=12, unit_norm=False),
    ]


@pytest.fixture
def model(parts: list[Modality], registry: Registry) -> JointModel:
    model = mmcore.compose(parts, space=(4, 8, 8), backbone_options=TINY, registry=registry)
    # Output layers start at zero; noise on them makes every prediction depend on its inputs.
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p += 0.2 * Rng.for_rows(i, 1).normal(*p.shape)[0]
    return model


def typical(model: JointModel, n: int, seed: int = 0) -> dict[str, Tensor]:
    return {m.name: m.typical(n, seed + i) for i, m in enumerate(model.variables)}


def test_the_noisy_space_has_the_marginals_mean_and_variance(model: JointModel) -> None:
    """The model's own ``h_t`` is ``Σ W E`` by explicit matrices, one modality at a time."""
    from mmcore.space import place

    batch = typical(model, 5)
    t = torch.tensor([1, 3, 400, 999, 1000])
    roles = torch.tensor([[0, 0, 0, 0], [0, 1, 2, 0], [1, 1, 1, 0], [2, 0, 0, 0], [0, 2, 2, 1]])
    placement = place([m.code for m in model.modalities], model.space)
    h, condition = torch.zeros(5, 256, dtype=torch.float64), torch.zeros(5, 256, dtype=torch.float64)
    for i, m in enumerate(model.modalities):
        code, P = model.encoders[m.name](batch[m.name]).flatten(1).double(), placement.matrix(i)
        h += model.process.schedule.W[t, i, None] * (code @ P.T) * (roles[:, i, None] == Role.GENERATE)
        # What is told is as large as the code, at each of its copies.
        condition += (code @ P.sign().T) * (roles[:, i, None] == Role.OBSERVE)
    placed = model.frame.place(model.encode(batch))
    drive = model.drive(t, roles)
    torch.testing.assert_close(model.frame.weighted(placed, drive.level.W).flatten(1), h.float())
    told = model.condition(placed, drive)
    torch.testing.assert_close(told[:, :4].flatten(1), condition.float())
    places = torch.stack([placement.matrix(i).abs().sum(1) > 0 for i in range(4)], dim=1)
    flags = (places * (roles == Role.OBSERVE)[:, None]).any(2)
    assert torch.equal(told[:, 4:].flatten(1), flags.float())


def test_losses_count_generated_targets_only(model: JointModel) -> None:
    roles = torch.tensor([[0, 1, 2, 0], [1, 0, 0, 2]])
    noise = Rng.for_rows(0, 2).normal(*model.space.shape)
    losses = model(typical(model, 2), torch.tensor([10, 500]), roles, noise)
    assert torch.equal(losses != 0, roles == Role.GENERATE)


def test_what_is_absent_changes_nothing_else(model: JointModel) -> None:
    batch, other = typical(model, 3), typical(model, 3, seed=50)
    roles = torch.tensor([[0, 0, 2, 0]] * 3)
    noise = Rng.for_rows(0, 3).normal(*model.space.shape)
    t = torch.tensor([5, 500, 900])
    first = model(batch, t, roles, noise)
    assert torch.equal(first, model(batch | {"label": other["label"]}, t, roles, noise))
    assert not torch.equal(first, model(batch | {"mask": other["mask"]}, t, roles, noise))


def test_missing_values_never_reach_loss_or_gradient(model: JointModel) -> None:
    batch = typical(model, 3)
    batch["embedding"][1] = float("nan")
    roles = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 2], [0, 1, 0, 0]])
    losses = model(batch, torch.tensor([5, 500, 900]), roles, Rng.for_rows(0, 3).normal(*model.space.shape))
    assert losses.isfinite().all()


def test_rows_are_independent_of_the_batch(model: JointModel) -> None:
    batch, t = typical(model, 4), torch.tensor([5, 500, 900, 1])
    roles = torch.tensor([[0, 0, 0, 0], [0, 1, 2, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    noise = Rng.for_rows(0, 4).normal(*model.space.shape)
    whole = model(batch, t, roles, noise)
    order = torch.tensor([2, 0, 3, 1])
    shuffled = model({k: v[order] for k, v in batch.items()}, t[order], roles[order], noise[order])
    torch.testing.assert_close(shuffled, whole[order], rtol=1e-4, atol=1e-4)


def test_drawn_roles_keep_the_rules() -> None:
    present = Rng.for_rows(1, 4000).uniform(5) < 0.6
    present[:, 0] = True
    generable = torch.tensor([True, True, False, True, True])
    encoded = torch.tensor([True, True, True, True, False])
    roles, _ = RoleMix(joint=0.3, single=0.0, absent=0.2).draw(Rng.for_rows(0, 4000), present, generable, encoded)
    assert (roles[~present] == Role.ABSENT).all()
    assert (roles[:, 2] != Role.GENERATE).all()
    assert ((roles[:, 4] == Role.GENERATE) == present[:, 4]).all()
    assert ((roles == Role.GENERATE) & encoded).any(1).all()
    free = (roles != Role.GENERATE) & present & generable & encoded
    assert ((roles[free] == Role.ABSENT).double().mean() - 0.2).abs() < 0.05  # 5 standard errors, seed fixed
    full = present.all(1)
    # All three: the joint share, a quarter of the rest (the mean of u³), and those that would generate nothing.
    everything = (roles[full][:, [0, 1, 3]] == 0).all(1).double().mean()
    assert 0.55 < everything < 0.8


def test_single_observations_are_even_among_what_a_row_has() -> None:
    present = Rng.for_rows(1, 6000).uniform(4) < 0.8
    present[:, 0] = True
    generable, encoded = torch.tensor([True, True, False, True]), torch.tensor([True, True, True, False])
    roles, _ = RoleMix(joint=0.0, single=1.0).draw(Rng.for_rows(0, 6000), present, generable, encoded)
    full = present.all(1)
    # Column 2 can only be observed, so it is beside the one that is drawn; where it is drawn itself nothing else is.
    drawn = (roles[full][:, :2] == Role.OBSERVE).double().mean(0)
    assert ((drawn - 1 / 3).abs() < 0.05).all()  # 5 standard errors, seed fixed
    assert ((roles[full][:, :2] == Role.OBSERVE).sum(1) <= 1).all()
    assert (roles[~present] == Role.ABSENT).all()
    assert ((roles == Role.GENERATE) & encoded).any(1).all()
    with pytest.raises(
        RequestError, match=r"shares of at most 1 together \(here joint = 0\.7, single = 0\.6, questions = \{\}\)"
    ):
        RoleMix(joint=0.7, single=0.6)


@pytest.mark.filterwarnings("ignore::mmcore.training.CodeScaleWarning")  # embeddings of zeros
def test_training_lowers_every_loss_and_is_repeatable(parts: list[Modality], registry: Registry) -> None:
    rows = [registry.source("digits")[i] | {"embedding": torch.zeros(12)} for i in range(64)]

    def train(steps: int) -> tuple[JointModel, Tensor, Tensor]:
        model = mmcore.compose(parts, space=(4, 8, 8), backbone_options=TINY, registry=registry)
        reports: list[Tensor] = []
        mmcore.fit(
            model,
            rows,
            steps=steps,
            batch_size=16,
            lr=3e-3,
            ema=0.9,
            device="cpu",
            quiet=True,
            watch=[lambda state, report: reports.append(report.by_task())],
        )
        return model, torch.stack(reports[:10]).nanmean(0), torch.stack(reports[-10:]).nanmean(0)

    model, first, last = train(60)
    assert (last < first).all(), (first, last)
    again, _, last_again = train(60)
    assert torch.equal(last, last_again)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_gradients_reach_backbone_and_every_head_in_every_batch(model: JointModel) -> None:
    roles = torch.tensor([[0, 1, 2, 1]] * 2)
    losses = model(typical(model, 2), torch.tensor([3, 700]), roles, Rng.for_rows(0, 2).normal(*model.space.shape))
    losses.sum().backward()
    for name, p in model.named_parameters():
        if p.requires_grad and not name.startswith("decoders"):
            assert p.grad is not None, name
    assert model.decoders["image"].map.out.weight.grad.abs().sum() > 0
    assert model.decoders["label"].head.out.weight.grad is not None


def test_the_step_is_not_taken_on_a_loss_that_is_not_finite(model: JointModel) -> None:
    state = TrainState.start(model, TrainOptions())
    table = Table.read([{"image": torch.zeros(8, 8)}] * 4, model.variables)
    with torch.no_grad():
        model.decoders["image"].map.out.bias.fill_(float("nan"))
    before = [p.clone() for p in model.backbone.parameters()]
    with pytest.raises(mmcore.MmcoreError, match="step 0, task 'image' has loss nan in row 0"):
        training_step(state, table.rows)
    assert all(torch.equal(a, b) for a, b in zip(before, model.backbone.parameters(), strict=True))


@pytest.mark.parametrize(
    "how", [{}, {"sampler": "ddim", "eta": 0.0}, {"codes": "draw"}, {"sampler": "ancestral", "draw": True}]
)
def test_samples_fit_their_specs_and_do_not_depend_on_the_batch(model: JointModel, how: dict[str, Any]) -> None:
    whole = mmcore.sample(model, 6, steps=4, seed=3, **how)
    assert list(whole) == [m.name for m in model.modalities]
    for m in model.modalities:
        m.spec.check(whole[m.name], m.name)
    split = mmcore.sample(model, 6, steps=4, seed=3, batch_size=4, **how)
    for name in ("image", "embedding"):
        # Rounding grows through the random network and the steps; another row's noise would differ by about 1.
        torch.testing.assert_close(split[name], whole[name], rtol=1e-2, atol=2e-2)
    assert not torch.equal(mmcore.sample(model, 6, steps=4, seed=4, **how)["image"], whole["image"])


def test_given_comes_back_unchanged_and_absent_not_at_all(model: JointModel) -> None:
    label = torch.arange(6)
    answer = mmcore.sample(model, 6, given={"label": label}, absent=["mask"], steps=3)
    assert set(answer) == {"image", "label", "embedding"}
    assert torch.equal(answer["label"], label)


def test_an_observation_matters(model: JointModel) -> None:
    a, b = (mmcore.sample(model, 3, given={"label": torch.full((3,), k)}, steps=3)["image"] for k in (1, 7))
    assert not torch.equal(a, b)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n": 0}, "n = 0, expected a whole number of at least 1"),
        ({"given": {"lable": torch.zeros(4)}}, "given names 'lable', expected one of image, mask"),
        ({"given": {"label": torch.zeros(3, dtype=torch.int64)}}, "'label' has 3 rows, expected n = 4"),
        ({"given": {"label": torch.full((4,), 11)}}, "given 'label': found 11 in row 0, expected 0 … 9"),
        ({"given": {"label": torch.zeros(4)}}, "found dtype torch.float32, expected torch.int64"),
        ({"given": {"image": torch.zeros(4, 8, 8)}}, r"found shape \(4, 8, 8\), expected \(B, 1, 8, 8\)"),
        ({"given": {"image": torch.full((4, 1, 8, 8), float("nan"))}}, "NaN or infinity in row 0"),
        ({"absent": ["audio"]}, "absent names 'audio'"),
        ({"given": {"label": torch.zeros(4, dtype=torch.int64)}, "absent": ["label"]}, "label both given and absent"),
        ({"absent": ["image", "mask", "label", "embedding"]}, "nothing is left to generate"),
        ({"steps": 0}, "steps = 0, expected a whole number of at least 1"),
        ({"sampler": "euler"}, "sampler = 'euler', expected one of auto, ddim, ancestral"),
        ({"eta": 1.5}, "eta = 1.5, expected 0 … 1"),
        ({"sampler": "ancestral", "eta": 0.5}, "eta = 0.5, expected none with the sampler 'ancestral'"),
        ({"codes": "draw", "eta": 0.0}, "codes = 'draw', expected 'mean' with a deterministic sampler"),
    ],
)
def test_bad_questions_are_refused(model: JointModel, options: dict[str, Any], match: str) -> None:
    with pytest.raises(RequestError, match=match):
        mmcore.sample(model, options.pop("n", 4), **options)


def test_bad_compositions_are_refused(parts: list[Modality], registry: Registry) -> None:
    image, _mask, label, _embedding = parts

    def compose(modalities: list[Modality], tasks: list[Task] | None = None, **options: Any) -> JointModel:
        return mmcore.compose(modalities, tasks, backbone_options=TINY, registry=registry, **options)

    for match, call in {
        "modalities = .*, expected at least one modality": lambda: compose([]),
        "modalities = .*, expected a name for each of its own, not 'image' 2 times": lambda: compose([image, image]),
        "tasks = .*, expected at least one task": lambda: compose([image], []),
        "tasks.x.target = 'labl', .* did you mean 'label'": lambda: compose([image, label], [Task("x", "labl")]),
        "tasks = .*, expected a name for each of its own, not 'x' 2 times": lambda: compose(
            [image, label], [Task("x", "label"), Task("x", "image")]
        ),
        "tasks.x.target = .*, expected another name for it than 'label', which is taken": lambda: compose(
            [image, label], [Task("x", label)]
        ),
        "give it 2 channels": lambda: compose([image, label], space=(1, 8, 8)),
        "layout = 'sharde', expected one of shared": lambda: compose([image], layout="sharde"),
        "no schedule 'cosin' is installed": lambda: compose([image], schedule="cosin"),
        "no backbone 'unet' is installed": lambda: mmcore.compose([image], backbone="unet", registry=registry),
        r"gains = \[1.0\], expected 2 numbers, one per modality": lambda: compose([image, label], gains=[1.0]),
        "powers = .*, expected 2 numbers": lambda: compose([image, label], powers=[1.0, 1.0, 1.0]),
        "schedule = 'cosine', expected one of 1 modalities, not 3": lambda: compose(
            [image], schedule=mmcore.process.schedule.cosine(10, 3)
        ),
        "gains = .*, expected none with a schedule that is given as an object": lambda: compose(
            [image], gains=[1.0], schedule=mmcore.process.schedule.cosine(10, 1)
        ),
        "modalities = .*, expected a list": lambda: compose(image),
        "gains = 2.0, expected a list": lambda: compose([image], gains=2.0),
        "space = 4, expected a list": lambda: compose([image], space=4),
        "layout = None, expected a text or a list of lists of texts": lambda: compose([image], layout=None),
        "schedule = 1000, expected a name": lambda: compose([image], schedule=1000),
        "tasks = 'image', expected mmcore.Task": lambda: compose([image], ["image"]),
        "tasks.x.weight = nan, expected a number of at least 0": lambda: compose(
            [image], [Task("x", "image", weight=float("nan"))]
        ),
        "trained_encoders = 'image', expected a list of texts": lambda: compose([image], trained_encoders="image"),
        "tasks = 'x.y', expected names without dots": lambda: compose([image], [Task("x.y", "image")]),
        "tasks = 'keys', expected other names than those of torch's own": lambda: compose(
            [image], [Task("keys", "image")]
        ),
        "backbone_options = .*, expected none with a backbone that is given as an object": lambda: compose(
            [image], backbone=torch.nn.Linear(2, 2)
        ),
        "backbone_options.patch = 3, expected a number that divides": lambda: mmcore.compose(
            [image], backbone_options={"patch": 3}, registry=registry
        ),
    }.items():
        with pytest.raises(RequestError, match=match):
            call()


def test_bad_rows_and_options_are_refused(model: JointModel) -> None:
    for match, rows in {
        "found no row": [],
        "row 1, label: found class 12, expected 0 … 9": [{"label": 1}, {"label": 12}],
        "row 0: found audio, expected one of image": [{"audio": 1}],
        r"row 0, image: found shape \(9, 9\)": [{"image": torch.zeros(9, 9)}],
    }.items():
        with pytest.raises(RequestError, match=match):
            mmcore.fit(model, rows, steps=1, quiet=True)
    with pytest.raises(RequestError, match="fit: stpes: expected options among steps"):
        mmcore.fit(model, [{"label": 1}], stpes=1)
    with pytest.raises(RequestError, match="steps = 0, expected a whole number of at least 1"):
        mmcore.fit(model, [{"label": 1}], steps=0)
    with pytest.raises(RequestError, match="no row has 'label', but rows have 'lable', which no variable reads"):
        mmcore.fit(model, [{"image": torch.zeros(8, 8), "lable": 1}], steps=1)
    swapped = Table.read([{"label": 1}], model.variables[::-1])
    with pytest.raises(RequestError, match=r"the rows were read for .*; read them for these, in this order"):
        mmcore.fit(model, swapped, steps=1)
    with pytest.raises(RequestError, match=r"steps = 1\.5, expected a whole number"):
        mmcore.fit(model, [{"label": 1}], steps=1.5)
    with pytest.raises(RequestError, match="device 'tpu9' cannot be used"):
        mmcore.fit(model, [{"image": torch.zeros(8, 8), "label": 1}], steps=1, device="tpu9")


def test_a_prior_that_is_not_reached_warns(parts: list[Modality], registry: Registry) -> None:
    T = 1000
    a, w = torch.full((T,), 0.5, dtype=torch.float64), torch.ones(T, 1, dtype=torch.float64)
    with pytest.warns(UserWarning, match="does not reach the prior"):
        mmcore.compose(parts[:1], schedule=Schedule.from_steps(a, w), backbone_options=TINY, registry=registry)


def test_twelve_modalities_and_fifteen_tasks(registry: Registry, tmp_path: Path) -> None:
    """Composes, trains, saves, loads and samples: repeated plugins, a task without an encoder, two on one target."""
    m = registry.modality
    modalities = [
        m("image", channels=1, size=8),
        m("image", name="depth", channels=1, size=4),
        m("image", name="wide", channels=2, size=(8, 16)),
        m("mask", size=8),
        m("mask", name="parts", size=8, classes=4, void=255),
        m("label", classes=10),
        m("label", name="style", classes=3),
        m("label", name="tags", classes=5, multi=True),
        m("clip", width=8),
        m("clip", name="words", width=6, unit_norm=False),
        m("clip", name="sound", width=5),
        m("label", name="camera", classes=4),
    ]
    names = [x.name for x in modalities]
    edges = m("mask", name="edges", size=8)
    tasks = [Task(name, name) for name in names if name != "camera"]
    tasks += [Task("image again", "image", weight=0.5), Task("edges", edges), Task("edges again", edges)]
    tasks += [Task("label again", "label")]
    assert (len(modalities), len(tasks)) == (12, 15)
    model = mmcore.compose(modalities, tasks, backbone_options=TINY, registry=registry)
    count = 12
    values = {x.name: x.typical(count, i) for i, x in enumerate(model.variables)}
    present = Rng.for_rows(0, count).uniform(len(model.variables)) < 0.7
    present[:, 0] = True
    from mmcore.data import TensorBatch

    table = Table(TensorBatch(values, present))
    state = mmcore.fit(model, table, steps=3, batch_size=6, quiet=True, device="cpu", out=tmp_path / "run")
    assert state.step == 3
    loaded = mmcore.load(tmp_path / "run" / "model", registry=registry)
    given = {"camera": torch.tensor([0, 1, 2]), "tags": values["tags"][:3]}
    first, second = (mmcore.sample(x, 3, given=given, absent=["style"], steps=3) for x in (model, loaded))
    assert set(first) == {*names, "edges"} - {"style"}
    for name in first:
        assert torch.equal(first[name], second[name]), name
        if name not in given:
            model.variable(name).spec.check(first[name], name)
    without = mmcore.sample(model, 3, steps=2)
    assert "camera" not in without
    with pytest.raises(RequestError, match="'edges' is given, but it has no encoding"):
        mmcore.sample(model, 3, given={"edges": values["edges"][:3]})


def test_saving_keeps_custom_tables(parts: list[Modality], registry: Registry, tmp_path: Path) -> None:
    table = mmcore.process.schedule.paper(50, 2)
    custom = Schedule.from_cumulative(table.log_A, table.W, eta=0.0)
    model = mmcore.compose(parts[2:], schedule=custom, backbone_options=TINY, registry=registry)
    loaded = mmcore.load(mmcore.save(model, tmp_path / "a"), registry=registry)
    assert torch.equal(loaded.process.schedule.log_A, custom.log_A)
    assert torch.equal(loaded.process.schedule.W, custom.W)
    assert loaded.process.schedule.eta == 0.0


def test_damaged_model_folders_are_refused(model: JointModel, registry: Registry, tmp_path: Path) -> None:
    folder = mmcore.save(model, tmp_path / "m")
    assert {p.name for p in folder.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    config = (folder / "config.json").read_text()
    for text, match in (
        ("{", "config.json cannot be read"),
        ("[]", "config.json: found list, expected a JSON object"),
        (
            config.replace('"format": 4', '"format": 9'),
            "has format 9, expected 1 … 4; it is of a later mmcore: pip inst",
        ),
        (config.replace('"format": 4', '"format": "x"'), "has format 'x', expected 1 … 4$"),
        (
            config.replace('"offer": "image"', '"offer": "imago"'),
            "no modality 'mmcore-image:imago' is installed.* mmcore-image 0.1.0",
        ),
        (config.replace('"width": 16', '"width": 32'), "does not fit its configuration: .*: float32"),
        (config.replace('"space"', '"spice"'), "lacks or misstates 'space'"),
    ):
        (folder / "config.json").write_text(text)
        with pytest.raises(RequestError, match=match):
            mmcore.load(folder, registry=registry)
    (folder / "config.json").write_text(config)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(RequestError, match="cannot be read"):
        mmcore.load(folder, registry=registry)
    with pytest.raises(RequestError, match="cannot be read"):
        mmcore.load(tmp_path / "nowhere", registry=registry)


@pytest.mark.parametrize("backbone", ["mlp", "transformer"])
def test_a_network_answers_alike_whether_or_not_gradients_are_recorded(
    parts: list[Modality], registry: Registry, backbone: str
) -> None:
    """Where they are not, some of it is worked out in place: never in what it was given."""
    options = {"width": 16, "depth": 2}
    model = mmcore.compose(parts, space=(4, 8, 8), backbone=backbone, backbone_options=options, registry=registry)
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p += 0.2 * Rng.for_rows(i, 1).normal(*p.shape)[0]
    rows, steps = 3, model.process.steps
    roles = torch.tensor([[0, 0, 0, 0], [0, 1, 0, 2], [1, 1, 1, 0]])
    drive = model.drive(torch.tensor([1, steps // 2, steps]), roles)
    placed = model.frame.place(model.encode(typical(model, rows)))
    z = model.read(model.noisy(placed, drive, torch.randn(rows, 4, 8, 8)), drive)
    asked = (z, drive.t, drive.timesteps, roles, model.condition(placed, drive))
    parts = [x for x in (*attrs.astuple(z, recurse=False), *asked[1:]) if x is not None]
    before = [x.clone() for x in parts]
    recorded = model.predict(*asked)
    with torch.no_grad():
        plain = model.predict(*asked)
    with torch.inference_mode():
        inferred = model.predict(*asked)
    for name, x in recorded.items():
        assert x.requires_grad
        assert torch.equal(x, plain[name])
        assert torch.equal(x, inferred[name])
    assert all(torch.equal(x, y) for x, y in zip(parts, before, strict=True))
    sum(x.sum() for x in recorded.values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None for p in model.backbone.parameters())

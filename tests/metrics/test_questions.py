"""The report: which figures fit, over which rows, of what."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

import mmcore
from mmcore import JointModel, PluginError, Registry, RequestError, Rng, Task
from mmcore.data import Table, TensorBatch
from mmcore.metrics import (
    SqueezeNet,
    accuracy,
    average,
    calibration_error,
    class_probabilities,
    cosine,
    extract,
    frechet,
    kernel,
    lpips,
    mean_iou,
    precision,
    recall,
    report,
    retrieval,
)
from mmcore.model.roles import Role

from .test_squeezenet import random_weights

SMALL: dict[str, Any] = {"backbone": "mlp", "backbone_options": {"width": 16, "depth": 1}, "space": (5, 8, 8)}


def modalities(registry: Registry) -> dict[str, Any]:
    return {
        "image": registry.modality("image", channels=1, size=8),
        "mask": registry.modality("mask", size=8, classes=3, void=255),
        "label": registry.modality("label", classes=4),
        "embedding": registry.modality("clip", name="embedding", width=6),
    }


@pytest.fixture(scope="module")
def model(registry: Registry) -> JointModel:
    torch.manual_seed(0)
    made = mmcore.compose(list(modalities(registry).values()), registry=registry, **SMALL)
    # The heads start at zero; moved, every answer depends on what is given.
    for k, p in enumerate(made.parameters()):
        p.data += 0.1 * Rng.for_rows(k, p.numel()).normal()[:, None].reshape(p.shape)
    return made


@pytest.fixture(scope="module")
def table(model: JointModel) -> Table:
    """Twenty rows; some lack something."""
    rows: list[dict[str, Any]] = []
    typical = {m.name: m.typical(20, 3) for m in model.variables}
    for i in range(20):
        row = {name: x[i] for name, x in typical.items()}
        row["image"] = (row["image"] + 1) / 2
        row["label"] = int(row["label"])
        row["mask"] = row["mask"].clone()
        row["mask"][0, : i % 5] = 255
        rows.append(row)
    for i in (0, 7):
        rows[i]["label"] = None
    rows[3]["image"] = None
    return Table.read(rows, model.variables)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_file(random_weights(), file)
    return file


def rows(table: Table, *names: str) -> Tensor:
    columns = ["image", "mask", "label", "embedding"]
    return table.rows.present[:, [columns.index(n) for n in names]].all(1)


def test_every_figure_is_its_own_function_of_the_rows_that_take_part(
    model: JointModel, table: Table, weights: Path
) -> None:
    found = report(
        model, table, ["image->label", "label->image", "label->mask", "label->embedding"], weights=weights, steps=3, seed=5,
        resamples=20,
    )  # fmt: skip
    v = table.rows.values
    options: dict[str, Any] = {"seed": 5, "resamples": 20}

    given = rows(table, "image")
    answer = mmcore.sample(model, 19, given={"image": v["image"][given]}, steps=3, seed=5)
    known = rows(table, "label")[given]
    truth = v["label"][given][known]
    assert len(truth) == 17
    p = class_probabilities(model, {"image": v["image"][given]}, "label", seed=5)[known]
    same(
        {k: f for k, f in found.items() if k.startswith("image->label ")},
        {
            "image->label label.accuracy": accuracy(answer["label"][known], truth, **options),
            "image->label label.classifier_accuracy": accuracy(p.argmax(1), truth, **options),
            "image->label label.calibration_error": calibration_error(p, truth, **options),
            "image->label label.log_score": average(-p[torch.arange(17), truth].log(), **options),
        },
    )

    given = rows(table, "label")
    answer = mmcore.sample(model, 18, given={"label": v["label"][given]}, steps=3, seed=5)
    known = rows(table, "image")[given]
    made, real = answer["image"][known], v["image"][given][known]
    network = SqueezeNet.load(weights)
    a, b = (extract(network, x) for x in (made, real))
    same(
        {k: f for k, f in found.items() if k.startswith("label->image ")},
        {
            "label->image image.mse": average((made - real).square().flatten(1).mean(1), **options),
            "label->image image.lpips": lpips(made, real, network, **options),
            "label->image image.frechet": frechet(a, b, **options),
            "label->image image.kernel": kernel(a, b, **options),
            "label->image image.precision": precision(a, b, **options),
            "label->image image.recall": recall(a, b, **options),
        },
    )
    assert found["label->image image.lpips"].n == 17

    mask = v["mask"][given]
    assert found["label->mask mask.mean_iou"] == mean_iou(answer["mask"], mask, 3, void=255, **options)
    assert {k for k in found if k.startswith("label->mask ")} == {
        f"label->mask mask.{name}" for name in ("iou", "pixel_accuracy", "mean_iou")
    }
    made, real = answer["embedding"], v["embedding"][given]
    same(
        {k: f for k, f in found.items() if k.startswith("label->embedding ")},
        {
            "label->embedding embedding.cosine": own_cosine(made, real, options),
            "label->embedding embedding.top1": retrieval(made, real, top=1, **options),
            "label->embedding embedding.top5": retrieval(made, real, top=5, **options),
        },
    )


def same(found: dict[str, Any], want: dict[str, Any]) -> None:
    assert found.keys() == want.keys()
    for name, figure in want.items():
        # Pixels come through the spec's range, which rounds.
        assert found[name].json() == pytest.approx(figure.json(), rel=1e-5, abs=1e-9), name


def own_cosine(made: Tensor, real: Tensor, options: dict[str, Any]) -> Any:
    """The modality's own figure comes first; in float32 it is the core's to rounding."""
    figure = average(F.cosine_similarity(made, real, dim=1), **options)
    assert figure.value == pytest.approx(cosine(made, real).value, abs=1e-6)
    return figure


def test_perfect_answers_have_perfect_figures(
    model: JointModel, table: Table, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the sampler returns the truth."""
    from mmcore.metrics import questions as module

    def truth(model: JointModel, n: int, *, given: dict[str, Tensor], **how: Any) -> dict[str, Tensor]:
        has = rows(table, *given)
        assert n == has.sum()
        return {name: x[has] for name, x in table.rows.values.items()}

    monkeypatch.setattr(module, "sample", truth)
    monkeypatch.setattr(
        module, "class_probabilities", lambda model, given, name, **how: F.one_hot(table.rows.values["label"], 4).double()[rows(table, *given)]
    )  # fmt: skip
    found = report(model, table, ["mask->label", "label->mask,image,embedding"], weights=weights, resamples=5)
    perfect = {
        "accuracy": 1,
        "classifier_accuracy": 1,
        "calibration_error": 0,
        "log_score": 0,
        "iou": 1,
        "mean_iou": 1,
        "cosine": 1,
        "top1": 1,
        "top5": 1,
        "mse": 0,
        "lpips": 0,
        "frechet": 0,
        "precision": 1,
        "recall": 1,
    }
    seen = {name.rpartition(".")[2]: figure.value for name, figure in found.items()}
    assert {name: seen[name] for name in perfect} == pytest.approx(perfect, abs=1e-5)
    # Void pixels of the truth are no class; what the modality counts there is its own.
    assert seen.keys() - perfect.keys() == {"kernel", "pixel_accuracy"}


def test_nothing_of_the_truth_reaches_the_answer(model: JointModel, table: Table) -> None:
    """With every label the same, 0, 1, 2 or 3, the accuracies are the shares of answers 0, 1, 2 and 3: they sum to 1."""
    shares = []
    for k in range(4):
        values = {**table.rows.values, "label": torch.full_like(table.rows.values["label"], k)}
        found = report(model, Table(TensorBatch(values, table.rows.present)), ["image->label"], steps=2, resamples=5)
        shares.append([found[f"image->label label.{name}"].value for name in ("accuracy", "classifier_accuracy")])
        assert found["image->label label.accuracy"].n == 17
    assert torch.tensor(shares).double().sum(0).tolist() == pytest.approx([1, 1], abs=1e-6)
    assert (torch.tensor(shares) > 0).sum() > 2


def test_class_probabilities_are_the_heads_at_the_end_of_time(model: JointModel, table: Table) -> None:
    """Softmax of the label's logits from pure noise; what stands in for the truth enters nowhere."""
    image = table.rows.values["image"]
    found = class_probabilities(model, {"image": image}, "label", seed=2)
    torch.testing.assert_close(found.sum(1), torch.ones(20, dtype=torch.float64))
    assert found.std(0).min() > 1e-6
    roles = torch.full((20, 4), int(Role.GENERATE))
    roles[:, 0] = Role.OBSERVE
    noise = Rng.for_rows(2, 20).of("probabilities").normal(5, 8, 8)
    batch = {m.name: m.typical(20, 9) for m in model.variables} | {"image": image}
    with torch.no_grad():
        drive = model.drive(torch.full((20,), 1000), roles)
        condition = model.condition(model.frame.place(model.encode(batch)), drive)
        predictions = model.predict(model.read(noise, drive), drive.t, drive.timesteps, roles, condition)
    torch.testing.assert_close(found, predictions["label"].double().softmax(1), rtol=1e-5, atol=1e-6)
    parts = class_probabilities(model, {"image": image}, "label", seed=2, batch_size=7)
    torch.testing.assert_close(parts, found, rtol=1e-4, atol=1e-6)


def test_class_probabilities_with_a_block_for_each(registry: Registry, table: Table) -> None:
    """An observed block holds its clean code, as it does when sampling; changed images change the answer."""
    torch.manual_seed(0)
    parts = modalities(registry)
    two = mmcore.compose(
        [parts["image"], parts["label"]], registry=registry, layout="separate", **{**SMALL, "space": None}
    )
    for k, p in enumerate(two.parameters()):
        p.data += 0.1 * Rng.for_rows(k, p.numel()).normal()[:, None].reshape(p.shape)
    image = table.rows.values["image"]
    a, b = (class_probabilities(two, {"image": x}, "label") for x in (image, image.flip(0)))
    assert (a - b).abs().max() > 1e-4
    torch.testing.assert_close(a[0].sum(), torch.tensor(1.0, dtype=torch.float64))


def test_the_default_asks_each_from_all_others_and_jointly_where_it_can_be_judged(
    model: JointModel, table: Table
) -> None:
    plain = report(model, table, steps=2, resamples=5)
    questions = {name.split()[0] for name in plain}
    assert questions == {
        "mask,label,embedding->image",
        "image,label,embedding->mask",
        "image,mask,embedding->label",
        "image,mask,label->embedding",
    }
    judged = report(model, table, steps=2, resamples=5, features={"embedding": lambda x: x})
    joint = {name: figure for name, figure in judged.items() if name.startswith("joint ")}
    assert joint.keys() == {f"joint embedding.{name}" for name in ("frechet", "kernel", "precision", "recall")}
    made = mmcore.sample(model, 20, steps=2)["embedding"]
    real = table.rows.values["embedding"]
    assert joint["joint embedding.frechet"] == frechet(made, real, resamples=5)
    assert judged.keys() > plain.keys()


def test_a_task_of_its_own_has_no_class_probabilities(registry: Registry, table: Table) -> None:
    parts = modalities(registry)
    plain = parts["label"].loss()
    tasks = [
        Task("image", "image"),
        Task("label", "label", loss=lambda params, target, where=None: 2 * plain(params, target, where)),
    ]
    other = mmcore.compose([parts["image"], parts["label"]], tasks, registry=registry, **SMALL)
    cut = Table(TensorBatch({k: table.rows.values[k] for k in ("image", "label")}, table.rows.present[:, [0, 2]]))
    found = report(other, cut, ["image->label"], steps=2, resamples=5)
    assert found.keys() == {"image->label label.accuracy"}


@pytest.mark.parametrize(
    ("question", "match"),
    [
        ("imge->label", "question 'imge->label': no variable 'imge', expected one of image, mask, label, embedding"),
        ("image", "question 'image', expected 'joint' or what is given and what is asked"),
        ("->label", "question '->label', expected 'joint'"),
        ("image,label->label", "question 'image,label->label': label both given and asked"),
        ("joint", "question 'joint': no figure fits .* give weights or features to measure by"),
    ],
)
def test_wrong_questions_are_named(question: str, match: str, model: JointModel, table: Table) -> None:
    with pytest.raises(RequestError, match=match):
        report(model, table, [question], steps=1, resamples=2)


def test_a_single_modality_is_asked_jointly_or_not_at_all(registry: Registry, table: Table) -> None:
    alone = mmcore.compose([modalities(registry)["image"]], registry=registry, **SMALL)
    rows = Table(TensorBatch({"image": table.rows.values["image"]}, table.rows.present[:, :1]))
    with pytest.raises(RequestError, match="nothing to ask; give questions, or weights or features"):
        report(alone, rows)
    found = report(alone, rows, features={"image": lambda x: x}, steps=1, resamples=2)
    assert found == report(alone, rows, "joint", features={"image": lambda x: x}, steps=1, resamples=2)
    assert found["joint image.frechet"].n == 20
    # A row without the image is no real one to compare with.
    assert found["joint image.recall"].n == 19


def test_rows_extractors_and_metrics_that_do_not_fit_are_named(
    model: JointModel, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RequestError, match="no variable 'sound' in the model"):
        report(model, table, ["image->label"], features={"sound": lambda x: x})
    with pytest.raises(RequestError, match="weights nowhere: there is no such file"):
        report(model, table, ["image->label"], weights="nowhere")
    none = table.rows.present.clone()
    none[:, 2] = False
    bare = Table(TensorBatch(table.rows.values, none))
    with pytest.raises(RequestError, match="no row has label, expected one at least"):
        report(model, bare, ["label->image"], steps=1)
    with pytest.raises(RequestError, match="no row has image and label, expected one at least"):
        report(model, bare, ["image->label"], steps=1)
    few = table.__getitems__([1, 2])
    with pytest.raises(RequestError, match="2 samples of 'embedding' to compare as sets, expected more than 3"):
        report(model, Table(few), ["image->embedding"], steps=1, features={"embedding": lambda x: x})
    label = model.variable("label")
    monkeypatch.setattr(label, "metrics", lambda: {"odd": lambda prediction, target: torch.ones(())})
    with pytest.raises(PluginError, match=r"modality 'label': its metric 'odd' gave \(\), expected one figure"):
        report(model, table, ["image->label"], steps=1, resamples=2)
    for name, given in (
        ("image", {"label": torch.tensor([1])}),
        ("label", {}),
        ("label", {"label": torch.tensor([1])}),
    ):
        with pytest.raises(RequestError, match=rf"probabilities of '{name}' given .*expected a variable of classes"):
            class_probabilities(model, given, name)

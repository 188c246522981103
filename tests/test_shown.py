"""What a notebook shows of an object that a cell ends with: what it is, in a line or a small table that a person reads."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import mmcore
from mmcore import JointModel, Registry
from mmcore.data import Dataset, Rows, Source, Stream, Table
from mmcore.metrics import calibration, report
from mmcore.runs.answers import Answer

ROWS = [{"image": torch.zeros(1, 8, 8).numpy(), "label": k % 10} for k in range(40)]


class Two(Stream):
    """A stream of two rows."""

    names = ("x", "y")
    title = "two.tar"

    def chunks(
        self, epoch: int, *, seed: int = 0, rank: int = 0, ranks: int = 1, state: Any = None
    ) -> Iterator[tuple[Sequence[dict[str, float]], Any]]:
        yield [{"x": 0.0, "y": 1.0}, {"x": 1.0, "y": 1.0}], None


class Hostile(Source):
    """Its columns have names that a terminal obeys, and its length is known to nobody yet."""

    names = ("\x1b[2Jx", "y\n")

    def __len__(self) -> int:
        raise OSError("the server is away")

    def __getitem__(self, index: int) -> dict[str, int]:
        return {}


@pytest.fixture(scope="module")
def model(registry: Registry) -> JointModel:
    image = registry.modality("image", channels=1, size=8)
    label = registry.modality("label", classes=10)
    return mmcore.compose([image, label], backbone="mlp", backbone_options={"width": 16, "depth": 1}, registry=registry)


def test_rows(model: JointModel) -> None:
    dataset = Dataset(ROWS, model.variables)
    assert repr(Rows(ROWS)) == "<Rows: 40 rows>"
    assert repr(Rows([(1, 2)], names=("a", "b"))) == "<Rows: 1 row of a, b>"
    assert repr(dataset) == "<Dataset: 40 rows of image, label>"
    assert repr(Table.read(dataset)) == "<Table: 40 rows of image, label>"
    assert repr(Two()) == "<Two: two.tar, a stream of x, y>"


def test_digits(registry: Registry) -> None:
    digits = registry.source("digits", part="test")
    assert repr(digits) == f"<Digits: {len(digits)} rows of image, mask, label, embedding>"


def test_many_columns_are_counted() -> None:
    row = {f"c{k}": k for k in range(300)}
    rows = Rows([tuple(row.values())], names=tuple(row))
    assert repr(rows) == "<Rows: 1 row of c0, c1, c2, c3, c4, c5, c6, c7 and 292 more>"


def test_a_source_that_fails_is_shown_and_moves_no_cursor() -> None:
    shown = repr(Hostile())
    assert shown.isprintable()
    assert shown.startswith("<Hostile: rows of ")


class Away(Stream):
    """Neither its names nor its title can be told."""

    @property
    def names(self) -> Any:
        raise OSError("the server is away")

    def chunks(self, *_: Any, **__: Any) -> Any:
        return iter(())


def test_a_stream_whose_names_fail_is_shown_by_its_class() -> None:
    assert repr(Away()) == "<Away>"


def test_names_that_a_terminal_obeys_are_escaped() -> None:
    one = mmcore.Schedule.from_cumulative(*_tables(), name="\x1b[2J\n" + "x" * 500)
    assert repr(one).isprintable()
    assert len(repr(one)) < 200
    answer = Answer("\x1b[2J" + "y" * 500, None, None, None, None, False, torch.zeros(3), 0.5)
    assert repr(answer).isprintable()
    assert len(repr(answer)) < 200


def _tables() -> tuple[torch.Tensor, torch.Tensor]:
    log_A = -torch.arange(5, dtype=torch.float64)
    return log_A, torch.ones(5, 1, dtype=torch.float64)


def test_the_registry_names_what_there_is(registry: Registry) -> None:
    shown = repr(registry)
    assert shown.startswith("<Registry: ")
    assert "mlp, transformer" in shown
    assert "label" in shown
    registry = Registry([])
    registry.register("sampler", "mine", mmcore.sampling.Ddim)
    assert repr(registry) == "<Registry: sampler mine>"
    assert repr(Registry([])) == "<Registry: nothing>"


def test_what_fit_returns(model: JointModel, tmp_path: Path) -> None:
    state = mmcore.fit(model, ROWS, steps=2, batch_size=4, device="cpu", quiet=True, out=tmp_path / "run")
    assert repr(state) == "<TrainState: step 2 of 2, of image, label>"


def test_what_is_asked_of_a_run(model: JointModel, registry: Registry, tmp_path: Path) -> None:
    mmcore.fit(model, ROWS, steps=2, batch_size=4, device="cpu", quiet=True, out=tmp_path / "run")
    reader = mmcore.Reader.open(tmp_path / "run", registry=registry, device="cpu")
    assert repr(reader) == f"<Reader: {tmp_path / 'run' / 'model'}, a model of image, label>"
    assert repr(mmcore.predict(reader, ROWS[:3])) == "<Predictions: 3 rows of image, label>"
    grown = mmcore.extend(model, [registry.modality("label", name="second", classes=3)], registry=registry)
    assert repr(grown.grown) == f"<Grown: {grown.grown.line()}>"


def test_the_bound_prints_its_table(model: JointModel) -> None:
    found = mmcore.evaluate(model, ROWS, draws=2)
    assert str(found) == found.table()
    assert f"{found.all.bits_per_dimension.nats:.4f}" in str(found)


def test_calibration_prints_a_figure_a_line_and_its_notes(model: JointModel) -> None:
    found = calibration(model, ROWS, "image->label", draws=3, rows=10, steps=2, resamples=20)
    assert repr(found) == f"<Calibrated: {len(found.figures)} figures of 3 draws>"
    lines = str(found).splitlines()
    assert lines[: len(found.figures)] == [f"{name}  {figure}" for name, figure in found.figures.items()]
    assert lines[len(found.figures) :] == list(found.notes)


def test_metrics_take_rows_as_the_bound_does(model: JointModel) -> None:
    """The same figures of raw rows, a data set and a table."""
    table = Table.read(ROWS, model.variables)
    for measure, options in ((report, {}), (calibration, {"draws": 3, "rows": 10})):
        told = [
            measure(model, rows, "image->label", steps=2, resamples=20, **options)
            for rows in (table, ROWS, Dataset(ROWS, model.variables), Rows(ROWS))
        ]
        assert all(str(other) == str(told[0]) for other in told), measure


def test_answers_are_told_in_a_line(model: JointModel, registry: Registry) -> None:
    def first(model: JointModel, row: dict[str, Any], **how: Any) -> Any:
        return next(iter(mmcore.predict(model, [row], steps=2, registry=registry, **how)))

    row = first(model, {"label": 3})
    assert repr(row) == "<Prediction: 0, given label; image = a picture of 8 × 8>"
    assert repr(row.answers["image"]) == "<Answer: a picture of 8 × 8, of 16 draws>"
    label = first(model, {"image": ROWS[0]["image"]}, draws=1).answers["label"]
    assert repr(label) == f"<Answer: {label.value}, of 1 draw>"
    sure = first(model, {"image": ROWS[0]["image"]}).answers["label"]
    assert repr(sure) == f"<Answer: {sure.value} (agreement {sure.agreement:.2f}), of 16 draws>"
    parts = [registry.modality("scalar", name="age"), registry.modality("label", classes=2)]
    age = first(mmcore.compose(parts, backbone="mlp", registry=registry), {"label": 1}).answers["age"]
    assert repr(age) == f"<Answer: {age.value} ({age.low:.4g} … {age.high:.4g}), of 16 draws>"
    bad = next(iter(mmcore.predict(model, [{"label": 77}], on_bad_row="skip", registry=registry)))
    assert repr(bad) == f"<Prediction: 0, {bad.bad}>"


def test_what_one_trains_and_measures_with(model: JointModel) -> None:
    found = mmcore.evaluate(model, ROWS, draws=2)
    bits = found.all.bits_per_dimension
    assert repr(found) == f"<Bound: {bits.nats:.4f} ± {bits.error:.4f} bits per dimension, 40 rows of image, label>"
    told: list[str] = []
    mmcore.fit(
        model,
        ROWS,
        steps=1,
        batch_size=4,
        device="cpu",
        quiet=True,
        watch=[lambda _, report: told.append(repr(report))],
    )
    assert told[0].startswith("<StepReport: 4 rows, mean loss by task ")
    assert len(told[0]) < 100
    assert repr(Table.read(ROWS, model.variables).rows) == "<TensorBatch: image (40, 1, 8, 8), label (40,)>"
    assert repr(model.process.schedule) == "<Schedule: cosine, 1,000 steps, 2 modalities, eta 1>"

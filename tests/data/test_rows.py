"""Rows as other libraries have them: each kind works, or one line says what to pass."""

import itertools
from collections import OrderedDict, namedtuple
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils import data

import mmcore
from mmcore import Registry, RequestError
from mmcore.data import Rows, Table

LABELS = [0, 2, 1, 1, 0]


class Dicts(data.Dataset[Any]):
    """Rows as mappings."""

    def __len__(self) -> int:
        return len(LABELS)

    def __getitem__(self, index: int) -> Any:
        return {"label": LABELS[index], "image": torch.full((1, 2, 2), index / 10)}


class Tuples(Dicts):
    """Rows as tuples, as torchvision has them."""

    def __getitem__(self, index: int) -> Any:
        return super().__getitem__(index)["image"], LABELS[index]


class Stream(data.IterableDataset[Any]):
    """Rows without an end, of which it counts how many were taken."""

    taken = 0

    def __iter__(self) -> Iterator[Any]:
        for k in itertools.count():
            self.taken += 1
            yield {"label": LABELS[k % 5]}


Pair = namedtuple("Pair", ["label", "name"])


@pytest.fixture(scope="module")
def variables(registry: Registry) -> list[Any]:
    return [registry.modality("label", classes=3)]


def labels(rows: Any, variables: Any) -> list[int]:
    return Table.read(rows, variables).rows.values["label"].tolist()


@pytest.mark.parametrize(
    "rows",
    [
        Dicts(),
        data.Subset(Dicts(), range(5)),
        data.ConcatDataset([data.Subset(Dicts(), [0, 1]), data.Subset(Dicts(), [2, 3, 4])]),
        [OrderedDict(label=k) for k in LABELS],
        tuple({"label": np.int64(k)} for k in LABELS),
        {k: {"label": v} for k, v in enumerate(LABELS)}.values(),
        [Pair(k, "x") for k in LABELS],
        Rows(Tuples(), names=("image", "label")),
        Rows([[k, "x"] for k in LABELS], names=("label", "name")),
        Rows(({"label": k} for k in LABELS), limit=100),
        Rows(iter([(k,) for k in LABELS]), names=["label"], limit=5),
        Rows(Stream(), limit=5),
    ],
    ids=lambda rows: type(getattr(rows, "rows", rows)).__name__,
)
def test_rows_of_every_kind_have_their_values(rows: Any, variables: Any) -> None:
    assert labels(rows, variables) == LABELS


def test_rows_at_hand_are_trained_on_and_measured(registry: Registry, variables: Any) -> None:
    image = registry.modality("image", channels=1, size=2)
    model = mmcore.compose(
        [image, *variables], backbone="mlp", backbone_options={"width": 8, "depth": 1}, registry=registry
    )
    rows = Dicts()
    options: dict[str, Any] = {"steps": 1, "batch_size": 2, "device": "cpu", "quiet": True}
    state = mmcore.fit(model, rows, validation=rows, **options)
    assert mmcore.evaluate(model, rows, draws=2).rows == len(rows)
    mmcore.specialise(model, rows, "image -> label", options=state.options, **options)
    assert (
        mmcore.metrics.report(model, rows, "image->label", steps=1, resamples=2)["image->label label.accuracy"].n == 5
    )


def test_both_values_of_tuples_are_read(registry: Registry, variables: Any) -> None:
    both = [registry.modality("image", channels=1, size=2), *variables]
    values = Table.read(Rows(Tuples(), names=("image", "label")), both).rows.values
    assert torch.allclose(values["image"][:, 0, 0, 0], torch.arange(5) / 10 * 2 - 1)
    assert values["label"].tolist() == LABELS


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (Stream(), r"found a Stream, which has no length and may have no end, .*list\(rows\).*Rows\(rows, limit=1000\)"),
        (({"label": k} for k in LABELS), r"found a generator, which has no length and may have no end"),
        (itertools.cycle([{"label": 0}]), r"found a cycle, which has no length"),
        (data.DataLoader(Dicts(), batch_size=2), r"found a DataLoader, which gives batches, .*pass its dataset"),
        (Tuples(), r'row 0: found a tuple \(Tensor, int\), .*mmcore.data.Rows\(rows, names=\("image", "label"\)\)'),
        (Rows(Tuples(), names=("image", "label", "age")), r"row 0: found 2 values \(Tensor, int\), expected 3: image, label, age"),
        ({"label": LABELS}, r"found a dict, expected rows: .*of columns of equal length, \[dict\(zip\(rows, values\)\)"),
        (torch.tensor(LABELS), r"row 0: found a Tensor, expected a mapping"),
    ],
)  # fmt: skip
def test_what_gives_no_rows_says_in_one_line_what_to_pass(rows: Any, message: str, variables: Any) -> None:
    with pytest.raises(RequestError, match=message) as told:
        labels(rows, variables)
    assert "\n" not in str(told.value)


def test_an_endless_stream_is_not_read_to_be_refused(registry: Registry, variables: Any) -> None:
    stream = Stream()
    small = {"width": 4, "depth": 1, "features": 2}
    model = mmcore.compose(variables, backbone="mlp", backbone_options=small, registry=registry)
    with pytest.raises(RequestError, match="may have no end"):
        mmcore.fit(model, stream, steps=1, batch_size=2, device="cpu", quiet=True)
    assert stream.taken == 0
    assert len(Rows(stream, limit=7)) == 7
    assert stream.taken == 7


def test_frames_say_how_they_become_rows(variables: Any) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"label": LABELS})
    with pytest.raises(RequestError, match=r'found a DataFrame of pandas, expected rows: rows.to_dict\("records"\)'):
        labels(frame, variables)
    assert labels(frame.to_dict("records"), variables) == LABELS


def test_tables_and_data_sets_of_other_libraries(variables: Any) -> None:
    hub = pytest.importorskip("datasets")
    rows = hub.Dataset.from_dict({"label": LABELS})
    assert labels(rows, variables) == LABELS
    with pytest.raises(RequestError, match=r"found a DatasetDict of train, test, expected one of them, such as rows\['train'\]"):  # fmt: skip
        labels(hub.DatasetDict(train=rows, test=rows), variables)
    with pytest.raises(RequestError, match="found a IterableDataset, which has no length and may have no end"):
        labels(rows.to_iterable_dataset(), variables)
    assert labels(Rows(rows.to_iterable_dataset(), limit=10), variables) == LABELS
    with pytest.raises(RequestError, match=r"found a Table of pyarrow, expected rows: rows.to_pylist\(\)"):
        labels(rows.data.table, variables)

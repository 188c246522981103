"""Fill in what rows lack: every row is asked for what it does not have, given what it has."""

import csv
import hashlib
import io
import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from PIL import Image

from mmcore.data import Dataset
from mmcore.data.batch import TensorBatch
from mmcore.errors import RequestError, nearest
from mmcore.modality.base import ModalityProtocol
from mmcore.plugins import Registry
from mmcore.progress import Progress
from mmcore.runs import pictures
from mmcore.runs.answers import Answer, answer, enough
from mmcore.runs.reader import Reader
from mmcore.runs.rows import Columns
from mmcore.runs.run import replace_file
from mmcore.sampling.ask import sample
from mmcore.store.folder import alone

FORMAT = 1
TABLE, RECORD = "predictions.csv", "predictions.json"
TOGETHER = 512
"""Draws at once."""


def predict(
    run: str | Path | Reader,
    data: Any,
    *,
    draws: int = 16,
    interval: float = 0.8,
    again: Collection[str] = (),
    absent: Collection[str] = (),
    columns: Columns | None = None,
    on_bad_row: str = "stop",
    device: str = "auto",
    registry: Registry | None = None,
    **how: Any,
) -> "Predictions":
    """Fill in what rows lack, as ``mmcore predict`` does: masks of photographs that have none, the labels and numbers of empty cells.

    Each row is asked for all that it lacks, given all that it has; the answers of a row belong together, draw by draw. Iterate over the rows,
    or write them: ``mmcore.predict("runs/photos", "new/", draws=16).write("filled")``.

    Args:
        run: a run's folder, a model folder, or a reader of one.
        data: a path of data in any form that ``mmcore init`` reads, of a picture, or a pattern of pictures; ``"test"`` and its like for the
            run's own rows; or rows. They are read as the training data were, by the run's columns, missing values and transforms.
        draws: of every row. Of one draw there is neither interval nor agreement, and numbers are the mean that the model predicts.
        interval: the probability between the ends that are told of numbers, inside 0 … 1.
        again: variables to predict also in rows that have them, such as to see answers beside the truth.
        absent: modalities to leave out: not asked for, and not looked at.
        columns: where variables' values are, where these data name them otherwise than the run's.
        on_bad_row: ``"stop"`` at a row that cannot be read, or ``"skip"`` it.
        device: ``"auto"``, or one of torch's names.
        registry: where sources and plugins are found; by default a new :func:`mmcore.discover`.
        **how: of :func:`mmcore.sample`, such as ``steps``, ``sampler``, ``seed`` or ``guidance``; by default as the run's configuration says.

    Raises:
        RequestError: data that cannot be read, no such variable, or too few draws for the interval.
    """
    reader = run if isinstance(run, Reader) else Reader.open(run, registry=registry, device=device)
    names = [m.name for m in reader.model.variables]
    for option, asked in (("again", again), ("absent", absent)):
        for name in asked:
            if name not in names:
                raise RequestError(
                    f"predict: {option} {name!r}, expected one of {', '.join(names)}{nearest(name, names)}"
                )
    if not isinstance(draws, int) or isinstance(draws, bool) or draws < 1:
        raise RequestError(f"predict: draws = {draws!r}, expected a whole number of at least 1")
    if not 0 < interval < 1:
        raise RequestError(f"predict: interval = {interval!r}, expected a number inside 0 … 1")
    if 1 < draws < enough(interval):
        raise RequestError(
            f"predict: {draws} draws cannot tell an interval of {interval:.0%}, expected {enough(interval)} at least, or 1 for none"
        )
    source, said = reader.rows(data, columns)
    dataset = reader.dataset(source, on_bad_row=on_bad_row)
    told = data if isinstance(data, str | Path) else type(data).__name__
    how = {**reader.how, "draw": draws > 1, **how}
    return Predictions(reader, dataset, str(told), said, draws, interval, frozenset(again), frozenset(absent), how)


@attrs.frozen(eq=False)
class Prediction:
    """One row, filled in.

    Attributes:
        number: of the row.
        key: what names it, such as its files' stem.
        given: what it has, as the data write it; a file by its path.
        answers: what it lacked.
        bad: why it could not be read; empty where it could.
    """

    number: int
    key: str
    given: Mapping[str, Any]
    answers: Mapping[str, Answer]
    bad: str = ""


@attrs.frozen(eq=False)
class Predictions:
    """Rows that are filled in as they are iterated over, or written.

    Attributes:
        reader: of the model.
        rows: as the model sees them.
        data: what they are called.
        said: how they were read, a line each.
        draws: of every row.
        interval: the probability between the ends that are told of numbers.
        again: variables that are predicted in every row.
        absent: modalities that are left out.
        how: arguments of :func:`mmcore.sample`.
    """

    reader: Reader
    rows: Dataset
    data: str
    said: Sequence[str]
    draws: int
    interval: float
    again: frozenset[str]
    absent: frozenset[str]
    how: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Prediction]:
        return self.since(0)

    def since(self, first: int) -> Iterator[Prediction]:
        """The rows from one on; a row's answer does not depend on where they begin."""
        together = max(1, TOGETHER // self.draws)
        for at in range(first, len(self.rows), together):
            yield from self._some(range(at, min(len(self.rows), at + together)))

    def _some(self, numbers: range) -> Iterator[Prediction]:
        batch, traces = self.rows.traced(numbers)
        bad = {one.index: one.problem for one in batch.bad}
        variables = self.reader.model.variables
        present = batch.present.clone()
        for column, m in enumerate(variables):
            if m.name in self.again or m.name in self.absent:
                present[:, column] = False
        lacks = ~present & torch.tensor([m.name not in self.absent for m in variables])
        recovered = torch.tensor(
            [
                self.reader.model.heads.reads(m.name) and any(m is one for one in self.reader.model.modalities)
                for m in variables
            ]
        )
        asked = (lacks & recovered).any(1)
        asked &= torch.tensor([number not in bad for number in numbers])
        # Rows that lack nothing are not asked.
        chosen = asked.nonzero()[:, 0]
        places = dict(zip(chosen.tolist(), range(len(chosen)), strict=True))
        answers = self._answers(batch, present, chosen, numbers[0]) if places else {}
        for k, number in enumerate(numbers):
            found = {
                m.name: answer(m, answers[m.name][places[k]], traces[k], self.interval)
                for column, m in enumerate(variables)
                if k in places and lacks[k, column] and m.name in answers
            }
            given = {
                m.name: self._given(m, number, batch.values[m.name][k])
                for column, m in enumerate(variables)
                if batch.present[k, column] and m.name not in found
            }
            yield Prediction(number, self.rows.source.key(number), given, found, bad.get(number, ""))

    def _answers(
        self, batch: TensorBatch, present: torch.Tensor, chosen: torch.Tensor, first: int
    ) -> dict[str, torch.Tensor]:
        """Draws ``(rows, draws, *spec.shape)`` of the chosen rows, by name."""
        model = self.reader.model
        encoded = {m.name for m in model.modalities}
        given, where = {}, {}
        for column, m in enumerate(model.variables):
            here = present[chosen, column]
            if m.name not in encoded or not here.any():
                continue
            given[m.name] = batch.values[m.name][chosen].repeat_interleave(self.draws, 0)
            if not here.all():
                where[m.name] = here.repeat_interleave(self.draws)
        numbers = ((first + chosen)[:, None] * self.draws + torch.arange(self.draws)).flatten()
        drawn = sample(
            model,
            len(numbers),
            given=given,
            where=where,
            absent=sorted(self.absent),
            numbers=numbers.tolist(),
            registry=self.reader.registry,
            **self.how,
        )
        return {name: x.unflatten(0, (len(chosen), self.draws)) for name, x in drawn.items()}

    def _given(self, m: ModalityProtocol, number: int, x: torch.Tensor) -> Any:
        raw = self.rows.source[number].get(m.name)
        return raw if isinstance(raw, Path) else m.raw(x)

    # ---- writing ----

    def write(self, folder: str | Path, *, force: bool = False, quiet: bool = False) -> "Written":
        """Write all rows: a table with a line for each, and below it pictures as PNG and arrays as NPY.

        It goes on where it was stopped; what it has then written is what it would have written in one go.

        Args:
            folder: where to; made if need be.
            force: remove the predictions that are there.
            quiet: show no progress.

        Raises:
            RequestError: there are predictions of another question, or the folder cannot be written.
        """
        folder = Path(folder)
        question = self._question()
        with alone(folder, "predict", "predicts"):
            done = _begun(folder, question, force=force)
            columns = _Columns([m for m in self.reader.model.variables if m.name not in self.absent], self.draws)
            filled: Counter[str] = Counter(done["filled"])
            table = folder / TABLE
            with (
                table.open("r+b" if table.exists() else "w+b") as file,
                Progress("predicting", len(self), quiet=quiet) as bar,
            ):
                # A line that was being written when it was stopped is written anew.
                file.truncate(done["bytes"])
                file.seek(done["bytes"])
                if not done["bytes"]:
                    file.write(_line(columns.header))
                at = done["done"]
                bad = list(done["bad"])
                for row in self.since(at):
                    file.write(_line(columns.line(row, folder)))
                    filled.update(list(row.answers))
                    bad += [row.bad] if row.bad else []
                    at += 1
                    if at % max(1, TOGETHER // self.draws) == 0 or at == len(self):
                        file.flush()
                        os.fsync(file.fileno())
                        told = {"done": at, "bytes": file.tell(), "filled": dict(filled), "bad": bad}
                        _keep(folder, question, told)
                        bar.update(at)
        return Written(folder, len(self), dict(filled), tuple(bad), tuple(columns.folders))

    def _question(self) -> dict[str, Any]:
        """What decides the answers, as plain values."""
        weights = hashlib.sha256()
        for path in sorted(self.reader.folder.glob("*.safetensors")):
            with path.open("rb") as file:
                weights.update(hashlib.file_digest(file, "sha256").digest())
        keys = hashlib.sha256()
        for number in range(len(self)):
            keys.update(self.rows.source.key(number).encode("utf-8", "surrogatepass") + b"\0")
        asked = {
            "model": weights.hexdigest(),
            "data": self.data,
            "rows": len(self),
            "keys": keys.hexdigest(),
            "draws": self.draws,
            "interval": self.interval,
            "again": sorted(self.again),
            "absent": sorted(self.absent),
            "how": {
                name: x if isinstance(x, str | int | float | bool | dict | None) else repr(x)
                for name, x in self.how.items()
            },
        }
        return json.loads(json.dumps(asked))


@attrs.frozen
class Written:
    """What was written.

    Attributes:
        folder: where.
        rows: how many.
        filled: in how many of them each variable was filled in.
        bad: rows that could not be read, and why.
        folders: of the files, by variable.
    """

    folder: Path
    rows: int
    filled: dict[str, int]
    bad: tuple[str, ...]
    folders: tuple[str, ...]


def _begun(folder: Path, question: Mapping[str, Any], *, force: bool) -> dict[str, Any]:
    """How far the same predictions have come."""
    nothing: dict[str, Any] = {"done": 0, "bytes": 0, "filled": {}, "bad": []}
    record, table = folder / RECORD, folder / TABLE
    if force or not (record.exists() or table.exists()):
        # The record first: by it the table has no line that counts, whatever lies there.
        _keep(folder, question, nothing)
        return nothing
    try:
        found = json.loads(record.read_text())
        before, done = found["question"], {key: found[key] for key in nothing}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(
            f"predict: {folder} holds a {TABLE} and no record of what was asked ({error}); name another folder, or replace it by --force"
        ) from error
    if found.get("format") != FORMAT or before != question:
        other = [key for key in question if before.get(key) != question[key]] if isinstance(before, dict) else []
        told = "; ".join(
            f"{key} was {before.get(key)!r}, now {question[key]!r}" for key in other[:3] if key not in ("keys", "model")
        )
        named = {"keys": "other rows", "model": "another model"}
        what = (
            "; ".join(filter(None, [told, *(words for key, words in named.items() if key in other)]))
            or "another format"
        )
        raise RequestError(
            f"predict: {folder} holds predictions of another question ({what}); name another folder, or replace them by --force"
        )
    if table.stat().st_size < done["bytes"]:
        raise RequestError(f"predict: {table} is shorter than when it was left; replace it by --force")
    return done


def _keep(folder: Path, question: Mapping[str, Any], told: Mapping[str, Any]) -> None:
    written = json.dumps({"format": FORMAT, "question": question, **told}, indent=2) + "\n"
    replace_file(folder / RECORD, written.encode())


class _Columns:
    """The columns of the table: a variable's value, and how sure it is."""

    def __init__(self, variables: Sequence[ModalityProtocol], draws: int) -> None:
        self.variables, self.folders = variables, {}
        self.header = ["key", "predicted"]
        self.places: dict[str, dict[str, str]] = {}
        for m in variables:
            raw = m.raw(m.typical(1, 0)[0])
            file = isinstance(raw, Image.Image) or np.ndim(raw) > 1 or isinstance(raw, np.ndarray)
            if file:
                self.folders[m.name] = file_name(m.name)
            ends = () if file or draws == 1 else ("low", "high") if m.spec.dtype.is_floating_point else ("probability",)
            self.places[m.name] = {end: self._new(f"{m.name}_{end}" if end else m.name) for end in ("", *ends)}

    def _new(self, name: str) -> str:
        while name in self.header:
            name += "_"
        self.header.append(name)
        return name

    def line(self, row: Prediction, folder: Path) -> list[str]:
        """A row's cells; its files are written."""
        cells = {"key": row.key, "predicted": " ".join(row.answers)}
        for m in self.variables:
            places = self.places[m.name]
            found = row.answers.get(m.name)
            if found is None:
                given = row.given.get(m.name)
                cells[places[""]] = str(given.absolute()) if isinstance(given, Path) else _cell(given)
            elif m.name in self.folders:
                cells[places[""]] = self._files(m.name, row.key, found, folder)
            else:
                told = {"": found.value, "low": found.low, "high": found.high, "probability": found.agreement}
                cells |= {place: _cell(told[end]) for end, place in places.items()}
        return [cells.get(name, "") for name in self.header]

    def _files(self, name: str, key: str, found: Answer, folder: Path) -> str:
        """Write a picture or an array, and beside it how far its draws agree; the path of the first."""
        at = folder / self.folders[name]
        at.mkdir(exist_ok=True)
        stem = file_name(key)
        written = f"{stem}{_write(at / stem, found.value)}"
        if found.agreement is not None:
            _write(at / f"{stem}.agreement", _grey(found.agreement))
        elif found.deviation is not None:
            _write(
                at / f"{stem}.deviation", _grey(found.deviation) if found.low is None else np.asarray(found.deviation)
            )
        return f"{self.folders[name]}/{written}"


def _grey(share: Any) -> Any:
    """Numbers of 0 … 1 as a grey picture; of other than two axes an array."""
    share = np.asarray(share, dtype=np.float32)
    return Image.fromarray((share.clip(0, 1) * 255).round().astype(np.uint8)) if share.ndim == 2 else share


def _write(at: Path, value: Any) -> str:
    """Write a picture or an array; its suffix."""
    if isinstance(value, Image.Image):
        replace_file(at.with_name(f"{at.name}.png"), pictures.png(value))
        return ".png"
    data = io.BytesIO()
    np.save(data, np.asarray(value), allow_pickle=False)
    replace_file(at.with_name(f"{at.name}.npy"), data.getvalue())
    return ".npy"


def _cell(value: Any) -> str:
    """A value in a table: a number or word as it is, a list as JSON, nothing where there is none."""
    if value is None or isinstance(value, np.ndarray | Image.Image):
        return ""
    if isinstance(value, float):
        return f"{value:.7g}"
    if isinstance(value, list | tuple):
        return json.dumps([float(f"{x:.7g}") if isinstance(x, float) else x for x in value], ensure_ascii=False)
    return str(value)


def _line(cells: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode("utf-8", "surrogateescape")


def file_name(key: str) -> str:
    """A name of a file for a row's key, different for different keys, that lies in no other folder and that every system takes."""
    plain = re.sub(r'[\x00-\x1f\x7f<>:"/\\|?*\ud800-\udfff]', "_", key).strip(" .")
    if plain == key and 0 < len(key.encode()) <= 120 and not key.startswith("-"):
        return key
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    return f"{plain.encode()[:100].decode(errors='ignore').lstrip('-') or 'row'}-{digest}"

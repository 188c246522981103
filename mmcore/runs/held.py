"""How rows are asked for what they lack, and what rows that the run has held out say of such answers."""

import contextlib
import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from mmcore.data.batch import TensorBatch
from mmcore.errors import MmcoreError
from mmcore.limits import RECORD as READ
from mmcore.metrics.conformal import Sureness, Widening
from mmcore.modality.base import ModalityProtocol
from mmcore.modality.holes import whole_of
from mmcore.modality.mixed import Mixed
from mmcore.progress import Progress
from mmcore.runs.answers import centre
from mmcore.runs.kept import Record, read_count, read_number
from mmcore.runs.reader import Reader
from mmcore.sampling.ask import sample
from mmcore.store.reading import parse_json, read_bytes

RECORD = Record("intervals.json", "how far intervals of a run of mmcore reach, by its held-out rows", "mmcore predict")
PARTS = ("validation", "test")
TOGETHER = 512
"""Draws at once."""
MOST = 200
"""Rows held out that are asked the same question: with so many, intervals of 80 % hold 77 … 83 % of new truths."""
LOOKED_AT = 500
"""Rows of a part among which they are."""
NUMBERS = 64
"""Of longer vectors nothing is told number by number."""
KEPT = 200
"""Questions of which a run's folder keeps what is known."""

Held = Widening | Sureness


@attrs.frozen(eq=False)
class Asked:
    """How rows are asked.

    Attributes:
        reader: of the model.
        draws: of every row.
        absent: modalities that are left out.
        how: arguments of :func:`mmcore.sample`.
    """

    reader: Reader
    draws: int
    absent: frozenset[str]
    how: Mapping[str, Any]

    @property
    def together(self) -> int:
        """Rows that are asked at once."""
        return max(1, TOGETHER // self.draws)

    def given(self, present: Tensor) -> tuple[str, ...]:
        """What a row gives, of what it has: ``present (variables,)`` bool."""
        model = self.reader.model
        encoded = {m.name for m in model.modalities}
        return tuple(
            m.name for m, there in zip(model.variables, present.tolist(), strict=True) if there and m.name in encoded
        )

    def answer(self, values: Mapping[str, Tensor], present: Tensor, numbers: Sequence[int]) -> dict[str, Tensor]:
        """The draws of some rows ``(rows, draws, *spec.shape)`` by name.

        Args:
            values: ``(rows, *spec.shape)`` by name.
            present: which of them are given, ``(rows, variables)`` bool.
            numbers: of the rows: a row's draws do not depend on which others are asked.
        """
        model = self.reader.model
        encoded = {m.name for m in model.modalities}
        given, where = {}, {}
        for column, m in enumerate(model.variables):
            here = present[:, column]
            if m.name not in encoded or not here.any():
                continue
            given[m.name] = values[m.name].repeat_interleave(self.draws, 0)
            known = here
            if isinstance(m, Mixed):
                known = here[:, None] & whole_of(m, m.spec.there(values[m.name]))
            if not known.all():
                where[m.name] = known.repeat_interleave(self.draws, 0)
        each = (torch.tensor(numbers)[:, None] * self.draws + torch.arange(self.draws)).flatten()
        drawn = sample(
            model,
            len(each),
            given=given,
            where=where,
            absent=sorted(self.absent),
            numbers=each.tolist(),
            batch_size=len(each),
            registry=self.reader.registry,
            **self.how,
        )
        return {name: x.unflatten(0, (len(numbers), self.draws)) for name, x in drawn.items()}


@attrs.frozen(eq=False)
class Question:
    """What rows held out say of the answers to one kind of question.

    Attributes:
        given: what is given.
        about: by what is asked, as far as anything is known of it.
    """

    given: tuple[str, ...]
    about: Mapping[str, Held]


@attrs.define(eq=False)
class HeldOut:
    """What rows held out say of answers: how far intervals of numbers must reach, and how probable it is that a class is right.

    For each kind of question, which is what a row gives, rows that were not trained on are asked the same, and their answers are compared with
    their truths (:mod:`mmcore.metrics.conformal`). That is done once: it is kept in the run's folder.

    Attributes:
        asked: how rows are asked.
        interval: the probability between the ends.
        without: a part of the run's own data that is not used, as it is what is asked about.
        quiet: whether progress is not shown.
        questions: what is known, by what is given.
    """

    asked: Asked
    interval: float
    without: str = ""
    quiet: bool = False
    questions: dict[tuple[str, ...], Question] = attrs.field(factory=dict)
    _rows: TensorBatch | None = None

    def question(self, given: tuple[str, ...]) -> Question:
        """What is known of the answers to rows that give this."""
        if given not in self.questions:
            self.questions[given] = Question(given, self._about(given))
        return self.questions[given]

    @property
    def judged(self) -> list[ModalityProtocol]:
        """The variables of whose answers something can be known: numbers, vectors of a few, and single classes."""
        return [m for m in self.asked.reader.model.variables if _is_judged(m)]

    def told(self, names: Collection[str]) -> dict[str, list[str]]:
        """What is known of some variables' answers, a line for each kind of question; without those of which nothing is.

        Args:
            names: of the variables.
        """
        told: dict[str, list[str]] = {}
        for question in self.questions.values():
            given = ", ".join(question.given) or "nothing"
            for name, held in question.about.items():
                if name in names:
                    told.setdefault(name, []).append(f"{name}: {held.told(self.interval)}, given {given}")
        return told

    def _about(self, given: tuple[str, ...]) -> Mapping[str, Held]:
        names = [m.name for m in self.judged if m.name not in given and m.name not in self.asked.absent]
        run = self.asked.reader.run
        if not names or run is None:
            return {}
        rows = self.rows
        columns = [m.name for m in self.asked.reader.model.variables]
        fits = rows.present[:, [columns.index(name) for name in given]].all(1)
        fits &= rows.present[:, [columns.index(name) for name in names]].any(1)
        chosen = fits.nonzero()[:, 0]
        if len(chosen) > MOST:
            chosen = chosen[torch.arange(MOST) * len(chosen) // MOST]
        if not len(chosen):
            return {}
        kept = _Kept(run.folder, self._key(given, rows, chosen))
        found = kept.read()
        if found is None:
            found = self._measured(given, names, rows, chosen)
            kept.save(found)
        return found

    def _measured(
        self, given: tuple[str, ...], names: Sequence[str], rows: TensorBatch, chosen: Tensor
    ) -> dict[str, Held]:
        """Ask the chosen rows, and compare."""
        model = self.asked.reader.model
        present = torch.zeros_like(rows.present)
        present[:, [column for column, m in enumerate(model.variables) if m.name in given]] = True
        parts: dict[str, list[Tensor]] = {name: [] for name in names}
        with Progress(f"asking rows held out, given {', '.join(given)}", len(chosen), quiet=self.quiet) as bar:
            for some in chosen.split(self.asked.together):
                drawn = self.asked.answer({n: x[some] for n, x in rows.values.items()}, present[some], some.tolist())
                for name in names:
                    if name in drawn:
                        parts[name].append(drawn[name])
                bar.update(sum(map(len, next(iter(parts.values())))))
        found: dict[str, Held] = {}
        for column, m in enumerate(model.variables):
            if not parts.get(m.name):
                continue
            truth = rows.values[m.name][chosen]
            known = rows.present[chosen, column] & m.spec.there(truth).reshape(len(truth), -1).all(1)
            judged = _judge(m, torch.cat(parts[m.name])[known], truth[known], self.interval)
            if judged is not None:
                found[m.name] = judged
        return found

    @property
    def rows(self) -> TensorBatch:
        """Rows held out, as the model sees them; none where the run has none, or they are not there any more."""
        if self._rows is None:
            self._rows = self._read()
        return self._rows

    def _read(self) -> TensorBatch:
        reader, run = self.asked.reader, self.asked.reader.run
        variables = reader.model.variables
        found = []
        for part in PARTS:
            if run is None or part == self.without:
                continue
            try:
                rows = run.setup.rows(part)
                count = min(len(rows), LOOKED_AT)
                some = reader.dataset(rows.source, on_bad_row="skip")
                found.append(some.take([k * len(rows) // count for k in range(count)]))
            except (MmcoreError, TypeError):  # no such part, no data any more, or a stream, which has no length
                continue
        values = {m.name: torch.cat([m.spec.placeholder(0), *(one.values[m.name] for one in found)]) for m in variables}
        return TensorBatch(
            values, torch.cat([torch.zeros(0, len(variables), dtype=torch.bool), *(one.present for one in found)])
        )

    def _key(self, given: tuple[str, ...], rows: TensorBatch, chosen: Tensor) -> str:
        """By what the same question to the same rows is known again."""
        what = {
            "given": given,
            "absent": sorted(self.asked.absent),
            "draws": self.asked.draws,
            "interval": self.interval,
            "how": dict(self.asked.how),
        }
        digest = hashlib.sha256(json.dumps(what, sort_keys=True, default=plain).encode())
        digest.update(rows.present[chosen].numpy().tobytes())
        for name in sorted(rows.values):
            digest.update(np.ascontiguousarray(rows.values[name][chosen].numpy()).tobytes())
        return digest.hexdigest()


def _is_judged(m: ModalityProtocol) -> bool:
    if isinstance(m, Mixed) or m.planar:
        return False
    if not m.spec.dtype.is_floating_point:
        return m.spec.shape == ()
    return math.prod(m.spec.shape) <= NUMBERS and not m.spec.unit_norm and m.averaged


def _judge(m: ModalityProtocol, draws: Tensor, truth: Tensor, interval: float) -> Held | None:
    """What answers ``draws (n, M, *shape)`` beside their truths ``(n, *shape)`` say."""
    if m.spec.dtype.is_floating_point:
        ratio = m.spec.low is not None and m.spec.low > 0
        return Widening.of(draws, truth, interval, ratio=ratio)
    best = torch.stack([centre(m, one) for one in draws]) if len(draws) else truth
    counts = (draws == best[:, None]).sum(1).tolist()
    return Sureness.of(counts, (best == truth).tolist(), draws.shape[1])


@attrs.frozen
class _Kept:
    """What rows held out have said of one question, in a run's folder.

    Attributes:
        folder: of the run.
        key: of the question.
    """

    folder: Path
    key: str

    def read(self) -> dict[str, Held] | None:
        """None where it is not kept, or is not what was written."""
        try:
            return {str(name): _held(one) for name, one in self._all()[self.key].items()}
        except (KeyError, TypeError, ValueError, AttributeError):
            return None

    def save(self, found: Mapping[str, Held]) -> None:
        """Keep it, where the folder may be written in."""
        kept = self._all()
        kept[self.key] = {name: {"kind": type(held).__name__, **attrs.asdict(held)} for name, held in found.items()}
        with contextlib.suppress(MmcoreError, OSError):
            RECORD.save(self.folder, {"questions": dict(list(kept.items())[-KEPT:])})

    def _all(self) -> dict[str, Any]:
        """All questions that are kept of the weights that are there."""
        path = self.folder / RECORD.name
        try:
            data = parse_json(read_bytes(path, READ, follow=False), path)
            RECORD.check_weights(data, self.folder)
            return dict(data["questions"])
        except (MmcoreError, OSError, KeyError, TypeError, ValueError):
            return {}


def _held(data: Any) -> Held:
    """What was kept, read without trust.

    Raises:
        KeyError, TypeError: it is not what was written.
    """
    rows = read_count(data["rows"])
    if data["kind"] == Sureness.__name__:
        slope, offset, share, right = (read_number(data[name]) for name in ("slope", "offset", "told_share", "right"))
        return Sureness(slope, offset, rows, share, right)
    return Widening(_numbers(data["by"]), bool(data["ratio"]), rows, read_number(data["held"]))


def _numbers(data: Any) -> Any:
    return [_numbers(one) for one in data] if isinstance(data, list) else read_number(data)


def plain(value: Any) -> Any:
    """An object of a question, such as a sampler, by its class and what it holds."""
    held = attrs.asdict(value) if attrs.has(type(value)) else getattr(value, "__dict__", str(value))
    return {type(value).__qualname__: held}

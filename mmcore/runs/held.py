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

from mmcore import files
from mmcore.data.batch import TensorBatch
from mmcore.data.stream import head_of
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
EXACT = 6
"""Variables up to which each kind of question is asked for itself: 63 kinds at most."""
TOLD = 4
"""Kinds of question of which one is told, for each variable."""
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
class _Question:
    """What rows held out are asked.

    Attributes:
        words: what is given.
        names: the variables of whose answers something is to be known.
        present: what each of the rows gives, ``(rows, variables)`` bool.
    """

    words: str
    names: tuple[str, ...]
    present: Tensor


@attrs.define(eq=False)
class HeldOut:
    """What rows held out say of answers: how far intervals of numbers must reach, and how probable it is that a class is right.

    Rows that were not trained on are asked the same, and their answers are compared with their truths (:mod:`mmcore.metrics.conformal`). Of a model of at most :data:`EXACT` variables
    that is done for each kind of question, which is what a row gives. Of more there would be too many kinds: then each variable is asked of rows that give all that they have beside it.
    It is done once, and kept in the run's folder.

    Attributes:
        asked: how rows are asked.
        interval: the probability between the ends.
        without: a part of the run's own data that is not used, as it is what is asked about.
        progress: of what the rows are asked for; None where none is shown.
        known: what is known of answers by name, None where it is nothing, by what was given.
    """

    asked: Asked
    interval: float
    without: str = ""
    progress: Progress | None = None
    known: dict[str, Mapping[str, Held | None]] = attrs.field(factory=dict)
    _rows: TensorBatch | None = None

    def about(self, given: tuple[str, ...]) -> dict[str, Held]:
        """What is known of the answers to rows that give this, by variable; without those of which nothing is."""
        names = [m.name for m in self.judged if m.name not in given and m.name not in self.asked.absent]
        if not names or self.asked.reader.run is None:
            return {}
        if len(self.asked.reader.model.variables) <= EXACT:
            return settled(self._known(f"given {', '.join(given) or 'nothing'}", tuple(names), given))
        found: dict[str, Held] = {}
        for name in names:
            found |= settled(self._known(f"given all that they have but {name}", (name,), None))
        return found

    @property
    def judged(self) -> list[ModalityProtocol]:
        """The variables of whose answers something can be known: numbers, vectors of a few, and single classes."""
        return [m for m in self.asked.reader.model.variables if _is_judged(m)]

    def told(self, names: Collection[str]) -> dict[str, list[str]]:
        """What sets some variables' intervals and probabilities, a line for each kind of question; without numbers of which nothing is known.

        Args:
            names: of the variables.
        """
        told: dict[str, list[str]] = {}
        for m in self.judged:
            asked = [(words, found[m.name]) for words, found in self.known.items() if m.name in found]
            if m.name not in names or not asked:
                continue
            what = "interval is the draws' own" if m.spec.dtype.is_floating_point else "probability is the draws' share"
            own = f"{m.name}: the {what}, as too few rows are held out to set it"
            if any(held is not None for _, held in asked):
                lines = [
                    f"{own if held is None else f'{m.name}: {held.told(self.interval)}'}, {words}"
                    for words, held in asked
                ]
                more = [f"{m.name}: and {len(lines) - TOLD} more kinds of question"]
                told[m.name] = lines if len(lines) <= TOLD + 1 else lines[:TOLD] + more
            elif not m.spec.dtype.is_floating_point:
                told[m.name] = [own]
        return told

    def _known(self, words: str, names: tuple[str, ...], given: tuple[str, ...] | None) -> Mapping[str, Held | None]:
        """The same of one question: rows give what is named, or with None all but what is asked."""
        if words not in self.known:
            self.known[words] = {**dict.fromkeys(names), **self._ask(words, names, given)}
        return self.known[words]

    def _ask(self, words: str, names: tuple[str, ...], given: tuple[str, ...] | None) -> Mapping[str, Held]:
        model, rows, run = self.asked.reader.model, self.rows, self.asked.reader.run
        columns = [m.name for m in model.variables]
        if given is None:
            present = rows.present.clone()
            present[:, [columns.index(name) for name in (*names, *self.asked.absent)]] = False
        else:
            present = torch.zeros_like(rows.present)
            present[:, [columns.index(name) for name in given]] = True
        # A row that lacks nothing that is generated is not asked, as no new row is.
        generated = [columns.index(m.name) for m in model.modalities if model.heads.reads(m.name) and m.name not in self.asked.absent]  # fmt: skip
        fits = (rows.present | ~present).all(1) & ~present[:, generated].all(1)
        fits &= rows.present[:, [columns.index(name) for name in names]].any(1)
        chosen = fits.nonzero()[:, 0]
        if len(chosen) > MOST:
            chosen = chosen[torch.arange(MOST) * len(chosen) // MOST]
        if not len(chosen) or run is None:
            return {}
        question = _Question(words, names, present[chosen])
        kept = _Kept(run.folder, self._key(question, rows, chosen))
        found = kept.read(self.judged)
        if found is None:
            found = self._measured(question, rows, chosen)
            kept.save(found)
        return found

    def _measured(self, question: _Question, rows: TensorBatch, chosen: Tensor) -> dict[str, Held]:
        """Ask the chosen rows, and compare."""
        parts: dict[str, list[Tensor]] = {name: [] for name in question.names}
        done = 0
        progress = self.progress or Progress("", 0, quiet=True)
        with progress.aside(f"asking rows held out, {question.words}", len(chosen)) as bar:
            for k in range(0, len(chosen), self.asked.together):
                some = chosen[k : k + self.asked.together]
                values = {name: x[some] for name, x in rows.values.items()}
                drawn = self.asked.answer(values, question.present[k : k + len(some)], some.tolist())
                for name, x in drawn.items():
                    if name in parts:
                        parts[name].append(x)
                done += len(some)
                bar.update(done)
        found: dict[str, Held] = {}
        for column, m in enumerate(self.asked.reader.model.variables):
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
            # No such part, or no data any more; of a stream rows have no numbers.
            with contextlib.suppress(MmcoreError):
                source = run.setup.rows(part).source
                if head_of(source) is None:
                    count = min(len(source), LOOKED_AT)
                    some = reader.dataset(source, on_bad_row="skip")
                    found.append(some.take([k * len(source) // count for k in range(count)]))
        values = {m.name: torch.cat([m.spec.placeholder(0), *(one.values[m.name] for one in found)]) for m in variables}
        return TensorBatch(
            values, torch.cat([torch.zeros(0, len(variables), dtype=torch.bool), *(one.present for one in found)])
        )

    def _key(self, question: _Question, rows: TensorBatch, chosen: Tensor) -> str:
        """By what the same question to the same rows is known again."""
        what = {
            "names": question.names,
            "absent": sorted(self.asked.absent),
            "draws": self.asked.draws,
            "interval": self.interval,
            "how": dict(self.asked.how),
        }
        digest = hashlib.sha256(json.dumps(what, sort_keys=True, default=plain).encode())
        for x in (question.present, rows.present[chosen], *(rows.values[name][chosen] for name in sorted(rows.values))):
            digest.update(np.ascontiguousarray(x.numpy()).tobytes())
        return digest.hexdigest()


def settled(found: Mapping[str, Held | None]) -> dict[str, Held]:
    """Without those of which nothing is known."""
    return {name: held for name, held in found.items() if held is not None}


def _is_judged(m: ModalityProtocol) -> bool:
    if isinstance(m, Mixed) or m.planar:
        return False
    if not m.spec.dtype.is_floating_point:
        return m.spec.shape == ()
    return math.prod(m.spec.shape) <= NUMBERS and not m.spec.unit_norm and m.averaged


def _by_ratio(m: ModalityProtocol) -> bool:
    """Whether numbers are compared by their ratios, as those that are all above 0."""
    return m.spec.low is not None and m.spec.low > 0


def _judge(m: ModalityProtocol, draws: Tensor, truth: Tensor, interval: float) -> Held | None:
    """What answers ``draws (n, M, *shape)`` beside their truths ``(n, *shape)`` say."""
    if m.spec.dtype.is_floating_point:
        return Widening.of(draws, truth, interval, ratio=_by_ratio(m))
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

    def read(self, judged: Sequence[ModalityProtocol]) -> dict[str, Held] | None:
        """None where it is not kept, or is not what was written of these variables."""
        variables = {m.name: m for m in judged}
        try:
            return {name: _held(variables[name], one) for name, one in self._all()[self.key].items()}
        except (KeyError, TypeError, ValueError, AttributeError):
            return None

    def save(self, found: Mapping[str, Held]) -> None:
        """Keep it, where the folder may be written in."""
        kept = self._all()
        kept[self.key] = {name: attrs.asdict(held) for name, held in found.items()}
        with contextlib.suppress(MmcoreError, OSError):
            RECORD.save(self.folder, {"questions": dict(list(kept.items())[-KEPT:])})

    def _mend(self) -> None:
        """Finish what was broken off where nothing is replaced in one go: then what was to be written lies whole beside it."""
        path, aside = self.folder / RECORD.name, self.folder / f"{files.ASIDE}{RECORD.name}"
        if not _is_ours(aside):
            return
        with contextlib.suppress(MmcoreError, OSError):
            if not _is_ours(path):
                files.write(path, read_bytes(aside, READ, follow=False))
            aside.unlink(missing_ok=True)

    def _all(self) -> dict[str, Any]:
        """All questions that are kept of the weights that are there."""
        self._mend()
        path = self.folder / RECORD.name
        try:
            data = parse_json(read_bytes(path, READ, follow=False), path)
            RECORD.check_weights(data, self.folder)
            return dict(data["questions"])
        except (MmcoreError, OSError, KeyError, TypeError, ValueError):
            return {}


def _is_ours(path: Path) -> bool:
    """Whether a file is a whole one of this kind."""
    try:
        return parse_json(read_bytes(path, READ, follow=False), path).get("what") == RECORD.what
    except (MmcoreError, OSError):
        return False


def _held(m: ModalityProtocol, data: Any) -> Held:
    """What was kept of a variable's answers, read without trust.

    Raises:
        KeyError, TypeError, ValueError: it is not what was written of this one.
    """
    rows = read_count(data["rows"])
    if not m.spec.dtype.is_floating_point:
        slope, offset, share, right = (read_number(data[name]) for name in ("slope", "offset", "told_share", "right"))
        return Sureness(slope, offset, rows, share, right)
    by = _numbers(data["by"])
    if np.shape(by) != m.spec.shape:
        raise ValueError("numbers of another shape")
    return Widening(by, _by_ratio(m), rows, read_number(data["held"]))


def _numbers(data: Any) -> Any:
    return [_numbers(one) for one in data] if isinstance(data, list) else read_number(data)


def plain(value: Any) -> Any:
    """An object of a question, such as a sampler, by its class and what it holds."""
    held = attrs.asdict(value) if attrs.has(type(value)) else getattr(value, "__dict__", str(value))
    return {type(value).__qualname__: held}

"""What the page does: a question is put together, answered, and shown; for all who have it open."""

import random
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr  # pyright: ignore[reportMissingImports]
import torch
from torch import Tensor

from mmcore.errors import MmcoreError, RequestError
from mmcore.play import markup
from mmcore.play.answers import all_shown
from mmcore.play.question import GIVEN, LEFT_OUT, WANTED, Part, Question, allowed
from mmcore.play.rows import Held, surprise
from mmcore.play.values import Value, tensor_of
from mmcore.play.widgets import Widget
from mmcore.play.work import StoppedError, Visitor, Visitors, Work
from mmcore.plugins.metadata import one_line
from mmcore.runs.asking import Asked
from mmcore.runs.reader import Reader

_LOOK = 0.2
"""Seconds between two looks at how far the work has come."""


class Page:
    """What the page does, for all who have it open.

    Args:
        reader: of the model.
        place: of the run or model, as it is called elsewhere.
    """

    def __init__(self, reader: Reader, place: str | Path) -> None:
        self.reader, self.place, self.held = reader, str(place), Held.of(reader)
        self.visitors = Visitors()
        self.names = [m.name for m in reader.model.variables]
        self.widgets: list[Widget] = []
        self.notes: list[str] = []

    def ask(self, request: gr.Request, *found: Any) -> Iterator[list[Any]]:
        """Answer a question, telling how far it has come."""
        visitor = self.visitors[str(request.session_hash)]
        visitor.stop()
        rest = [gr.skip()] * 5
        work: Work[Asked] | None = None
        try:
            question = self.question(visitor, found)
            begun = time.monotonic()
            work = visitor.work = Work(lambda watch: question.asked(self.reader, watch))
            while not work.wait(_LOOK):
                yield [markup.progress(work.done, work.total, time.monotonic() - begun), *rest]
            asked, took = work.answer(), time.monotonic() - begun
            note = self._note(question)
            shown = self._shown(visitor, question, asked, took)
            code = [question.python(self.place), question.command(self.place), markup.downloads(question.files())]
            yield [markup.message(note, "note") if note else "", shown, *code, question.how["seed"]]
        except StoppedError:
            yield [markup.message("Stopped.", "hint"), *rest]
        except Exception as error:
            yield [told(error), *rest]
        finally:
            if work is not None:
                work.stop()

    def question(self, visitor: Visitor, found: Sequence[Any]) -> Question:
        """What the page's fields ask.

        Raises:
            RequestError: it cannot be asked.
        """
        roles, rest = dict(zip(self.names, found, strict=False)), list(found[len(self.names) :])
        given = {}
        for made in self.widgets:
            own, rest = rest[: len(made.components)], rest[len(made.components) :]
            if roles[made.name] == GIVEN:
                given[made.name] = made.part(visitor, own)
        draws, sampler, steps, guidance, seed, fresh, draw = rest
        if not isinstance(sampler, str):
            raise RequestError("sampler: expected the name of one")
        how = {
            "sampler": sampler,
            "steps": steps,
            "seed": random.randrange(10**6) if fresh is True else seed,
            "draw": draw is True,
        }
        parts = {name: given.get(name) or Part(str(role)) for name, role in roles.items()}
        return Question.checked(self.reader.model, parts, draws, guidance, how)

    def _note(self, question: Question) -> str:
        if any(part.known is not None for part in question.parts.values()) and not self.reader.saw_parts:
            return "This run never saw parts of a value (training.roles.partial = 0): what is filled in may not fit."
        return ""

    def _shown(self, visitor: Visitor, question: Question, asked: Asked, took: float) -> str:
        truth = visitor.truth if self._is_row(visitor, question) else {}
        parts = [name for name, part in question.parts.items() if part.known is not None]
        found = all_shown(self.reader.model.variables, asked.values, question.wanted, truth, parts)
        return markup.answers(found, took, asked.n)

    def _is_row(self, visitor: Visitor, question: Question) -> bool:
        """Whether all that is given is the row's own."""
        for name, part in question.parts.items():
            if part.role == GIVEN and part.value is not None:
                own = visitor.truth.get(name)
                if own is None or not torch.equal(tensor_of(self.reader, name, part.value), own):
                    return False
        return bool(visitor.truth)

    def stop(self, request: gr.Request) -> Any:
        """Stop what is being done for one person."""
        visitor = self.visitors[str(request.session_hash)]
        if visitor.work is None or visitor.work.wait(0):
            return markup.message("Nothing is being done.", "hint")
        visitor.stop()
        return markup.message("Stopping …", "hint")

    def leave(self, request: gr.Request) -> None:
        """Somebody has closed the page."""
        self.visitors.leave(str(request.session_hash))

    def opening(self, made: Widget) -> Callable[..., list[Any]]:
        """What is done with a file that is chosen for a variable."""

        def opened(request: gr.Request, text: Any) -> list[Any]:
            visitor = self.visitors[str(request.session_hash)]
            try:
                return [made.take_file(visitor, text), ""]
            except Exception as error:
                return [made.put(visitor, None, None)[0], told(error)]

        return opened

    def take(self, request: gr.Request, number: Any, *roles: Any) -> list[Any]:
        """Begin with a row."""
        visitor = self.visitors[str(request.session_hash)]
        try:
            if not isinstance(number, int | float) or number != int(number):
                raise RequestError(f"row: expected a whole number in 0 … {len(self.held) - 1}")
            values, truth = self.held.row(int(number))
            chosen = self._with_something_given([str(role) for role in roles], values)
            return ["", int(number), *chosen, *self._filled(visitor, values, truth)]
        except Exception as error:
            return [told(error), *[gr.skip()] * (1 + len(roles) + sum(len(made.components) for made in self.widgets))]

    def another(self, request: gr.Request, *roles: Any) -> list[Any]:
        """Begin with a row that chance takes."""
        return self.take(request, random.randrange(len(self.held)), *roles)

    def surprise(self, request: gr.Request) -> list[Any]:
        """A question that chance makes, of a row or of what the model draws."""
        visitor, model = self.visitors[str(request.session_hash)], self.reader.model
        number = [random.randrange(len(self.held))] if len(self.held) else []
        try:
            values, truth = self.held.row(number[0]) if number else self.held.drawn(random.randrange(10**6))
            could = [made.name for made in self.widgets if made.name in values]
            given = surprise(random.Random(), could, [name for name in self.names if WANTED in allowed(model, name)])
            roles = [
                GIVEN if name in given else WANTED if WANTED in allowed(model, name) else LEFT_OUT
                for name in self.names
            ]
            return ["", *number, *roles, *self._filled(visitor, values, truth)]
        except Exception as error:
            count = len(number) + len(self.names) + sum(len(made.components) for made in self.widgets)
            return [told(error), *[gr.skip()] * count]

    def _with_something_given(self, roles: Sequence[str], values: dict[str, Value]) -> list[str]:
        """The roles, or if nothing is given, with what is the most to look at."""
        if GIVEN in roles:
            return list(roles)
        first = next((made.name for made in self.widgets if made.name in values and made.board is not None), None)
        first = first or next((made.name for made in self.widgets if made.name in values), None)
        return [GIVEN if name == first else role for name, role in zip(self.names, roles, strict=True)]

    def _filled(self, visitor: Visitor, values: dict[str, Value], truth: dict[str, Tensor]) -> list[Any]:
        visitor.truth = truth
        found: list[Any] = []
        for made in self.widgets:
            value, x = values.get(made.name), truth.get(made.name)
            try:
                found += made.put(visitor, value, x, "the row’s own" if value is not None and made.opens else "")
            except MmcoreError as error:
                visitor.values.pop(made.name, None)
                found += made.put(visitor, None, None, one_line(str(error)))
        return found


def told(error: Exception) -> str:
    """What is said of an error: one line; where nobody has foreseen it, the terminal has more."""
    if isinstance(error, MmcoreError):
        return markup.message(one_line(str(error)))
    if isinstance(error, MemoryError) or "memory" in str(error).lower():
        return markup.message("memory does not suffice; ask for fewer draws")
    traceback.print_exception(error, file=sys.stderr)
    return markup.message(
        f"an error that was not expected, {type(error).__name__}: {one_line(str(error))[:200]}; the terminal has more"
    )

"""Controls as parts of a Gradio page. What they hold is checked by :mod:`mmcore.play.forms` and :mod:`mmcore.play.board` alone."""

import json
from collections.abc import Sequence
from importlib.resources import files as resources
from typing import Any

import attrs
import gradio as gr  # pyright: ignore[reportMissingImports]
from torch import Tensor

from mmcore.data.decode import IMAGES
from mmcore.errors import RequestError
from mmcore.limits import UPLOAD
from mmcore.modality.control import Choice, Control, File, Group, Number, Numbers, Painting, Picture, Text
from mmcore.play.board import Board, Told
from mmcore.play.forms import fields, filled, taken
from mmcore.play.markup import escaped
from mmcore.play.question import GIVEN, Part
from mmcore.play.values import Value, fitted, uploaded, value_of
from mmcore.play.work import Visitor
from mmcore.runs.reader import Reader

FEW = 12
"""Choices that are all seen at once."""
_INKS = ("#ffffff", "#000000", "#e03131", "#f08c00", "#ffd43b", "#2f9e44", "#1971c2", "#9c36b5")
_DROP = '<label class="open">{open}<input type="file" accept="{accept}"></label>'
_TOOLS = (
    '<button type="button" data-mode="unknown" class="unknown" title="what is to be filled in"><i></i>unknown</button>'
    '<button type="button" data-mode="eraser">eraser</button>'
    '<label class="size">size <input type="range" min="1" value="1" aria-label="brush size"></label>'
    '<button type="button" class="clear">clear</button>'
)


def as_sent(component: Any) -> Any:
    """A component whose value comes as the page sends it: it is checked here, and a wrong one is a line and no traceback."""
    # Not by a class of its own: Gradio writes a file beside the module of each.
    component.preprocess = lambda payload: payload
    return component


@attrs.frozen(eq=False)
class Widget:
    """A variable's control on the page.

    Attributes:
        reader: of the model.
        name: of the variable.
        control: its own.
        components: what holds its value.
    """

    reader: Reader
    name: str
    control: Control
    components: Sequence[Any]

    @property
    def board(self) -> Board | None:
        """Its drawing board; None for one that has none."""
        control = self.control
        return Board(self.reader, self.name, control) if isinstance(control, Picture | Painting) else None

    @property
    def opens(self) -> bool:
        """Whether it opens files."""
        return isinstance(self.control, Picture | Painting | File)

    def part(self, visitor: Visitor, found: Sequence[Any]) -> Part:
        """What is given by what the components hold.

        Raises:
            RequestError: it cannot be read.
        """
        m = self.reader.model.variable(self.name)
        if not self.opens:
            raw = taken(self.name, self.control, found)
            if raw is None:
                return Part(GIVEN)
            value = value_of(m, raw)
            known = _group_known(m, raw) if isinstance(self.control, Group) else None
            return Part(GIVEN, value, known)
        told = Told.read(found[0])
        mark, held = visitor.values.get(self.name, ("", None))
        if told.mark and told.mark != mark:
            raise RequestError(f"{self.name}: this page has been forgotten here; open its file or row again")
        held = held if told.mark else None
        if self.board is None:
            return Part(GIVEN, held)
        value, known = self.board.value(told, held)
        return Part(GIVEN, value, known)

    def take_file(self, visitor: Visitor, text: Any) -> str:
        """Take a file that was chosen; what the board is told.

        Raises:
            RequestError: it cannot be used.
        """
        told = Told.read(text)
        if told.file is None:
            raise RequestError("no file was chosen")
        name, data = told.file
        value = uploaded(name, data, self.suffixes)
        value, note = fitted(self.reader, self.name, value)
        return self.put(visitor, value, None, note or name)[0]

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Of the files that it opens."""
        return self.control.suffixes if isinstance(self.control, File) else (*IMAGES, ".npy")

    def put(self, visitor: Visitor, value: Value | None, x: Tensor | None, said: str = "") -> list[Any]:
        """What the components show of a value.

        Args:
            visitor: whose page it is.
            value: to be given; None to begin anew.
            x: the same as the model sees it.
            said: a line below it.
        """
        m = self.reader.model.variable(self.name)
        if not self.opens:
            return filled(m, self.control, x)
        mark = ""
        if value is None:
            visitor.values.pop(self.name, None)
        else:
            mark = visitor.keep(self.name, value)
        told = {"mark": mark} if self.board is None else json.loads(self.board.shows(mark, value))
        return [json.dumps(told | {"said": said})]


def _group_known(m: Any, raw: Any) -> Any:
    """Which elements of a value of parts are there, where some are not: the others are wanted."""
    there = m.spec.there(m.read(raw)[None])[0].numpy()
    return None if there.all() else there


def widget(reader: Reader, name: str, control: Control) -> Widget:
    """Put a control on the page that is being made."""
    m = reader.model.variable(name)
    if isinstance(control, Picture | Painting):
        parts = [_board(control, Board(reader, name, control).shows())]
    elif isinstance(control, File):
        parts = [_file(control)]
    else:
        parts = _fields(control, filled(m, control, None), name)
    return Widget(reader, name, control, parts)


def _fields(control: Control, begin: Sequence[Any], label: str) -> list[Any]:
    if isinstance(control, Choice):
        choices = [(str(title), place) for place, title in enumerate(control.names)]
        few = len(choices) <= FEW
        if control.several:
            made = (
                gr.CheckboxGroup(choices, value=begin[0], show_label=False)
                if few
                else gr.Dropdown(choices, value=begin[0], multiselect=True, show_label=False)
            )
        else:
            made = (
                gr.Radio(choices, value=begin[0], show_label=False, elem_classes="choice")
                if few
                else gr.Dropdown(choices, value=begin[0], show_label=False)
            )
        return [made]
    if isinstance(control, Number):
        return [_number(control, begin[0], control.name or label)]
    if isinstance(control, Numbers):
        return [_number(part, one, part.name) for part, one in zip(control.parts, begin, strict=True)]
    if isinstance(control, Text):
        return [gr.Textbox(value=begin[0], placeholder=control.hint or None, lines=control.lines, show_label=False)]
    assert isinstance(control, Group)
    made, at = [], 0
    for name, own in control.parts.items():
        with gr.Row(elem_classes="part"):
            there = gr.Checkbox(value=begin[at], label=name, scale=1, min_width=110)
            with gr.Column(scale=3, min_width=180):
                count = fields(own)
                inner = _fields(own, begin[at + 1 : at + 1 + count], name)
        made += [there, *inner]
        at += 1 + count
    return made


def _number(part: Number, begin: Any, label: str) -> Any:
    title = f"{label} ({part.unit})" if part.unit else label
    if part.span is None or not part.span[0] < part.span[1]:
        return gr.Number(value=begin, label=title)
    low, high = part.span
    step = 1 if part.whole else float(f"{(high - low) / 500:.1g}")
    return gr.Slider(low, high, value=begin, step=step, label=title)


def _board(control: Picture | Painting, begin: str) -> Any:
    if isinstance(control, Painting):
        colours = [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in control.colours]
        inks = [{"colour": colour, "title": title} for colour, title in zip(colours, control.names, strict=True)]
        # What is painted first is what is not there yet.
        inks = [*inks[1:], inks[0]]
        blank = colours[0]
    else:
        inks = (
            [{"colour": one, "title": ""} for one in (_INKS if control.colours else _INKS[:2])] if control.drawn else []
        )
        blank = "#000000"
    buttons = "".join(
        f'<button type="button" data-mode="ink" data-ink="{one["colour"]}" class="ink" title="{escaped(one["title"] or "draw")}">'
        f'<i style="background:{one["colour"]}"></i>{escaped(one["title"])}</button>'
        for one in inks
    )
    drop = _DROP.format(open="open a picture", accept="image/*,.npy,.tif,.tiff,.pgm,.ppm")
    return gr.HTML(
        begin,
        html_template=f'<div class="board"><canvas></canvas><div class="tools">{buttons}{_TOOLS}{drop}</div><p class="said"></p></div>',
        js_on_load=script(),
        inks=inks,
        blank=blank,
        most=UPLOAD.most,
        sheet=list(control.size),
        elem_classes="drawing",
    )


def _file(control: File) -> Any:
    accept = ",".join(control.suffixes)
    drop = _DROP.format(open="open a file", accept=escaped(accept))
    told = escaped(f"{control.expected}: {', '.join(control.suffixes)}, or take a row")
    return gr.HTML(
        "{}",
        html_template=f'<div class="board"><div class="tools">{drop}<span class="expected">{told}</span></div><p class="said"></p></div>',
        js_on_load=script(),
        inks=[],
        blank="",
        most=UPLOAD.most,
        sheet=[1, 1],
        elem_classes="drawing",
    )


def script() -> str:
    """What the browser runs for a drawing board."""
    return resources("mmcore.play").joinpath("page.js").read_text(encoding="utf-8")


def style() -> str:
    """How the page looks."""
    return resources("mmcore.play").joinpath("page.css").read_text(encoding="utf-8")

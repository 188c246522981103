"""How the page is laid out: a question on one side, its answers on the other."""

from collections.abc import Callable
from typing import Any

import gradio as gr  # pyright: ignore[reportMissingImports]

from mmcore.modality.base import Modality
from mmcore.play import markup
from mmcore.play.controls import control_of
from mmcore.play.page import Page
from mmcore.play.question import GIVEN, LEFT_OUT, MOST_DRAWS, WANTED, allowed
from mmcore.play.widgets import as_sent, widget
from mmcore.play.work import VISITORS
from mmcore.sampling.samplers import SAMPLERS

DRAWS = 9
TITLE = "mmcore play"
_TO_ANSWERS = """(...found) => {
  const side = document.querySelector("#side");
  if (side.getBoundingClientRect().top > window.innerHeight * 0.6) side.scrollIntoView({ behavior: "smooth" });
  return found;
}"""
"""On a narrow screen answers are below the question."""


def build(page: Page) -> gr.Blocks:
    """Lay the page out."""
    with gr.Blocks(title=f"{TITLE}: {page.place}", analytics_enabled=False) as blocks:
        # Of each session Gradio holds all that its page has shown and sent, by default of ten thousand.
        blocks.state_session_capacity = VISITORS
        gr.HTML(markup.head(page.place, page.names, page.held), elem_id="head")
        with gr.Row(equal_height=False, elem_id="sides"):
            with gr.Column(scale=5, min_width=330, elem_id="question"):
                begin = _begin(page)
                roles = [_card(page, m) for m in page.reader.model.variables]
                how = _how(page)
                with gr.Row(elem_id="go"):
                    go = gr.Button("Ask", variant="primary", elem_id="ask", scale=3, min_width=120)
                    stop = gr.Button("Stop", elem_id="stop", scale=1, min_width=80)
            with gr.Column(scale=7, min_width=330, elem_id="side"):
                status = gr.HTML(
                    markup.message("Choose what is given and what is wanted, then ask.", "hint"), elem_id="status"
                )
                answer = gr.HTML("", elem_id="answer")
                python, command, files = _elsewhere()
        fields = [one for made in page.widgets for one in made.components]
        asked = [*roles, *fields, *how]
        for one in (*asked, *begin[:1]):
            if one is not None:
                as_sent(one)
        shown = [status, answer, python, command, files, how[4]]
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        at_once: dict[str, Any] = {**quiet, "queue": True, "concurrency_limit": 8}
        asking = {**quiet, "concurrency_limit": 2, "concurrency_id": "ask"}
        go.click(page.ask, asked, shown, js=_TO_ANSWERS, **asking)
        stop.click(page.stop, None, status, **at_once)
        for made in page.widgets:
            if made.opens:
                made.components[0].upload(
                    page.opening(made), made.components[0], [made.components[0], status], **at_once
                )
        row, take, another, surprised = begin
        if row is not None:
            take.click(page.take, [row, *roles], [status, row, *roles, *fields], **at_once)
            another.click(page.another, roles, [status, row, *roles, *fields], **at_once)
        outputs = [status, *([] if row is None else [row]), *roles, *fields]
        surprised.click(page.surprise, None, outputs, **at_once).then(page.ask, asked, shown, **asking)
        blocks.unload(_leaving(page, blocks))
        for note in page.notes:
            gr.HTML(markup.message(note, "note"))
    return blocks


def _leaving(page: Page, blocks: gr.Blocks) -> Callable[[gr.Request], None]:
    """What is done where somebody has closed the page: nothing of them is held any longer, here or by Gradio."""

    def leave(request: gr.Request) -> None:
        page.leave(request)
        blocks.state_holder.session_data.pop(str(request.session_hash), None)
        blocks.state_holder.time_last_used.pop(str(request.session_hash), None)

    return leave


def _begin(page: Page) -> tuple[Any, Any, Any, Any]:
    """Where values come from, all at once."""
    with gr.Row(elem_id="begin"):
        if not len(page.held):
            page.notes.append(f"No rows to begin with: {page.held.why}. Surprises are drawn by the model itself.")
            return None, None, None, gr.Button("Surprise me", size="sm", elem_id="surprise")
        row = gr.Number(0, label=f"{page.held.part} row", precision=0, min_width=90, elem_id="row")
        take = gr.Button("Take it", size="sm", min_width=60, elem_id="take")
        another = gr.Button("Another", size="sm", min_width=60, elem_id="another")
        return row, take, another, gr.Button("Surprise me", size="sm", min_width=90, elem_id="surprise")


def _card(page: Page, m: Modality) -> Any:
    control, problem = control_of(m)
    if problem:
        page.notes.append(problem)
    choices = allowed(page.reader.model, m.name)
    with gr.Column(elem_classes="card"):
        with gr.Row(elem_classes="top"):
            gr.HTML(markup.card(m.name), elem_classes="name", min_width=80)
            begin = WANTED if WANTED in choices else LEFT_OUT
            role = gr.Radio(choices, value=begin, show_label=False, container=False, elem_classes="role", min_width=220)
        if GIVEN in choices:
            with gr.Column(elem_classes="control"):
                page.widgets.append(widget(page.reader, m.name, control))
    return role


def _how(page: Page) -> list[Any]:
    own = page.reader.asking()
    known = {entry.name for entry in page.reader.registry.entries if entry.kind == "sampler" and not entry.blocked}
    samplers = ["auto", *SAMPLERS, *sorted(known - SAMPLERS.keys())]
    draws = gr.Slider(1, MOST_DRAWS, value=DRAWS, step=1, label="draws", elem_id="draws")
    with gr.Accordion("How to ask", open=False, elem_id="how"):
        sampler = gr.Dropdown(samplers, value=str(own.get("sampler", "auto")), label="sampler")
        steps = gr.Slider(1, 100, value=own.get("steps") or 20, step=1, label="steps", elem_id="steps")
        guidance = gr.Slider(0, 8, value=1, step=0.1, label="guidance: how much what is given counts (1: as trained)")
        with gr.Row():
            seed = gr.Number(int(own.get("seed", 0)), label="seed", precision=0, elem_id="seed")
            fresh = gr.Checkbox(True, label="another seed each time", elem_id="fresh")
        draw = gr.Checkbox(
            bool(own.get("draw", False)),
            label="draw from the last prediction too, in place of its mean (spread of numbers)",
        )
    return [draws, sampler, steps, guidance, seed, fresh, draw]


def _elsewhere() -> tuple[Any, Any, Any]:
    with gr.Accordion("The same from Python, and from the command line", open=False, elem_id="elsewhere"):
        files = gr.HTML("", elem_id="files")
        python = gr.Code("", language="python", label="Python", interactive=False, elem_id="python")
        command = gr.Code("", language="shell", label="command line", interactive=False, elem_id="command")
    return python, command, files

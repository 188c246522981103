"""The report of a run."""

import html
import math
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmcore import files as door
from mmcore.config import files
from mmcore.errors import RequestError
from mmcore.limits import CONFIGURATION
from mmcore.plugins.metadata import one_line
from mmcore.runs import calibrated, evaluated
from mmcore.runs.kept import Kept, is_count, is_number
from mmcore.runs.overfit import learned_by_heart
from mmcore.runs.page import card, image, page, sheets, table
from mmcore.store.reading import DamagedError, parse_json, shapes

PAGE = "report.html"
_BEGINS = b'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>mmcore: '
_STEP = re.compile(r"step-(\d{8,18})-.+\.png")


def write(folder: Path, tell: Callable[[str], object] = lambda line: None) -> Path:
    """Write ``report.html`` of a run, from what its folder holds. What is missing is left out; what is damaged, too, and is named.

    Nothing is read that lies outside of the folder, whatever links there are.

    Args:
        folder: of a run.
        tell: given a line on each file that is left out, or parts of it.

    Raises:
        RequestError: it is none, its configuration cannot be read, or the page cannot be written.
    """
    try:
        if not (folder / "config.toml").is_file():
            raise RequestError(
                f"report: {folder} holds no config.toml, expected the folder of a run (mmcore train makes one)"
            )
        check_own(folder)
        kept = Kept(folder)
        text = _page(kept)
        for line in kept.faults:
            tell(f"report: left out: {line}")
        # A lone surrogate, which JSON can hold and no file, is not worth the page.
        door.write(folder / PAGE, text.encode("utf-8", "replace"))
    except OSError as error:
        where = error.filename or folder
        raise RequestError(f"report: {where}: {error.strerror or error}") from error
    return folder / PAGE


def check_own(folder: Path) -> None:
    """Refuse to overwrite a page that is no report.

    Raises:
        RequestError: there is one.
    """
    page = folder / PAGE
    if page.is_file() and page.stat().st_size:
        with door.opened(page) as file:
            if file.read(len(_BEGINS)) != _BEGINS:
                raise RequestError(f"report: {page} is no report of a run, and is not overwritten; move it away")


def _told(line: dict[str, Any]) -> bool:
    """Whether a line of ``metrics.jsonl`` has what is shown of it."""
    tasks = line.get("tasks")
    return (
        is_number(line.get("loss"))
        and isinstance(tasks, dict)
        and all(
            isinstance(task, dict)
            and is_count(task.get("rows"))
            and (is_number(task.get("loss")) or (task.get("loss") is None and not task["rows"]))
            for task in tasks.values()
        )
    )


def _page(kept: Kept) -> str:
    folder, path = kept.folder, kept.folder / "config.toml"
    configuration = kept.read("config.toml", CONFIGURATION)
    if configuration is None:
        raise RequestError(f"report: {kept.faults[0]}")
    tables = files.read(path)
    training: Any = tables.get("training")
    training = training if isinstance(training, dict) else {}
    metrics = kept.lines("metrics.jsonl", _told)
    timing = kept.lines("timing.jsonl", lambda line: is_number(line.get("seconds")))
    parts = _sizes(kept)
    wanted, size, modalities = training.get("steps"), training.get("batch_size"), tables.get("modalities")
    known = (("training.steps", is_count(wanted)), ("training.batch_size", is_count(size)))
    known = (*known, ("modalities", isinstance(modalities, dict)))
    if lacking := [key for key, right in known if not right]:
        kept.faults.append(f"{path}: lacks or misstates {', '.join(lacking)}")
    done = metrics[-1]["step"] if metrics else 0
    if not is_count(wanted):
        state = f"{done:,} steps are done so far."
    else:
        state = (
            f"All {wanted:,} steps are done." if done >= wanted else f"{done:,} of {wanted:,} steps are done so far."
        )
    cards = [card("Steps", f"{done:,}", f"of {size:,} rows each" if is_count(size) else "")]
    if metrics:
        cards.append(card("Loss", f"{metrics[-1]['loss']:.3f}", "weighted, at the last step told"))
    if timing:
        cards.append(card("Time", _duration(timing[-1]["seconds"]), f"to step {timing[-1]['step']:,}"))
        if is_count(peak := timing[-1].get("memory")) and peak:
            cards.append(card("Memory", f"{peak / 1e9:,.2f} GB", "at the peak, of the process or its GPU"))
    if parts:
        cards.append(card("Parameters", f"{sum(parts.values()):,}", "of all parts together"))
    body = [f"<div class=cards>{''.join(cards)}</div>"]
    body += [_samples(kept), _evaluation(kept), _calibration(kept)]
    if metrics:
        body.append(_curves(metrics, kept.lines("validation.jsonl", _validated), learned_by_heart(folder)))
    if done and parts:
        body.append(_next(kept, [*modalities] if isinstance(modalities, dict) else []))
    if parts:
        body.append(f"<h2>Its parts</h2>{table(parts.items(), ('part', 'parameters'))}")
    body.append(
        "<h2>The configuration</h2><p class=note>With every default stated; <code>mmcore train</code> takes it as it is.</p>"
        f"<details><summary>config.toml</summary><pre>{html.escape(configuration.decode())}</pre></details>"
    )
    if kept.faults:
        lines = "".join(f"<li>{html.escape(one_line(line))}</li>" for line in kept.faults)
        body.append(f"<h2>Left out</h2><p class=note>What is damaged in the folder.</p><ul>{lines}</ul>")
    names = ", ".join(modalities) if isinstance(modalities, dict) else ""
    lead = f"A joint diffusion model{f' of {names}' if names else ''}. {state}"
    return page(f"mmcore: {folder.name}", f"Run {folder.name}", lead, "\n".join(body))


def _sizes(kept: Kept) -> dict[str, int]:
    weights = kept.folder / "model" / "model.safetensors"
    try:
        if weights.is_file() and not weights.resolve().is_relative_to(kept.folder.resolve()):
            raise DamagedError(f"{weights}: leads out of the folder, expected a file in it")
        return sizes(weights)
    except DamagedError as error:
        kept.faults.append(str(error))
        return {}


def sizes(weights: Path) -> dict[str, int]:
    """How many numbers each part of a saved model has: the backbone, each encoder and each head; empty where there is none.

    Raises:
        DamagedError: it is no safetensors file, or not a whole one.
    """
    if not weights.is_file():
        return {}
    parts: dict[str, int] = {}
    for name, shape in shapes(weights).items():
        head, _, rest = name.partition(".")
        kind = {"encoders": "encoder", "decoders": "head"}.get(head, head)
        part = f"{kind} {rest.partition('.')[0]}" if kind != head else head
        parts[part] = parts.get(part, 0) + math.prod(shape)
    return parts


def _validated(line: dict[str, Any]) -> bool:
    """Whether a line of ``validation.jsonl`` has what is shown of it."""
    losses = line.get("losses")
    return isinstance(losses, dict) and all(loss is None or is_number(loss) for loss in losses.values())


def _curves(lines: Sequence[dict[str, Any]], validation: Sequence[dict[str, Any]], notes: Sequence[str]) -> str:
    from mmcore.runs.pictures import curves

    tasks = lines[-1]["tasks"].items()
    held = validation[-1]["losses"] if validation else {}
    rows = [
        (name, *("" if loss is None else float(loss) for loss in (task["loss"], *([held.get(name)] if held else []))))
        for name, task in tasks
    ]
    head = ("task", "nats per sample, last", *(["on validation rows"] if held else []))
    text = f"<h2>How it learned</h2>{table(rows, head)}"
    text += "".join(f"<p class=note>{html.escape(one_line(note))}.</p>" for note in notes)
    try:
        pictures = curves(lines, validation)
    except RequestError:
        return f"{text}<p class=note>Curves need matplotlib: pip install 'mmcore-diffusion[report]'.</p>"
    note = "Each task's loss over random timesteps and roles: grey as measured, red smoothed" + (
        ", blue on validation rows." if held else "."
    )
    return f"{text}<p class=note>{note}</p>{sheets(pictures)}"


def _samples(kept: Kept) -> str:
    """The last sheet large, those made on the way small."""
    text, folder = "", kept.folder / "samples"
    sheet = kept.picture("samples/samples.png")
    if sheet is not None:
        text += f"<h2>What it imagines</h2><p class=note>{_question(kept)}</p>"
        text += f"<figure class=pixels>{image(sheet, 'samples')}</figure>"
    steps = []
    for path in sorted(folder.glob("step-*.png")):
        match = _STEP.fullmatch(path.name)
        data = kept.picture(f"samples/{path.name}") if match else None
        if match and data is not None:
            steps.append(f"<figure class=pixels>{image(data, path.stem)}<br>step {int(match[1]):,}</figure>")
    if steps:
        text += f"<h2>On the way</h2><div class=sheets>{''.join(steps)}</div>"
    rows = kept.picture("samples/data.png")
    if rows is not None:
        text += "<h2>What the data look like</h2><p class=note>Rows that it learned from, as the model sees them.</p>"
        text += f"<figure class=pixels>{image(rows, 'rows of the data')}</figure>"
    return text


def _evaluation(kept: Kept) -> str:
    try:
        return evaluated.section(kept)
    except DamagedError as error:
        kept.faults.append(str(error))
        return ""


def _next(kept: Kept, names: Sequence[str]) -> str:
    """What can be done with a trained run, as commands."""
    run = shlex.quote(one_line(str(kept.folder)))
    lines = [f"mmcore sample {run}"]
    if len(names) > 1:
        first, second = (shlex.quote(one_line(name)) for name in names[:2])
        lines.append(f"mmcore sample {run} --given {second}=VALUE")
        lines.append(f"mmcore predict {run} NEW-ROWS -o filled")
        lines.append(f"mmcore specialise {run} --ask {first + '->' + second!r} -o {run}-specialised")
    lacking = [
        option
        for name, option in ((evaluated.RECORD.name, "--metrics"), (calibrated.RECORD.name, "--calibration"))
        if not (kept.folder / name).exists()
    ]
    if lacking:
        lines.append(f"mmcore evaluate {run} {' '.join(lacking)}    # adds to this page")
    return f"<h2>What to do with it</h2><pre>{html.escape(chr(10).join(lines))}</pre>"


def _calibration(kept: Kept) -> str:
    data = kept.read(calibrated.RECORD.name)
    if data is None:
        return ""
    try:
        return calibrated.section(parse_json(data, kept.folder / calibrated.RECORD.name), kept.folder)
    except DamagedError as error:
        kept.faults.append(str(error))
        return ""


def _question(kept: Kept) -> str:
    name = "samples/samples.json"
    data = kept.read(name)
    if data is None:
        return ""
    try:
        given = parse_json(data, kept.folder / name).get("given", {})
        if not isinstance(given, dict):
            raise DamagedError(f"{kept.folder / name}: given is a {type(given).__name__}, expected a mapping")
    except DamagedError as error:
        kept.faults.append(str(error))
        return ""
    told = ", ".join(f"{name} = {value}" for name, value in given.items())
    return html.escape(f"Given {told}." if told else "Joint samples: nothing was given.")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"

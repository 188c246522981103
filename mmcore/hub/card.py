"""The card of a published model: data, figures with their intervals, plugins and samples, as they stand in its folder and its run."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmcore import files
from mmcore.errors import RequestError
from mmcore.hub.service import CARD, CONFIG, PICTURE, WEIGHTS_FILE
from mmcore.limits import RECORD
from mmcore.metrics.figure import Figure
from mmcore.model.joint import JointModel
from mmcore.runs import calibrated, evaluated
from mmcore.runs.kept import WEIGHTS
from mmcore.store.card import card, installs, plain, table
from mmcore.store.reading import DamagedError, digest, read_bytes, read_json

_PLACE = re.compile(r"(/|~|[A-Za-z]:[\\/]|\.\.?[\\/]|file:).+", re.S)
"""Texts that say where something lies on a machine."""
_ROUNDED = 60
"""Figures that a card has at most of one origin."""


def finish(
    folder: Path,
    model: JointModel,
    name: str,
    *,
    licence: str,
    run: Path | None,
    figures: Mapping[str, Figure] | None,
) -> bytes | None:
    """Write the card of a model that is about to be published, and take this machine's paths out of its configuration.

    Args:
        folder: as :func:`mmcore.save` wrote it.
        model: the same.
        name: of the repository.
        licence: of the model.
        run: that made it.
        figures: measured by the caller.

    Returns:
        the samples' picture, PNG; None where the run has none.

    Raises:
        RequestError: the run is of other weights, or what is read of it is damaged.
    """
    config = read_json(folder / CONFIG)
    # Of the rest every text counts: the model is made by it.
    if "configuration" in config:
        config["configuration"] = without_places(config["configuration"])
    found = dict(figures or {})
    picture, measured = None, ""
    if run is not None:
        _check_same(folder, run)
        picture = _picture(run)
        for record in (evaluated.RECORD, calibrated.RECORD):
            if (kept := record.figures(run)) is not None:
                found |= kept[0]
                measured = kept[1]
    parts = [
        f"## Samples\n\n![samples]({PICTURE})" if picture is not None else "",
        _needs(config),
        _data(config),
        _figures(found, measured),
    ]
    title = name.partition("/")[2]
    text = card(
        model, config, name, title=title, licence=licence, opens="JointModel.from_pretrained", parts=filter(None, parts)
    )
    files.write(folder / CONFIG, f"{json.dumps(config, indent=2)}\n".encode())
    files.write(folder / CARD, text.encode())
    return picture


def without_places(thing: Any) -> Any:
    """The same tables and lists, of paths the last names alone: where things lie on a machine is nobody else's matter.

    Columns stay as they are: questions are read by them.
    """
    if isinstance(thing, Mapping):
        return {key: value if key == "columns" else without_places(value) for key, value in thing.items()}
    if isinstance(thing, list):
        return [without_places(value) for value in thing]
    if isinstance(thing, str) and _PLACE.fullmatch(thing):
        return re.split(r"[\\/]", thing.rstrip("\\/"))[-1]
    return thing


def _check_same(folder: Path, run: Path) -> None:
    """Refuse a run whose model is another one."""
    theirs = run / WEIGHTS
    if digest(theirs) != digest(folder / WEIGHTS_FILE):
        raise RequestError(
            f"push_to_hub: the weights of {theirs} are others than the model's in hand, and so its figures are; "
            f"load that model, mmcore.load({str(run / 'model')!r}), or leave run out"
        )


def _picture(run: Path) -> bytes | None:
    path = run / "samples" / "samples.png"
    if not path.exists():
        return None
    data = read_bytes(path, RECORD)
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        raise DamagedError(f"{path}: found no PNG")
    return data


def _needs(config: Mapping[str, Any]) -> str:
    needed = table(("distribution", "version"), config["distributions"].items())
    return f"## What it needs\n\n{needed}\n\n```sh\n{installs(config)}\n```"


def _data(config: Mapping[str, Any]) -> str:
    """What the configuration of the run says of data."""
    tables = config.get("configuration")
    data = tables.get("data") if isinstance(tables, Mapping) else None
    if not isinstance(data, Mapping):
        return "## Data\n\nNothing was recorded of the data that it was trained on."
    rows = [
        (key, json.dumps(value, ensure_ascii=False)) for key, value in data.items() if value not in (None, {}, [], "")
    ]
    return f"## Data\n\nAs the configuration of its training has it.\n\n{table(('option', 'value'), rows)}"


def _figures(found: Mapping[str, Figure], rows: str) -> str:
    if not found:
        return "## Figures\n\nNone were measured."
    # Of each element by itself there may be thousands.
    whole = {name: figure for name, figure in found.items() if not name.endswith("]")} or dict(found)
    lines = [
        (name, f"{one.value:.4g}", f"{one.low:.4g} … {one.high:.4g}", f"{one.n:,}")
        for name, one in list(whole.items())[:_ROUNDED]
    ]
    of = f" Calibration is of {plain(rows)}." if rows else ""
    left = f"\n\n{len(found) - len(lines):,} more are not shown." if len(found) > len(lines) else ""
    head = ("figure", "value", "95 % interval", "n")
    return f"## Figures\n\nWith 95 % bootstrap intervals over the rows.{of}\n\n{table(head, lines)}{left}"

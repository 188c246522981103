"""Whether a run that goes on is the run that was: its configuration, its data, and all else that makes a difference."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import torch

from mmcore import files
from mmcore._version import __version__
from mmcore.data import LoaderOptions
from mmcore.data.batches import Readable
from mmcore.data.digest import digest
from mmcore.data.stream import head_of
from mmcore.errors import MmcoreError, RequestError
from mmcore.store.checkpoint import Checkpoint
from mmcore.store.reading import DamagedError
from mmcore.training.logs import SAME, mark
from mmcore.training.ranks import Ranks
from mmcore.training.saving import FORMAT, tell, upgraded

FREE = (*(field.name for field in attrs.fields(LoaderOptions)), "expect", "unpaired", "bad_row_limit")
"""What a configuration says of data that may change while a run is interrupted: it changes no result."""


def deciding(configuration: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a run's configuration says that decides its result, beside the training's options and the model's parts, which are compared as they are."""
    told: Mapping[str, Any] = configuration or {}
    data: Any = told.get("data", {})
    kept = {name: value for name, value in data.items() if name not in FREE}
    return {name: value for name, value in {"data": kept, "threads": told.get("threads")}.items() if value}


def known_by(rows: Readable, compared: int) -> dict[str, Any]:
    """What data are known by: how many rows there are, and a digest of some; of a stream those at its head, and what it is known by itself."""
    known = {"rows": len(rows), "compared": compared, "digest": digest(rows, compared)}
    head = head_of(getattr(rows, "source", None))
    return known if head is None or head.stream is None else {**known, "stream": head.stream.fingerprint}


def sound(checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint in today's format that says all that it must.

    Raises:
        DamagedError: it lacks or misstates something.
        RequestError: it is of a later mmcore.
    """
    path = checkpoint.folder / "state.json"
    told = checkpoint.files.get(path.name, {})
    number = told.get("format")
    if isinstance(number, int) and number > FORMAT:
        raise RequestError(f"{path}: has format {number}, expected {FORMAT} at most; it is of a later mmcore")
    former = number in (1, 2)
    checkpoint = upgraded(checkpoint)
    told = checkpoint.files.get(path.name, {})
    scaler, loader, configuration = (_table(told.get(name)) for name in ("scaler", "loader", "configuration"))
    logs, versions, best = _table(told.get("logs")), _table(told.get("versions")), told.get("best")
    bad, idle, places = loader.get("bad"), told.get("idle", []), loader.get("places")
    right = {
        "format": told.get("format") == FORMAT,
        "step": _whole(told.get("step")) and told["step"] == checkpoint.step,
        "best": "best" in told and (best is None or _finite(best)),
        "scaler": _finite(scaler.get("scale")) and scaler["scale"] > 0 and _whole(scaler.get("good")),
        "loader": all(_whole(loader.get(name)) for name in ("batches", "batch_size", "rows"))
        and loader["batches"] == checkpoint.step
        and isinstance(loader.get("seed"), int)
        and (places is None or _shares(loader))
        and isinstance(bad, dict)
        and all(re.fullmatch(r"\d{1,18}", key) and isinstance(text, str) for key, text in bad.items()),
        "ranks": _whole(told.get("ranks")) and told["ranks"] > 0,
        "threads": _whole(told.get("threads")) or (former and "threads" not in told),
        "versions": all(isinstance(versions.get(name), str) for name in ("mmcore", "torch")),
        "configuration": all(isinstance(configuration.get(name), dict) for name in ("options", "model", "data"))
        and (former or isinstance(configuration.get("run"), dict))
        and _whole(configuration["data"].get("rows")),
        "logs": (former or logs.keys() >= set(SAME))
        and all(_whole(_table(x).get("bytes")) and isinstance(x.get("sha256"), str) for x in logs.values()),
        "idle": isinstance(idle, list) and all(isinstance(name, str) for name in idle),
    }
    if wrong := [name for name, holds in right.items() if not holds]:
        raise DamagedError(f"{path}: lacks or misstates {', '.join(wrong)}")
    return checkpoint


def _shares(loader: Mapping[str, Any]) -> bool:
    """Whether a stream's loader tells the place of every share."""
    places, ranks = _table(loader.get("places")), loader.get("ranks")
    numbers = ("epoch", "before", "taken", "skip")
    return (
        _whole(ranks)
        and _whole(loader.get("buffer"))
        and places.keys() == {str(rank) for rank in range(min(int(ranks or 0), 1 << 20))}
        and all(_table(place).keys() == {*numbers, "state"} for place in places.values())
        and all(_whole(place[name]) for place in places.values() for name in numbers)
    )


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def compared_rows(checkpoint: Checkpoint, default: int) -> int:
    """How many rows a checkpoint's digest is of."""
    found: Any = checkpoint.files.get("state.json", {}).get("configuration")
    for name in ("data", "compared"):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, int) and found >= 0 else default


def compare(
    checkpoint: Checkpoint, configuration: Mapping[str, Any], folder: Path, ranks: Ranks, accept_changes: bool
) -> None:
    """Refuse a changed configuration or other data unless told, and say what else is not as it was.

    Args:
        checkpoint: that is gone on with.
        configuration: of this process, in JSON's types.
        folder: of the run.
        ranks: of this process.
        accept_changes: only tell of changes.

    Raises:
        RequestError: something has changed, each with what it was and is.
        MmcoreError: the ranks have different checkpoints.
    """
    told = checkpoint.files.get("state.json", {})
    before, notes = told.get("configuration"), []
    if isinstance(before, Mapping) and "run" not in before:
        notes.append("what was said of the data, and their values, cannot be compared: the checkpoint tells neither")
        configuration = {name: x for name, x in configuration.items() if name != "run"}
        configuration["data"] = {"rows": configuration["data"]["rows"]}
    changed = differences(before, configuration)
    if changed and not accept_changes:
        raise RequestError(
            f"resume: the configuration is not that of {checkpoint.folder}: {'; '.join(changed)}; "
            "put it back, or accept the changes (--accept-changes, accept_changes=True)"
        )
    step = torch.tensor([checkpoint.step, -checkpoint.step], device=torch.device("cpu"))
    if ranks.count > 1:
        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        high, low = ranks.largest(step.to(device)).tolist()
        if high != -low:
            raise MmcoreError(
                f"resume: one rank has a checkpoint of step {high}, another of step {-low}; is the folder shared by all?"
            )
    if not ranks.first:
        return
    notes += [f"configuration: {line}" for line in changed]
    if told.get("ranks") != ranks.count:
        notes.append(
            f"{told.get('ranks')} ranks before, {ranks.count} now: sums in another order, so equal up to rounding"
        )
    if (threads := told.get("threads", torch.get_num_threads())) != torch.get_num_threads():
        notes.append(
            f"{threads} threads before, {torch.get_num_threads()} now: sums in another order, so equal up to rounding"
        )
    for name, mine in (("mmcore", __version__), ("torch", str(torch.__version__))):
        if (theirs := told.get("versions", {}).get(name)) != mine:
            notes.append(f"{name} {theirs} before, {mine} now: equal up to rounding at best")
    for name in SAME:
        path, saved = folder / name, told.get("logs", {}).get(name)
        kept = _beginning(path, saved["bytes"]) if saved and path.is_file() else b""
        if saved and mark(kept) != saved:
            notes.append(f"{path} is not as it was at step {checkpoint.step}; its whole lines are kept")
    for note in notes:
        tell(f"resume: {note}")


def _beginning(path: Path, count: int) -> bytes:
    """At most so many bytes of a file, nothing of one that is shorter."""
    if path.stat().st_size < count:
        return b""
    with files.opened(path) as file:
        return file.read(count)


def differences(old: Any, new: Any, prefix: str = "") -> list[str]:
    """What differs between two configurations, a line each, such as ``options.lr: 0.001 before, 0.002 now``."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [
            line
            for key in keys
            for line in differences(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else str(key))
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [
            line for i, pair in enumerate(zip(old, new, strict=True)) for line in differences(*pair, f"{prefix}[{i}]")
        ]
    if prefix == "data.digest" and old != new:
        return ["the rows' values are not what they were: files were changed, or are read otherwise"]
    if prefix == "data.stream" and isinstance(old, str) and isinstance(new, str) and old != new:
        return ["the stream's files are not what they were: some were added, removed or changed"]
    return [] if old == new else [f"{prefix}: {old!r} before, {new!r} now"]

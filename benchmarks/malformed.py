"""Malformed configurations, made by rule from a valid one: each must end with status 2 and lines that name the place and the mend.

    python -m benchmarks.malformed [--count 200] [--markdown docs/results/malformed.md]

Each is given to ``mmcore train`` in a process of its own, which must not print a traceback, hang, or leave a folder.
"""

import argparse
import collections
import contextlib
import copy
import io
import math
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

VALID: dict[str, Any] = {
    "out": "run",
    "seed": 0,
    "device": "cpu",
    "threads": 1,
    "data": {
        "source": "digits",
        "options": {"components": 20, "ink": 8},
        "columns": {"image": "image", "label": {"column": "label"}},
        "split": {"validation": 0.1, "seed": 0},
        "limit": 200,
        "on_bad_row": "stop",
    },
    "modalities": {
        "image": {"plugin": "image", "channels": 1, "size": 8, "levels": 17, "mean": -0.39, "std": 0.75},
        "mask": {"size": 8, "classes": 2},
        "label": {"classes": 10, "multi": False},
        "embedding": {"plugin": "clip", "width": 20, "unit_norm": False},
    },
    "tasks": {"image": {"weight": 0.2}, "mask": {"target": "mask", "weight": 0.2}},
    "model": {
        "layout": "shared",
        "space": [3, 8, 8],
        "overlap": False,
        "schedule": "cosine",
        "schedule_options": {"steps": 1000, "gains": [1.0, 1.0, 1.0, 1.0]},
        "backbone": "mlp",
        "backbone_options": {"width": 32, "depth": 1, "features": 4},
        "trained_encoders": [],
    },
    "training": {
        "steps": 2,
        "batch_size": 4,
        "lr": 0.001,
        "warmup": 0.1,
        "betas": [0.9, 0.99],
        "weight_decay": 0.01,
        "clip": 1.0,
        "ema": 0.999,
        "weighting": "simple",
        "task_weights": "fixed",
        "seed": 0,
        "log_every": 1,
        "pictures_every": 0,
        "accumulate": 1,
        "precision": "float32",
        "roles": {"joint": 0.35, "single": 0.35, "absent": 0.15, "partial": 0.0},
    },
    "sampling": {"n": 4, "steps": 2, "sampler": "ddim", "spacing": "time", "codes": "mean", "seed": 0},
}
OUT_OF_RANGE: dict[str, list[Any]] = {
    "seed": [-1, 2**63],
    "threads": [-1],
    "modalities.image.channels": [0, -1],
    "modalities.image.size": [0, [8, 0], [8]],
    "modalities.image.levels": [1],
    "modalities.image.std": [0.0, -1.0],
    "modalities.mask.classes": [1],
    "modalities.label.classes": [1, 0],
    "modalities.embedding.width": [1],
    "tasks.image.weight": [-1.0],
    "model.space": [[3], [0, 8, 8], [1, 8, 8], [3, 8, 8, 8, 8], [1 << 20, 64, 64]],
    "model.schedule_options.steps": [0, -5],
    "model.schedule_options.gains": [[1.0], [0.0, 1.0, 1.0, 1.0]],
    "model.backbone_options.width": [0, 31, 1 << 40],
    "model.backbone_options.depth": [0],
    "model.backbone_options.features": [0],
    "training.steps": [0, -1],
    "training.batch_size": [0],
    "training.lr": [-0.1, 5.0],
    "training.warmup": [1.5],
    "training.clip": [-1.0],
    "training.ema": [1.5],
    "training.log_every": [0],
    "training.pictures_every": [-1],
    "training.accumulate": [0],
    "data.limit": [0],
    "data.split.validation": [-0.1, 1.0],
    "training.roles.joint": [-0.1, 1.1, 0.9],
    "training.roles.single": [2.0],
    "training.roles.absent": [-1.0],
    "training.roles.partial": [1.01],
    "sampling.n": [0],
    "sampling.steps": [0],
}
WRONG_NAMES: dict[str, list[Any]] = {
    "data.source": ["digit", "", "mmcore.data.sources.digits:Digits", "../digits"],
    "data.on_bad_row": ["skp"],
    "modalities.image.plugin": ["imge", "mmcore_image.modality:ImageModality", "os:system", "/etc/passwd"],
    "modalities.embedding.plugin": ["embedding"],
    "tasks.mask.target": ["masks", "image.png"],
    "model.layout": ["share", [["image", "mask"]], [["image", "mask", "label", "embedding", "image"]], [[]]],
    "model.schedule": ["cosin", "subprocess:run"],
    "model.backbone": ["transfomer", "torch.nn:Linear"],
    "model.trained_encoders": [["images"]],
    "training.weighting": ["simpel", "__import__('os')"],
    "training.task_weights": ["learn"],
    "training.precision": ["float"],
    "sampling.sampler": ["heum", "2M"],
    "sampling.spacing": ["times"],
    "sampling.codes": ["draw_all"],
    "device": ["gpu", "cpu:x", "cuda:99"],
}
NEW_NAMES = {"modalities": ["a b", "../up", "sämple", "type", "1st", ""], "tasks": ["forward", "x/y"]}
NEEDED = ["data.source", "data", "modalities"]
FREE = (("modalities",), ("tasks",), ("data", "columns"))
"""Tables whose keys are names of the user's own: another key is another modality, task or column."""
MENDS = (
    "expected",
    "did you mean",
    "mend",
    "remove",
    "needs",
    "add",
    "smaller",
    "another name",
    "save it",
    "pip install",
)


@attrs.frozen
class Case:
    """A malformed configuration.

    Attributes:
        kind: the rule that made it.
        what: what is wrong, in short.
        data: the file's bytes.
        place: what a line of the answer must hold.
    """

    kind: str
    what: str
    data: bytes
    place: str


@attrs.frozen
class Outcome:
    """How a case ended.

    Attributes:
        status: of the process; None where it hung.
        text: all it printed.
        seconds: it took.
        left: whether it left a folder.
    """

    status: int | None
    text: str
    seconds: float
    left: bool = False

    def fault(self, case: Case) -> str:
        """What is wrong with how it ended; empty where nothing is."""
        if self.status is None:
            return "hung"
        if "Traceback" in self.text:
            return "traceback"
        if self.status != 2:
            return f"status {self.status}"
        lines = [line for line in self.text.splitlines() if case.place in line]
        if not lines:
            return f"no line names {case.place!r}"
        if not any(mend in line for line in lines for mend in MENDS):
            return "no mend"
        return "left a folder" if self.left else ""


def cases(valid: Mapping[str, Any] = VALID) -> list[Case]:
    """All of them, by rule."""
    import tomli_w

    found: list[Case] = []

    def add(kind: str, what: str, changed: Mapping[str, Any], place: str) -> None:
        found.append(Case(kind, what, tomli_w.dumps(changed).encode(), place))

    for place, value in _leaves(valid):
        misspelt = _misspelt(place[-1])
        wrong = _changed(valid, place, None, rename=misspelt)
        if place[:-1] not in FREE:
            add("misspelt key", ".".join((*place[:-1], misspelt)), wrong, ".".join((*place[:-1], misspelt)))
        other = _other_type(value)
        add("wrong type", f"{'.'.join(place)} = {other!r}", _changed(valid, place, other), ".".join(place))
        if isinstance(value, float):
            for odd in (math.nan, math.inf):
                add("out of range", f"{'.'.join(place)} = {odd}", _changed(valid, place, odd), ".".join(place))
    for place in _tables(valid):
        name = ".".join((*place, "surplus"))
        add("unknown key", name, _changed(valid, (*place, "surplus"), 1), name)
        if place:
            add("not a table", f"{'.'.join(place)} = 5", _changed(valid, place, 5), ".".join(place))
    for kind, table in (("out of range", OUT_OF_RANGE), ("wrong name", WRONG_NAMES)):
        for name, values in table.items():
            place = tuple(name.split("."))
            for value in values:
                # A gain too few is told of its list, a space too small of the space: where the mend is.
                add(kind, f"{name} = {value!r}"[:60], _changed(valid, place, value), name)
    for section, names in NEW_NAMES.items():
        for name in names:
            part = {"plugin": "label"} if section == "modalities" else {"target": "image"}
            add("wrong name", f"{section}.{name!r}", _changed(valid, (section, name), part), f"{section}.")
    for name in NEEDED:
        without = copy.deepcopy(dict(valid))
        table = without
        *above, last = name.split(".")
        for part in above:
            table = table[part]
        del table[last]
        add("missing", name, without, name)
    text = tomli_w.dumps(valid)
    found += list(_broken_text(text))
    return found


def _leaves(tables: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in tables.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key), value


def _tables(tables: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield above
    for key, value in tables.items():
        if isinstance(value, Mapping):
            yield from (place for place in _tables(value, (*above, key)) if place not in FREE)


def _changed(valid: Mapping[str, Any], place: tuple[str, ...], value: Any, rename: str | None = None) -> dict[str, Any]:
    changed = copy.deepcopy(dict(valid))
    table = changed
    for part in place[:-1]:
        table = table[part]
    if rename is None:
        table[place[-1]] = value
    else:
        table[rename] = table.pop(place[-1])
    return changed


def _misspelt(key: str) -> str:
    """Two letters exchanged, or where there are too few, one doubled."""
    return f"{key[0]}{key[2]}{key[1]}{key[3:]}" if len(key) > 3 and key[1] != key[2] else f"{key}{key[-1]}"


def _other_type(value: Any) -> Any:
    if isinstance(value, bool):
        return "yes"
    if isinstance(value, int | float):
        return "many"
    return {"a": 1} if isinstance(value, list) else 7


def _broken_text(text: str) -> Iterator[Case]:
    """Files that are no TOML, or no text."""

    def case(what: str, data: str | bytes, place: str = "is not TOML") -> Case:
        return Case("not TOML", what, data if isinstance(data, bytes) else data.encode(), place)

    first = text.splitlines()[0]
    yield case("a key given twice", f"{first}\n{text}")
    yield case("a table given twice", f"{text}\n[data]\nsource = 'digits'\n")
    yield case("an open string", text.replace('"digits"', '"digits', 1))
    yield case("an open list", f"{text}\n[extra]\nx = [1, 2\n")
    yield case("an open table", f"{text}\n[extra\n")
    yield case("a key without value", f"seed =\n{text[len(first) :]}")
    yield case("a value without key", f"= 3\n{text}")
    yield case("Python instead of TOML", text.replace("false", "False", 1))
    yield case("YAML instead of TOML", "data:\n  source: digits\n")
    yield case("JSON instead of TOML", '{"data": {"source": "digits"}}')
    yield case("a wrong escape", text.replace('"digits"', '"\\digits"', 1))
    yield case("lists in lists without end", "x = " + "[" * 5000)
    yield case("a number of 5000 digits", f"seed = {'9' * 5000}\n")
    yield case("a control character", text.replace("digits", "dig\x07its", 1))
    yield case("Latin-1 bytes", "out = 'é'\n".encode("latin-1"), "is not UTF-8")
    yield case("UTF-16", text.encode("utf-16"), "is not UTF-8")
    yield case("a picture", b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "is not UTF-8")
    yield Case("missing", "an empty file", b"", "modalities")
    yield Case("missing", "comments only", b"# nothing here\n", "data.source")


def chosen(count: int) -> list[Case]:
    """So many of all, from every rule alike: rules of few cases give all, the others at even distances."""
    by_kind = collections.defaultdict(list)
    for case in cases():
        by_kind[case.kind].append(case)
    picked: list[Case] = []
    kinds = sorted(by_kind.values(), key=len)
    for place, some in enumerate(kinds):
        share = min(len(some), (count - len(picked)) // (len(kinds) - place))
        picked += [some[i * len(some) // share] for i in range(share)]
    return picked


def in_process(case: Case, folder: Path) -> Outcome:
    """``mmcore train`` in this process, up to where training would begin."""
    from mmcore.cli import program

    file = folder / "config.toml"
    file.write_bytes(case.data)
    told = io.StringIO()
    before, argv = Path.cwd(), sys.argv
    sys.argv = ["mmcore", "train", str(file)]
    os.chdir(folder)
    begin = time.monotonic()
    try:
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
            try:
                program.main()
                status: int | str | None = 0
            except SystemExit as end:
                status = end.code
    finally:
        os.chdir(before)
        sys.argv = argv
    left = [path for path in folder.iterdir() if path != file]
    return Outcome(status if isinstance(status, int) else 0, told.getvalue(), time.monotonic() - begin, bool(left))


def in_fork(case: Case, folder: Path, limit: float) -> Outcome:
    """The same in a process of its own, forked from this one: its real status, and an end if it hangs."""
    begin = time.monotonic()
    told = folder / "told.txt"
    work = folder / "work"
    work.mkdir()
    child = os.fork()
    if child == 0:
        status = 70
        try:
            with told.open("w") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
                outcome = in_process(case, work)
                file.write(outcome.text + ("\0" if outcome.left else ""))
                status = outcome.status if outcome.status is not None else 70
        except BaseException as error:
            with told.open("a") as file:
                file.write(f"Traceback: {error!r}")
        finally:
            os._exit(status)
    while True:
        # Asked before the time is looked at: on a busy machine this process may be the one that waits.
        late = time.monotonic() - begin > limit
        done, raw = os.waitpid(child, os.WNOHANG)
        if done:
            text = told.read_text()
            return Outcome(
                os.waitstatus_to_exitcode(raw), text.replace("\0", ""), time.monotonic() - begin, "\0" in text
            )
        if late:
            break
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return Outcome(None, told.read_text(), limit)


def table(found: list[tuple[Case, Outcome]]) -> str:
    """The outcome as a table in Markdown."""
    lines = ["| rule | files | status 2, place and mend | an example | its answer |", "|---|---:|---:|---|---|"]
    by_kind = collections.defaultdict(list)
    for case, outcome in found:
        by_kind[case.kind].append((case, outcome))
    for kind, some in by_kind.items():
        right = sum(not outcome.fault(case) for case, outcome in some)
        case, outcome = some[len(some) // 2]
        answer = next((line for line in outcome.text.splitlines() if case.place in line), outcome.text)
        answer = answer.partition("config.toml: ")[2] or answer
        answer = answer if len(answer) <= 150 else f"{answer[:147]}…"
        cells = [kind, str(len(some)), str(right), f"`{_cell(case.what)}`", f"`{_cell(answer)}`"]
        lines.append(f"| {' | '.join(cells)} |")
    right = sum(not outcome.fault(case) for case, outcome in found)
    lines.append(f"| all | {len(found)} | {right} | | |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("`", "'")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--limit", type=float, default=300.0, help="seconds before a process counts as hanging")
    parser.add_argument("--markdown", type=Path, help="where the table goes")
    arguments = parser.parse_args()
    import torch

    # A fork must find torch's threads asleep: one thread has none.
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        in_process(cases()[0], Path(folder))  # imports the plugins, once for all children
    found = []
    for case in chosen(arguments.count):
        with tempfile.TemporaryDirectory() as folder:
            outcome = in_fork(case, Path(folder), arguments.limit)
        found.append((case, outcome))
        if outcome.fault(case):
            print(f"{case.kind}: {case.what}: {outcome.fault(case)}\n{outcome.text}", file=sys.stderr)
    text = table(found)
    print(text)
    seconds = sorted(outcome.seconds for _, outcome in found)
    print(f"\nmedian {seconds[len(seconds) // 2]:.2f} s, longest {seconds[-1]:.2f} s for each, torch being imported")
    if arguments.markdown:
        arguments.markdown.parent.mkdir(parents=True, exist_ok=True)
        arguments.markdown.write_text(text + "\n", encoding="utf-8")
    sys.exit(any(outcome.fault(case) for case, outcome in found))


if __name__ == "__main__":
    main()

"""What ``mmcore plugins`` prints."""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mmcore.errors import RequestError
from mmcore.plugins.metadata import HOOKS, Entry, printable
from mmcore.plugins.registry import Registry

if TYPE_CHECKING:
    from mmcore.plugins.probe import Trial

COLUMNS = ("kind", "name", "distribution", "version", "api", "status", "summary")


def show_list(registry: Registry, *, as_json: bool = False, load: bool = False, limit: float = 10.0) -> None:
    """Print one row per entry; with ``load``, after trying each plugin in a process of its own, which knows the offers' summaries."""
    rows: list[dict[str, object]] = [dict(row) for row in registry.table()]
    columns = COLUMNS
    if load:
        from mmcore.plugins.probe import Trial, probe

        columns = (*COLUMNS[:-1], "import", "summary", "error")
        trials = probe(registry.entries, limit=limit)
        for entry, row in zip(registry.entries, rows, strict=True):
            trial = trials.get(entry, Trial())
            row["seconds"] = trial.seconds
            row["summary"] = trial.summary or row["summary"]
            if trial.fault:
                row |= {"status": trial.fault.status, "error": f"{trial.fault.problem}; {trial.fault.mend}"}
                registry.tell(entry, trial.fault)
            elif row["status"] == "not loaded":
                row["status"] = "ok"
    if as_json:
        import json

        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        row["import"] = "" if row.get("seconds") is None else f"{row['seconds']:.3f} s"
    _print_table([columns, *([str(row[column] or "") for column in columns] for row in rows)])


def show_why(registry: Registry, name: str, *, limit: float = 60.0) -> None:
    """Print all there is to know of the entries that ``name`` matches, after trying them in processes of their own.

    Raises:
        RequestError: nothing is called so.
    """
    from mmcore.plugins.probe import Trial, probe

    found = [entry for entry in registry.entries if entry.matches(name)]
    if not found:
        known = ", ".join(sorted({f"{e.kind}.{e.name}" for e in registry.entries}))
        raise RequestError(f"plugins why: nothing is called {name!r}; there are {known}")
    trials = probe(found, limit=limit, factories=True)
    status = {entry: row["status"] for entry, row in zip(registry.entries, registry.table(), strict=True)}
    for entry in found:
        _print_entry(registry, entry, str(status[entry]), trials.get(entry, Trial()))


def _print_entry(registry: Registry, entry: Entry, status: str, trial: "Trial") -> None:
    fault = trial.fault or entry.fault
    if fault and not entry.blocked:
        status = fault.status
    elif status == "not loaded":
        status = "ok"
    lines = {
        "status": status,
        "distribution": f"{entry.distribution} {entry.version}",
        "metadata": entry.path,
        "entry point": f"{entry.kind}.{entry.name} = {entry.module}  [mmcore.{entry.api}]",
        "module": trial.file,
        "hook": HOOKS.get(entry.kind, ""),
        "factory": trial.factory,
        "summary": trial.summary,
        "problem": fault.problem if fault else "",
        "mend": fault.mend if fault else "",
    }
    if entry.blocked:
        lines["mend"] = "allow it in MMCORE_PLUGINS, or drop --no-plugin or --no-plugins"
    elif status == "conflict":
        rivals = [
            e
            for e in registry.entries
            if (e.kind, e.name) == (entry.kind, entry.name) and not e.blocked and not e.fault
        ]
        lines["problem"] = f"{len(rivals)} distributions offer {entry.kind} {entry.name!r}"
        lines["mend"] = f"name one: {' or '.join(e.full_name for e in rivals)}"
    print(_clean(f"{entry.kind}.{entry.name}"))
    for title, text in lines.items():
        if text:
            print(f"  {title + ':':14}{_clean(text)}")
    for line in trial.trace.splitlines():
        print(f"    {_clean(line)}")


def _print_table(rows: Iterable[Iterable[str]]) -> None:
    table = [[_clean(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _clean(text: str) -> str:
    """The text without what would move the terminal's cursor or what stdout cannot encode."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return printable(text).encode(encoding, "backslashreplace").decode(encoding)

"""Whether rows have their variables together, without which nothing is learned of one from another."""

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mmcore.data.source import Source
from mmcore.errors import OptionError, RequestError

if TYPE_CHECKING:
    from mmcore.data.dataset import Dataset
    from mmcore.data.table import Table

_SEEN = 256
_NAMED = 2000


def presence(source: Source, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Which rows have which variables: of all rows where the source knows it, else of some spread evenly.

    Args:
        source: of the rows.
        names: of the variables.

    Returns:
        the rows' indices ``(R,)``, and whether each has each variable ``(R, len(names))``.
    """
    known = [source.has(name) for name in names]
    if all(one is not None for one in known):
        return np.arange(len(source)), np.stack([np.asarray(one, dtype=bool) for one in known], axis=1)
    rows = np.arange(min(len(source), _SEEN)) * len(source) // min(len(source), _SEEN)
    found = np.zeros((len(rows), len(names)), dtype=bool)
    for place, index in enumerate(rows.tolist()):
        try:
            row = source[index]
        except Exception:  # a bad row is told when it is read
            continue
        for k, name in enumerate(names):
            try:
                found[place, k] = row.get(name) is not None
            except Exception:
                found[place, k] = True
    return rows, found


def check_together(rows: "Dataset | Table") -> None:
    """Refuse rows of which none has two variables.

    Args:
        rows: to train on.

    Raises:
        RequestError: with two rows that are likely one.
    """
    names = rows.names
    if rows.unpaired or len(names) < 2:
        return
    source, indices, present = _present(rows)
    if (present.sum(1) >= 2).any() or not present.any():
        return
    counts = ", ".join(f"{name} in {n}" for name, n in zip(names, present.sum(0).tolist(), strict=True))
    seen = f"{len(present)} rows" if len(present) == len(rows) else f"{len(present)} of {len(rows)} rows looked at"
    raise RequestError(
        f"data: found no row with two variables among {seen} ({counts}{_two(source, indices, present)}), expected rows that have "
        "them together: name files, keys or lines alike; unpaired = true trains on rows of one variable each"
    )


def check_asked(rows: "Dataset | Table", questions: Mapping[str, tuple[Collection[str], Collection[str]]]) -> None:
    """Refuse a question of which no row has all that it observes and something that it generates: nothing would be learned of it, without a word.

    Args:
        rows: to train on.
        questions: by their text the names of what is observed, and of what is generated.

    Raises:
        OptionError: naming the question.
    """
    if not questions:
        return
    _, _, present = _present(rows)
    if len(present) < len(rows):
        return
    has = dict(zip(rows.names, present.T, strict=True))
    for text, (given, asked) in questions.items():
        answers = np.any([has[name] for name in asked], axis=0)
        told = np.all([has[name] for name in given], axis=0) if given else answers
        if not (answers & told).any():
            expected = f"one that rows answer: none of {len(rows)} has {' or '.join(asked)}{f' with {_all(given)}' if given else ''}"
            raise OptionError("roles", "questions", text, expected)


def _all(names: Collection[str]) -> str:
    return f"{'all of ' if len(names) > 1 else ''}{', '.join(names)}"


def _present(rows: "Dataset | Table") -> tuple[Source | None, np.ndarray, np.ndarray]:
    """The source where there is one, and :func:`presence` of all variables."""
    from mmcore.data.table import Table

    if isinstance(rows, Table):
        return None, np.arange(len(rows)), rows.rows.present.numpy()
    return rows.source, *presence(rows.source, rows.names)


def check_expected(rows: "Dataset", expected: Mapping[str, float]) -> None:
    """Refuse rows of which fewer than half as many have a variable as was promised.

    Args:
        rows: to train on.
        expected: the share of rows that have a variable, by variable.

    Raises:
        OptionError: with the share that was found.
    """
    names = [name for name in expected if name in rows.names]
    _, present = presence(rows.source, names) if names else (None, np.zeros((1, 0)))
    for name, here in zip(names, present.T, strict=True):
        if 2 * here.mean() < expected[name]:
            text = f"a share of at most twice the rows that have it: {here.sum()} of {len(here)}"
            mend = "see whether files were lost or renamed, or change the share"
            raise OptionError("data", f"expect.{name}", expected[name], text, mend=mend)


def _two(source: Source | None, indices: np.ndarray, present: np.ndarray) -> str:
    """The places of two rows that have different variables, and are named most alike."""
    kinds = present.argmax(1)
    with_any = present.any(1)
    first = np.flatnonzero(with_any & (kinds == kinds[with_any][0]))
    other = np.flatnonzero(with_any & (kinds != kinds[with_any][0]))
    if source is None or not len(other):
        return ""
    b = int(indices[other[0]])
    keys = {source.key(int(index)): int(index) for index in indices[first][:_NAMED]}
    near = difflib.get_close_matches(source.key(b), keys, 1, 0.0)
    a = keys[near[0]] if near else int(indices[first[0]])
    return f"; {source.where(a)} and {source.where(b)} may be one"

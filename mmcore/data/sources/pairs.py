"""Names that should meet: whether the files of several variables share their stems, and if not, how they could. Imports no torch."""

import difflib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import attrs

from mmcore.data.sources.files import normal, part_of, shown, without_suffix
from mmcore.errors import RequestError

_SOME = 2000
_TRIED = 16
_FLOAT = re.compile(r"(?<=\d)\.0$")
"""What pandas adds to whole numbers of which one is missing."""
_COUNTED = re.compile(r"[\W_]*\d+[\W_]*")


@attrs.frozen
class Affixes:
    """What stands before and after the part of a name that variables share.

    Attributes:
        prefix: before it.
        suffix: after it.
    """

    prefix: str = ""
    suffix: str = ""

    def strip(self, stem: str) -> str | None:
        """The shared part of a stem, which may lie in a folder; None where the name has not both."""
        folder, slash, name = stem.rpartition("/")
        if not (name.startswith(self.prefix) and name.endswith(self.suffix)):
            return None
        inner = name[len(self.prefix) : len(name) - len(self.suffix)]
        return f"{folder}{slash}{inner}" if inner and len(name) >= len(self.prefix) + len(self.suffix) else None

    def of(self, word: str) -> "Affixes":
        """These in the folder of a part that is called so, whose name files may have in theirs: :data:`PART` stands for it."""
        return Affixes(self.prefix.replace(PART, word), self.suffix.replace(PART, word))


PART = "{part}"
"""What stands for the folder of a part in what is around a stem: ``_{part}`` for ``training/21_training`` and ``test/01_test``."""


def word_of(folder: str) -> str:
    """What the folder of a part is called, of the path of a variable's folder; empty where none is."""
    return next((word for word in folder.split("/") if part_of(word)), "")


def without_word(stems: Sequence[str], word: str) -> list[str]:
    """Stems with :data:`PART` in place of the name of their part's folder, where all have it."""
    pattern = re.compile(rf"(?<![^\W\d_]){re.escape(word)}(?![^\W\d_])")
    if not word or not all(pattern.search(stem.rpartition("/")[2]) for stem in stems):
        return list(stems)
    return ["".join([*stem.rpartition("/")[:2], pattern.sub(PART, stem.rpartition("/")[2], count=1)]) for stem in stems]


def check_pairs(stems: Mapping[str, Collection[str]], where: str, tables: Collection[str] = ()) -> None:
    """Refuse variables whose names do not meet.

    Args:
        stems: of every variable's folder or table.
        where: they lie.
        tables: those that are tables.

    Raises:
        RequestError: no row has two of them, or fewer than half of one's rows have another's while it has not half of another's;
            two names that should have met, and the line that lets them.
    """
    for name, mine in stems.items():
        others = {other: len(set(mine) & set(theirs)) for other, theirs in stems.items() if other != name}
        if not others or not mine:
            continue
        shares = {other: count / min(len(mine), len(stems[other])) for other, count in others.items() if stems[other]}
        if not shares or max(shares.values()) >= 0.5:
            continue
        other = max(shares, key=lambda key: (shares[key], -list(stems).index(key)))
        # The one that has more is told first, so images before their masks.
        a, b = sorted((name, other), key=lambda key: (-len(stems[key]), list(stems).index(key)))
        met = others[other]
        one, two = nearest_pair(stems[a], stems[b])
        line = proposal({a: stems[a], b: stems[b]}) if not {a, b} & set(tables) else ""
        mend = f"{line} lets them meet" if line else "rename them, or name in a table which belong together"
        if {a, b} & set(tables):
            mend = "write the files' names into the table, or leave it out of options.tables"
            if row := next((stem for stem in (one, two) if re.fullmatch(r"\S+(?:\s+-?[\d.]+)+", stem)), ""):
                mend = f"if spaces part the cells of {row!r}, write commas; {mend}"
        raise RequestError(
            f"folder: found {met} of {len(stems[b])} names of {b} among the {len(stems[a])} of {a} in {where} ({a} has {one!r}, {b} has {two!r}), "
            f"expected stems that meet; {mend}; options.unpaired = true takes rows of one variable each"
        )


def _apart(files: Mapping[str, Collection[str]], lines: Collection[str]) -> tuple[list[str], list[str]]:
    """A table's names that meet no file, and the files' stems that meet no name."""
    stems = {stem for some in files.values() for stem in some}
    return sorted(set(lines) - stems), sorted(stems - set(lines))


def check_zeros(files: Mapping[str, Collection[str]], tables: Mapping[str, Collection[str]], where: str) -> None:
    """Refuse a table some of whose names are numbers that have lost the zeros which the files' names begin with.

    Args:
        files: the stems of every variable's folder.
        tables: the stems that each table names.
        where: they lie.

    Raises:
        RequestError: with one of the names, and the file that it is of.
    """
    for name, lines in tables.items():
        alone, left = _apart(files, lines)
        numbers = {int(stem): stem for stem in left if stem.isdecimal()}
        cut = [stem for stem in alone if stem.isdecimal() and int(stem) in numbers]
        if cut:
            raise RequestError(
                f"folder: {len(cut)} of {len(lines)} names of {name} are numbers of files without their zeros, such as {cut[0]!r} of "
                f"{numbers[int(cut[0])]!r} in {where}, expected the files' own names; options.unpaired = true takes them for other rows"
            )


def told_of(path: Path, table: Any, key: str, met: int, stems: Sequence[str]) -> list[str]:
    """What is to be said of a table beside parts, of which a line that meets no file is in none.

    Args:
        path: of the folder.
        table: a manifest.
        key: its column that names the files.
        met: how many of its lines meet one.
        stems: of the files.

    Raises:
        RequestError: none does, though there are as many lines as there might be of the files.
    """
    cells = [cell for cell in table.lines.texts_of(key) if cell is not None]
    if met == len(cells):
        return []
    if not met and 2 * len(cells) >= len(set(stems)) > 0:
        raise RequestError(
            f"folder: found 0 of {len(cells)} names of {table.path.name} among the files in {shown(str(path))} (these have {min(stems)!r}, its column {key} has "
            f"{cells[0]!r}), expected stems that meet; write the files' names into the table, say what stands around them (options.prefixes, options.suffixes), "
            "or leave it out of options.tables"
        )
    return [f"{table.path.name}: {len(cells) - met} of {len(cells)} lines name no file of any part, and are left out"]


def unmet(files: Mapping[str, Collection[str]], lines: Collection[str], name: str) -> str:
    """What of a table and of the files beside it meets nothing, in words; empty where all meet."""
    stems = {stem for some in files.values() for stem in some}
    alone, left = _apart(files, lines)
    if not stems or not alone:
        return ""
    less = f"; {len(left)} of {len(stems)} files no name, such as {left[0]!r}" if left else ""
    return f"{name}: {len(alone)} of {len(lines)} names meet no file, such as {alone[0]!r}{less}"


def nearest_pair(a: Collection[str], b: Collection[str]) -> tuple[str, str]:
    """Two names, one of each, that are nearest among those without a partner."""
    first = sorted(set(a) - set(b))[:_SOME] or sorted(a)
    second = sorted(set(b) - set(a)) or sorted(b)
    two = second[0]
    same = [one for one in first if one.isdecimal() and two.isdecimal() and int(one) == int(two)]
    near = (
        same
        or [one for one in first if one.startswith(two) or two.startswith(one)]
        or difflib.get_close_matches(two, first, 1, 0.0)
    )
    return (near[0] if near else first[0]), two


def proposal(stems: Mapping[str, Collection[str]]) -> str:
    """The options by which the names of two variables meet, as a line of a configuration; empty where there are none."""
    affixes = guess_affixes(*stems.values())
    if affixes is None:
        return ""
    pairs = list(zip(stems, affixes, strict=True))
    lines = []
    for option in ("prefixes", "suffixes"):
        values = {name: getattr(affix, option.removesuffix("es")) for name, affix in pairs}
        inner = ", ".join(f"{key(name)} = {json.dumps(value)}" for name, value in values.items() if value)
        if inner:
            lines.append(f"options.{option} = {{ {inner} }}")
    return " with ".join(lines)


def key(name: str) -> str:
    """A name as a TOML key."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def guess_affixes(a: Collection[str], b: Collection[str]) -> tuple[Affixes, Affixes] | None:
    """What stands before and after in the names of two variables, if at least half of the fewer meet without it; None otherwise."""
    if not a or not b:
        return None
    for one, two in _candidates(sorted(a), sorted(b)):
        digits = [affix for affix in (one, two) if any(map(_COUNTED.fullmatch, (affix.prefix, affix.suffix)))]
        if any(text.isdecimal() for affix in digits for text in (affix.prefix, affix.suffix)):
            continue  # digits count
        # What numbers the files of one row, of which there may be several, is no part of all names.
        if any(affix.strip(stem) is None for affix in digits for stem in (a if affix is one else b)):
            continue
        left = {one.strip(stem) for stem in a} - {None}
        right = {two.strip(stem) for stem in b} - {None}
        if 2 * len(left & right) >= min(len(a), len(b)) and left & right:
            return one, two
    return None


def _candidates(a: Sequence[str], b: Sequence[str]) -> list[tuple[Affixes, Affixes]]:
    names = [[stem.rpartition("/")[2] for stem in stems] for stems in (a, b)]
    found: list[tuple[Affixes, Affixes]] = []
    # One name is the other and something before or after it.
    for swapped in (False, True):
        shorter, longer = (names[1], names[0]) if swapped else (names[0], names[1])
        for long in longer[:3]:
            for short in shorter[:_SOME]:
                if short and short != long and short in long:
                    before, _, after = long.partition(short)
                    pair = Affixes(), Affixes(before, after)
                    found.append((pair[1], pair[0]) if swapped else pair)
    # The least first, as a short name may lie in another by chance.
    found = sorted(dict.fromkeys(found), key=lambda pair: sum(len(x.prefix) + len(x.suffix) for x in pair))[:_TRIED]
    common = [common_affixes(stems) for stems in (a, b)]
    suffixes = [Affixes("", affix.suffix) for affix in common]
    prefixes = [Affixes(affix.prefix) for affix in common]
    return [*found, *((one[0], one[1]) for one in (suffixes, prefixes, common))]


def common_affixes(stems: Collection[str]) -> Affixes:
    """What all names begin and end with, but for digits."""
    names = [stem.rpartition("/")[2] for stem in stems]
    return Affixes(_before(names), _after(names))


def _before(names: Sequence[str]) -> str:
    """What all begin with, but for digits at its end, which count."""
    first, last = min(names), max(names)  # what these two begin with, all begin with
    count = next((k for k, (x, y) in enumerate(zip(first, last, strict=False)) if x != y), min(len(first), len(last)))
    return first[:count].rstrip("0123456789")


def _after(names: Sequence[str]) -> str:
    return _before([name[::-1] for name in names])[::-1]


def join(table: Any, files: Mapping[str, Mapping[str, Mapping[str, str]]]) -> tuple[str, dict[str, dict[str, int]]]:
    """The column of a table that names stems, and each part's lines by stem.

    The column is the one whose cells meet most stems, the first of equals. A line that meets none is a row of its own, unless there are parts.

    Args:
        table: a manifest.
        files: of each part by variable and stem; the part ``""`` where the data are one whole.

    Raises:
        RequestError: a line without a stem, a second one for a stem, or one that could be of several parts.
    """
    stems = {part: {stem for some in here.values() for stem in some} for part, here in files.items()}
    known = {part: _known(some) for part, some in stems.items()}
    best, most = table.names[0], -1
    written: Sequence[str | None] = ()
    for name in table.names:
        cells = table.lines.texts_of(name)
        count = sum(1 for cell in cells if cell is not None and any(_find(cell, some) for some in known.values()))
        if count > most:
            best, most, written = name, count, cells
        if count == len(cells) or not any(stems.values()):
            break
    lines: dict[str, dict[str, int]] = {part: {} for part in files}
    again: list[str] = []
    for index, cell in enumerate(written):
        if cell is None:
            raise RequestError(f"{table.where(index)}: found no {best}, expected a file's stem")
        found = {part: stem for part, some in known.items() if (stem := _find(cell, some))}
        if len(found) > 1:
            said = {part for word in cell.replace("\\", "/").split("/")[:-1] if (part := part_of(word)) in found}
            if len(said) != 1:
                raise RequestError(
                    f"{table.where(index)}: found {cell!r} in {', '.join(found)} alike, expected a path that says which, such as {next(iter(found))}/{cell}"
                )
            found = {part: found[part] for part in said}
        if not found and list(files) == [""]:
            found = {"": normal(without_suffix(cell.replace("\\", "/").rpartition("/")[2]))}
        for part, stem in found.items():
            if stem in lines[part]:
                if table.lines[index] == table.lines[lines[part][stem]]:
                    again.append(stem)
                    continue
                raise RequestError(
                    f"{table.where(index)}: found {stem!r} again, expected one line for each file; several labels of one are a list in one cell, such as "
                    f'["a", "b"]; each line is a row of its own where the table is read by itself: mmcore init {shown(table.path.name)}'
                )
            lines[part][stem] = index
    if again:
        table.notes.append(
            f"{table.path.name}: {len(again)} lines that are there twice count once, such as that of {again[0]!r}"
        )
    return best, lines


def _known(stems: Collection[str]) -> dict[str, str]:
    """Stems by themselves, and those in folders by their last part where it is one's alone."""
    names: dict[str, str] = {}
    for stem in stems:
        last = stem.rpartition("/")[2]
        names[last] = "" if last in names else stem
    return {**{name: stem for name, stem in names.items() if stem}, **{stem: stem for stem in stems}}


def _find(cell: str, known: Mapping[str, str]) -> str:
    """The stem that a table's cell names: a stem, a file, or a path that ends in one; empty where it names none."""
    text = normal(cell.replace("\\", "/"))
    for whole in (text, without_suffix(text), unquote(text), without_suffix(unquote(text)), _FLOAT.sub("", text)):
        words = whole.split("/")
        for k in range(len(words)):
            if stem := known.get("/".join(words[k:])):
                return stem
    return ""

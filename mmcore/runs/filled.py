"""Predictions as files: a table with a line for each row, and the pictures and arrays that it names."""

import csv
import hashlib
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import torch
from PIL import Image

from mmcore import files, limits
from mmcore.data import Source
from mmcore.data.decode import content
from mmcore.data.sources.files import shown
from mmcore.errors import RequestError
from mmcore.files import expanded
from mmcore.modality.base import ModalityProtocol
from mmcore.model.joint import JointModel
from mmcore.progress import Progress
from mmcore.runs import pictures
from mmcore.runs.answers import Answer
from mmcore.runs.held import plain
from mmcore.runs.run import CONFIG
from mmcore.store.folder import CHECKPOINTS, alone

if TYPE_CHECKING:
    from mmcore.runs.filling import Prediction, Predictions

FORMAT = 1
TABLE, RECORD = "predictions.csv", "predictions.json"
KEPT = 1000
"""Rows that could not be read, of which the record says why."""
EVERY = 32
"""Rows after which a record says how far it has come."""


@attrs.frozen
class Written:
    """What was written.

    Attributes:
        folder: where.
        rows: how many.
        filled: in how many of them each variable was filled in.
        left: in how many of them each variable lacks and was not asked for.
        cut: of how many of them transforms cut the pictures, so that answers are repeated beyond the edge.
        bad: rows that could not be read, and why.
        folders: of the files, by variable.
    """

    folder: Path
    rows: int
    filled: Mapping[str, int]
    left: Mapping[str, int]
    cut: int
    bad: Sequence[str]
    folders: Sequence[str]


@attrs.define
class _Done:
    """How far predictions have come.

    Attributes:
        rows: that are written.
        size: of the table, in bytes.
        table: a digest of these bytes.
        seen: a digest of what these rows have.
        filled: as in :class:`Written`.
        left: likewise.
        cut: likewise.
        bad: likewise.
    """

    rows: int = 0
    size: int = 0
    table: str = ""
    seen: str = ""
    filled: dict[str, int] = attrs.field(factory=dict)
    left: dict[str, int] = attrs.field(factory=dict)
    cut: int = 0
    bad: list[str] = attrs.field(factory=list)


def write(asked: "Predictions", folder: Path, *, force: bool, quiet: bool) -> Written:
    """What :meth:`mmcore.runs.filling.Predictions.write` does."""
    columns = _Columns(
        [m for m in asked.reader.model.variables if m.name not in asked.absent], asked.draws, asked.again
    )
    _check_folder(asked, folder, columns)
    _check_keys(asked.rows.source)
    question = _question(asked)
    with alone(folder, "predict", "predicts"):
        done = _begun(folder, question, columns, force=force)
        # The question first: of another one all else differs too.
        seen, lines = _seen(asked.rows.source, done), _written(folder, done, len(asked))
        _check_files(folder, columns, lines)
        table = hashlib.sha256(lines)
        if done.rows < len(asked) or not (folder / TABLE).exists():
            _go_on(asked, folder, columns, question, done, seen, table, quiet=quiet)
    return Written(folder, len(asked), done.filled, done.left, done.cut, tuple(done.bad), tuple(columns.folders))


def _go_on(
    asked: "Predictions",
    folder: Path,
    columns: "_Columns",
    question: Mapping[str, Any],
    done: _Done,
    seen: Any,
    table: Any,
    *,
    quiet: bool,
) -> None:
    filled, left = Counter(done.filled), Counter(done.left)
    with (
        files.edited(folder / TABLE) as file,
        Progress("predicting", len(asked), quiet=quiet) as bar,
    ):
        if asked.held is not None:
            asked.held.progress = bar
        # A line that was being written when it was stopped is written anew.
        file.truncate(done.size)
        file.seek(done.size)
        rows: Iterator[Prediction] = asked.since(done.rows)
        lines = ((row, columns.line(row, folder)) for row in rows)
        if not done.size:
            table.update(_put(file, columns.header))
        for row, cells in lines:
            table.update(_put(file, cells))
            seen.update(_identity(asked.rows.source, row.number))
            filled.update(list(row.answers))
            left.update(row.left)
            done.cut += any(one.cut for one in row.answers.values())
            done.bad += [row.bad] if row.bad and len(done.bad) < KEPT else []
            done.rows += 1
            if done.rows % EVERY == 0 or done.rows == len(asked):
                file.flush()
                os.fsync(file.fileno())
                done.size, done.table, done.seen = file.tell(), table.hexdigest(), seen.hexdigest()
                done.filled, done.left = dict(filled), dict(left)
                _keep(folder, question, columns, done)
                bar.update(done.rows)


def _put(file: Any, cells: Sequence[str]) -> bytes:
    line = _line(cells)
    file.write(line)
    return line


# ---- what was asked, and how far it is answered ----


def _question(asked: "Predictions") -> dict[str, Any]:
    """What decides the answers, as plain values."""
    return json.loads(
        json.dumps(
            {
                "model": _weights(asked.reader.model),
                "data": "rows at hand" if asked.data is None else shown(str(expanded(asked.data).absolute())),
                "rows": len(asked),
                "columns": {name: attrs.asdict(column) for name, column in asked.opened.columns.items()},
                "on_bad_row": asked.rows.on_bad_row,
                "draws": asked.draws,
                "interval": asked.interval,
                "calibrated": asked.held is not None,
                "again": sorted(asked.again),
                "absent": sorted(asked.absent),
                "how": dict(asked.asked.how),
            },
            default=plain,
        )
    )


def _weights(model: JointModel) -> str:
    """A digest that no other weights have; the same of a model at hand and of the folder that it was read from."""
    found = hashlib.sha256()
    for name, x in sorted(model.state_dict().items()):
        found.update(f"{name} {x.dtype} {tuple(x.shape)}".encode())
        found.update(x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def _identity(source: Source, number: int) -> bytes:
    """What a row has, so that another is known: of files their size and the time of their last change."""
    told = [source.key(number)]
    try:
        row = source[number]
        for name in row:
            value = row[name]
            if isinstance(value, Path):
                at = value.stat()
                told.append(f"{name}={value} {at.st_size} {at.st_mtime_ns}")
            elif isinstance(value, str | int | float | bool | None):
                told.append(f"{name}={value!r}")
            else:
                told.append(f"{name}={hashlib.sha256(content(value)).hexdigest()}")
    except (RequestError, OSError) as error:
        told.append(f"{type(error).__name__}")
    return "\0".join(told).encode("utf-8", "surrogatepass") + b"\n"


def _seen(source: Source, done: _Done) -> Any:
    """A digest of what the rows have that are written already.

    Raises:
        RequestError: they are not what they were.
    """
    seen = hashlib.sha256()
    for number in range(done.rows):
        seen.update(_identity(source, number))
    if done.rows and seen.hexdigest() != done.seen:
        raise RequestError(
            f"predict: the data are not what they were when the first {done.rows} rows were predicted; name another folder, or predict "
            "them anew by --force"
        )
    return seen


def _written(folder: Path, done: _Done, rows: int) -> bytes:
    """The lines that are written already.

    Raises:
        RequestError: they are not what they were.
    """
    table = folder / TABLE
    data = b""
    if table.exists():
        with files.opened(table) as file:
            data = file.read()
    changed = done.rows and hashlib.sha256(data[: done.size]).hexdigest() != done.table
    if changed or (done.rows == rows and len(data) != done.size):
        raise RequestError(
            f"predict: {table} is not as it was written; name another folder, or write it anew by --force (it is then lost)"
        )
    return data[: done.size]


def _check_files(folder: Path, columns: "_Columns", lines: bytes) -> None:
    """Refuse to go on where a file is gone that the table's lines name."""
    for row in csv.DictReader(io.StringIO(lines.decode(), newline="")):
        for name in row[columns.predicted].split():
            if name in columns.folders and not (folder / row[name]).is_file():
                raise RequestError(
                    f"predict: {folder / row[name]} is gone; put it back, or predict all anew by --force"
                )


def _begun(folder: Path, question: Mapping[str, Any], columns: "_Columns", *, force: bool) -> _Done:
    """How far the same predictions have come."""
    record, table = folder / RECORD, folder / TABLE
    _check_links(folder, (RECORD, TABLE, *columns.every_folder()))
    fresh = _Done()
    if not (record.exists() or table.exists()):
        for one in columns.every_folder():
            if (folder / one).exists():
                raise RequestError(
                    f"predict: {folder / one} is there and is none of mmcore's predictions; name another folder"
                )
        _keep(folder, question, columns, fresh)
        return fresh
    found = _recorded(folder)
    if found is None and not record.exists():
        raise RequestError(f"predict: {table} is there and is none of mmcore's predictions; name another folder")
    try:
        if found is None:
            raise ValueError("no record")
        before, folders = found["question"], [str(one) for one in found["folders"]]
        done = _Done(**found["done"])
        whole = all(isinstance(one, int) and one >= 0 for one in (done.rows, done.size))
        named = all(one == file_name(one) for one in folders)
        if found["format"] != FORMAT or not whole or not named or not isinstance(before, dict):
            raise ValueError("of another form")
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(
            f"predict: {record} is damaged; name another folder, or remove it with what is beside it"
        ) from error
    if force:
        _check_links(folder, folders)
        _remove(folder, folders)
        _keep(folder, question, columns, fresh)
        return fresh
    if not done.rows:
        _keep(folder, question, columns, fresh)
        return fresh
    if before.get("data") != question["data"]:
        raise RequestError(
            f"predict: {folder} holds predictions of {before.get('data')}, not of {question['data']}; name another folder, or replace them by --force"
        )
    if before != question:
        raise RequestError(
            f"predict: {folder} holds predictions of another question ({_differs(before, question)}); name another folder, or replace them "
            "by --force"
        )
    # Where the record was read beside its place, it is put there.
    _keep(folder, question, columns, done)
    return done if table.exists() else fresh


def _recorded(folder: Path) -> Any:
    """The record that is whole; None where there is none. Where nothing is replaced in one go, the new one may be all that is left."""
    for name in (RECORD, f"{files.ASIDE}{RECORD}"):
        try:
            return json.loads(files.read(folder / name, limits.RECORD))
        except (OSError, ValueError, RecursionError):
            continue
    return None


def _check_links(folder: Path, names: Iterable[str]) -> None:
    for path in (folder / name for name in names):
        if path.is_symlink():
            raise RequestError(f"predict: {path} is a link, expected a file or folder of its own; name another folder")


def _differs(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> str:
    """What is asked otherwise than before."""
    told = []
    for key in dict.fromkeys([*before, *now]):
        one, two = before.get(key), now.get(key)
        if one == two:
            continue
        if isinstance(one, dict) and isinstance(two, dict):
            told.append(_differs(one, two, f"{prefix}{key}."))
        else:
            told.append("another model" if key == "model" else f"{prefix}{key} was {one!r}, now {two!r}")
    return "; ".join(told[:3]) + ("; …" if len(told) > 3 else "")


def _remove(folder: Path, folders: Sequence[str]) -> None:
    """Remove what a table names, and the table; nothing else that lies there."""
    table = folder / TABLE
    if table.exists():
        with io.TextIOWrapper(files.opened(table), "utf-8", "replace", "") as file:
            for row in csv.reader(file):
                stem = file_name(row[0] if row else "")
                named = {
                    Path(cell).suffix for cell in row if cell in {f"{one}/{stem}{Path(cell).suffix}" for one in folders}
                }
                for one in folders:
                    for suffix in {".png", ".npy", ".wav", *named}:
                        (folder / one / f"{stem}{suffix}").unlink(missing_ok=True)
        table.unlink()


def _keep(folder: Path, question: Mapping[str, Any], columns: "_Columns", done: _Done) -> None:
    told = {"format": FORMAT, "question": question, "folders": columns.every_folder(), "done": attrs.asdict(done)}
    files.write(folder / RECORD, (json.dumps(told, indent=2) + "\n").encode())


def _check_folder(asked: "Predictions", folder: Path, columns: "_Columns") -> None:
    """Refuse a folder in which something else would be lost, or would be taken for data."""
    for name in (CONFIG, "config.json", CHECKPOINTS):
        if (folder / name).exists():
            raise RequestError(f"predict: {folder} holds a run or a model ({name}), expected a folder of its own")
    data = None if asked.data is None else expanded(asked.data)
    if data is not None and data.is_dir() and folder.absolute().resolve().is_relative_to(data.resolve()):
        raise RequestError(
            f"predict: {folder} lies in the data, {data}, of which it would be a part; expected a folder elsewhere"
        )


def _check_keys(source: Source) -> None:
    """Refuse two rows whose files would be called alike, on any system."""
    seen: dict[str, int] = {}
    for number in range(len(source)):
        other = seen.setdefault(file_name(source.key(number)).casefold(), number)
        if other != number:
            raise RequestError(
                f"predict: {source.where(number)} and {source.where(other)} have the same key {source.key(number)!r}, by which their files are called; "
                "expected a key of its own for each row"
            )


# ---- the table ----


class _Columns:
    """The columns of the table: a variable's value, and how sure it is.

    Attributes:
        header: all of them.
        folders: of the variables that are files.
    """

    def __init__(self, variables: Sequence[ModalityProtocol], draws: int, again: frozenset[str]) -> None:
        self.variables, self.draws = variables, draws
        self.made = {m.name: m for m in variables}
        self.folders: dict[str, str] = {}
        # A variable has its own name, whatever it is; what is beside it gives way.
        taken = {m.name for m in variables}

        def new(name: str) -> str:
            while name in taken:
                name += "_"
            taken.add(name)
            return name

        self.key, self.predicted = new("key"), new("predicted")
        self.header = [self.key, self.predicted]
        self.places: dict[str, dict[str, str]] = {}
        for m in variables:
            raw = m.raw(m.typical(1, 0)[0])
            if isinstance(raw, Image.Image | np.ndarray | files.Encoded):
                self.folders[m.name] = file_name(m.name)
            numbers = m.spec.dtype.is_floating_point
            ends = ("low", "high") if numbers else ("probability",)
            beside = [*(() if m.name in self.folders or draws == 1 else ends), *(["given"] if m.name in again else [])]
            self.places[m.name] = {"": m.name, **{end: new(f"{m.name}_{end}") for end in beside}}
            self.header += self.places[m.name].values()

    def every_folder(self) -> list[str]:
        """Those of the files, and of how far their draws agree."""
        names = {m.name: "deviation" if m.spec.dtype.is_floating_point else "agreement" for m in self.variables}
        beside = [f"{folder}.{names[name]}" for name, folder in self.folders.items() if self.draws > 1]
        return [*self.folders.values(), *beside]

    def line(self, row: "Prediction", folder: Path) -> list[str]:
        """A row's cells; its files are written."""
        cells = {self.key: row.key, self.predicted: " ".join(row.answers)}
        for m in self.variables:
            places, found, given = self.places[m.name], row.answers.get(m.name), row.given.get(m.name)
            has = _cell(given.absolute() if isinstance(given, Path) else given)
            if "given" in places:
                cells[places["given"]] = has
            if found is None:
                cells[places[""]] = has
            elif m.name in self.folders:
                cells[places[""]] = self._files(m.name, row.key, found, folder)
            else:
                sure = found.agreement if found.probability is None else found.probability
                told = {"": found.value, "low": found.low, "high": found.high, "probability": sure}
                cells |= {place: _rounded(told[end]) for end, place in places.items() if end in told}
        return [cells.get(name, "") for name in self.header]

    def _files(self, name: str, key: str, found: Answer, folder: Path) -> str:
        """Write a picture or an array, and how far its draws agree; the path of the first."""
        own, stem = self.folders[name], file_name(key)
        for what, value in (("agreement", found.agreement), ("deviation", found.deviation)):
            if value is not None:
                (folder / f"{own}.{what}").mkdir(exist_ok=True)
                _write(folder / f"{own}.{what}" / stem, _grey(value) if np.ndim(value) == 2 else np.asarray(value))
        (folder / own).mkdir(exist_ok=True)
        # A sound beside numbers that are none: those of a spectrogram.
        m = self.made[name]
        if isinstance(found.value, np.ndarray) and (sound := m.heard(m.read(found.value))) is not None:
            files.write(folder / own / f"{stem}{sound.suffix}", sound.data)
        return f"{own}/{stem}{_write(folder / own / stem, found.value)}"


def _grey(share: Any) -> Image.Image:
    """Numbers of 0 … 1 as a grey picture."""
    return Image.fromarray((np.asarray(share, dtype=np.float32).clip(0, 1) * 255).round().astype(np.uint8))


def _write(at: Path, value: Any) -> str:
    """Write a picture, an array or a file's own bytes; its suffix."""
    if isinstance(value, files.Encoded):
        files.write(at.with_name(f"{at.name}{value.suffix}"), value.data)
        return value.suffix
    if isinstance(value, Image.Image):
        files.write(at.with_name(f"{at.name}.png"), pictures.png(value))
        return ".png"
    data = io.BytesIO()
    np.save(data, np.asarray(value), allow_pickle=False)
    files.write(at.with_name(f"{at.name}.npy"), data.getvalue())
    return ".npy"


def _rounded(value: Any) -> str:
    """A prediction in a table, in as many digits as float32 has."""
    if isinstance(value, float):
        return f"{value:.7g}"
    return _cell(_short(value) if isinstance(value, list) else value)


def _short(value: Any) -> Any:
    if isinstance(value, np.ndarray | list):
        return [_short(x) for x in value]
    return float(f"{value:.7g}") if isinstance(value, float | np.floating) else value


def _cell(value: Any) -> str:
    """A value in a table: a number or word as it is, a list as JSON, nothing where there is none."""
    if value is None or isinstance(value, np.ndarray | Image.Image | files.Encoded):
        return ""
    return json.dumps(value, ensure_ascii=False, default=_listed) if isinstance(value, list | tuple) else str(value)


def _listed(value: Any) -> Any:
    """An array, or a picture, inside a list, as JSON can have it."""
    return np.asarray(value).tolist()


def _line(cells: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([shown(cell) for cell in cells])
    return text.getvalue().encode()


_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.I)
"""What Windows takes for a device, whatever follows its name."""


def file_name(key: str) -> str:
    """A name of a file for a row's key, different for different keys, that lies in no other folder and that every system takes."""
    plain = re.sub(r'[\x00-\x1f\x7f<>:"/\\|?*\ud800-\udfff]', "_", key).strip(" .")
    odd = plain != key or not plain or len(key.encode()) > 120 or key.startswith("-") or _DEVICES.fullmatch(key)
    if not odd:
        return key
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    return f"{_DEVICES.sub('row', plain).encode()[:100].decode(errors='ignore').lstrip('-') or 'row'}-{digest}"

"""Files that no source reads, and what to do with them. Imports no torch."""

import contextlib
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

from mmcore import files
from mmcore.data.sources.files import files_below, inside, shown, suffix_of, without_suffix

_ARRAYS = "save arrays of one length together by numpy.savez"
_UNPACK = "unpack it"
_TABLE = "save it as CSV"
_STILL = "make PNG files of its frames or slices"
_LIST = "if it is a table, save it as CSV with a line of names"
_PICKLE = "pickles run code and are not read: save arrays together by numpy.savez"
MENDS = {
    **dict.fromkeys((".zip", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz", ".zst"), _UNPACK),
    **dict.fromkeys((".xlsx", ".xls", ".ods", ".numbers", ".sav", ".dta", ".feather", ".arrow", ".db", ".sqlite"), _TABLE),
    **dict.fromkeys((".npy", ".mat", ".h5", ".hdf5", ".pt", ".pth", ".rds"), _ARRAYS),
    **dict.fromkeys((".pkl", ".pickle"), _PICKLE),
    **dict.fromkeys((".heic", ".heif", ".cr2", ".nef", ".dng", ".psd", ".svg", ".pdf"), "make JPEG or PNG of it"),
    **dict.fromkeys((".mp4", ".avi", ".mov", ".mkv", ".webm", ".nii", ".dcm"), _STILL),
    ".json": "write an object in each line of a file such as rows.jsonl",
    **dict.fromkeys((".txt", ".lst", ".list", ".data"), _LIST),
}  # fmt: skip
"""What makes a file one that is read, by its suffix in small letters."""
_BEGINS = (
    (b"\x80\x02", _PICKLE), (b"\x80\x03", _PICKLE), (b"\x80\x04", _PICKLE), (b"\x80\x05", _PICKLE),
    (b"\x89PNG", "it is PNG: rename it, so that it ends in .png"), (b"\xff\xd8\xff", "it is JPEG: rename it, so that it ends in .jpg"),
    (b"\x1f\x8b", "it is gzip: unpack it"), (b"PK\3\4", "it is ZIP: unpack it, or if a spreadsheet wrote it save it as CSV"),
    (b"PAR1", "it is Parquet: rename it, so that it ends in .parquet"), (b"\x93NUMPY", "it is an array of NumPy: rename it, so that it ends in .npy"),
    (b"SQLite format 3", f"it is a database: {_TABLE}"), (b"\xd0\xcf\x11\xe0", f"a spreadsheet wrote it: {_TABLE}"), (b"%PDF", f"it is PDF: {_TABLE}"),
)  # fmt: skip
"""What makes a file one that is read, by how it begins, where its name does not say it or is wrong."""
_DICOM = b"DICM"
_WORDS = ("readme", "license", "licence", "copying", "changelog", "requirements", "notes", "citation", "makefile")
_SOME = 8


def mend_of(name: str) -> str:
    """What makes a file of this name one that is read; empty where nothing is known."""
    return MENDS.get(suffix_of(name), "")


def mend_at(path: Path) -> str:
    """What makes a file one that is read, by its name, or where that has no suffix by how it begins; empty where nothing is known."""
    if found := mend_of(path.name):
        return found
    if suffix_of(path.name) or not path.is_file():
        return ""
    with contextlib.suppress(OSError), files.opened(path) as file:
        return mend_by(file.read(132))
    return ""


def mend_by(begin: bytes) -> str:
    """What makes a file one that is read, by its first 132 bytes; empty where nothing is known."""
    if begin[128:132] == _DICOM:
        return f"it is DICOM: {_STILL}"
    return next((mend for start, mend in _BEGINS if begin.startswith(start)), "")


def told(folder: Path, used: Iterable[str]) -> str:
    """The files in a folder that are not read, with what would mend it; empty where there are none.

    Args:
        folder: of the data.
        used: names of those that are read, or are told of elsewhere.
    """
    used = set(used)
    names = [at.name for at in inside(folder) if at.is_file() and at.name not in used]
    names = [name for name in names if not name.lower().startswith(_WORDS) and suffix_of(name) not in ("", ".md")]
    some = [f"{shown(name)} ({mend})" if (mend := mend_of(name)) else shown(name) for name in names[:_SOME]]
    return ", ".join(some) + (f", and {len(names) - _SOME} more" if len(names) > _SOME else "")


def here(root: Path, path: Path, most: int = 20_000) -> list[str]:
    """Where the files of a missing path's name lie below a folder, relative to it.

    Where none is called just so, those in other letters, with another suffix, or with the signs that addresses write otherwise.
    """
    name = str(path).replace("\\", "/").rpartition("/")[2]
    some = [file for file, _ in zip(files_below(root), range(most), strict=False)]
    for form in (
        str,
        _unquoted,
        lambda text: _unquoted(text).casefold(),
        lambda text: without_suffix(_unquoted(text)).casefold(),
    ):
        if found := [file for file in some if form(file.rpartition("/")[2]) == form(name)]:
            return found
    return []


def _unquoted(name: str) -> str:
    """A name without the signs by which addresses write others, such as %20."""
    return unquote(name).rpartition("/")[2]

"""Files that no source reads, and what to do with them. Imports no torch."""

from collections.abc import Iterable
from pathlib import Path

from mmcore.data.sources.files import files_below, inside, shown, suffix_of

_ARRAYS = "save arrays of one length together by numpy.savez"
_UNPACK = "unpack it"
_TABLE = "save it as CSV"
_STILL = "make PNG files of its frames or slices"
MENDS = {
    **dict.fromkeys((".zip", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz", ".zst"), _UNPACK),
    **dict.fromkeys((".xlsx", ".xls", ".ods", ".numbers", ".sav", ".dta", ".feather", ".arrow", ".db", ".sqlite"), _TABLE),
    **dict.fromkeys((".npy", ".mat", ".h5", ".hdf5", ".pkl", ".pickle", ".pt", ".pth", ".rds"), _ARRAYS),
    **dict.fromkeys((".heic", ".heif", ".cr2", ".nef", ".dng", ".psd", ".svg", ".pdf"), "make JPEG or PNG of it"),
    **dict.fromkeys((".mp4", ".avi", ".mov", ".mkv", ".webm", ".nii", ".dcm"), _STILL),
    ".json": "write an object in each line of a file such as rows.jsonl",
}  # fmt: skip
"""What makes a file one that is read, by its suffix in small letters."""
_WORDS = ("readme", "license", "licence", "copying", "changelog", "requirements", "notes", "citation", "makefile")
_SOME = 8


def mend_of(name: str) -> str:
    """What makes a file of this name one that is read; empty where nothing is known."""
    return MENDS.get(suffix_of(name), "")


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


def here(root: Path, path: Path, most: int = 20_000) -> str:
    """Where a file of a missing path's name lies below a folder, relative to it; empty where there is none."""
    name = str(path).replace("\\", "/").rpartition("/")[2]
    some = (file for file, _ in zip(files_below(root), range(most), strict=False))
    return next((file for file in some if file.rpartition("/")[2] == name), "")

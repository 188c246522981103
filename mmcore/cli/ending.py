"""How a command ends, whatever happens: one line on stderr, and an exit status."""

import io
import os
import platform
import shlex
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from mmcore.errors import ConfigError, MmcoreError, PluginError, RequestError

_MEMORY = ("can't allocate memory", "out of memory", "not enough memory")
"""How torch's errors of short memory say so, of whatever class they are."""


@contextmanager
def ending() -> Iterator[None]:
    """Within, every error ends the process: status 2 where the request was wrong, else 1; 130 after Ctrl-C.

    What nobody has foreseen is one line too, and the rest is in a file: what it was, where, of which versions and command line.
    """
    try:
        yield
    except (SystemExit, GeneratorExit):
        raise
    except MmcoreError as error:
        # One line each, whatever a plugin has put into its message.
        lines = [f"{error.where}: {p}" for p in error.problems] if isinstance(error, ConfigError) else [str(error)]
        for line in lines:
            tell(line)
        sys.exit(2 if isinstance(error, RequestError | PluginError) else 1)
    except KeyboardInterrupt:
        print("mmcore: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        tell(where + (error.strerror or str(error)))
        sys.exit(1)
    # A library in another language may raise what is no Exception.
    except BaseException as error:
        if (usage := _usage(error)) is not None:
            print(usage, file=sys.stderr)
            sys.exit(error.exit_code)  # type: ignore[attr-defined]
        if isinstance(error, MemoryError) or any(words in str(error).lower() for words in _MEMORY):
            why = f" ({brief})" if (brief := _brief(error)) else ""
            tell(f"memory does not suffice{why}; ask for less at once, such as by a smaller batch_size or -n")
        else:
            kept = _keep(error)
            where = f"a full report is in {kept}" if kept else "no report of it could be written"
            tell(f"an error that was not expected, {type(error).__name__}: {_brief(error)}; {where}")
        sys.exit(1)


def _usage(error: BaseException) -> str | None:
    """What the parser says of a command line that it cannot read, without what would move a terminal's cursor; None of any other error."""
    # By what they have: the parser's classes are in a module of another name in each version.
    if not (hasattr(error, "exit_code") and hasattr(error, "format_message")):
        return None
    from mmcore.plugins.metadata import lines

    told = io.StringIO()
    error.show(file=told)  # type: ignore[attr-defined]
    return lines(told.getvalue().rstrip("\n"))


def _brief(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "")[:300]


def _keep(error: BaseException) -> str:
    """Write down all that is known of an error, in a file that only its owner can read; empty where that cannot be."""
    from mmcore._version import __version__

    # Not by asking it: what has failed may be the import.
    torch = getattr(sys.modules.get("torch"), "__version__", "not imported")
    facts = (
        f"mmcore {__version__}, torch {torch}, Python {platform.python_version()}, {platform.platform()}\n"
        f"{shlex.join(sys.argv)}\n\n"
    )
    try:
        text = facts + "".join(traceback.format_exception(error))
        descriptor, path = tempfile.mkstemp(".txt", "mmcore-")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
    except Exception:
        return ""
    return path


def tell(line: str) -> None:
    # Not above: --help waits for no metadata.
    from mmcore.plugins.metadata import one_line

    print(f"mmcore: {one_line(line)}", file=sys.stderr)

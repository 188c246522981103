"""One measurement in several processes: their times differ by a tenth and more, as the memory of each lies elsewhere, so a figure is the median of several."""

import argparse
import json
import subprocess
import sys
from typing import Any


def parser_of(description: str | None, *, rounds: int) -> argparse.ArgumentParser:
    """The options that such programs share: ``--processes``, ``--rounds``, and ``--one``, by which a program calls itself.

    Args:
        description: of the program.
        rounds: in each process, by default.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    return parser


def in_processes(module: str, options: argparse.Namespace, *arguments: str) -> list[Any]:
    """What ``python -m module --one`` prints as its last line, in JSON, of as many processes as asked for, one after the other.

    Args:
        module: that calls itself.
        options: as :func:`parser_of` reads them.
        arguments: more of them.
    """
    command = [sys.executable, "-m", module, "--one", "--rounds", str(options.rounds), *arguments]
    found = []
    for _ in range(options.processes):
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found.append(json.loads(output.splitlines()[-1]))
    return found

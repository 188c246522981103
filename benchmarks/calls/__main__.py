"""Random calls of the public functions and of the command line, of which most have an argument or two that are no such thing.

python -m benchmarks.calls [WHAT …] [--count 5000] [--seed 0]

``WHAT`` is ``sample``, another function, or ``commands``; all by default. Each call is refused in one line before any work, or answered by the laws: those of
``sample`` are in ``benchmarks/calls/questions.py``, those of the others in ``laws.py`` and ``commands.py``.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterator

import torch

from benchmarks.calls import commands, functions, laws, questions
from benchmarks.calls.drawing import drawn

WHAT = ("sample", *functions.Subjects.NAMES, "commands")


def of_sample(count: int, seed: int) -> Iterator[tuple[str, str]]:
    """How each of so many questions ended, and what is wrong with it."""
    wrong = [f"{text} | {asked}" for text, asked in questions.faults(count, seed)]
    yield from (("wrong", text) for text in wrong)
    yield from [("right", "")] * (count - len(wrong))


def of_function(name: str, count: int, seed: int) -> Iterator[tuple[str, str]]:
    """The same of a function."""
    with laws.place() as around:
        subject = functions.Subjects(around).named(name)
        for call in drawn(functions.calls(subject), count, seed):
            ended = laws.ended(call, around)
            how = "wrong" if ended.fault else "refused" if ended.refusal else "answered"
            yield how, f"{ended.fault} | {call}"


def of_commands(count: int, seed: int) -> Iterator[tuple[str, str]]:
    """The same of the command line."""
    with commands.workshop() as around:
        for case in drawn(commands.lines(), count, seed):
            ended = commands.ended(case, around)
            yield "wrong" if ended.fault else f"status {ended.status}", f"{ended.fault} | {case.command}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="WHAT", help=", ".join(WHAT))
    parser.add_argument("--count", type=int, default=5000, help="of all together")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = options.what or WHAT
    total, wrong = 0, 0
    for what in chosen:
        count = -(-options.count // len(chosen))
        of: Callable[[int, int], Iterator[tuple[str, str]]] = {"sample": of_sample, "commands": of_commands}.get(what, lambda *n, what=what: of_function(what, *n))  # fmt: skip
        ends: Counter[str] = Counter()
        for how, text in of(count, options.seed):
            ends[how] += 1
            if how == "wrong":
                print(text.encode("unicode_escape").decode()[:400], flush=True)
        print(
            f"{what}: {ends.total()} calls, {', '.join(f'{count} {how}' for how, count in sorted(ends.items()))}",
            flush=True,
        )
        total, wrong = total + ends.total(), wrong + ends["wrong"]
    print(f"{total} calls, {wrong} wrong")


if __name__ == "__main__":
    main()

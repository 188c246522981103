"""``python -m benchmarks.kinds captions write captions.npz``, ``… captions measure runs/captions`` and ``… captions picture runs/captions FILE.png``."""

import sys
from importlib import import_module
from pathlib import Path

from benchmarks.kinds.figures import markdown

KINDS = ("captions", "chords", "shapes")


def main() -> None:
    """Write data, or measure a run of the recipe, or draw what it answers."""
    words = sys.argv[1:]
    if len(words) not in (3, 4) or words[0] not in KINDS or words[1] not in ("write", "measure", "picture"):
        sys.exit(f"expected {' | '.join(KINDS)}, then write FILE, measure RUN or picture RUN FILE")
    kind = import_module(f"benchmarks.kinds.{words[0]}")
    if words[1] == "measure":
        print(markdown(kind.measure(Path(words[2]))))
    else:
        getattr(kind, words[1])(*map(Path, words[2:]))


if __name__ == "__main__":
    main()

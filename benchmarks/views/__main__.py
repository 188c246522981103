"""``python -m benchmarks.views write views.npz [PERCENT]``, ``… autoencoders views.npz FOLDER``, ``… measure RUN [RUN …]`` and ``… picture RUN FILE.png``.

``write`` makes the data, a percentage of whose training values is left out; ``autoencoders`` trains those of the recipe of latents; ``measure`` prints the figures of runs of the recipes, all by one judge.
"""

import sys
from pathlib import Path

from benchmarks.views import answers, autoencoders, coherence, data, pictures


def main() -> None:
    """Write data, measure runs, or draw what one answers."""
    match sys.argv[1:]:
        case ["write", path]:
            data.write(Path(path))
        case ["write", path, missing] if missing.isdigit() and int(missing) <= 83:
            data.write(Path(path), int(missing))
        case ["autoencoders", path, folder]:
            autoencoders.write(Path(path), Path(folder))
        case ["measure", *runs] if runs:
            classify = coherence.judge()
            print(coherence.markdown({run: answers.measure(Path(run), classify) for run in runs}))
        case ["picture", run, path]:
            pictures.draw(Path(run), Path(path))
        case _:
            sys.exit("expected write FILE [PERCENT], autoencoders FILE FOLDER, measure RUN [RUN …] or picture RUN FILE")


if __name__ == "__main__":
    main()

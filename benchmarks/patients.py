"""A real table with empty cells: 442 patients, eleven columns, 15 % of the cells withheld, filled in by ``mmcore predict``.

The patients are scikit-learn's diabetes data (Efron et al. 2004), in their own units, the sex as ``f`` and ``m``.

1. ``python -m benchmarks.patients write FOLDER`` writes ``patients.csv`` and ``truth.csv``.
2. ``mmcore init FOLDER/patients.csv --assume s1=scalar --assume s3=scalar --assume s6=scalar --assume target=scalar``, ``mmcore train config.toml`` and
   ``mmcore predict RUN FOLDER/patients.csv -o OUT`` fill the gaps; with ``--no-calibrate`` too, to compare. Nothing is edited by hand.
3. ``python -m benchmarks.patients score FOLDER OUT…`` prints a Markdown table: of the withheld numbers how many their 80 % intervals hold, with the standard
   error over columns' cells, the intervals' width and the error in deviations of the column, and of the withheld sex how often it is right, and said to be.
"""

import argparse
import csv
import math
from pathlib import Path
from typing import Any

import numpy as np

WITHHELD = 0.15
CLASS = "sex"


def write(folder: Path, seed: int) -> None:
    """Write the table with empty cells, and the truth beside it."""
    from sklearn.datasets import load_diabetes

    found: Any = load_diabetes(scaled=False, as_frame=True)
    table = found.frame
    rows = [{**row, CLASS: "fm"[int(row[CLASS]) - 1]} for row in table.to_dict("records")]
    lacks = np.random.default_rng(seed).random(table.shape) < WITHHELD
    folder.mkdir(parents=True, exist_ok=True)
    for name, hidden in (("truth", np.zeros_like(lacks)), ("patients", lacks)):
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            out = csv.writer(file)
            out.writerow(table.columns)
            for row, empty in zip(rows, hidden, strict=True):
                cells = (f"{x:.10g}" if isinstance(x, float) else x for x in row.values())
                out.writerow(["" if gone else cell for cell, gone in zip(cells, empty, strict=True)])


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a table."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def score(folder: Path, predictions: Path) -> dict[str, float]:
    """How well the gaps are filled."""
    truth, known, found = (read(path) for path in (folder / "truth.csv", folder / "patients.csv", predictions / "predictions.csv"))  # fmt: skip
    inside, widths, errors, right, said = [], [], [], [], []
    for name in truth[0]:
        lacking = [k for k, row in enumerate(known) if row[name] == ""]
        if name == CLASS:
            right = [float(found[k][name] == truth[k][name]) for k in lacking]
            said = [float(found[k][f"{name}_probability"]) for k in lacking]
            continue
        spread = float(np.std([float(row[name]) for row in truth]))
        for k in lacking:
            value, low, high = (float(found[k][column]) for column in (name, f"{name}_low", f"{name}_high"))
            true = float(truth[k][name])
            inside.append(low <= true <= high)
            widths.append((high - low) / spread)
            errors.append(((value - true) / spread) ** 2)
    held = float(np.mean(inside))
    return {
        "held by 80 % intervals": held,
        "its standard error": math.sqrt(held * (1 - held) / len(inside)),
        "width, deviations": float(np.mean(widths)),
        "error, deviations": math.sqrt(float(np.mean(errors))),
        "sex right": float(np.mean(right)),
        "sex said to be right": float(np.mean(said)),
        "numbers": len(inside),
    }


def main() -> None:
    """Write, or score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("write", "score"):
        one = commands.add_parser(name)
        one.add_argument("folder", type=Path)
        if name == "write":
            one.add_argument("--seed", type=int, default=0)
        else:
            one.add_argument("predictions", type=Path, nargs="+")
    options = parser.parse_args()
    if options.command == "write":
        write(options.folder, options.seed)
        return
    figures = {predictions.name: score(options.folder, predictions) for predictions in options.predictions}
    names = list(next(iter(figures.values())))
    print(f"| | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}")
    for predictions, found in figures.items():
        print(f"| {predictions} | {' | '.join(f'{found[name]:.3g}' for name in names)} |")


if __name__ == "__main__":
    main()

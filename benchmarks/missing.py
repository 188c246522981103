"""Training on incomplete rows: half of all values removed at random, against complete data and against complete rows alone.

``python -m benchmarks.missing [--seeds 3] [--steps N] [--threads N]`` prints a Markdown table of the validation part: the means over the seeds, and each
seed's accuracy of image → label.
"""

import attrs

from benchmarks.trained import FIGURES, Data, arguments, complete_rows, head, row, trained, without_values


def main() -> None:
    """Train, sample and print."""
    registry, options, given = arguments(__doc__)
    data = Data.read(registry)
    print(head("rows", "values kept"))
    for name in ("complete", "half missing", "complete rows alone"):
        found: list[dict[str, float]] = []
        kept = 0
        for seed in range(given.seeds):
            table = data.train if name == "complete" else without_values(data.train, 0.5, seed)
            table = complete_rows(table) if name == "complete rows alone" else table
            kept = int(table.rows.present.sum())
            note = "" if name == "complete" else f"{name} {seed}"
            model = trained(registry, table, options=attrs.evolve(options, seed=seed), note=note)
            found.append(data.measure(model))
        mean = {figure: sum(f[figure] for f in found) / len(found) for figure in FIGURES}
        print(row(name, f"{kept:,}", figures=mean), flush=True)
        print(f"  image → label by seed: {[round(f['image_to_label_accuracy'], 4) for f in found]}", flush=True)


if __name__ == "__main__":
    main()

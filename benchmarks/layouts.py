"""Layouts and conditionings side by side on the digits' validation part, at equal parameters and steps.

``python -m benchmarks.layouts [--steps N] [--threads N]`` trains one model per layout (or reads it back), asks each by roles and by
the article's posterior conditioning, and prints a Markdown table.
"""

from benchmarks.trained import Data, arguments, head, row, trained

SPACE = (4, 8, 8)
"""Room for a block each; the shared layout has the same."""


def main() -> None:
    """Train, sample and print."""
    registry, options, _ = arguments(__doc__)
    data = Data.read(registry)
    print(head("layout", "conditioning", "parameters"))
    for layout in ("shared", "separate"):
        model = trained(registry, data.train, options=options, layout=layout, space=SPACE)
        count = f"{sum(p.numel() for p in model.parameters() if p.requires_grad):,}"
        for conditioning in ("roles", "posterior"):
            figures = data.measure(model, conditioning=conditioning)
            print(row(layout, conditioning, count, figures=figures), flush=True)


if __name__ == "__main__":
    main()

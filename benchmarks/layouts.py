"""Layouts and conditionings side by side on the digits' validation part, at equal parameters and steps.

``python -m benchmarks.layouts [--steps N] [--threads N]`` trains one model per layout (or reads it back), asks each by roles and by
the article's posterior conditioning, and prints a Markdown table.
"""

from typing import Any

import mmcore
from benchmarks.trained import Data, arguments, head, row, trained
from mmcore.demo.run import BACKBONE_OPTIONS, digits_model

SPACE = (4, 8, 8)
"""Room for a block each; the shared layout has the same."""


def size(model: mmcore.JointModel) -> int:
    """How many weights learn."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def backbone(registry: mmcore.Registry, layout: str) -> dict[str, Any]:
    """The demo's backbone of the width that has the shared layout's number of weights, as nearly as can be: more timesteps need more."""

    def made(width: int, layout: str) -> int:
        options = BACKBONE_OPTIONS | {"width": width}
        return size(digits_model(registry, layout=layout, space=SPACE, backbone_options=options))

    wanted = made(int(BACKBONE_OPTIONS["width"]), "shared")
    width = min(range(192, 226, 2), key=lambda width: abs(made(width, layout) - wanted))
    return BACKBONE_OPTIONS | {"width": width}


def main() -> None:
    """Train, sample and print."""
    registry, options, _ = arguments(__doc__)
    data = Data.read(registry)
    print(head("layout", "conditioning", "parameters"))
    for layout in ("shared", "separate"):
        network = backbone(registry, layout)
        model = trained(registry, data.train, options=options, layout=layout, space=SPACE, backbone_options=network)
        for conditioning in ("roles", "posterior"):
            figures = data.measure(model, conditioning=conditioning)
            print(row(layout, conditioning, f"{size(model):,}", figures=figures), flush=True)


if __name__ == "__main__":
    main()

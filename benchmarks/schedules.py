"""Schedules and samplers side by side on the digits' validation part.

``python -m benchmarks.schedules [--steps N] [--threads N]`` trains one model per schedule (or reads it back), samples each in 50 steps by DDIM (η = 0)
and ancestrally, the latter by mean codes and by drawn ones, and prints a Markdown table.
"""

from benchmarks.trained import Data, arguments, head, row, trained

SAMPLERS: dict[str, dict] = {
    "DDIM, η = 0": {"sampler": "ddim", "eta": 0.0, "steps": 50},
    "ancestral, mean codes": {"sampler": "ancestral", "steps": 50},
    "ancestral, drawn codes": {"sampler": "ancestral", "steps": 50, "codes": "draw-all"},
}


def main() -> None:
    """Train, sample and print."""
    registry, options, _ = arguments(__doc__)
    data = Data.read(registry)
    print(head("schedule", "sampler"))
    for schedule in ("cosine", "paper", "paper-steps"):
        model = trained(registry, data.train, options=options, schedule=schedule)
        for sampler, how in SAMPLERS.items():
            print(row(schedule, sampler, figures=data.measure(model, **how)), flush=True)


if __name__ == "__main__":
    main()

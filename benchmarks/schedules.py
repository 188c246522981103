"""Schedules and samplers side by side on the digits' validation part.

``python -m benchmarks.schedules [--steps N] [--threads N]`` trains one model per schedule (or reads it back), samples each by DDIM (η = 0)
and ancestrally, and prints a Markdown table.
"""

from benchmarks.trained import Data, arguments, head, row, trained


def main() -> None:
    """Train, sample and print."""
    registry, options, _ = arguments(__doc__)
    data = Data.read(registry)
    print(head("schedule", "sampler"))
    for schedule in ("cosine", "paper", "paper-steps"):
        model = trained(registry, data.train, options=options, schedule=schedule)
        for sampler, eta in (("DDIM, η = 0", 0.0), ("ancestral", 1.0)):
            print(row(schedule, sampler, figures=data.measure(model, eta=eta)), flush=True)


if __name__ == "__main__":
    main()

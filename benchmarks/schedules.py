"""Schedules and samplers side by side on the digits' validation part.

``python -m benchmarks.schedules [--steps N] [--seeds 3] [--threads N]`` trains a model per schedule and seed (or reads it back), samples each by 2M, by DDIM (η = 0) and
ancestrally, the latter by mean codes and by drawn ones, in 20 and in 50 steps, and prints a Markdown table of the means over the seeds, then each seed's Fréchet
distances.
"""

from itertools import product

import attrs

from benchmarks.trained import FIGURES, Data, arguments, head, row, trained

SAMPLERS: dict[str, dict] = {
    "2M": {"sampler": "2m"},
    "DDIM, η = 0": {"sampler": "ddim", "eta": 0.0},
    "ancestral, mean codes": {"sampler": "ancestral"},
    "ancestral, drawn codes": {"sampler": "ancestral", "codes": "draw-all"},
}
STEPS = (20, 50)


def main() -> None:
    """Train, sample and print."""
    registry, options, given = arguments(__doc__)
    data = Data.read(registry)
    print(head("schedule", "sampler", "steps"))
    distances = []
    for schedule in ("cosine", "paper", "paper-steps"):
        seeds = [attrs.evolve(options, seed=seed) for seed in range(given.seeds)]
        models = [trained(registry, data.train, options=one, schedule=schedule) for one in seeds]
        for (sampler, how), steps in product(SAMPLERS.items(), STEPS):
            if schedule == "paper-steps" and how["sampler"] == "2m":
                continue  # its signal-to-noise ratio does not fall from step to step, which 2M needs
            found = [data.measure(model, steps=steps, **how) for model in models]
            mean = {figure: sum(f[figure] for f in found) / len(found) for figure in FIGURES}
            print(row(schedule, sampler, str(steps), figures=mean), flush=True)
            distances.append(
                f"{schedule}, {sampler}, {steps}: {[round(f['frechet_distance_dealt'], 2) for f in found]}"
            )
    print("\n".join(["", *distances]))


if __name__ == "__main__":
    main()

"""Schedules and samplers side by side on the digits' validation part.

``python -m benchmarks.schedules [--steps N] [--seeds 3] [--threads N]`` trains a model per schedule and seed (or reads it back), samples each as the demo does, and in 50 steps
by DDIM (η = 0) and ancestrally, the latter by mean codes and by drawn ones, and prints a Markdown table of the means over the seeds, then
each seed's Fréchet distances.
"""

import attrs

from benchmarks.trained import FIGURES, Data, arguments, head, row, trained

SAMPLERS: dict[str, dict] = {
    "2M, 20 steps": {"sampler": "2m", "steps": 20},
    "DDIM, η = 0": {"sampler": "ddim", "eta": 0.0, "steps": 50},
    "ancestral, mean codes": {"sampler": "ancestral", "steps": 50},
    "ancestral, drawn codes": {"sampler": "ancestral", "steps": 50, "codes": "draw-all"},
}


def main() -> None:
    """Train, sample and print."""
    registry, options, given = arguments(__doc__)
    data = Data.read(registry)
    print(head("schedule", "sampler"))
    distances = []
    for schedule in ("cosine", "paper", "paper-steps"):
        seeds = [attrs.evolve(options, seed=seed) for seed in range(given.seeds)]
        models = [trained(registry, data.train, options=one, schedule=schedule) for one in seeds]
        for sampler, how in SAMPLERS.items():
            if schedule == "paper-steps" and how["sampler"] == "2m":
                continue  # its signal-to-noise ratio does not fall from step to step, which 2M needs
            found = [data.measure(model, **how) for model in models]
            mean = {figure: sum(f[figure] for f in found) / len(found) for figure in FIGURES}
            print(row(schedule, sampler, figures=mean), flush=True)
            distances.append(f"{schedule}, {sampler}: {[round(f['frechet_distance_dealt'], 2) for f in found]}")
    print("\n".join(["", *distances]))


if __name__ == "__main__":
    main()

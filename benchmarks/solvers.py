"""DDIM and 2M steps and noising on (64, 4, 28, 28) against diffusers' schedulers, one thread.

``pip install -c constraints.txt diffusers``, then ``python -m benchmarks.solvers [--processes 5] [--rounds 15]``. Every round does 19
steps of a path of 20 by each in turn, with the same predictions of the clean tensor, schedule and timesteps; all must end at the same
values. Printed are medians over processes of medians over rounds, of the thread's processor time, which other work on the machine
disturbs less than the clock, and the ratios to diffusers with their spread over the processes:

* **diffusers**: ``DDIMScheduler.step``, ``DPMSolverMultistepScheduler.step``, ``DDPMScheduler.add_noise``, as its users call them.
* **process**: from the predicted code to the next state as a user of :mod:`mmcore.process` calls it, ``h_s`` and ``h_t`` by
  ``Process.marginal`` and the extrapolation included; **h given** has ``h_s`` and ``h_t`` already.
* **bare**: the same in as few torch operations as can be, coefficients at hand.
* **sample**: what a step of ``mmcore.sample`` does beside the network, for a model of this space.
"""

import importlib
import itertools
import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import mmcore
from benchmarks.processes import in_processes, parser_of
from benchmarks.sampler_step import network_modules
from mmcore.process import Process, schedule

SHAPE = (64, 4, 28, 28)
STEPS = 20
AIMS = {"ddim": 0.8, "2m": 0.8, "noising": 1.0}
PATH = [1000 - 50 * i for i in range(STEPS)]
"""The timesteps, of 1,000. diffusers counts them from 0."""
JUMPS = list(itertools.pairwise(PATH))


# ---- our steps, as a user calls them: what changes with mmcore.process changes here ----

BY_STEP = hasattr(Process, "step")
"""Whether :meth:`mmcore.Process.step` is there, which takes integers; before it samplers had a function that takes a tensor per row."""


def process_step(process: Process, z: Tensor, h: tuple[Tensor, Tensor], s: int, t: int, zero: Tensor) -> Tensor:
    """The deterministic DDIM step from ``t`` to ``s``."""
    if BY_STEP:
        step: Any = process.step  # type: ignore[reportAttributeAccessIssue]
        return step(z, *h, s, t)
    return _ddim_step(process, z, h, _rows(s), _rows(t), zero, 0.0)


def extrapolated(process: Process, codes: Tensor, before: tuple[int, Tensor] | None, s: int, t: int) -> Tensor:
    """The codes that make a step from ``t`` to ``s`` one of 2M, after a step from ``before``."""
    if before is None:
        return codes
    u, previous = before
    c = process.extrapolation(s, t, u) if BY_STEP else _extrapolation(process, _rows(s), _rows(t), _rows(u))
    return (codes - previous).mul_(c.to(codes.dtype).reshape(-1, 1, 1, 1)).add_(codes)


def means(process: Process, codes: Tensor, s: int, t: int) -> tuple[Tensor, Tensor]:
    """``h_s`` and ``h_t``."""
    return process.marginal(codes[:, None], s).mean, process.marginal(codes[:, None], t).mean


def noising(process: Process, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """``x`` noised to timesteps ``t (B,)``."""
    return process.marginal(x[:, None], t).draw(noise)


def _rows(t: int) -> Tensor:
    return torch.full((SHAPE[0],), t)


def _from(name: str, *modules: str) -> Any:
    """The function of this name in the first of these modules that is there and has it."""
    for module in modules:
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue
    return None


_ddim_step = _from("ddim_step", "mmcore.sampling.ask", "mmcore.sampling")
_extrapolation = _from("extrapolation", "mmcore.process", "mmcore.sampling.samplers", "mmcore.sampling.ask", "mmcore.sampling")  # fmt: skip

# ---- what is timed ----


class Candidates:
    """Runs of 19 steps and single noisings by name, ``KIND way``, all on the same tensors."""

    def __init__(self) -> None:
        ddim, multistep, ddpm = diffusers_schedulers()
        generator = torch.Generator().manual_seed(0)
        self.z, self.noise = (torch.randn(SHAPE, generator=generator) for _ in range(2))
        self.predictions = [torch.randn(SHAPE, generator=generator) for _ in JUMPS]
        self.t = torch.randint(1, 1001, (SHAPE[0],), generator=generator)
        self.zero = torch.zeros(SHAPE)
        self.process = Process(schedule.cosine(1000, 1))
        self.h = [means(self.process, x, s, t) for x, (t, s) in zip(self.predictions, JUMPS, strict=True)]
        self.h_2m = self._h_2m()
        self.ddim, self.multistep, self.ddpm = ddim, multistep, ddpm
        self.indices = self.t - 1
        self.coefficients = bare_coefficients(self.process)
        root, sigma = (
            x.float().reshape(-1, 1, 1, 1) for x in (self.process.schedule.W[self.t, 0], self._sigma(self.t))
        )
        self.runs: dict[str, Callable[[], Tensor]] = {
            "ddim diffusers": lambda: self.by_diffusers(self.ddim),
            "ddim process": lambda: self.by_process(self.h, given=False),
            "ddim h given": lambda: self.by_process(self.h, given=True),
            "ddim bare": self.bare_ddim,
            "2m diffusers": lambda: self.by_diffusers(self.multistep),
            "2m process": lambda: self.by_process(self.h_2m, given=False, second_order=True),
            "2m h given": lambda: self.by_process(self.h_2m, given=True, second_order=True),
            "2m bare": self.bare_2m,
            "noising diffusers": lambda: self.ddpm.add_noise(self.z, self.noise, self.indices),
            "noising process": lambda: noising(self.process, self.z, self.t, self.noise),
            "noising bare": lambda: torch.addcmul(root * self.z, sigma, self.noise),
        }

    def _sigma(self, t: Tensor) -> Tensor:
        return self.process.schedule.variance[t].sqrt()

    def _h_2m(self) -> list[tuple[Tensor, Tensor]]:
        h, before = [], None
        for x, (t, s) in zip(self.predictions, JUMPS, strict=True):
            h.append(means(self.process, extrapolated(self.process, x, before, s, t), s, t))
            before = (t, x)
        return h

    def by_diffusers(self, scheduler: Any) -> Tensor:
        """A user's loop."""
        scheduler.set_timesteps(STEPS)
        z = self.z
        for t, x in zip(scheduler.timesteps, self.predictions, strict=False):
            z = scheduler.step(x, t, z).prev_sample
        return z

    def by_process(self, h: Sequence[tuple[Tensor, Tensor]], *, given: bool, second_order: bool = False) -> Tensor:
        """A user's loop, who has ``h`` already or not."""
        z, before = self.z, None
        for i, (t, s) in enumerate(JUMPS):
            codes = self.predictions[i]
            driving = extrapolated(self.process, codes, before, s, t) if second_order else codes
            before = (t, codes)
            z = process_step(self.process, z, h[i] if given else means(self.process, driving, s, t), s, t, self.zero)
        return z

    def bare_ddim(self) -> Tensor:
        """``k z + (W_s - k W_t) Ê``."""
        z = self.z
        for x, (k, c, _) in zip(self.predictions, self.coefficients, strict=True):
            z = torch.add(x * c, z, alpha=k)
        return z

    def bare_2m(self) -> Tensor:
        """The same with ``(1 + e) Ê - e Ê_previous`` in place of ``Ê``."""
        z, previous = self.z, self.predictions[0]
        for x, (k, c, e) in zip(self.predictions, self.coefficients, strict=True):
            z = torch.add(x * (c * (1 + e)), z, alpha=k)
            if e:
                z.add_(previous, alpha=-c * e)
            previous = x
        return z

    def check(self) -> None:
        """All of a kind end at the same values.

        Raises:
            SystemExit: they do not.
        """
        for name, run in self.runs.items():
            expected = self.runs[name.split()[0] + " diffusers"]()
            difference = float((run() - expected).abs().max())
            if not difference < 1e-4:
                raise SystemExit(f"{name} ends {difference} from diffusers, expected below 1e-4: not the same is timed")


def bare_coefficients(process: Process) -> list[tuple[float, float, float]]:
    """``k = σ_s/σ_t``, ``W_s - k W_t`` and the extrapolation, of each jump, 0 at the first."""
    W, sigma = process.schedule.W[:, 0].tolist(), process.schedule.variance.sqrt().tolist()
    half_log_snr = (process.schedule.W[:, 0] / process.schedule.variance.sqrt()).log().tolist()
    rows, before = [], None
    for t, s in JUMPS:
        k = sigma[s] / sigma[t]
        e = (
            0.0
            if before is None
            else (half_log_snr[s] - half_log_snr[t]) / (2 * (half_log_snr[t] - half_log_snr[before]))
        )
        rows.append((k, W[s] - k * W[t], e))
        before = t
    return rows


def diffusers_schedulers() -> tuple[Any, Any, Any]:
    """Its DDIM, its second-order multistep and its DDPM scheduler, with our schedule and path.

    Raises:
        SystemExit: it is not installed.
    """
    try:
        diffusers: Any = importlib.import_module("diffusers")
    except ImportError as error:
        raise SystemExit("diffusers is not installed; pip install -c constraints.txt diffusers") from error
    common = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "sample", "timestep_spacing": "trailing"}
    return (
        diffusers.DDIMScheduler(clip_sample=False, **common),
        diffusers.DPMSolverMultistepScheduler(**common),
        diffusers.DDPMScheduler(clip_sample=False, **common),
    )


# ---- what sample does beside the network ----


class Passing(nn.Module):
    """A backbone that gives back what it reads."""

    features = SHAPE[1]

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, z: Tensor, t: Tensor, roles: Tensor, condition: Tensor) -> Tensor:
        """``z (B, *Z)``."""
        return z


class Sampled:
    """Seconds of ``sample`` less those of its network."""

    def __init__(self) -> None:
        registry = mmcore.discover()
        image = registry.modality("image", channels=SHAPE[1], size=SHAPE[2])
        self.model = mmcore.compose([image], space=SHAPE[1:], backbone=Passing(), registry=registry).eval()
        modules = network_modules(self.model)
        self.network = self.started = 0.0
        modules[0].register_forward_pre_hook(self._start)
        modules[-1].register_forward_hook(self._stop)

    def _start(self, *_: object) -> None:
        self.started = time.thread_time()

    def _stop(self, *_: object) -> None:
        self.network += time.thread_time() - self.started

    def step(self, kind: str) -> float:
        """Of one step, what is worked out once for the path included: the difference of 20 steps and 1."""
        return (self._seconds(kind, STEPS) - self._seconds(kind, 1)) / (STEPS - 1)

    def _seconds(self, kind: str, steps: int) -> float:
        how: dict[str, Any] = {"sampler": "ddim", "eta": 0.0} if kind == "ddim" else {"sampler": "2m"}
        self.network, started = 0.0, time.thread_time()
        mmcore.sample(self.model, SHAPE[0], steps=steps, **how)
        return time.thread_time() - started - self.network


# ---- measuring ----


def one_process(rounds: int) -> dict[str, float]:
    """Microseconds of a step, or of a noising, by name: medians over the rounds."""
    # Once so large a block was freed, malloc keeps tensors of this size, and does not give them back to the system to get
    # them again page by page: which of the runs that would hit depends on their order.
    torch.empty(31 << 20, dtype=torch.uint8)
    candidates, sampled = Candidates(), Sampled()
    candidates.check()
    times: dict[str, list[float]] = {name: [] for name in candidates.runs}
    times |= {"ddim sample": [], "2m sample": []}
    for turn in range(rounds + 1):
        for name, run in candidates.runs.items():
            started = time.thread_time()
            for _ in range(len(JUMPS) if name.startswith("noising") else 1):
                run()
            times[name].append((time.thread_time() - started) / len(JUMPS))
        for kind in ("ddim", "2m"):
            times[f"{kind} sample"].append(sampled.step(kind))
        if turn == 0:
            for several in times.values():
                several.clear()
    return {name: 1e6 * statistics.median(several) for name, several in times.items()}


def main() -> None:
    """Measure in several processes, and print."""
    options = parser_of(__doc__, rounds=15).parse_args()
    torch.set_num_threads(1)
    if options.one:
        with torch.no_grad():
            print(json.dumps(one_process(options.rounds)))
        return
    diffusers_schedulers()
    processes = in_processes("benchmarks.solvers", options)
    print("| | µs | of diffusers' time | aim |\n|---|---|---|---|")
    for name in processes[0]:
        kind, way = name.split(maxsplit=1)
        micro = [process[name] for process in processes]
        ratios = [process[name] / process[f"{kind} diffusers"] for process in processes]
        aim = f"≤ {AIMS[kind]}" if way == "process" else ""
        print(
            f"| {kind}, {way} | {statistics.median(micro):.0f} | "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | {aim} |"
        )


if __name__ == "__main__":
    main()

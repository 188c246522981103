"""Random calls of ``sample``, of which about half have one argument that is no such thing: each is refused in one line, or answered by the laws.

python -m benchmarks.calls [--count 5000] [--seed 0]
"""

import argparse
import itertools
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

import mmcore
from mmcore import JointModel, RequestError
from mmcore.modality.holes import some_there, whole_of
from mmcore.modality.mixed import Mixed
from mmcore.sampling.question import Question, rows_of

NAMES = ("a", "label", "image", "mask")
STEPS, LONGEST = 20, 700


class Odd:
    """Nothing that any argument is."""


JUNK: tuple[Any, ...] = (
    None, "x", "label", 1, -1, 0, 2.5, float("nan"), float("inf"), 10**30, True, b"x", [], {}, (1, 2), ["label"], [[1]], {"label": 1}, range(3),
    np.float64(2), np.array([1, 2]), np.array(["a"]), torch.tensor(3), torch.zeros(2, 2), Odd(), Odd, lambda: 1, slice(1), frozenset({1}),
)  # fmt: skip


def models() -> list[JointModel]:
    """Two of each layout, in double precision: there rounding is far below what a wrong row would change.

    The first two know all of their values, the others have columns in one sample, and elements that are void.
    """
    registry = mmcore.discover()
    made = []
    for holes, layout in itertools.product((False, True), ("shared", "separate")):
        columns = {
            "number": registry.modality("scalar"),
            "direction": registry.modality("clip", width=3),
            "group": registry.modality("label", classes=3),
        }
        parts = [
            Mixed("a", columns) if holes else registry.modality("clip", name="a", width=3, unit_norm=False),
            registry.modality("label", classes=4),
            registry.modality("image", channels=1, size=4),
            registry.modality("mask", size=4, classes=3, void=7 if holes else None),
        ]
        schedule = registry.schedule("cosine", steps=STEPS, modalities=len(parts))
        options = {"width": 16, "depth": 1}
        model = mmcore.compose(
            parts, layout=layout, schedule=schedule, backbone="mlp", backbone_options=options, registry=registry
        )
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.2 * torch.randn(p.shape, generator=generator))
        made.append(model.double().eval())
    return made


class Caller:
    """Random questions.

    Args:
        seed: of them.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.bits = torch.Generator().manual_seed(seed)

    def maybe(self, probability: float) -> bool:
        return self.random.random() < probability

    def rows(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.bits) < 0.5

    def value(self, model: JointModel, name: str, n: int) -> Tensor:
        m = model.variable(name)
        x = m.typical(n, self.random.randrange(100))
        if m.spec.void is None:
            return x
        there = torch.rand(x.shape, generator=self.bits) > self.random.choice([0.0, 0.2, 1.0])
        there |= self.rows(n).reshape(n, *[1] * (x.ndim - 1))
        return x.masked_fill(~whole_of(m, there), m.spec.void)

    def elements(self, model: JointModel, name: str, n: int) -> Tensor:
        """A mask of which elements are known."""
        m = model.variable(name)
        return whole_of(m, self.rows(n, *m.spec.shape))

    def question(self, model: JointModel) -> dict[str, Any]:
        """One that may be asked, but for what excludes what."""
        pick, n = self.random.choice, self.random.choice([1, 2, 3, 5])
        asked: dict[str, Any] = {"n": n, "seed": pick([0, 1, 7, 2**40])}
        given = {name: self.value(model, name, n) for name in NAMES if self.maybe(0.35)}
        if len(given) == len(NAMES):
            given.popitem()
        asked["given"] = given
        if given and self.maybe(0.3):
            whole = [name for name in NAMES if not model.divisible(model.variable(name))]
            some = [name for name in given if self.maybe(0.6)]
            asked["where"] = {
                name: self.rows(n) if name in whole or self.maybe(0.5) else self.elements(model, name, n)
                for name in some
            }
        left = [name for name in NAMES if name not in given]
        if len(left) > 1 and self.maybe(0.2):
            asked["absent"] = pick([[left[0]], {left[0]: self.rows(n)}])
        asked["conditioning"] = pick(["roles", "roles", "roles", "posterior"])
        # What is void in every row is not observed, and guides nothing.
        known = all(bool(some_there(model.variable(name), x).any()) for name, x in given.items())
        if given and known and "where" not in asked and asked["conditioning"] == "roles" and self.maybe(0.3):
            asked["guidance"] = {name: pick([0.0, 1.0, 2.0]) for name in list(given)[:2]}
        if self.maybe(0.2):
            asked |= {"start": {name: self.value(model, name, n) for name in NAMES}, "strength": pick([0.5, 1.0])}
        told = Question.ask(
            model,
            n,
            given=given,
            where=asked.get("where", {}),
            absent=asked.get("absent", ()),
            conditioning=asked["conditioning"],
        ).told
        if bool(model.driver.one_class(told).any()):
            # Nothing moves an answer that has no way.
            for option in ("start", "strength", "guidance"):
                asked.pop(option, None)
        sampler = pick(["auto", "2m", "ddim", "heun", "ancestral"])
        asked |= {"sampler": sampler, "steps": pick([1, 2, 3]) if "start" in asked else pick([1, 2, 3, [20, 10, 1]])}
        if sampler == "ddim":
            asked["eta"] = pick([0.0, 0.5, 1.0])
        if sampler == "ancestral":
            asked["codes"] = pick(["mean", "draw", "draw-all"])
        if self.maybe(0.2):
            asked["draw"] = pick([True, False])
        if self.maybe(0.2):
            asked["numbers"] = pick([range(4, 4 + n), torch.arange(n) + 9])
        if self.maybe(0.2):
            asked["batch_size"] = pick([1, 2, 500])
        return asked

    def spoilt(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The same with one argument, or one thing in it, that is something else."""
        asked = dict(asked)
        options = ("n", "given", "where", "absent", "conditioning", "guidance", "start", "strength", "sampler", "steps", "spacing", "eta", "codes", "draw", "seed", "numbers", "batch_size")  # fmt: skip
        option, junk = self.random.choice(options), self.random.choice(JUNK)
        held = asked.get(option)
        if isinstance(held, dict) and held and self.maybe(0.7):
            name = self.random.choice(list(held))
            asked[option] = {**held, name: self._spoilt(held[name], junk)}
        elif isinstance(held, dict) and self.maybe(0.3):
            asked[option] = {**held, self.random.choice(["nope", 3, None, "imag"]): junk}
        else:
            asked[option] = junk
        return asked

    def _spoilt(self, x: Any, junk: Any) -> Any:
        if not isinstance(x, Tensor) or self.maybe(0.3):
            return junk
        spoilt = x.clone()
        how = self.random.choice(["value", "fewer", "more", "kind", "shape", "list", "numpy"])
        if how == "value" and spoilt.numel() and spoilt.dtype != torch.bool:
            bad = [float("nan"), float("inf"), -9.0, 99.0] if spoilt.is_floating_point() else [-9, 99]
            spoilt.view(-1)[0] = self.random.choice(bad)
            return spoilt
        changed = {
            "fewer": lambda: x[:-1], "more": lambda: torch.cat([x, x[:1]]), "kind": lambda: x.to(torch.int16), "shape": lambda: x[..., None],
            "list": x.tolist, "numpy": x.numpy,
        }  # fmt: skip
        return changed.get(how, lambda: junk)()


def fault(model: JointModel, caller: Caller, asked: dict[str, Any], *, right: bool) -> str:
    """What is wrong with a call's answer or refusal; empty if nothing is."""
    before = _generators()
    how = {name: value for name, value in asked.items() if name != "n"}
    try:
        answer = mmcore.sample(model, asked["n"], **how)
    except RequestError as error:
        text = str(error)
        if len(text.splitlines()) != 1 or len(text) > LONGEST:
            return f"a refusal of {len(text.splitlines())} lines and {len(text)} characters"
        return f"refused: {text}" if right else ""
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
    if _generators() != before:
        return "a global generator was used"
    return _answered(model, caller, asked, how, answer)


def _generators() -> tuple[bytes, object, bytes]:
    """The states of the generators that everybody shares."""
    shared = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), str(shared).encode()


def _answered(model: JointModel, caller: Caller, asked: Any, how: Any, answer: dict[str, Tensor]) -> str:
    given, where = rows_of(model, asked.get("given") or {}, asked["n"], "given"), asked.get("where") or {}
    absent = asked.get("absent") or ()
    for name, x in answer.items():
        spec = model.variable(name).spec
        try:
            # A row in which it is absent holds a placeholder, which is inside too.
            spec.check(x.to(spec.dtype), name)
        except RequestError as error:
            return f"outside its spec: {error}"
        if len(x) != asked["n"]:
            return f"{name}: {len(x)} rows for {asked['n']}"
        if name in given:
            known = where.get(name, torch.ones(len(x), dtype=torch.bool))
            known = known.reshape(*known.shape, *[1] * (x.ndim - known.ndim)).expand_as(x)
            if not torch.equal(x[known], given[name][known]):
                return f"{name}: what was given came back changed"
    if set(answer) != {m.name for m in model.variables} - ({*absent} if not isinstance(absent, dict) else set()):
        # What is absent in every row is left out.
        everywhere = {name for name, rows in absent.items() if rows.all()} if isinstance(absent, dict) else {*absent}
        if set(answer) != {m.name for m in model.variables} - everywhere:
            return f"answered {sorted(answer)}"
    again = mmcore.sample(model, asked["n"], **{**how, "batch_size": caller.random.choice([1, 2, 7])})
    for name, x in answer.items():
        if not torch.allclose(x.double(), again[name].double(), atol=1e-6):
            return f"{name}: another answer in other batches"
    return ""


def faults(count: int, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Of so many calls those that went wrong: how, and the question. Every other call has one thing spoilt."""
    made, caller = models(), Caller(seed)
    for number in range(count):
        model = made[number % len(made)]
        asked = caller.question(model)
        spoil = number // len(made) % 2 == 0
        asked = caller.spoilt(asked) if spoil else asked
        if found := fault(model, caller, asked, right=not spoil):
            yield found, asked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = Counter()
    for text, asked in faults(options.count, options.seed):
        found[text] += 1
        print(f"{text} | { ({name: value for name, value in asked.items() if not isinstance(value, dict)}) }"[:300])
    print(f"{options.count} calls, {found.total()} wrong")


if __name__ == "__main__":
    main()

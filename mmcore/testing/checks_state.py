"""Parts as things: saved, copied, moved, in half precision and on a GPU."""

import copy
from collections.abc import Mapping
from typing import Any

import attrs
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from mmcore.rng import Rng
from mmcore.testing.check import check
from mmcore.testing.context import Context

REGISTERED = frozenset(vars(nn.Module()))
"""Where torch keeps what a module has."""


def _weights(held: Any, depth: int = 3) -> list[nn.Parameter]:
    """Trainable weights that lie in lists, dictionaries and the like."""
    if isinstance(held, nn.Parameter):
        return [held] if held.requires_grad else []
    if isinstance(held, nn.Module):
        return [p for p in held.parameters() if p.requires_grad]
    if isinstance(held, Mapping):
        held = list(held.values())
    if isinstance(held, list | tuple | set) and depth:
        return [p for one in held for p in _weights(one, depth - 1)]
    return []


@check(
    "state.safetensors",
    fault="weights held as plain attributes or in lists, which no state dict has and no optimiser trains",
    core=False,
    tolerance=0.0,
)
def safetensors(c: Context) -> None:
    """A decoder's state dict goes through safetensors and back into a new decoder, which then gives the same; it has every weight that is to be trained."""
    for what, part in (("encoder", c.modality.encoder()), ("decoder", c.decoder())):
        own = {id(p) for p in part.parameters()}
        for where, module in part.named_modules():
            for name, held in vars(module).items():
                if name not in REGISTERED and (lost := [p for p in _weights(held) if id(p) not in own]):
                    c.fail(f"{len(lost)} weights in {f'{where}.{name}'.strip('.')} of the {what}, which its state dict has not", "parameters of its own")  # fmt: skip
    one, other = c.decoder(), c.decoder(more=1)
    other.load_state_dict(load(save({k: v.contiguous() for k, v in one.state_dict().items()})))
    features, t = c.features(3)
    c.same(other(features, t), one(features, t), "the parameters by the loaded decoder")


@check(
    "state.copy", fault="a part that shares its weights with its copy, or cannot be copied", core=False, tolerance=0.0
)
def copies(c: Context) -> None:
    """A deep copy of encoder and decoder gives the same, and what is done to it does not reach the original."""
    features, t = c.features(3)
    decoder, encoder, x = c.decoder(), c.encoder(), c.typical(3)
    want = decoder(features, t).detach()
    twin = copy.deepcopy(decoder)
    c.same(twin(features, t), want, "the parameters by the copy")
    with torch.no_grad():
        for p in [*twin.parameters(), *twin.buffers()]:
            p.zero_()
    c.same(decoder(features, t), want, "the original's parameters after its copy was changed")
    c.same(copy.deepcopy(encoder)(x), encoder(x), "the code by the copied encoder")


@check("state.device", fault="a tensor made on the CPU inside forward, or held as a plain attribute", core=False)
def device(c: Context) -> None:
    """Encoder and decoder compute where they are moved to, with all that they hold.

    Asked with torch's meta device, which every machine has.
    """
    meta = torch.device("meta")
    features, t = c.features(3)
    calls = {
        "encoder": (c.modality.encoder().to(meta), (c.typical(3).to(meta),)),
        "decoder": (c.decoder().to(meta), (features.to(meta), t.to(meta))),
    }
    for name, (part, given) in calls.items():
        for where, module in part.named_modules():
            held = [k for k, v in vars(module).items() if isinstance(v, Tensor)]
            if held:
                place = f"{name}.{where}".rstrip(".")
                c.fail(f"{', '.join(held)} of the {place} as a plain tensor, which does not move along", "a parameter or a buffer")  # fmt: skip
        out = part(*given)
        if out.device != meta:
            c.fail(f"an answer of the {name} on {out.device}", "the device it was moved to")


@check(
    "dtype.half",
    fault="a sum of squares that overflows, a table that is not cast along",
    core=False,
    dtypes=("bfloat16", "float16"),
    tolerance=0.05,
)
def half(c: Context) -> None:
    """In half precision encoder and decoder give nearly what they give in float32, in units of the answer's deviation or size."""
    whole = attrs.evolve(c, dtype=torch.float32)
    features, t = whole.features(16)
    # Rounded before they are compared: what half precision cannot hold, such as years by their tenths, is no fault of the encoder's.
    x = c.typical(16)
    before = whole.typical(16)
    near = not x.is_floating_point() or bool(x.isfinite().all() and (x.double() - before.double()).abs().max() <= 0.02 * before.double().std())  # fmt: skip
    pairs = {
        # Of numbers that half precision does not hold nothing is asked.
        **({"code": (c.encoder()(x), whole.encoder()(whole.cast(x)))} if near else {}),
        "parameters": (c.decoder()(features.to(c.dtype), t), whole.decoder()(features, t)),
    }
    for name, (got, want) in pairs.items():
        got, want = got.detach(), want.detach()
        if got.dtype != c.dtype:
            c.fail(f"{name} in {got.dtype}", f"{c.dtype}")
        # What is large, such as the code of a rare class, rounds by its size.
        size = want.double().abs().clamp(min=max(1e-3, float(want.double().std())))
        error = ((got.double() - want.double()).abs() / size).max()
        if not error <= c.tolerance:
            c.fail(f"{name} that are off by {error:.3g} of their deviation", f"at most {c.tolerance:g}")


@check("device.agrees", fault="another algorithm on the GPU", core=False, devices=("cuda",), tolerance=1e-3)
def agrees(c: Context) -> None:
    """A GPU agrees with the CPU: codes, parameters, losses, points, expected codes and draws.

    Of draws of classes a thousandth may differ, where a uniform number falls on a probability's rounding.
    """
    cpu = attrs.evolve(c, device=torch.device("cpu"))
    x, n = cpu.typical(64), 64
    features, t = cpu.features(n)
    params = cpu.decoder()(features, t).detach()
    near, far = cpu.decoder(), c.decoder()
    c.same(c.encoder()(c.cast(x)), cpu.encoder()(x), "codes on the GPU")
    c.same(far(features.to(c.device), t.to(c.device)), params, "parameters on the GPU")
    c.same(c.loss(params.to(c.device), c.cast(x)), cpu.loss(params, x), "losses on the GPU")
    c.same(far.point(params.to(c.device)), near.point(params), "points on the GPU")
    expected = c.modality.expected_code(params, cpu.encoder(), near)
    c.same(c.modality.expected_code(params.to(c.device), c.encoder(), far), expected, "expected codes on the GPU")
    mine = far.sample(params.to(c.device), Rng.for_rows(c.seed, n, device=c.device)).cpu().double()
    theirs = near.sample(params, Rng.for_rows(c.seed, n)).double()
    apart = (~torch.isclose(mine, theirs, rtol=c.tolerance, atol=c.tolerance)).double().mean()
    if apart > 1e-3:
        c.fail(f"{apart:.2%} of the draws' elements differ on the GPU", "at most 0.1 %")

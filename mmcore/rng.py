"""Counter-based randomness: every number is a function of where it is used.

A draw is addressed by ``(seed, purpose, step, row, element)`` and by nothing else: not by what
was drawn before, not by the batch's size, not by any global generator. So row ``k`` of a step
has the same noise alone, in any batch, and on any rank. The bits come from two rounds of
SplitMix64's finaliser (Steele, Lea and Flood 2014) over seed, step and row, and two more over
that, the purpose and the element, with 128-bit keys; the integers are equal on every device.
"""

import functools
import hashlib
import math

import attrs
import numpy as np
import torch
from torch import Tensor

_MASK = (1 << 64) - 1


def _signed(value: int) -> int:
    """The 64 bits of ``value`` as torch's signed integer."""
    value &= _MASK
    return value - (1 << 64) if value >> 63 else value


_GAMMA, _C1, _C2 = (_signed(c) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_FINAL = ((30, _C1), (27, _C2), (31, None))


def _key(text: str) -> tuple[int, int]:
    """Two 64-bit keys."""
    if torch.compiler.is_compiling():
        first, second = _words(text).split()
        return int(first), int(second)
    return _digest(text)


def _words(text: str) -> str:
    """The keys in words, which a compiler takes as they are."""
    first, second = _digest(text)
    return f"{first} {second}"


# What torch.compiler.assume_constant_result sets, without the import of the compiler that it takes.
_words._dynamo_marked_constant = True  # type: ignore[attr-defined]


@functools.lru_cache(maxsize=256)
def _digest(text: str) -> tuple[int, int]:
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return _signed(int.from_bytes(digest[:8], "little")), _signed(int.from_bytes(digest[8:], "little"))


def _places(text: str, count: int, device: torch.device) -> Tensor:
    """The keys of elements ``0 … count - 1`` of a purpose, not to be written to."""
    if torch.compiler.is_compiling():
        return torch.arange(1, count + 1, device=device) * _GAMMA + _key(text)[0]
    return _kept_places(text, count, device)


@functools.lru_cache(maxsize=32)
def _kept_places(text: str, count: int, device: torch.device) -> Tensor:
    return torch.arange(1, count + 1, device=device).mul_(_GAMMA).add_(_key(text)[0])


def _shifted(x: Tensor, shift: int) -> Tensor:
    """``x >> shift`` of the bits: torch shifts arithmetically, so the sign bits are masked off."""
    return (x >> shift).bitwise_and_((1 << 64 - shift) - 1)


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser, in place."""
    if x.device.type == "cpu" and not torch.compiler.is_compiling():
        # numpy's integers can be unsigned: their shift needs no mask, and their product takes half as long.
        words = x.numpy().view(np.uint64)
        shifted = np.empty_like(words)
        for shift, factor in _FINAL:
            words ^= np.right_shift(words, np.uint64(shift), out=shifted)
            if factor is not None:
                words *= np.uint64(factor & _MASK)
        return x
    for shift, factor in _FINAL:
        x ^= _shifted(x, shift)
        if factor is not None:
            x *= factor
    return x


@attrs.define(eq=False)
class Rng:
    """Counter-based random numbers for the rows of a batch: a function of seed, purpose, step and row.

    Attributes:
        seed: the run's seed.
        rows: ``(B,)`` int64, each row's place in the whole step, over all ranks and micro-batches.
        step: the training or sampling step; or several, whose rows lie one step after the other.
        purpose: what the numbers are for; two purposes share nothing.
    """

    seed: int
    rows: Tensor
    step: int | range = 0
    purpose: str = ""
    _mixed: list[Tensor] | None = attrs.field(init=False, repr=False)
    """Seed, step and row, mixed once for all purposes."""

    def __attrs_post_init__(self) -> None:
        self._mixed = None

    @classmethod
    def for_rows(cls, seed: int, count: int, *, start: int = 0, device: torch.device | str | None = None) -> "Rng":
        """Random numbers for rows ``start … start + count - 1`` on a device."""
        return cls(seed, torch.arange(start, start + count, device=device))

    @classmethod
    def keyed(cls, key: Tensor, purpose: str) -> "Rng":
        """Random numbers of rows whose seed, step and place are in a ``key (B, 1)`` of :meth:`key`: for compiled code, which is one for all steps."""
        rng = cls(0, key[:, 0], 0, purpose)
        rng._mixed = [key]
        return rng

    def at(self, step: int | range) -> "Rng":
        """The random numbers of the same rows at another step; or at each of several, one step's rows after the other's.

        A few numbers for many steps at once take hardly longer than those of one.

        Raises:
            ValueError: these rows are of several steps already.
        """
        if isinstance(self.step, range):
            raise ValueError(f"rng: at({step}) of rows of several steps ({self.step}), expected rows of one")
        if not isinstance(step, range):
            return Rng(self.seed, self.rows, step, self.purpose)
        several = Rng(self.seed, self.rows.repeat(len(step)), step, self.purpose)
        keys = torch.tensor([_key(f"{self.seed}\0{one}") for one in step])
        if self.rows.is_cuda:  # else the copy would wait for all that the device has yet to do
            keys = keys.pin_memory()
        keys = keys.to(self.rows.device, non_blocking=True)
        several._mix_rows(*keys.repeat_interleave(len(self.rows), dim=0).unbind(1))
        return several

    def of(self, purpose: str) -> "Rng":
        """The random numbers of the same rows for another purpose; purposes nest."""
        if self._mixed is None:
            self._mixed = []
        other = Rng(self.seed, self.rows, self.step, f"{self.purpose}/{purpose}")
        other._mixed = self._mixed
        return other

    def key(self) -> Tensor:
        """Seed, step and row in one, ``(B, 1)`` int64, for any purpose."""
        if self._mixed is None or not len(self._mixed):
            if isinstance(self.step, range):
                raise ValueError(
                    f"rng: other rows put in place of those of several steps ({self.step}), expected at(step)"
                )
            return self._mix_rows(*_key(f"{self.seed}\0{self.step}"))
        return self._mixed[0]

    def _mix_rows(self, first: int | Tensor, second: int | Tensor) -> Tensor:
        key = _mix(_mix(self.rows * _GAMMA + first).add_(second))[:, None]
        self._mixed = [] if self._mixed is None else self._mixed
        self._mixed.append(key)
        return key

    def bits(self, count: int) -> Tensor:
        """Random bits: ``(B, count)`` int64 with all 64 bits uniform."""
        row = self.key()
        place, second = _places(self.purpose, count, self.rows.device), _key(self.purpose)[1]
        return _mix(_mix(place + row).bitwise_xor_(row * _C1 + second))

    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Uniform numbers ``(B, *shape)`` in the open interval (0, 1)."""
        u = _shifted(self.bits(math.prod(shape)), 11).double().add_(0.5).mul_(2.0**-53)
        if dtype != torch.float64:
            # Rounding to fewer digits must not reach 1.
            u = u.to(dtype).clamp_(max=1 - torch.finfo(dtype).eps / 2)
        return u.reshape(len(self.rows), *shape)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal numbers ``(B, *shape)``, by Box and Muller (two per 64 bits)."""
        count = math.prod(shape)
        bits = self.bits((count + 1) // 2)
        low, high = bits.view(torch.uint32).unflatten(1, (-1, 2)).unbind(2)
        radius = high.double().add_(0.5).mul_(2.0**-32).log_().mul_(-2).sqrt_()
        angle = low.double().mul_(2 * math.pi * 2.0**-32)
        if torch.compiler.is_compiling():
            pair = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1).to(dtype)
        else:
            pair = torch.empty(*bits.shape, 2, dtype=dtype, device=bits.device)
            torch.mul(radius, angle.cos(), out=pair[..., 0])
            torch.mul(radius, angle.sin_(), out=pair[..., 1])
        return pair.flatten(1)[:, :count].reshape(len(self.rows), *shape)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Uniform integers ``(B, *shape)`` in ``low … high - 1``, int64."""
        return low + (self.uniform(*shape, dtype=torch.float64) * (high - low)).long()

    def categorical(self, probabilities: Tensor) -> Tensor:
        """Draw a class per row and position from ``probabilities (B, ..., K)``: ``(B, ...)`` int64."""
        cumulative = probabilities.double().cumsum(-1)
        u = self.uniform(*probabilities.shape[1:-1], dtype=torch.float64).unsqueeze(-1) * cumulative[..., -1:]
        return (u > cumulative[..., :-1]).sum(-1)

    def gamma(self, shape: Tensor) -> Tensor:
        """Gamma-distributed numbers of scale 1 with ``shape (B,) ≥ 1``: ``(B,)``, by Marsaglia and Tsang (2000).

        Each row has 24 proposals of its own, each accepted with probability above 0.95.
        """
        alpha = shape.double()
        d = (alpha - 1 / 3)[:, None]
        x = self.of("gamma/normal").normal(24, dtype=torch.float64)
        v = (1 + x / (9 * d).sqrt()).pow(3)
        u = self.of("gamma/uniform").uniform(24, dtype=torch.float64)
        accepted = (v > 0) & (u.log() < 0.5 * x.square() + d - d * v + d * v.clamp(min=1e-300).log())
        first = accepted.int().argmax(1, keepdim=True)
        return (d[:, 0] * v.gather(1, first)[:, 0].clamp(min=0)).to(shape.dtype)

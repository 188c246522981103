"""Several modalities as one, side by side in one tensor: the columns of a table, each with its own likelihood, any of which may be missing."""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from mmcore.errors import PluginError, RequestError, nearest
from mmcore.modality import side_by_side
from mmcore.modality.base import Decoder, Encoder, LossTerm, Metric, Modality
from mmcore.modality.calibration import Calibration
from mmcore.modality.noisy import NoisyCode
from mmcore.modality.packed import PackedSpec
from mmcore.modality.spec import VOID, Spec
from mmcore.rng import Rng
from mmcore.space import Space


class Mixed(Modality):
    """One modality of several, such as the columns of a table: numbers, counts and classes in one sample.

    A sample is flat float32, the parts side by side in their order. Any part may be missing, in any row. The code is the parts' codes
    side by side, the likelihood the product of theirs. It is observed in part: part by part, and inside of those that are ``divisible``;
    the others are known as a whole or not at all.

    A subclass makes its parts from plain options, so that a model folder can make it again. Of a table it reads the columns that have its parts' names.

    Args:
        name: of the modality.
        parts: by name, one at least; spatial codes among them become flat.

    Attributes:
        packed: the spec, which knows the parts.

    Raises:
        PluginError: no part, or what is no modality.
    """

    def __init__(self, name: str, parts: Mapping[str, Modality]) -> None:
        wrong = [key for key, part in parts.items() if not isinstance(part, Modality)]
        if not parts or wrong:
            raise PluginError(
                f"modality {name!r}: found {wrong or 'no part'}, expected a modality for each part's name"
            )
        self.name, self.parts, self.columns = name, dict(parts), tuple(parts)
        self.spec = self.packed = PackedSpec.of({key: part.spec for key, part in parts.items()})
        self.code = (sum(math.prod(part.code) for part in parts.values()),)
        self.code_draws = min((part.code_draws for part in parts.values() if part.code_draws), default=0)  # type: ignore[misc]
        of = [f"{part.likelihood_of} ({key})" for key, part in parts.items() if part.likelihood_of]
        self.likelihood_of = ", ".join(of)  # type: ignore[misc]
        self.together = tuple(_together(self))
        # Real numbers among them are read by their mean: as a whole it is classes only if all are.
        self.discrete = all(part.discrete for part in parts.values())  # type: ignore[misc]

    @functools.cached_property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of each part's parameters."""
        space, shapes = Space((1, 1)), []
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            for part in self.parts.values():
                decoder = part.decoder(1, space)
                shapes.append(tuple(decoder(torch.zeros(1, *space.shape), torch.ones(1, dtype=torch.int64)).shape[1:]))
        return shapes

    def encoder(self) -> Encoder:
        return MixedEncoder(self)

    def decoder(self, width: int, space: Space) -> Decoder:
        return MixedDecoder(self, width, space)

    def loss(self) -> LossTerm:
        return MixedLoss(self)

    def params(self, params: Tensor) -> list[Tensor]:
        """Each part's parameters ``(B, ...)``, of ``params (B, P)``."""
        pieces = params.split([math.prod(shape) for shape in self.shapes], dim=1)
        return [piece.reshape(len(params), *shape) for piece, shape in zip(pieces, self.shapes, strict=True)]

    def expected_code(self, params: Tensor, encode: Callable[[Tensor], Tensor], decoder: Decoder) -> Tensor:
        """Each part's own, side by side."""
        encoders, decoders = cast(MixedEncoder, encode).parts, cast(MixedDecoder, decoder).parts
        rows = zip(self.parts.values(), self.params(params), encoders, decoders, strict=True)
        codes = [part.expected_code(p, encoder, cast(Decoder, own)).flatten(1) for part, p, encoder, own in rows]
        return torch.cat(codes, dim=1)

    divisible = True  # type: ignore[reportAssignmentType]

    def code_where(self, where: Tensor) -> Tensor:
        known = []
        for part, mask in zip(self.parts.values(), self.packed.split_mask(where), strict=True):
            if part.divisible:
                known.append(part.code_where(mask).flatten(1))
            else:
                known.append(mask.reshape(len(where), -1).all(1, keepdim=True).expand(-1, math.prod(part.code)))
        return torch.cat(known, dim=1)

    def conditioned(self, params: Tensor, x: Tensor, where: Tensor) -> Tensor:
        """Each part's own, side by side."""
        rows = zip(
            self.parts.values(), self.params(params), self.packed.split(x), self.packed.split_mask(where), strict=True
        )
        return torch.cat([part.conditioned(p, value, known).flatten(1) for part, p, value, known in rows], dim=1)

    # ---- for people ----

    def read(self, raw: Any) -> Tensor:
        """Raw values by the parts' names, or a list of them in order: None where one is missing. Or all numbers in one array, NaN where one is missing."""
        if isinstance(raw, Mapping):
            for key in raw:
                if key not in self.parts:
                    raise RequestError(
                        f"found {key!r}, expected {', '.join(self.parts)}{nearest(str(key), list(self.parts))}"
                    )
            return _read(self, [raw.get(key) for key in self.parts])
        if isinstance(raw, list | tuple):
            if len(raw) != len(self.parts):
                raise RequestError(f"found {len(raw)} values, expected {len(self.parts)}: {', '.join(self.parts)}")
            return _read(self, raw)
        if not (isinstance(raw, Tensor) or (isinstance(raw, np.ndarray) and raw.dtype.kind in "biuf")):
            raise RequestError(f"found {type(raw).__name__}, expected a mapping or a list of {', '.join(self.parts)}")
        x = torch.as_tensor(raw).float()
        x = torch.where(x.isnan(), VOID, x)
        self.packed.check(x[None], self.name)
        return x

    def raw(self, x: Tensor) -> Any:
        """The parts' raw values in order; None where one is missing."""
        return [None if value is None else part.raw(value) for _, part, value in _each(self, x.detach().cpu())]

    def show(self, x: Tensor) -> str:
        shown = []
        for name, part, value in _each(self, x.detach().cpu()):
            told = "–" if value is None else part.show(value.to(part.spec.dtype))
            shown.append(f"{name}: {told if isinstance(told, str) else 'a picture'}")
        return ", ".join(shown)

    def metrics(self) -> Mapping[str, Metric]:
        """Each part's, as ``PART_METRIC``; NaN where the part is missing of the truth."""
        scores: dict[str, Metric] = {}
        for place, (key, part) in enumerate(self.parts.items()):
            for title, metric in part.metrics().items():
                scores[f"{key}_{title}"] = functools.partial(_score, self.packed, place, metric)
        return scores

    def calibration(self, draws: Tensor, truth: Tensor) -> Calibration:
        """Each part's own, its name first (``"age_coverage_80"``), over the rows that have it; and how whole rows lie, all parts jointly."""
        return side_by_side.calibration(self.parts, self.packed, draws, truth)

    def measured_parts(self, samples: Tensor) -> dict[str, Mapping[str, Any]]:
        """What each part would have measured of ``samples (B, D)``, of the rows that have it: for a subclass's :meth:`measured`."""
        there = self.packed.split_mask(self.packed.there(samples))
        found = {}
        for (name, part), value, known in zip(self.parts.items(), self.packed.split(samples), there, strict=True):
            value, flat = _voided(part.spec, value, known), known.reshape(len(known), -1)
            # A part that has void of its own knows what to make of it.
            has = flat.all(1) if part.spec.void is None else flat.any(1)
            if bool(has.any()):
                found[name] = part.measured(value[has])
        return found

    def typical(self, n: int, seed: int) -> Tensor:
        """The parts' own, of seeds far apart."""
        return self.packed.join([part.typical(n, seed + 7919 * k) for k, part in enumerate(self.parts.values())])


def _read(mixed: Mixed, raws: Sequence[Any]) -> Tensor:
    """A sample of its parts' raw values, in order."""
    values = []
    for (name, part), raw in zip(mixed.parts.items(), raws, strict=True):
        if raw is None or (isinstance(raw, float | np.floating) and math.isnan(raw)):
            values.append(torch.full((math.prod(part.spec.shape),), VOID))
            continue
        try:
            x = part.read(raw)
        except RequestError as error:
            raise RequestError(f"{name}: {error}") from error
        values.append(torch.where(part.spec.there(x), x.float(), VOID).reshape(-1))
    x = torch.cat(values)
    mixed.packed.check(x[None], mixed.name)
    return x


def _together(mixed: Mixed) -> Iterator[int]:
    """Parts that are not ``divisible`` are observed as a whole."""
    for part, at in zip(mixed.parts.values(), mixed.packed.slices, strict=True):
        own = part.together or range(at.stop - at.start)
        yield from (at.start + k if part.divisible else at.start for k in own)


def _each(mixed: Mixed, x: Tensor) -> Iterator[tuple[str, Modality, Tensor | None]]:
    """Each part of a sample ``(D)``; None where it is missing."""
    values, there = mixed.packed.split(x[None]), mixed.packed.split_mask(mixed.packed.there(x[None]))
    for (name, part), value, known in zip(mixed.parts.items(), values, there, strict=True):
        if not known.any() or (not known.all() and part.spec.void is None):
            yield name, part, None
        else:
            yield name, part, _voided(part.spec, value, known)[0]


def _voided(spec: Spec, value: Tensor, known: Tensor) -> Tensor:
    """A part's values, void where they are not known, if the part's spec has void."""
    return value if spec.void is None else torch.where(known, value, spec.void).to(value.dtype)


def _score(spec: PackedSpec, place: int, metric: Metric, prediction: Tensor, target: Tensor) -> Tensor:
    """A part's metric of whole samples; NaN where the truth lacks the part."""
    own = spec.parts[place][1]
    there = spec.split_mask(spec.there(target))[place]
    guess, truth = spec.split(prediction)[place], _voided(own, spec.split(target)[place], there)
    if own.void is None:
        guess = torch.where(there, guess, truth)
    known = there.reshape(len(target), -1).any(1)
    return torch.where(known, metric(guess, truth).float(), math.nan)


class MixedEncoder(Encoder):
    """The parts' codes, flat, side by side."""

    def __init__(self, mixed: Mixed) -> None:
        super().__init__()
        self.spec = mixed.packed
        self.parts = nn.ModuleList([part.encoder() for part in mixed.parts.values()])

    def forward(self, x: Tensor) -> Tensor:
        pairs = zip(self.parts, self.spec.split(x), strict=True)
        return torch.cat([encoder(value).flatten(1) for encoder, value in pairs], dim=1)


class MixedDecoder(Decoder):
    """The parts' parameters, flat, side by side: ``(B, P)``."""

    def __init__(self, mixed: Mixed, width: int, space: Space) -> None:
        super().__init__()
        self.mixed = mixed
        self.parts = nn.ModuleList([part.decoder(width, space) for part in mixed.parts.values()])
        self.begins = [getattr(decoder, "preconditioned", False) for decoder in self.parts]
        self.preconditioned = any(self.begins)  # type: ignore[misc]

    def forward(self, features: Tensor, t: Tensor, own: NoisyCode | None = None) -> Tensor:
        """Parts that begin from their own noisy codes are given theirs."""
        if own is None:
            return torch.cat([decoder(features, t).flatten(1) for decoder in self.parts], dim=1)
        codes = [part.code for part in self.mixed.parts.values()]
        pieces = own.z.split([math.prod(code) for code in codes], dim=1)
        rows = zip(self.parts, self.begins, codes, pieces, strict=True)
        found = [
            decoder(features, t, NoisyCode(z.unflatten(1, code), own.weight, own.sigma))
            if begins
            else decoder(features, t)
            for decoder, begins, code, z in rows
        ]
        return torch.cat([params.flatten(1) for params in found], dim=1)

    def point(self, params: Tensor) -> Tensor:
        pairs = zip(self.parts, self.mixed.params(params), strict=True)
        return self.mixed.packed.join([cast(Decoder, decoder).point(p) for decoder, p in pairs], params.dtype)

    def final(self, params: Tensor, rng: Rng, *, drawn: bool) -> Tensor:
        """Draws of the parts that are classes, points of the others; with ``drawn`` draws of all."""
        rows = zip(self.mixed.parts.items(), self.parts, self.mixed.params(params), strict=True)
        read = [
            final(cast(Decoder, decoder), p, rng.of(name), drawn=drawn or part.discrete)
            for (name, part), decoder, p in rows
        ]
        return self.mixed.packed.join(read, params.dtype)

    def codes(self, params: Tensor, encode: Callable[[Tensor], Tensor], rng: Rng) -> Tensor:
        """Codes of draws of the parts that are classes, expected codes of the others: ``(B, D)``."""
        rows = zip(
            self.mixed.parts.items(),
            self.mixed.params(params),
            cast(MixedEncoder, encode).parts,
            self.parts,
            strict=True,
        )
        found = [
            drawn_code(part, p, cast(Encoder, encoder), cast(Decoder, own), rng.of(name)).flatten(1)
            for (name, part), p, encoder, own in rows
        ]
        return torch.cat(found, dim=1)

    def sample(self, params: Tensor, rng: Rng) -> Tensor:
        rows = zip(self.mixed.parts, self.parts, self.mixed.params(params), strict=True)
        draws = [cast(Decoder, decoder).sample(p, rng.of(name)) for name, decoder, p in rows]
        return self.mixed.packed.join(draws, params.dtype)


def final(decoder: Decoder, params: Tensor, rng: Rng, *, drawn: bool) -> Tensor:
    """What is read of the last prediction, a draw or the point; of several modalities in one each as it would be alone."""
    if isinstance(decoder, MixedDecoder):
        return decoder.final(params, rng, drawn=drawn)
    return decoder.sample(params, rng) if drawn else decoder.point(params)


def drawn_code(m: Modality, params: Tensor, encode: Callable[[Tensor], Tensor], decoder: Decoder, rng: Rng) -> Tensor:
    """The code of a draw where a modality is of classes, else the expected code; of several modalities in one each as it would be alone."""
    if m.discrete:
        return encode(decoder.sample(params, rng))
    if isinstance(decoder, MixedDecoder):
        return decoder.codes(params, encode, rng)
    return m.expected_code(params, encode, decoder)


class MixedLoss:
    """The sum of the parts' losses."""

    def __init__(self, mixed: Mixed) -> None:
        self.mixed = mixed
        self.losses = [part.loss() for part in mixed.parts.values()]

    def __call__(self, params: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
        spec = self.mixed.packed
        masks = [None] * len(self.losses) if where is None else spec.split_mask(where)
        rows = zip(self.losses, self.mixed.params(params), spec.split(target), masks, strict=True)
        return torch.stack([loss(p, value, mask) for loss, p, value, mask in rows]).sum(0)

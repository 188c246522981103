"""Plugins broken on purpose: for each check of the kit at least one that it must catch.

Each is a healthy plugin with one thing changed. The healthy ones are here too; they must pass everything.
"""

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmcore import Decoder, Encoder, Modality, Rng
from mmcore.plugins import GROUP
from mmcore.testing.reference import Reference
from mmcore_clip import ClipModality
from mmcore_image import ImageModality
from mmcore_label import LabelModality
from mmcore_mask import MaskModality
from tests.testing import mutants_calibration as calibrated

HEALTHY: dict[str, Callable[[], Modality]] = {
    "reference": lambda: Reference(3),
    "image": lambda: ImageModality(3, 8),
    "image, 17 grey levels": lambda: ImageModality(1, (6, 10), levels=17, mean=-0.3, std=0.6),
    "mask of two classes": lambda: MaskModality(8),
    "mask with void": lambda: MaskModality(8, 4, void=9, frequencies=[0.1, 0.2, 0.3, 0.4]),
    "label": lambda: LabelModality(5, frequencies=[0.1, 0.3, 0.2, 0.15, 0.25]),
    "labels": lambda: LabelModality(4, multi=True, frequencies=[0.1, 0.5, 0.3, 0.8]),
    "embedding on the sphere": lambda: ClipModality(16),
    "embedding": lambda: ClipModality(16, unit_norm=False, scale=3.0),
}


@attrs.frozen(eq=False)
class Mutant:
    """A broken plugin.

    Attributes:
        check: the id of the check that must catch it.
        about: what is broken.
        make: the plugin, given an empty folder of its own.
        kind: of plugin.
        profile: in which the check catches it.
    """

    check: str
    about: str
    make: Callable[[Path], Any]
    kind: str = "modality"
    profile: str = "quick"

    @property
    def id(self) -> str:
        """For the test's id."""
        return f"{self.check}: {self.about}"


class Wrapped(nn.Module):
    """A part whose calls go to a function where there is one, else to the healthy part."""

    def __init__(self, inner: Any, **calls: Callable[..., Any]) -> None:
        super().__init__()
        self.inner = inner
        self.calls = calls

    def _call(self, name: str, *args: Any) -> Any:
        own = self.calls.get(name)
        return getattr(self.inner, name)(*args) if own is None else own(self, *args)


class WrappedEncoder(Wrapped, Encoder):
    def forward(self, x: Tensor) -> Tensor:
        return self._call("forward", x)


class WrappedDecoder(Wrapped, Decoder):
    def forward(self, features: Tensor, t: Tensor) -> Tensor:
        return self._call("forward", features, t)

    def point(self, params: Tensor) -> Tensor:
        return self._call("point", params)

    def sample(self, params: Tensor, rng: Rng) -> Tensor:
        return self._call("sample", params, rng)


def broken(healthy: str | Callable[[], Modality], **changes: Any) -> Callable[[Path], Modality]:
    """A healthy modality's class with one part or method changed.

    ``encode(module, x)``, ``forward``, ``point`` and ``sample(module, ...)`` change what the encoder or decoder
    does, ``module.inner`` being the healthy part; ``prepare(module)`` adds to the decoder;
    ``loss(healthy, params, target, where)`` the loss term; anything else is a method or attribute of the class.
    """

    def make(_: Path) -> Modality:
        base = HEALTHY[healthy]() if isinstance(healthy, str) else healthy()
        cls: Any = type(base)
        own = dict(changes)
        encode, loss, prepare = own.pop("encode", None), own.pop("loss", None), own.pop("prepare", None)
        calls = {name: own.pop(name) for name in ("forward", "point", "sample") if name in own}
        body: dict[str, Any] = own
        if encode is not None:
            body["encoder"] = lambda self: WrappedEncoder(cls.encoder(self), forward=encode)
        if calls or prepare:

            def decoder(self: Any, width: int, space: Any) -> Decoder:
                part = WrappedDecoder(cls.decoder(self, width, space), **calls)
                if prepare is not None:
                    prepare(part)
                return part

            body["decoder"] = decoder
        if loss is not None:
            body["loss"] = lambda self: lambda params, target, where=None: loss(cls.loss(self), params, target, where)
        args, options = base.arguments
        modality = type(f"Broken{cls.__name__}", (cls,), body)(*args, **options)
        for name, value in own.items():
            if not callable(value):
                setattr(modality, name, value)
        return modality

    return make


# ---- parts of the faults that need more than a line ----


def batch_statistics(m: Any, x: Tensor) -> Tensor:
    """The code normalised by the batch."""
    code = m.inner(x)
    return (code - code.mean(0)) / (code.std(0, correction=0) + 1e-3)


def cached_first_batch(m: Any, x: Tensor) -> Tensor:
    """The code of the first batch of each size, kept."""
    cache = m.__dict__.setdefault("cache", {})
    return cache.setdefault(len(x), m.inner(x)).clone()


def counting(m: Any, x: Tensor) -> Tensor:
    """A code that grows with every call."""
    m.__dict__["count"] = m.__dict__.get("count", 0) + 1
    return m.inner(x) * (1 + 0.01 * m.__dict__["count"])


def in_place(m: Any, x: Tensor) -> Tensor:
    """The sample itself shifted."""
    return m.inner(x.sub_(0.5)) if x.is_floating_point() else m.inner(x.clamp_(max=1))


def random_weights(self: Any) -> Encoder:
    """An encoder with a rotation drawn anew, from the global generator."""
    q, _ = torch.linalg.qr(torch.randn(self.code[0], self.code[0]))
    part = WrappedEncoder(Reference(3).encoder(), forward=lambda m, x: x @ m.q.to(x.dtype))
    part.register_buffer("q", q, persistent=False)
    return part


MADE = {"encoders": 0}


def by_count(self: Any) -> Encoder:
    """An encoder whose sign depends on how many were made before."""
    MADE["encoders"] += 1
    sign = (-1) ** MADE["encoders"]
    return WrappedEncoder(Reference(3).encoder(), forward=lambda m, x: sign * x)


def running_mean(self: Any) -> Encoder:
    """An encoder that keeps a running mean, and does not use it yet."""

    def forward(m: Any, x: Tensor) -> Tensor:
        m.running.lerp_(x.detach().to(m.running).mean(0), 0.1)
        return x.clone()

    part = WrappedEncoder(Reference(3).encoder(), forward=forward)
    part.register_buffer("running", torch.zeros(3))
    return part


def same_rows(m: Any, x: Tensor) -> Tensor:
    """A codebook with one row for two classes."""
    return m.inner(torch.where(x == 4, 3, x))


def drops_norm(m: Any, x: Tensor) -> Tensor:
    """Only the vector's direction."""
    return F.normalize(x, dim=1) * x.shape[1] ** 0.5


def batch_norm(m: Any, features: Tensor, t: Tensor) -> Tensor:
    """Features normalised by the batch."""
    return m.inner((features - features.mean(0)) / (features.std(0, correction=0) + 0.1), t)


def square_only(m: Any, features: Tensor, t: Tensor) -> Tensor:
    """A head that reads images only."""
    if features.ndim != 4:
        raise ValueError(f"expected (B, C, H, W), got {tuple(features.shape)}")
    return m.inner(features, t)


def global_normal(m: Any, params: Tensor, rng: Rng) -> Tensor:
    """A draw from the global generator."""
    return params[:, 0] + torch.randn_like(params[:, 0])


def global_classes(m: Any, params: Tensor, rng: Rng) -> Tensor:
    """Classes by ``torch.multinomial``."""
    return params.softmax(1).multinomial(1)[:, 0]


def by_batch(m: Any, params: Tensor, rng: Rng) -> Tensor:
    """Numbers for the batch as a whole, seeded by the rng."""
    g = torch.Generator().manual_seed(rng.seed + len(rng.purpose))
    return params[:, 0] + torch.randn(params[:, 0].shape, generator=g)


def averaging_loss(healthy: Any, params: Tensor, target: Tensor, where: Tensor | None) -> Tensor:
    """The batch's mean for every sample."""
    nats = healthy(params, target, where)
    return nats.mean().expand(len(nats))


def neighbour_loss(healthy: Any, params: Tensor, target: Tensor, where: Tensor | None) -> Tensor:
    """A little of the next sample's loss too."""
    nats = healthy(params, target, where)
    return 0.9 * nats + 0.1 * nats.roll(1, 0)


def leaking_loss(healthy: Any, params: Tensor, target: Tensor, where: Tensor | None) -> Tensor:
    """A little of the batch's largest loss."""
    nats = healthy(params, target, where)
    return nats + 3e-4 * nats.detach().abs().max() if where is None else nats


def log_of_softmax(healthy: Any, params: Tensor, target: Tensor, where: Tensor | None) -> Tensor:
    """The logarithm of a probability that rounds to zero."""
    nats = -params.softmax(1).log().gather(1, target[:, None])[:, 0]
    return nats if where is None else torch.where(where, nats, 0.0)


def clamps_target(healthy: Any, params: Tensor, target: Tensor, where: Tensor | None) -> Tensor:
    """The target clamped in place."""
    return healthy(params, target.clamp_(-1, 1), where)


class ScoresVoid(MaskModality):
    """An accuracy over all pixels."""

    def metrics(self) -> dict[str, Any]:
        return {"accuracy": lambda prediction, target: (prediction == target).flatten(1).double().mean(1) + (prediction == 0).flatten(1).double().mean(1)}  # fmt: skip


def smoothed(healthy: Any, params: Tensor, target: Tensor, where: Tensor | None) -> Tensor:
    """Label smoothing."""
    nats = F.cross_entropy(params, target, reduction="none", label_smoothing=0.1)
    return nats if where is None else torch.where(where, nats, 0.0)


def transposed_point(m: Any, params: Tensor) -> Tensor:
    """Height and width exchanged."""
    return m.inner.point(params).transpose(1, 2)


def drawn_at_birth(self: Any, *args: Any, **options: Any) -> None:
    """A rotation drawn from the global generator as the modality is made."""
    Reference.__init__(self, *args, **options)
    self.q = torch.linalg.qr(torch.randn(3, 3))[0]


def rotated(self: Any) -> Encoder:
    """An encoder with the modality's rotation."""
    part = WrappedEncoder(Reference(3).encoder(), forward=lambda m, x: x @ m.q.to(x.dtype))
    part.register_buffer("q", self.q.clone(), persistent=False)
    return part


def half_square(healthy: Any, params: Tensor, target: Tensor, where: Tensor | None) -> Tensor:
    """A deviation that is paid for by half only."""
    log_scale = params[:, 1].clamp(-4, 3)
    nats = 0.5 * (target - params[:, 0]).square() * (-2 * log_scale).exp() + 0.5 * log_scale + 0.5 * math.log(2 * math.pi)  # fmt: skip
    return (nats if where is None else torch.where(where, nats, 0.0)).sum(1)


def no_normaliser(healthy: Any, params: Tensor, target: Tensor, where: Tensor | None) -> Tensor:
    """The Gaussian without ``log sqrt(2π)``."""
    n = target.shape[1] * torch.ones(len(target)) if where is None else where.sum(1)
    return healthy(params, target, where) - 0.5 * math.log(2 * math.pi) * n


def no_area(healthy: Any, params: Tensor, target: Tensor, where: Tensor | None) -> Tensor:
    """A direction's density with the normaliser of another dimension."""
    nats = healthy(params, target, where)
    return nats - 1.0 if where is None else torch.where(where.all(1), nats - 1.0, 0.0)


def detached_scale(healthy: Any, params: Tensor, target: Tensor, where: Tensor | None) -> Tensor:
    """No gradient at the deviation."""
    return healthy(torch.stack([params[:, 0], params[:, 1].detach()], dim=1), target, where)


def relative_error(healthy: Any, params: Tensor, target: Tensor, where: Tensor | None) -> Tensor:
    """An error over the target's norm, which a placeholder does not have."""
    nats = healthy(params, target, where)
    return nats + 0.01 * ((params[:, 0] - target).square().sum(1) / target.square().sum(1)).sqrt()


def plain_weights(part: Any) -> None:
    """A random matrix that no state dict has."""
    part.plain = torch.randn(3, 3) * 0.3


def with_plain(m: Any, features: Tensor, t: Tensor) -> Tensor:
    """Means through that matrix."""
    out = m.inner(features, t)
    return torch.stack([out[:, 0] @ m.plain.to(out.dtype), out[:, 1]], dim=1)


def first_precision(m: Any, features: Tensor, t: Tensor) -> Tensor:
    """Weights of elements, made when they are first needed and kept as they are."""
    out = m.inner(features, t)
    table = m.__dict__.setdefault("table", torch.linspace(0.5, 1.5, out.shape[-1], dtype=out.dtype, device=out.device))
    return out * table


class Uncopied(WrappedEncoder):
    """An encoder that is its own copy, and a decoder too."""


class SharedDecoder(WrappedDecoder):
    """A decoder that is its own copy."""

    def __deepcopy__(self, memo: Any) -> Any:
        return self


def shared_decoder(self: Any, width: int, space: Any) -> Decoder:
    return SharedDecoder(Reference.decoder(self, width, space))


def overflowing(m: Any, features: Tensor, t: Tensor) -> Tensor:
    """Features over their norm, whose square overflows in half precision."""
    norm = (300 * features).square().flatten(1).sum(1).sqrt() / 300
    return m.inner(features / norm[:, None, None, None] * 10, t)


def other_on_gpu(m: Any, x: Tensor) -> Tensor:
    """Another code on a GPU."""
    return m.inner(x) * (1.1 if x.is_cuda else 1.0)


def likeliest(self: Any, params: Tensor, encode: Callable[[Tensor], Tensor], decoder: Any) -> Tensor:
    """The code of the likeliest class."""
    return encode(params.argmax(1))


def mixed_up(self: Any, params: Tensor, encode: Callable[[Tensor], Tensor], decoder: Any) -> Tensor:
    """Height and width exchanged."""
    return MaskModality.expected_code(self, params, encode, decoder).transpose(2, 3)


def batch_expected(self: Any, params: Tensor, encode: Callable[[Tensor], Tensor], decoder: Any) -> Tensor:
    """The batch's mean in part."""
    code = encode(params[:, 0])
    return 0.5 * code + 0.5 * code.mean(0)


def constant_head(m: Any, features: Tensor, t: Tensor) -> Tensor:
    """Parameters that do not depend on the features."""
    return m.inner(torch.zeros_like(features), t)


def detached(m: Any, features: Tensor, t: Tensor) -> Tensor:
    """A head that stops the gradient."""
    return m.inner(features.detach(), t)


def other_target(healthy: Any, params: Tensor, target: Tensor, where: Tensor | None) -> Tensor:
    """The loss of a target rolled over the batch."""
    return healthy(params, target.roll(1, 0), where)


def biased_point(m: Any, params: Tensor) -> Tensor:
    """A point with the head's own bias."""
    return params[:, 0] + m.inner.head.out.bias[:3]


def global_typical(self: Any, n: int, seed: int) -> Tensor:
    return torch.randn(n, 3)


def wide_typical(self: Any, n: int, seed: int) -> Tensor:
    return 1.5 * ImageModality.typical(self, n, seed)


def scaled_read(self: Any, raw: Any) -> Tensor:
    return Reference.read(self, raw) / 2


def flipped_read(self: Any, raw: Any) -> Tensor:
    return ImageModality.read(self, raw).flip(-1)


def reversed_reads(self: Any, raws: Sequence[Any]) -> Tensor:
    return ImageModality.read_many(self, raws).flip(0)


def reused_reads(self: Any, raws: Sequence[Any]) -> Tensor:
    memory = self.__dict__.setdefault("memory", torch.zeros(8, *self.spec.shape))
    for place, raw in zip(memory, raws, strict=False):
        place.copy_(self.read(raw))
    return memory[: len(raws)]


def key_error(self: Any, raw: Any) -> Tensor:
    return Reference.read(self, raw["value"] if isinstance(raw, dict | str) else raw)


def silent_read(self: Any, raw: Any) -> Tensor:
    return torch.as_tensor(raw).nan_to_num() if isinstance(raw, Tensor) else Reference.read(self, raw)


def editing_show(self: Any, x: Tensor) -> str:
    return str(x.clamp_(-1, 1).tolist())


def failing_show(self: Any, x: Tensor) -> str:
    return "abcd"[int(x)]


def batch_metrics(self: Any) -> dict[str, Any]:
    return {"accuracy": lambda prediction, target: (prediction == target).float().mean()}


# ---- installed entries ----

PLUGIN = """
from mmcore import Offer, hookimpl
{more}
@hookimpl
def mmcore_modalities():
    return [Offer("{name}", "{package}.modality:Vector", "")]
"""


def entry(package: str, name: str, more: str = "", module: str = "modality") -> Callable[[Path], Any]:
    """An installed distribution with one fault in its entry module."""

    def make(folder: Path) -> Any:
        info = folder / f"{package}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{GROUP}]\nmodality.vector = {package}.plugin\n")
        (folder / package).mkdir()
        (folder / package / "__init__.py").write_text("")
        (folder / package / "plugin.py").write_text(PLUGIN.format(name=name, package=package, more=more).replace(".modality:", f".{module}:"))  # fmt: skip
        (folder / package / "modality.py").write_text(
            "from mmcore.testing.reference import Reference\nclass Vector(Reference):\n    pass\n"
        )
        sys.path.insert(0, str(folder))
        from importlib import import_module, invalidate_caches

        invalidate_caches()
        return import_module(f"{package}.modality").Vector()

    return make


MUTANTS = [
    Mutant("entry.torch_free", "an entry module that imports torch", entry("heavy_entry", "vector", "import torch")),
    Mutant("entry.torch_free", "an entry module that fails", entry("failing_entry", "vector", "raise RuntimeError('no')")),
    Mutant("entry.agrees", "a hook that offers another name", entry("renamed_entry", "vectors")),
    Mutant("entry.agrees", "a factory that is not there", entry("lost_entry", "vector", module="nowhere")),
    Mutant("spec.protocol", "a name with a dot", broken("reference", name="a.b")),
    Mutant("spec.protocol", "classes that are not declared discrete", broken("label", discrete=False)),
    Mutant("spec.protocol", "a code's shape as a list", broken("reference", code=[3])),
    Mutant("spec.typical", "typical samples from the global generator", broken("reference", typical=global_typical)),
    Mutant("spec.typical", "typical samples outside the range", broken("image", typical=wide_typical)),
    Mutant("read.round_trip", "a read that scales", broken("reference", read=scaled_read)),
    Mutant("read.round_trip", "a read that flips an axis", broken("image", read=flipped_read)),
    Mutant("read.many", "values read together without a look at them", broken("reference", read_many=lambda self, raws: torch.stack([torch.as_tensor(raw, dtype=torch.float32) for raw in raws]))),
    Mutant("read.many", "values read together in another order", broken("image", read_many=reversed_reads)),
    Mutant("read.many", "values read together into the same memory", broken("reference", read_many=reused_reads)),
    Mutant("read.refuses", "a read that fails from within", broken("reference", read=key_error)),
    Mutant("read.refuses", "a read that takes anything", broken("reference", read=silent_read)),
    Mutant("show.shows", "a show that edits its sample", broken("reference", show=editing_show)),
    Mutant("show.shows", "a show that lacks a class", broken("label", show=failing_show)),
    Mutant("metrics.per_sample", "a metric averaged over the batch", broken("label", metrics=batch_metrics)),
    Mutant("calibration.rows", "a score averaged over the batch", broken("label", calibration=calibrated.batch_average)),
    Mutant("calibration.proper", "an error without the draws' spread", broken("reference", calibration=calibrated.error_alone)),
    Mutant("calibration.proper", "a spread that pays", broken("reference", calibration=calibrated.spread_pays)),
    Mutant("calibration.proper", "a score that is better of more draws", broken("image", calibration=calibrated.few_draws)),
    Mutant("calibration.proper", "a score that is always the same", broken("reference", calibration=calibrated.says_nothing)),
    Mutant("calibration.exchangeable", "ranks in a place too few", broken("reference", calibration=calibrated.too_few_ranks)),
    Mutant("calibration.exchangeable", "a confidence by the draws that chose the class", broken("label", calibration=calibrated.chosen_and_told)),
    Mutant("metrics.void", "an accuracy over pixels that nobody labelled", lambda _: ScoresVoid(8, 4, void=9)),
    Mutant("encoder.shape_dtype", "a code in float32 always", broken("embedding", encode=lambda m, x: m.inner(x).float())),
    Mutant("encoder.shape_dtype", "a code that is flattened", broken("image", encode=lambda m, x: m.inner(x).flatten(1))),
    Mutant("encoder.deterministic", "noise in the encoder", broken("embedding", encode=lambda m, x: m.inner(x) + 0.1 * torch.randn_like(x))),
    Mutant("encoder.deterministic", "a rotation drawn anew by every encoder", broken("reference", encoder=random_weights)),
    Mutant("encoder.deterministic", "a cached first batch", broken("image", encode=cached_first_batch)),
    Mutant("encoder.pure", "a sample edited in place", broken("embedding", encode=in_place)),
    Mutant("encoder.pure", "class indices clamped in place", broken("label", encode=in_place)),
    Mutant("encoder.pure", "a code that is the sample itself", broken("reference", encode=lambda m, x: x)),
    Mutant("encoder.rows", "normalisation by batch statistics", broken("image", encode=batch_statistics)),
    Mutant("encoder.rows", "codes centred by the batch", broken("label", encode=lambda m, x: m.inner(x) - 0.1 * m.inner(x).mean(0))),
    Mutant("encoder.unit_variance", "raw pixels", broken("image", encode=lambda m, x: x.clone())),
    Mutant("encoder.unit_variance", "one-hot codes that are not scaled", broken("label", encode=lambda m, x: 0.4 * m.inner(x))),
    Mutant("encoder.centred", "codes that are not centred", broken("image", encode=lambda m, x: m.inner(x) + 1)),
    Mutant("encoder.distinct", "a label codebook with repeated rows", broken("label", encode=same_rows)),
    Mutant("encoder.distinct", "an embedding that drops its norm", broken("embedding", encode=drops_norm)),
    Mutant("encoder.void", "a code with a little of the next pixel's, also of one that is void", broken("mask with void", encode=lambda m, x: m.inner(x) + 0.1 * m.inner(x).roll(1, 3))),
    Mutant("encoder.frozen", "running statistics", broken("reference", encoder=running_mean)),
    Mutant("decoder.params", "parameters in float32 always", broken("reference", forward=lambda m, f, t: m.inner(f, t).float())),
    Mutant("decoder.params", "a head for images only", broken("image", forward=square_only)),
    Mutant("decoder.rows", "features normalised by the batch", broken("label", forward=batch_norm)),
    Mutant("decoder.point", "a mean that leaves the range", broken("image", point=lambda m, p: p[:, 0])),
    Mutant("decoder.point", "class indices as floats", broken("label", point=lambda m, p: p.argmax(1).float())),
    Mutant("decoder.sample", "draws that are not clipped", broken("image", sample=lambda m, p, rng: p[:, 0] + p[:, 1].exp() * rng.normal(3, 8, 8))),
    Mutant("decoder.sample", "an embedding whose draws drop its norm", broken("embedding on the sphere", sample=lambda m, p, rng: m.inner.sample(p, rng) * 0.9)),
    Mutant("decoder.repeatable", "normals from the global generator", broken("reference", sample=global_normal)),
    Mutant("decoder.repeatable", "classes from the global generator", broken("label", sample=global_classes)),
    Mutant("decoder.repeatable", "draws that are the mean", broken("reference", sample=lambda m, p, rng: p[:, 0])),
    Mutant("decoder.sample_rows", "numbers for the batch as a whole", broken("reference", sample=by_batch)),
    Mutant("decoder.answers", "a point that reads the head's weights", broken("reference", point=biased_point)),
    Mutant("decoder.pure", "parameters clamped in place by a draw", broken("reference", sample=lambda m, p, rng: m.inner.sample(p.clamp_(-1, 1), rng))),
    Mutant("decoder.follows_features", "a head that ignores its features", broken("label", forward=constant_head)),
    Mutant("decoder.follows_features", "a head with a weight that nothing uses", broken("label", prepare=lambda part: part.register_parameter("spare", nn.Parameter(torch.zeros(3))))),
    Mutant("expected_code.draws", "the code of the likeliest class", broken("label", expected_code=likeliest)),
    Mutant("expected_code.draws", "a mean that is a tenth too small", broken("embedding", expected_code=lambda self, p, encode, decoder: 0.9 * encode(p[:, :-1]))),
    Mutant("expected_code.rows", "an expected code mixed with the batch's", broken("reference", expected_code=batch_expected)),
    Mutant("read.back", "a raw value that read refuses", broken("image", raw=lambda self, x: x.numpy())),
    Mutant("read.back", "a raw value in other units", broken("reference", raw=lambda self, x: 2 * x.numpy())),
    Mutant("decoder.central", "a point that is half the mean", broken("reference", point=lambda m, p: 0.5 * p[:, 0])),
    Mutant("decoder.central", "a map with its axes exchanged", broken("mask of two classes", point=transposed_point)),
    Mutant("decoder.central", "the opposite direction", broken("embedding on the sphere", point=lambda m, p: -m.inner.point(p))),
    Mutant("decoder.central", "the least likely class", broken("label", point=lambda m, p: p.argmin(1))),
    Mutant("roles.partial", "what is known for what is not", broken("image", code_where=lambda self, where: ~where)),
    Mutant("roles.partial", "a mask with its axes exchanged", broken("image", code_where=lambda self, where: where.transpose(2, 3))),
    Mutant("encoder.measured", "a variance for a deviation", broken("embedding", measured=lambda self, x: {"scale": float(x.var())})),
    Mutant("encoder.measured", "an option that there is not", broken("reference", measured=lambda self, x: {"std": float(x.std())})),
    Mutant("state.made", "a rotation drawn as the modality is made", broken("reference", __init__=drawn_at_birth, encoder=rotated)),
    Mutant("state.computes", "a constant on the CPU in the loss", broken("reference", loss=lambda h, p, x, where: h(p, x, where) + torch.zeros(len(x)))),
    Mutant("state.computes", "a constant on the CPU in a draw", broken("reference", sample=lambda m, p, rng: m.inner.sample(p, rng) + torch.zeros(3))),
    Mutant("state.computes", "a constant on the CPU in the expected code", broken("reference", expected_code=lambda self, p, encode, decoder: encode(p[:, 0] + torch.zeros(3)))),
    Mutant("loss.per_sample", "the mean over the batch", broken("label", loss=lambda h, p, x, where: h(p, x, where).mean())),
    Mutant("loss.per_sample", "a loss per pixel", broken("mask of two classes", loss=lambda h, p, x, where: F.cross_entropy(p, x, reduction="none"))),
    Mutant("loss.rows", "a loss that averages over the batch", broken("image", loss=averaging_loss)),
    Mutant("loss.rows", "a little of the batch's largest loss", broken("reference", loss=leaking_loss)),
    Mutant("loss.finite", "the logarithm of a probability that rounds to zero", broken("label", loss=log_of_softmax)),
    Mutant("loss.pure", "a target clamped in place", broken("reference", loss=clamps_target)),
    Mutant("loss.where", "a loss that ignores where", broken("image", loss=lambda h, p, x, where: h(p, x))),
    Mutant("loss.where", "a loss that hides targets by zeros", broken("image", loss=lambda h, p, x, where: h(p, x if where is None else x * where))),
    Mutant("loss.gradient", "a deviation without a gradient", broken("reference", loss=detached_scale)),
    Mutant("loss.proper", "label smoothing", broken("label", loss=smoothed)),
    Mutant("loss.proper", "a deviation that is paid for by half", broken("reference", loss=half_square)),
    Mutant("loss.normalised", "a Gaussian without its normaliser", broken("reference", loss=no_normaliser)),
    Mutant("loss.normalised", "bits for nats", broken("label", loss=lambda h, p, x, where: h(p, x, where) / math.log(2))),
    Mutant("loss.normalised", "a spherical density that is off by a constant", broken("embedding on the sphere", loss=no_area)),
    Mutant("state.safetensors", "weights that no state dict has", broken("reference", prepare=plain_weights, forward=with_plain)),
    Mutant("state.safetensors", "a weight in a list", broken("reference", prepare=lambda part: setattr(part, "scales", [nn.Parameter(torch.zeros(3))]), forward=lambda m, f, t: m.inner(f, t) + m.scales[0].to(f.dtype))),
    Mutant("state.safetensors", "a layer in a dictionary", broken("reference", prepare=lambda part: setattr(part, "layers", {"turn": nn.Linear(3, 3)}), forward=lambda m, f, t: m.layers["turn"].to(f.dtype)(m.inner(f, t)))),
    Mutant("state.cast", "a table in the first call's precision", broken("reference", forward=first_precision)),
    Mutant("state.copy", "a decoder that is its own copy", broken("reference", decoder=shared_decoder)),
    Mutant("state.device", "a tensor made on the CPU", broken("embedding", encode=lambda m, x: m.inner(x) + torch.zeros(16, device="cpu"))),
    Mutant("state.device", "weights as plain attributes", broken("reference", prepare=plain_weights, forward=with_plain)),
    Mutant("dtype.half", "a sum of squares that overflows", broken("label", forward=overflowing)),
    Mutant("dtype.half", "a code in float32 always", broken("embedding", encode=lambda m, x: m.inner(x).float())),
    Mutant("device.agrees", "another code on a GPU", broken("embedding", encode=other_on_gpu)),
    Mutant("engine.chain", "a code that grows with every call", broken("embedding", encode=counting)),
    Mutant("engine.chain", "normalisation by batch statistics", broken("image", encode=batch_statistics)),
    Mutant("engine.chain", "a cached first batch", broken("embedding", encode=cached_first_batch)),
    Mutant("engine.bayes", "a code that grows with every call", broken("embedding", encode=counting)),
    Mutant("engine.bayes", "a cached first batch", broken("embedding", encode=cached_first_batch)),
    Mutant("engine.posterior", "an expected code with its axes exchanged", broken("mask of two classes", expected_code=mixed_up)),
    Mutant("engine.posterior", "the code of the likeliest class", broken("label", expected_code=likeliest)),
    Mutant("engine.order", "encoders that count how many were made", broken("reference", encoder=by_count)),
    Mutant("engine.order", "a rotation drawn anew by every encoder", broken("reference", encoder=random_weights)),
    Mutant("engine.rows", "a loss with some of its neighbour's", broken("label", loss=neighbour_loss)),
    Mutant("roles.absent", "a loss that no placeholder survives", broken("reference", loss=relative_error)),
    Mutant("roles.observed", "a sample edited in place", broken("embedding", encode=in_place)),
    Mutant("roles.generated", "a point centred by the batch", broken("embedding", point=lambda m, p: p[:, :-1] - p[:, :-1].mean(0))),
    Mutant("roles.generated", "an embedding whose point drops its norm", broken("embedding on the sphere", point=lambda m, p: 0.9 * p[:, :-1])),
    Mutant("learn.gradient", "a head that detaches its features", broken("label", forward=detached)),
    Mutant("learn.gradient", "a constant code", broken("reference", forward=constant_head)),
    Mutant("learn.improves", "the loss of another sample's target", broken("label", loss=other_target)),
    Mutant("learn.improves", "codes that drown in the noise", broken("embedding", encode=lambda m, x: 0.02 * m.inner(x))),
    Mutant("learn.improves", "a constant code", broken("label", encode=lambda m, x: m.inner(torch.zeros_like(x)))),
]  # fmt: skip

"""More broken modalities: for the checks of draws, places, memory, files, pictures, texts and metrics.

As in :mod:`tests.testing.mutants` each is a healthy plugin with one thing changed, such as an author may well write.
"""

import math
import sys
from collections.abc import Callable
from importlib import import_module, invalidate_caches
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from mmcore import Rng, Spec
from mmcore.modality import VOID
from mmcore.modality.likelihood import bounded_log_scale, gaussian, total
from mmcore.testing.reference import Reference
from mmcore_image import ImageModality
from mmcore_mask import MaskModality
from mmcore_scalar import ScalarModality
from tests.testing.kinds import Angle, Correlated, Incomes, Mixture, Pair, Points, Rain, Rare, Rating, Rounded
from tests.testing.mutants import Mutant, broken
from tests.testing.odd import Logarithms
from tests.testing.series import Depth, Series
from tests.testing.wider import Audio, Columns, Counts, Positive

# ---- draws ----


def normal_by(change: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """The reference's draw, of changed normal numbers."""

    def draw(m: Any, params: Tensor, rng: Rng) -> Tensor:
        noise = change(rng.normal(3, dtype=params.dtype))
        return params[:, 0] + bounded_log_scale(params[:, 1]).exp() * noise

    return draw


def laplace(m: Any, params: Tensor, rng: Rng) -> Tensor:
    """Laplace's distribution of the same variance."""
    u = rng.uniform(3, dtype=torch.float64) - 0.5
    noise = -u.sign() * (1 - 2 * u.abs()).log() / 2**0.5
    return params[:, 0] + bounded_log_scale(params[:, 1]).exp() * noise.to(params.dtype)


def nucleus(m: Any, params: Tensor, rng: Rng) -> Tensor:
    """Classes below a twentieth are left out."""
    chances = params.softmax(1)
    return rng.categorical(torch.where(chances < 0.05, torch.zeros_like(chances), chances))


def poisson(m: Any, params: Tensor, rng: Rng) -> Tensor:
    """Counts about the mean, without the negative binomial's spread."""
    mean = (2 + 3 * torch.tanh(params.double()[:, 0] / 2)).exp()
    return (mean + mean.sqrt() * rng.normal(3, dtype=torch.float64)).round().clamp(min=0).long()


def one_uniform(m: Any, params: Tensor, rng: Rng) -> Tensor:
    """One uniform number for the whole map."""
    chances = params.softmax(1).movedim(1, -1).cumsum(-1)
    return (rng.uniform(1, 1, 1, dtype=torch.float64) > chances[..., :-1].double()).sum(-1)


def grey_noise(m: Any, params: Tensor, rng: Rng) -> Tensor:
    """The same noise in all colours."""
    mean, log_scale = params.unbind(1)
    return (mean + log_scale.exp() * rng.normal(1, 8, 8, dtype=mean.dtype)).clamp(-1, 1)


def anew(change: Callable[[Rng], Rng]) -> Callable[..., Tensor]:
    """The healthy draw by an rng that is made anew."""
    return lambda m, params, rng: m.inner.sample(params, change(rng))


def _every_row(rng: Rng) -> Rng:
    return Rng(rng.seed, torch.zeros_like(rng.rows), rng.step, rng.purpose)


def last_is_point(m: Any, params: Tensor, rng: Rng) -> Tensor:
    """The last element is not drawn."""
    x = m.inner.sample(params, rng)
    x[:, -1] = m.inner.point(params)[:, -1]
    return x


# ---- losses ----


def weighted(weights: list[float]) -> Callable[..., Tensor]:
    """A Gaussian loss with a weight for each element."""

    def loss(healthy: Any, params: Tensor, target: Tensor, where: Tensor | None) -> Tensor:
        nats = gaussian(params[:, 0], bounded_log_scale(params[:, 1]), target)
        return total(nats * torch.tensor(weights, dtype=nats.dtype, device=nats.device), where)

    return loss


def times(factor: float) -> Callable[..., Tensor]:
    return lambda healthy, params, target, where: factor * healthy(params, target, where)


def class_weights(healthy: Any, params: Tensor, target: Tensor, where: Tensor | None) -> Tensor:
    """Rare classes count for more."""
    weight = torch.tensor([3.0, 1.0, 1.5, 2.0, 1.2], dtype=params.dtype)
    nats = weight[target] * F.cross_entropy(params, target, reduction="none")
    return nats if where is None else torch.where(where, nats, 0.0)


def density_of_pixels(healthy: Any, params: Tensor, target: Tensor, where: Tensor | None) -> Tensor:
    """Pixels without dequantisation."""
    mean, log_scale = params.unbind(1)
    return total(gaussian(mean, log_scale, target), where)


def no_determinant(healthy: Any, params: Tensor, target: Tensor, where: Tensor | None) -> Tensor:
    """A full covariance whose determinant is left out."""
    nats = healthy(params, target, where)
    log_det = (2 * bounded_log_scale(params[:, 1:].diagonal(dim1=1, dim2=2)).exp()).log().sum(1)
    return nats - log_det if where is None else torch.where(where.all(1), nats - log_det, 0.0)


def stirling(x: Tensor) -> Tensor:
    """Of ``log x!`` the formula that torch's Poisson loss has, which of small numbers is a little less."""
    return torch.where(x > 1, x * x.clamp(min=1).log() - x + 0.5 * (2 * math.pi * x.clamp(min=1)).log(), 0.0)


def no_slope(self: Any, params: Tensor, x: Tensor) -> Tensor:
    """A log-normal as if its logarithm were observed."""
    return Positive.nats(self, params, x) - x.log()


def border_doubled(healthy: Any, params: Tensor, target: Tensor, where: Tensor | None) -> Tensor:
    """The map's border counts twice."""
    nats = F.cross_entropy(params, target, reduction="none")
    weight = torch.ones_like(nats)
    weight[:, 0] = weight[:, -1] = weight[:, :, 0] = weight[:, :, -1] = 2
    return total(weight * nats, where)


# ---- time and memory ----


def by_identity(m: Any, x: Tensor) -> Tensor:
    """Codes kept by where the tensor lies."""
    cache = m.__dict__.setdefault("cache", {})
    key = x.data_ptr(), tuple(x.shape)
    if key not in cache:
        cache[key] = m.inner(x)
    return cache[key].clone()


def loss_by_shape(self: Any) -> Callable[..., Tensor]:
    """Void is looked for once for each shape of batch."""
    cache: dict[Any, Tensor] = {}

    def loss(params: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
        valid = cache.setdefault(tuple(target.shape), target != 1)
        return MaskModality.loss(self)(params, target, valid if where is None else where & valid)

    return loss


def shared_buffer(m: Any, params: Tensor) -> Tensor:
    """Points written into one buffer for each batch size."""
    buffer = m.__dict__.setdefault("buffers", {})
    out = buffer.setdefault(len(params), torch.empty_like(params[:, 0]))
    return out.copy_(params[:, 0].detach())


def running_scale(self: Any) -> Callable[..., Tensor]:
    """A loss over its own running mean."""
    healthy, state = Reference.loss(self), {"mean": 1.0}

    def loss(params: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
        nats = healthy(params, target, where)
        state["mean"] = 0.99 * state["mean"] + 0.01 * float(nats.detach().abs().mean())
        return nats / (state["mean"] / (1e-9 + state["mean"])) * (1 + 1e-3 * state["mean"])

    return loss


def numbered_show(self: Any, x: Tensor) -> str:
    """Each answer with a number of its own."""
    self.__dict__["shown"] = self.__dict__.get("shown", 0) + 1
    return f"sample {self.__dict__['shown']}: " + Reference.show(self, x)


TYPICAL: dict[Any, Tensor] = {}


def kept_typical(self: Any, n: int, seed: int) -> Tensor:
    """The same tensor given away again and again."""
    return TYPICAL.setdefault((n, seed), Reference.typical(self, n, seed))


def reseeding_typical(self: Any, n: int, seed: int) -> Tensor:
    """By the seed alone, which the user's own numbers then follow too."""
    torch.manual_seed(seed)
    return torch.randn(n, 3)


def logging_loss(self: Any) -> Callable[..., Tensor]:
    """All losses are kept, for a plot some day."""
    healthy, log = Reference.loss(self), []

    def loss(params: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
        nats = healthy(params, target, where)
        log.append(nats)
        return nats

    return loss


def remembering_read(self: Any, raw: Any) -> Tensor:
    """Everything that was read is kept by its place in memory."""
    x = Reference.read(self, raw)
    self.__dict__.setdefault("seen", []).append(x.clone())
    return x


def counted_metric(self: Any) -> dict[str, Any]:
    """Scores kept by the modality."""
    scores = self.__dict__.setdefault("scores", [])

    def error(prediction: Tensor, target: Tensor) -> Tensor:
        score = (prediction - target).square().flatten(1).mean(1)
        scores.append(score)
        return score

    return {"mse": error}


# ---- modules of their own, for faults that lie in what a module holds ----


def module(name: str, text: str, make: str) -> Callable[[Path], Any]:
    """A modality of a module that is written and imported; ``make`` is what makes it."""

    def build(folder: Path) -> Any:
        (folder / f"{name}_entry.py").write_text(text)
        sys.path.insert(0, str(folder))
        invalidate_caches()
        torch.manual_seed(1)
        return eval(make, vars(import_module(f"{name}_entry")))

    return build


HEAD = """
import torch
from mmcore_label import LabelModality
from mmcore_label.modality import LabelEncoder
from mmcore.testing.reference import Reference, ReferenceEncoder
"""
CLASS_TABLE = (
    HEAD
    + """
class Table(ReferenceEncoder):
    def __init__(self, codes):
        super().__init__()
        self.codes = codes

    def forward(self, x):
        return self.codes.to(x.device)[x]

class Kinds(LabelModality):
    codes = None

    def __init__(self, classes=4, *, frequencies=None):
        super().__init__(classes, frequencies=frequencies)
        Kinds.codes = LabelModality.encoder(self)(torch.arange(classes))

    def encoder(self):
        return Table(self.codes)

    def expected_code(self, params, encode, decoder):
        return params.softmax(1) @ encode(torch.arange(self.classes))

    def measured(self, samples):
        return super().measured(samples)
"""
)
FIRST_COMES = (
    HEAD
    + """
TABLES = {}

class Kinds(LabelModality):
    def encoder(self):
        # By the number of classes, whatever their frequencies are.
        if self.classes not in TABLES:
            TABLES[self.classes] = self.frequencies
        return LabelEncoder(TABLES[self.classes], self.multi)
"""
)
CODEBOOK = (
    HEAD
    + """
Q = torch.linalg.qr(torch.randn(3, 3))[0]

class Turning(ReferenceEncoder):
    def forward(self, x):
        return x @ Q.to(x)

class Turned(Reference):
    divisible = False

    def encoder(self):
        return Turning()
"""
)


class Gaps(ScalarModality):
    """Three numbers far from 0, any of which may be unknown; what is measured of them takes void for 0."""

    def __init__(self, mean: float = 40.0, std: float = 8.0) -> None:
        super().__init__(3, mean=mean, std=std)
        self.spec = Spec((3,), void=VOID)

    def typical(self, n: int, seed: int) -> Tensor:
        hole = Rng.for_rows(seed, n).of("hole").uniform(3) < 0.1
        return torch.where(hole, VOID, super().typical(n, seed))

    def read(self, raw: Any) -> Tensor:
        known = [one is not None and float(one) != VOID for one in raw]
        x = super().read([one if there else 0.0 for one, there in zip(raw, known, strict=True)])
        return torch.where(torch.tensor(known), x, VOID)

    def measured(self, samples: Tensor) -> dict[str, float]:
        x = torch.where(samples == VOID, 0.0, samples)
        return {"mean": float(x.mean()), "std": float(x.std())}


NAMED = f"""{HEAD}
NAMES = list({{"ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen"}})
"""
SET_ORDER = (
    NAMED
    + """
class Animals(LabelModality):
    def __init__(self):
        super().__init__(8, names=NAMES, frequencies=[(ord(n[0]) - 90) / 40 for n in NAMES])
"""
)
TOLD_ORDER = (
    NAMED
    + """
class Animals(LabelModality):
    def __init__(self):
        super().__init__(8, names=NAMES)
"""
)
HASHED = (
    HEAD
    + """
class Words(LabelModality):
    def __init__(self, word="word"):
        super().__init__(4)
        self.turn = hash(word) % 89

    def encoder(self):
        return Hashed(self.frequencies, False, self.turn)

class Hashed(LabelEncoder):
    def __init__(self, frequencies, multi, turn):
        super().__init__(frequencies, multi)
        generator = torch.Generator().manual_seed(turn)
        self.table = self.table[torch.randperm(4, generator=generator)]
"""
)
SIZE = (
    HEAD
    + """
class Numbers(Reference):
    largest = 3

    def __init__(self, size=3):
        super().__init__(size)
        Numbers.largest = size

    def encoder(self):
        return Padded()

class Padded(ReferenceEncoder):
    def forward(self, x):
        return x * torch.ones(Numbers.largest, device=x.device, dtype=x.dtype)
"""
)
FIRST_SCALE = (
    HEAD
    + """
SCALE = []

class Numbers(Reference):
    def __init__(self, size=3, scale=1.0):
        super().__init__(size)
        SCALE.append(scale)

    def encoder(self):
        return Scaled()

class Scaled(ReferenceEncoder):
    def forward(self, x):
        return x / SCALE[-1]
"""
)

# ---- reading, showing, scoring ----


def read_path_by(change: Callable[[np.ndarray], np.ndarray]) -> Callable[..., Tensor]:
    """Files are opened in another way than pictures are taken."""

    def read(self: Any, raw: Any) -> Tensor:
        if isinstance(raw, str | Path) and Path(raw).is_file():
            raw = np.ascontiguousarray(change(np.asarray(Image.open(raw))))
        return ImageModality.read(self, raw)

    return read


def raw_memory(self: Any, raw: Any) -> Tensor:
    """An array by its bytes, in whatever order they lie."""
    if isinstance(raw, np.ndarray) and raw.ndim == 2:
        raw = np.frombuffer(raw.tobytes("A"), raw.dtype).reshape(raw.shape)
    return Points.read(self, raw)


def wrong_bytes(self: Any, raw: Any) -> Tensor:
    """Always the machine's own byte order."""
    if isinstance(raw, np.ndarray):
        raw = np.frombuffer(raw.tobytes(), raw.dtype.newbyteorder("=")).reshape(raw.shape)
    return Rounded.read(self, raw)


def centred_in_place(self: Any, raw: Any) -> Tensor:
    """The user's own array is worked on."""
    if isinstance(raw, np.ndarray):
        raw -= 0.0
    return Rounded.read(self, raw)


def doubles_are_counts(self: Any, raw: Any) -> Tensor:
    """Numbers in double precision taken for hundredths."""
    x = Rounded.read(self, raw)
    return x / 100 if getattr(raw, "dtype", None) == np.float64 else x


def truncating_text(self: Any, raw: Any) -> Tensor:
    return ScalarModality.read(self, float(int(float(raw))) if isinstance(raw, str) and raw[:1].isdigit() else raw)


def exchanged(self: Any, raw: Any) -> Tensor:
    """Blue, green, red, as another library has it."""
    x = ImageModality.read(self, raw)
    return x.flip(0)


def half_range(self: Any, raw: Any) -> Tensor:
    """Pixels to 0 … 1, where the spec says -1 … 1."""
    return (ImageModality.read(self, raw) + 1) / 2


def high_byte(self: Any, raw: Any) -> Tensor:
    """The low byte of each pixel left out."""
    pixels = np.asarray(raw)
    return ImageModality.read(self, (pixels.astype(np.int64) // 256 * 257).astype(np.uint16) if pixels.dtype == np.uint16 else raw)  # fmt: skip


def by_number(self: Any, raw: Any) -> Tensor:
    """Pictures with a palette by the numbers of its colours."""
    if isinstance(raw, Image.Image) and raw.mode == "P":
        raw = np.repeat(np.asarray(raw)[..., None], 3, axis=2)
    return ImageModality.read(self, raw)


def upside_down(self: Any, raw: Any) -> Tensor:
    return ImageModality.read(self, raw).flip(1)


def picture_by(change: Callable[[Image.Image], Image.Image], cls: Any = ImageModality) -> Callable[..., Any]:
    return lambda self, x: change(cls.show(self, x))


def first_of_all(self: Any, x: Tensor) -> str:
    """The first sample that was ever shown."""
    return self.__dict__.setdefault("first", Reference.show(self, x))


def error_to_mean(self: Any) -> dict[str, Any]:
    """The error against the mean of the target."""
    return {"rmse": lambda p, x: (p - x.mean(1, keepdim=True)).square().mean(1).sqrt()}


def void_counts(self: Any) -> dict[str, Any]:
    return {"pixel_accuracy": lambda p, x: (p == x).flatten(1).float().mean(1)}


def iou_or_zero(self: Any) -> dict[str, Any]:
    """Where neither has the class the score is 0, though nothing is wrong."""

    def iou(p: Tensor, x: Tensor) -> Tensor:
        a, b = (p == 1).flatten(1), (x == 1).flatten(1)
        return (a & ~b).sum(1) / (a | b).sum(1).clamp(min=1)

    return {"iou": lambda p, x: 1 - iou(p, x) - 2 * ((p != 1) & (x != 1)).flatten(1).float().mean(1)}


def editing_metric(self: Any) -> dict[str, Any]:
    return {"mse": lambda p, x: p.sub(x.clamp_(-1, 1)).square().flatten(1).mean(1)}


def log_metric(self: Any) -> dict[str, Any]:
    """Relative to the error itself."""

    def relative(p: Tensor, x: Tensor) -> Tensor:
        error = (p - x).square().flatten(1).mean(1)
        return error / error

    return {"relative": relative}


# ---- places ----


def drops(e: int) -> Callable[..., Tensor]:
    """An element of the sample is taken from its neighbour."""

    def encode(m: Any, x: Tensor) -> Tensor:
        x = x.clone()
        x[..., e] = x[..., e - 1]
        return m.inner(x)

    return encode


def no_blue(m: Any, x: Tensor) -> Tensor:
    """Blue is green."""
    return m.inner(x[:, [0, 1, 1]])


def own_code(change: Callable[[Tensor], Tensor], cls: Any) -> dict[str, Any]:
    """Codes in other places, with all that belongs to them."""

    def expected(self: Any, params: Tensor, encode: Any, decoder: Any) -> Tensor:
        inner = encode.inner if hasattr(encode, "inner") else encode
        return change(cls.expected_code(self, params, inner, decoder))

    return {
        "encode": lambda m, x: change(m.inner(x)),
        "expected_code": expected,
        "divisible": False,
    }


def turned_features(change: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """Features read in other places."""
    return lambda m, features, t: m.inner(change(features) if features.ndim == 4 else features, t)


def angle_against(m: Any, params: Tensor) -> Tensor:
    """An angle turned by half."""
    x = m.inner.point(params) + math.pi
    return (torch.remainder(x + math.pi, 2 * math.pi) - math.pi).clamp(-math.pi, math.pi)


def median_code(self: Any, params: Tensor, encode: Any, decoder: Any) -> Tensor:
    return encode(decoder.point(params))


def guessed_units(self: Any, raw: Any) -> Tensor:
    """What is above the range is taken for bytes, and scaled."""
    if isinstance(raw, Tensor) and raw.max() > 100:
        raw = raw / 255 * 100
    return type(self).__mro__[1].read(self, raw)


MODALITY = [
    Mutant("decoder.distribution", "classes drawn a tenth too boldly", broken("label", sample=lambda m, p, rng: m.inner.sample(1.1 * p, rng))),
    Mutant("decoder.distribution", "pixels' classes drawn a tenth too boldly", broken("mask of two classes", sample=lambda m, p, rng: m.inner.sample(1.1 * p, rng))),
    Mutant("decoder.distribution", "several labels drawn a tenth too timidly", broken("labels", sample=lambda m, p, rng: m.inner.sample(0.9 * p, rng))),
    Mutant("decoder.distribution", "noise cut at two deviations", broken("reference", sample=normal_by(lambda z: z.clamp(-2, 2)))),
    Mutant("decoder.distribution", "noise cut at three deviations", broken("reference", sample=normal_by(lambda z: torch.where(z.abs() > 3, 0 * z, z)))),
    Mutant("decoder.distribution", "noise a twentieth too wide", broken("reference", sample=normal_by(lambda z: 1.05 * z))),
    Mutant("decoder.distribution", "noise that leans to one side", broken("reference", sample=normal_by(lambda z: z + 0.05 * (z * z - 1)))),
    Mutant("decoder.distribution", "Laplace's noise under a Gaussian loss", broken("reference", sample=laplace)),
    Mutant("decoder.distribution", "classes below a twentieth never drawn", broken("label", sample=nucleus)),
    Mutant("decoder.distribution", "counts without their spread", broken(Counts, sample=poisson)),
    Mutant("decoder.distribution", "colours exchanged in draws", broken("image", sample=lambda m, p, rng: m.inner.sample(p.flip(2), rng))),
    Mutant("decoder.distribution", "a last column that is not drawn", broken(Columns, sample=last_is_point)),
    Mutant("decoder.distribution", "amounts drawn about the mean in place of the median", broken(Positive, sample=lambda m, p, rng: m.inner.sample(p, rng) * 1.3)),
    Mutant("decoder.distribution", "rain that never stops", broken(Rain, sample=lambda m, p, rng: m.inner.sample(torch.stack([p[:, 0], p[:, 1], p[:, 2] + 1], 1), rng))),
    Mutant("decoder.distribution", "one of two modes only", broken(Mixture, sample=lambda m, p, rng: m.inner.sample(torch.stack([p[:, 0], p[:, 1], 0 * p[:, 2] + 9, p[:, 3]], 1), rng))),
    Mutant("decoder.distribution", "an angle's noise that is not wrapped but cut", broken(Angle, sample=lambda m, p, rng: (p[:, 0] + Angle.scale(p) * rng.normal(3, dtype=p.dtype)).clamp(-math.pi, math.pi))),
    Mutant("decoder.distribution", "16-bit steps drawn from a Gaussian", broken(Audio, sample=lambda m, p, rng: ((m.inner.point(p) + (bounded_log_scale(p[:, 1]) - 2.5).exp() * rng.normal(1, 16, dtype=p.dtype)) * 32768).round().div(32768).clamp(-1, 1))),
    Mutant("decoder.independent", "one normal number for all elements", broken("reference", sample=lambda m, p, rng: p[:, 0] + bounded_log_scale(p[:, 1]).exp() * rng.normal(1, dtype=p.dtype))),
    Mutant("decoder.independent", "the same noise in all colours", broken("image", sample=grey_noise)),
    Mutant("decoder.independent", "one uniform number for a whole map", broken("mask of two classes", sample=one_uniform)),
    Mutant("decoder.addressed", "noise by the seed alone", broken("reference", sample=anew(lambda rng: Rng.for_rows(rng.seed, len(rng.rows))))),
    Mutant("decoder.addressed", "the first step's noise in all steps", broken("image", sample=anew(lambda rng: Rng(rng.seed, rng.rows, 0, rng.purpose)))),
    Mutant("decoder.addressed", "one row's numbers for all", broken("label", sample=anew(_every_row))),
    Mutant("loss.draws", "directions drawn too narrow", broken("embedding on the sphere", sample=lambda m, p, rng: m.inner.sample(torch.cat([p[:, :-1], p[:, -1:] + 1], 1), rng))),
    Mutant("loss.draws", "a series with a weight of ten", broken(Series, loss=times(10.0))),
    Mutant("loss.draws", "a series in bits", broken(Series, loss=times(1 / math.log(2)))),
    Mutant("loss.draws", "correlated numbers drawn as independent ones", broken(Correlated, sample=lambda m, p, rng: 5 + 2 * p[:, 0] + 2 * bounded_log_scale(p[:, 1:].diagonal(dim1=1, dim2=2)).exp() * rng.normal(3, dtype=p.dtype))),
    Mutant("loss.draws", "pairs of classes in bits", broken(Pair, loss=times(1 / math.log(2)))),
    Mutant("loss.draws", "pairs of classes drawn too boldly", broken(Pair, sample=lambda m, p, rng: m.inner.sample(1.5 * p, rng))),
    Mutant("loss.mass", "a full covariance without its determinant", broken(Correlated, loss=no_determinant)),
    Mutant("loss.mass", "correlated numbers without their constant", broken(Correlated, loss=lambda h, p, x, w: torch.where(h(p, x, w) != 0, h(p, x, w) - 1.5 * math.log(2 * math.pi), 0.0))),
    Mutant("loss.slopes", "an element that counts twice", broken("reference", loss=weighted([1.0, 2.0, 1.0]))),
    Mutant("loss.slopes", "an element that hardly counts", broken("reference", loss=weighted([1.0, 1.0, 0.2]))),
    Mutant("loss.slopes", "rare classes that count for more", broken("label", loss=class_weights)),
    Mutant("loss.slopes", "a map's border that counts twice", broken("mask of two classes", loss=border_doubled)),
    Mutant("loss.slopes", "means of two elements exchanged", broken("reference", loss=lambda h, p, x, w: h(torch.stack([p[:, 0].roll(1, 1), p[:, 1]], 1), x, w))),
    Mutant("loss.levels", "pixels without dequantisation", broken("image", loss=density_of_pixels)),
    Mutant("loss.levels", "17 grey levels without dequantisation", broken("image, 17 grey levels", loss=density_of_pixels)),
    Mutant("loss.normalised", "a log-normal as if its logarithm were observed", broken(Positive, nats=no_slope)),
    Mutant("loss.slopes", "logarithms of probabilities with a weight of three", broken(Logarithms, nats=lambda m, p, x: 3 * F.nll_loss(p, x, reduction="none"))),
    Mutant("loss.proper", "logarithms of probabilities with a focal loss", broken(Logarithms, nats=lambda m, p, x: (1 - p.gather(1, x[:, None])[:, 0].exp()).square() * F.nll_loss(p, x, reduction="none"))),
    Mutant("expected_code.draws", "the code of incomes' median", broken(Incomes, expected_code=lambda m, p, encode, decoder: encode(decoder.point(p)))),
    Mutant("loss.normalised", "rare events whose factorial is Stirling's", lambda folder: Rare(stirling)),
    Mutant("state.history", "codes kept by where the tensor lies", broken("image", encode=by_identity)),
    Mutant("state.history", "a loss that looks for void once for each shape of batch", lambda folder: _own_loss(MaskModality, loss_by_shape)(8)),
    Mutant("state.history", "points in one buffer", broken("reference", point=shared_buffer)),
    Mutant("state.history", "a loss by its running mean", lambda folder: _own_loss(Reference, running_scale)(3)),
    Mutant("state.history", "a text with a number of its own", broken("reference", show=numbered_show)),
    Mutant("state.history", "typical samples given away twice", broken("reference", typical=kept_typical)),
    Mutant("spec.typical", "the global generator seeded", broken("reference", typical=reseeding_typical)),
    Mutant("state.grows", "all losses kept", lambda folder: _own_loss(Reference, logging_loss)(3)),
    Mutant("state.grows", "all that was read kept", broken("reference", read=remembering_read)),
    Mutant("state.grows", "all scores kept", broken("image", metrics=counted_metric)),
    Mutant("state.instances", "a table of the class", module("class_table", CLASS_TABLE, "Kinds(4, frequencies=[0.1, 0.2, 0.3, 0.4])")),
    Mutant("state.instances", "a table by the number of classes", module("first_comes", FIRST_COMES, "Kinds(4, frequencies=[0.02, 0.03, 0.05, 0.9])")),
    Mutant("state.instances", "the last scale for all", module("first_scale", FIRST_SCALE, "Numbers(3)")),
    Mutant("state.process", "a codebook drawn at import", module("codebook", CODEBOOK, "Turned()")),
    Mutant("state.process", "classes in a set's order", module("set_order", SET_ORDER, "Animals()")),
    Mutant("state.process", "a table by a text's hash", module("hashed", HASHED, "Words()")),
    Mutant("state.process", "a size of the class", module("size_of_class", SIZE, "Numbers(3)")),
    Mutant("read.forms", "files that are read mirrored", broken("image", read=read_path_by(lambda a: a[:, ::-1]))),
    Mutant("read.forms", "files with red and blue exchanged", broken("image", read=read_path_by(lambda a: a[..., ::-1]))),
    Mutant("read.forms", "arrays by their bytes", broken(Points, read=raw_memory)),
    Mutant("read.forms", "arrays in the machine's own byte order", broken(Rounded, read=wrong_bytes)),
    Mutant("read.forms", "the user's array worked on", broken(Rounded, read=centred_in_place)),
    Mutant("read.forms", "double precision taken for hundredths", broken(Rounded, read=doubles_are_counts)),
    Mutant("read.forms", "texts cut at the point", broken(lambda: ScalarModality(mean=40.0, std=12.0), read=truncating_text)),
    Mutant("read.modes", "a palette's colours by their numbers", broken("image", read=by_number)),
    Mutant("read.files", "blue for red", broken("image", read=exchanged)),
    Mutant("read.files", "half of the range", broken("image", read=half_range)),
    Mutant("read.files", "pictures upside down", broken("image", read=upside_down)),
    Mutant("read.files", "pictures shown transposed", broken("image", show=picture_by(lambda p: p.transpose(Image.Transpose.TRANSPOSE)))),
    Mutant("show.agrees", "the negative", broken("image", show=picture_by(ImageOps.invert))),
    Mutant("show.agrees", "pictures shown mirrored", broken("image", show=picture_by(ImageOps.mirror))),
    Mutant("show.agrees", "the first sample always", broken("reference", show=first_of_all)),
    Mutant("show.agrees", "numbers from last to first", broken("reference", show=lambda self, x: Reference.show(self, x.flip(0)))),
    Mutant("show.agrees", "numbers with their sign turned", broken("reference", show=lambda self, x: Reference.show(self, -x))),
    Mutant("show.agrees", "one star too many", broken(Rating, show=lambda self, x: "★" * (int(x) + 1))),
    Mutant("show.agrees", "two classes with one text", broken("label", show=lambda self, x: str(int(x) // 2))),
    Mutant("metrics.best", "an error against the target's mean", broken("reference", metrics=error_to_mean)),
    Mutant("metrics.void", "void counted as wrong", broken("mask with void", metrics=void_counts)),
    Mutant("metrics.best", "a score less what both leave out", broken("mask of two classes", metrics=iou_or_zero)),
    Mutant("metrics.best", "a target cut in place", broken(Rounded, metrics=editing_metric)),
    Mutant("metrics.best", "an error over itself", broken("reference", metrics=log_metric)),
    Mutant("metrics.best", "an accuracy that is always right", broken("label", metrics=lambda self: {"accuracy": lambda p, x: (p == p).float()})),
    Mutant("encoder.reads", "a last number left out", broken("embedding", encode=drops(-1))),
    Mutant("encoder.reads", "a direction's last number left out", broken("embedding on the sphere", encode=drops(-1))),
    Mutant("encoder.reads", "blue left out", broken("image", encode=no_blue)),
    Mutant("encoder.place", "height and width exchanged", broken("image", **own_code(lambda code: code.transpose(2, 3), ImageModality))),
    Mutant("encoder.place", "a code upside down", broken("mask of two classes", **own_code(lambda code: code.flip(2), MaskModality))),
    Mutant("decoder.place", "a head that reads its features transposed", broken("image", forward=turned_features(lambda f: f.transpose(2, 3)))),
    Mutant("decoder.place", "a head that is mirrored", broken("mask of two classes", forward=turned_features(lambda f: f.flip(3)))),
    Mutant("decoder.central", "an angle turned by half", broken(Angle, point=angle_against)),
    Mutant("decoder.central", "stars one too low", broken(Rating, point=lambda m, p: (m.inner.point(p) - 1).clamp(min=1))),
    Mutant("decoder.central", "half of each pixel", broken("image", point=lambda m, p: 0.5 * p[:, 0].clamp(-1, 1))),
    Mutant("expected_code.draws", "the code of a mean angle", broken(Angle, expected_code=median_code)),
    Mutant("expected_code.draws", "the code of the likeliest pair", broken(Pair, expected_code=median_code)),
    Mutant("expected_code.draws", "the code of the likelier weather", broken(Rain, expected_code=median_code)),
    Mutant("roles.partial", "cosines known, sines not", broken(Angle, code_where=lambda self, where: torch.cat([where, ~where], 1))),
    Mutant("roles.partial", "points known by their first coordinate", broken(Points, code_where=lambda self, where: where[:, :, :1].expand(-1, 4, 3).flatten(1))),
    Mutant("encoder.measured", "a deviation about 0", broken(lambda: ScalarModality(mean=40.0, std=12.0), measured=lambda self, x: {"mean": float(x.mean()), "std": float(x.square().mean().sqrt())})),
    Mutant("encoder.measured", "a mean that is no plain number", broken(lambda: ScalarModality(mean=40.0, std=12.0), measured=lambda self, x: {"mean": x.mean(), "std": x.std()})),
    Mutant("state.computes", "a table on the CPU in the point", broken("label", point=lambda m, p: torch.arange(5)[p.argmax(1)] + torch.zeros(len(p), dtype=torch.int64))),
    Mutant("read.back", "a class one too high", broken("label", raw=lambda self, x: int(x) + 1)),
    Mutant("read.back", "16 bits read as 8", broken(lambda: ImageModality(1, 8, levels=65536, limits=[0, 65535]), read=high_byte)),
    Mutant("read.back", "another picture than it shows", broken("reference", read=lambda self, raw: torch.zeros(self.spec.shape), raw=lambda self, x: Image.new("L", (2, 2), 255), pictured=lambda self, x: x.new_zeros(len(x), 1, 2, 2))),
    Mutant("read.back", "a few units lost on every way", broken(lambda: ScalarModality(mean=6000.0, std=1500.0), raw=lambda self, x: float(x) - 1)),
    Mutant("decoder.answers", "draws in training, the mode in evaluation", broken("label", sample=lambda m, p, rng: m.inner.sample(p, rng) if m.training else p.argmax(1))),
    Mutant("encoder.measured", "void measured as 0", lambda _: Gaps()),
    Mutant("state.process", "names told in a set's order", module("told_order", TOLD_ORDER, "Animals()")),
    Mutant("read.back", "metres in millimetres", broken(Depth, raw=lambda self, x: (x * 1000).numpy())),
    Mutant("read.refuses", "units that are guessed", broken(lambda: ScalarModality(3, mean=40.0, std=12.0, low=0.0, high=100.0), read=guessed_units)),
    Mutant("loss.where", "pixels that count where any of their channels does", broken("image", loss=lambda h, p, x, w: h(p, x, None if w is None else w.any(1, keepdim=True).expand_as(w)))),
    Mutant("decoder.distribution", "an angle whose likelihood does not wrap", broken(Angle, loss=lambda h, p, x, w: total(gaussian(p[:, 0], Angle.scale(p).log(), x), w))),
    Mutant("loss.where", "a mean over what is seen", broken("reference", loss=lambda h, p, x, w: h(p, x, w) if w is None else h(p, x, w) / w.flatten(1).float().mean(1).clamp(min=1e-6))),
    Mutant("loss.gradient", "steps of sound without a gradient", broken(Audio, loss=lambda h, p, x, w: h(torch.stack([p[:, 0].detach(), p[:, 1]], 1), x, w))),
]  # fmt: skip


def _own_loss(cls: Any, loss: Callable[..., Any]) -> Any:
    """A subclass with a loss term made by a function of the modality."""
    return type(f"Own{cls.__name__}", (cls,), {"loss": loss})

"""What a plugin author writes: a modality with its encoder, decoder and loss term.

The protocols say what the engine calls; :class:`Encoder`, :class:`Decoder` and
:class:`Modality` supply defaults, so that an author writes only what is particular.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import attrs
import torch
from torch import Tensor, nn

from mmcore.errors import PluginError
from mmcore.hooks import Made
from mmcore.modality.calibration import Calibrates, Calibration
from mmcore.modality.control import Control, Controlled
from mmcore.modality.in_part import SeenInPart
from mmcore.modality.outward import Outward, OutwardProtocol
from mmcore.modality.spec import Spec
from mmcore.rng import Rng
from mmcore.space import Space

if TYPE_CHECKING:
    from PIL import Image

    from mmcore.modality.pretrained import WeightsFile


class Encoder(nn.Module, ABC):
    """Turns a sample into its latent, of about unit variance; light, as it runs at every training step.

    It gets a valid value in the place of void elements, and what :meth:`Modality.code_where` then calls unknown of the code becomes 0. One whose
    modality is not ``divisible`` sees void elements, but for samples that are void as a whole.
    """

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Encode ``x (B, *spec.shape)`` to its latent ``(B, *code)``, of about unit variance per element."""


class Decoder(nn.Module, ABC):
    """Predicts one target's distribution from the backbone's features, ``p(x | features)``.

    One with :attr:`preconditioned` takes a third argument, ``own: NoisyCode | None = None``: what its modality's own noisy code says, which it joins by
    :meth:`NoisyCode.around <mmcore.modality.NoisyCode.around>` with what the network says. It is for numbers, vectors and maps of real values: without it a sampler adds up small errors
    of the network, and answers spread too little or too much. Pictures keep noise by it. Classes are better without: beside others they
    then settle last, by what the others have become.
    """

    preconditioned: ClassVar[bool] = False

    @abstractmethod
    def forward(self, features: Tensor, t: Tensor) -> Tensor:
        """Distribution parameters ``(B, ...)`` from ``features (B, width, *Z[1:])`` at timesteps ``t (B,)``."""

    @abstractmethod
    def point(self, params: Tensor) -> Tensor:
        """The distribution's mean or mode, inside the spec: ``(B, *spec.shape)``."""

    @abstractmethod
    def sample(self, params: Tensor, rng: Rng) -> Tensor:
        """A draw from the distribution, inside the spec: ``(B, *spec.shape)``; row ``k`` by the rng's row ``k`` alone."""


class LossTerm(Protocol):
    """Negative log-likelihood of a target under the decoder's parameters, per sample in nats.

    Void elements of the target hold some valid value, and are not among those that count.
    """

    def __call__(self, params: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
        """The loss of each sample, ``(B,)`` nats; ``where (B, *spec.shape)`` is a mask of the elements that count."""
        ...


class Metric(Protocol):
    """A score of each sample against the truth."""

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The scores ``(B,)``; larger or smaller is better as the metric's name says."""
        ...


class Readable(OutwardProtocol, Protocol):
    """What data, and the people who look at them, ask of a modality."""

    name: str
    made: Made | None

    @property
    def spec(self) -> Spec: ...
    def read(self, raw: Any) -> Tensor: ...
    def raw(self, x: Tensor) -> Any: ...
    def show(self, x: Tensor) -> "Image.Image | str": ...
    def control(self) -> Control: ...
    def measured(self, samples: Tensor) -> Mapping[str, Any]: ...
    def typical(self, n: int, seed: int) -> Tensor: ...


class ModalityProtocol(Readable, Protocol):
    """All that is asked of a modality: by data, training, sampling and evaluation."""

    @property
    def code(self) -> tuple[int, ...]: ...
    def encoder(self) -> nn.Module: ...
    def decoder(self, width: int, space: Space) -> Decoder: ...
    def loss(self) -> LossTerm: ...
    @property
    def divisible(self) -> bool: ...
    def code_where(self, where: Tensor) -> Tensor: ...
    def conditioned(self, params: Tensor, x: Tensor, where: Tensor) -> Tensor: ...
    def expected_code(self, params: Tensor, encode: Callable[[Tensor], Tensor], decoder: Decoder) -> Tensor: ...
    def metrics(self) -> Mapping[str, Metric]: ...
    def calibration(self, draws: Tensor, truth: Tensor) -> Calibration: ...


class Modality(SeenInPart, Calibrates, Controlled, Outward, ABC):
    """A kind of data, such as images or labels: how it is read, encoded to a latent, decoded and scored.

    Subclasses set ``spec`` and ``code`` in their constructors.

    Attributes:
        name: what a composition calls it.
        spec: one sample as a tensor.
        code: the shape of its latent, ``(C, H, W)`` spatial or ``(K,)`` flat.
        made: how a registry made it; None for one made by hand.
        together: of each element of a flat sample, the first of those that are observed with it or not at all, as the numbers of a direction
            are; by default each element may be observed by itself.
        columns: of a row's columns those that it is read of together, as a mapping, where the row has none of its own name; none by default.
        kept: options that a saved model records in the place of those that it was made with, such as a file's text in the place of its path.
        files: by option, the weights of pretrained networks that it was made with (:class:`mmcore.modality.pretrained.WeightsFile`).
    """

    name: str = "modality"
    spec: Spec
    code: tuple[int, ...]
    made: Made | None = None
    discrete: ClassVar[bool] = False
    """Whether its values are classes, whose latents have no meaning in between."""
    code_draws: ClassVar[int] = 0
    """Of how many draws :meth:`expected_code` is the mean, where no formula gives it, as with a pretrained network as encoder; 0 where it is exact."""
    together: tuple[int, ...] = ()
    likelihood_of: ClassVar[str] = ""
    """What its loss is the likelihood of, where that is not the data themselves, such as ``"an autoencoder's latent"``; it is told beside every bound."""
    columns: tuple[str, ...] = ()
    kept: Mapping[str, Any] = {}
    files: "Mapping[str, WeightsFile]" = {}
    arguments: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
    """What its constructor was given, for messages that show how to make it again."""

    def __new__(cls, *args: Any, **options: Any) -> Self:
        modality = super().__new__(cls)
        modality.arguments = (args, options)
        return modality

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # What reads in a way of its own must not read many in its base's way.
        if "read" in cls.__dict__ and "read_many" not in cls.__dict__:
            cls.read_many = Modality.read_many

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, shape={self.spec.shape}, code={self.code})"

    @abstractmethod
    def encoder(self) -> Encoder:
        """Make a new encoder."""

    @abstractmethod
    def decoder(self, width: int, space: Space) -> Decoder:
        """Make a new decoder, which reads features ``(B, width, *space.grid)``."""

    @abstractmethod
    def loss(self) -> LossTerm:
        """The loss term of predicting it."""

    def expected_code(self, params: Tensor, encode: Callable[[Tensor], Tensor], decoder: Decoder) -> Tensor:
        """The predicted clean latent: the mean ``E[encode(x)]`` under ``p(x | params)``, ``(B, *code)``.

        The default encodes the decoder's point, which is right for an affine encoder of a real-valued modality only; or with
        :attr:`code_draws` so many draws.

        Args:
            params: distribution parameters, as the decoder gives them.
            encode: this modality's encoder.
            decoder: the model's decoder of this modality; its ``point`` and ``sample`` read no parameters.
        """
        if self.code_draws:
            return mean_code(params, encode, decoder, self.code_draws)
        if not self.spec.dtype.is_floating_point:
            raise PluginError(f"modality {self.name!r}: values are {self.spec.dtype}, so it must define expected_code")
        return encode(decoder.point(params))

    @abstractmethod
    def read(self, raw: Any) -> Tensor:
        """Read one raw value (array, path, PIL image, int …) into a tensor of the spec.

        Raises:
            RequestError: what was found and what was expected.
        """

    def read_many(self, raws: Sequence[Any]) -> Tensor:
        """Read many raw values at once, as :meth:`read` does each: ``(len(raws), *spec.shape)``, at least one.

        To define it is optional, and saves time where what is done for each value can be done for all of them at once.

        Raises:
            Exception: any, if a value cannot be read; which one, and why, is then asked of :meth:`read`.
        """
        return torch.stack([self.read(raw) for raw in raws])

    def raw(self, x: Tensor) -> Any:
        """One sample as data hold it, which :meth:`read` reads back: a PIL image, an array, a number, a word, or a list of these.

        What is filled in (``mmcore predict``) is written so: pictures as PNG, arrays as NPY, the bytes of ``mmcore.files.Encoded`` as a file
        of its suffix, such as a sound, and all else as columns of a table. Of pictures and
        maps, ``x`` may have another height and width than the spec, those of the file that was asked about. The default is an array.
        """
        return x.detach().cpu().numpy()

    @abstractmethod
    def show(self, x: Tensor) -> "Image.Image | str":
        """One sample as a picture or text, for people."""

    def metrics(self) -> Mapping[str, Metric]:
        """Scores that compare a prediction with the truth, by name."""
        return {}

    def measured(self, samples: Tensor) -> Mapping[str, Any]:
        """Constructor options that standardise the data, such as mean and deviation of ``samples (B, *spec.shape)``, for latents of unit variance.

        They are measured once on training data, and kept with the model; none by default.
        """
        return {}

    @abstractmethod
    def typical(self, n: int, seed: int) -> Tensor:
        """Synthetic samples like real data, for tests: ``(n, *spec.shape)``, by ``seed`` alone."""


def mean_code(params: Tensor, encode: Callable[[Tensor], Tensor], decoder: Decoder, draws: int) -> Tensor:
    """The mean of the codes of so many draws, ``(B, *code)``.

    Args:
        params: distribution parameters, as the decoder gives them.
        encode: the modality's encoder.
        decoder: whose ``sample`` draws.
        draws: how many.
    """
    # The same numbers for all rows and at every step, so that chance has no part in it.
    rng = Rng(0, torch.zeros(len(params), dtype=torch.int64, device=params.device)).of("expected code")
    codes = [encode(decoder.sample(params, rng.at(k))) for k in range(draws)]
    return torch.stack(codes).mean(0)


@attrs.frozen(eq=False)
class Task:
    """A prediction head: a decoder and a loss for one target.

    Attributes:
        name: unlike any other task's.
        target: a composed modality's name, or a modality that is predicted but never encoded.
        decoder: makes the head from ``(width, space)``; the target's own by default. Its parameters are what the loss term reads; where that is the target's own, the
            target knows their mean code.
        loss: the loss term; the target's own by default. Beside a decoder of one's own the parameters may be anything: classes then enter a sampler's steps by the mean
            code of their draws.
        weight: the factor of its loss in training.
    """

    name: str
    target: str | Modality
    decoder: Callable[[int, Space], Decoder] | None = None
    loss: LossTerm | None = None
    weight: float = 1.0

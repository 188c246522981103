"""Which samples are pictures; and those that are none, but are shown as such by a network that loses something, as an autoencoder's latents are."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

if TYPE_CHECKING:
    from mmcore.modality.base import Spec


class _Specified(Protocol):
    """What the default asks of a modality."""

    @property
    def spec(self) -> "Spec": ...


class Shown:
    """What a modality answers about pictures of its samples, unless it knows better: they are no other than the samples."""

    def pictured(self, x: Tensor) -> Tensor | None:
        """Samples ``(B, *spec.shape)`` as pictures ``(B, channels, H, W)`` in -1 … 1, of a modality that shows pictures and whose samples are none; None of any other.

        What is filled in is then averaged, and brought to the size of a row's file, as a picture.
        """
        return None

    def floors(self) -> Mapping[str, tuple[float, int]]:
        """Figures that no answer can better, such as the error of an autoencoder that shows them: the value, and of how many samples, by name.

        They are told beside the figures of the modality's ``metrics``; none by default.
        """
        return {}

    @property
    def planar(self: _Specified) -> bool:
        """Whether its last two axes are height and width, which transforms of pictures change: so it is with three axes, and with two of classes.

        Numbers on two axes, such as channels of a sound, are no picture unless their modality says so.
        """
        axes = len(self.spec.shape)
        return axes == 3 or (axes == 2 and not self.spec.dtype.is_floating_point)

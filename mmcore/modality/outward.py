"""How a modality looks from outside: whether it is pictures, what it sounds like, which columns of data it reads. All of it has defaults."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from torch import Tensor

from mmcore.files import Encoded
from mmcore.hooks import Proposal
from mmcore.modality.spec import Spec


class OutwardProtocol(Protocol):
    """What is asked of a modality by what reads and writes data."""

    averaged: ClassVar[bool]

    @property
    def planar(self) -> bool: ...
    def pictured(self, x: Tensor) -> Tensor | None: ...
    def heard(self, x: Tensor) -> Encoded | None: ...


class Outward:
    """What a modality answers of itself, unless it knows better."""

    spec: Spec
    averaged: ClassVar[bool] = True
    """Whether the mean of several answers is an answer; of sounds it is not, as waves cancel, and one of the answers is told."""

    @property
    def planar(self) -> bool:
        """Whether its last two axes are height and width, which transforms of pictures change: so it is with three axes, and with two of classes.

        Numbers on two axes, such as channels of a sound, are no picture unless their modality says so.
        """
        axes = len(self.spec.shape)
        return axes == 3 or (axes == 2 and not self.spec.dtype.is_floating_point)

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

    def heard(self, x: Tensor) -> Encoded | None:
        """One sample as a file that plays, such as the bytes of a WAV; None where there is nothing to hear, as by default.

        It is written beside what is shown of samples (``mmcore sample``) and what is filled in (``mmcore predict``).
        """
        return None

    @classmethod
    def proposed(cls, name: str, values: Sequence[Any]) -> Proposal | None:
        """How a column of data would be read, for ``mmcore init``: a ``mmcore.hooks.Proposal``, or None where it is of another kind.

        It is asked of every installed modality.

        Args:
            name: of the column.
            values: raw ones of some rows at least, as :meth:`mmcore.Modality.read` gets them: texts, paths of files that the core does not open,
                pictures, arrays.
        """
        return None

"""Samples that are no pictures, but are shown as such by a network that loses something of them, as an autoencoder's latents are."""

from collections.abc import Mapping

from torch import Tensor


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

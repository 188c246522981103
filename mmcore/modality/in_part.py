"""A sample of which parts are observed: which of its code they are, and what they say of the rest."""

from torch import Tensor

from mmcore.errors import RequestError
from mmcore.modality.spec import Spec


class SeenInPart:
    """What a modality answers of samples that are observed in part, each with a default."""

    name: str
    spec: Spec
    code: tuple[int, ...]

    @property
    def divisible(self) -> bool:
        """Whether it can be inpainted: a sample observed in part, so that :meth:`code_where` can tell the known latent elements."""
        return self.code == self.spec.shape and not self.spec.unit_norm

    def code_where(self, where: Tensor) -> Tensor:
        """The inpainting mask of the latent: which of its elements are known when ``where (B, *spec.shape)`` of a sample are.

        The default is for encoders that map element by element.

        Returns:
            ``(B, *code)`` bool.

        Raises:
            RequestError: the modality is all known or not at all.
        """
        if not self.divisible:
            raise RequestError(f"modality {self.name!r} cannot be observed in part, expected all of it or none")
        return where

    def conditioned(self, params: Tensor, x: Tensor, where: Tensor) -> Tensor:
        """Distribution parameters given what is known of a sample that is observed in part: those of the rest given ``x`` where it is known.

        Predictions pass through it before they are drawn from or encoded. The default leaves them as they are, which is right where elements are independent under ``params``. In
        a sequence that ends early they are not (:func:`mmcore.modality.length.told`).

        Args:
            params: as the decoder gives them; what they say of known elements was never trained.
            x: samples ``(B, *spec.shape)``, any valid value where nothing is known.
            where: ``(B, *spec.shape)`` bool, the elements that are known.
        """
        return params

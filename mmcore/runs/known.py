"""Which parts of a given value are known: a mask of its file, on the way that the file goes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmcore.data.decode import decode, picture
from mmcore.data.transforms import Transform
from mmcore.errors import RequestError
from mmcore.files import expanded
from mmcore.model.joint import JointModel
from mmcore.rng import Rng


def read_mask(mask: str | Path | np.ndarray, what: str) -> np.ndarray:
    """Booleans of a mask, true where it is known.

    Args:
        mask: a picture, whose bright pixels are; a ``.npy`` file of booleans; or these.
        what: messages call it.

    Raises:
        RequestError: it is none.
    """
    try:
        mask = mask if isinstance(mask, np.ndarray) else expanded(mask)
        if isinstance(mask, np.ndarray) or Path(mask).suffix.lower() == ".npy":
            found = mask if isinstance(mask, np.ndarray) else decode(Path(mask))
            if found.dtype != bool:
                raise RequestError(f"found {found.dtype}, expected booleans, true where it is known")
            return found
        return np.asarray(picture(mask).convert("L")) > 127
    except RequestError as error:
        raise RequestError(f"{what}: {error}") from error


def seen(
    model: JointModel, transforms: Sequence[Transform], name: str, mask: np.ndarray, raw: Any, what: str
) -> np.ndarray:
    """Which elements of a value are known as the model sees it, ``spec.shape``.

    Args:
        model: whose variable it is.
        transforms: of what is given.
        name: of the variable.
        mask: of the given file's size, or as the model has the value.
        raw: the given value; None for none.
        what: messages call it.

    Raises:
        RequestError: a mask of another size, or of what has no parts.
    """
    shape = model.variable(name).spec.shape
    if not shape:
        raise RequestError(f"{what}: {name} is one value, known or not; expected a variable with pixels or places")
    value: Any = decode(raw)
    size = getattr(value, "size", None)
    own = size[::-1] if isinstance(size, tuple) else () if value is None else np.shape(value)[:2]
    if mask.ndim == 2 and len(shape) >= 2 and mask.shape == own != shape[-2:]:
        # Known is what is made of known pixels alone.
        values: Mapping[str, Any] = {name: mask.astype(np.float32)}
        for transform in transforms:
            bound = transform.bind(model.variables).steady()
            if bound is not None and bound.moves:
                values = bound(dict(values), Rng.for_rows(0, 1))
        mask = np.asarray(values[name]) > 0.999
    # A map of a picture's pixels is the same for all its channels; other axes are repeated only where their length says so, by a 1.
    fits = mask.ndim == len(shape) and all(k in (1, side) for k, side in zip(mask.shape, shape, strict=True))
    if not fits and mask.shape != shape[-2:]:
        known = dict.fromkeys(str(tuple(one)) for one in (shape, shape[-2:], own) if one)
        raise RequestError(f"{what}: found a mask of shape {mask.shape}, expected {' or '.join(known)}")
    return np.broadcast_to(mask, shape).copy()

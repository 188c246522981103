"""scikit-learn's handwritten digits as rows of a scan and its label."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from mmcore import RequestError


class Profiles:
    """Rows ``profile`` (the scan, which the modality reads to its profiles) and ``label``.

    Args:
        part: ``"train"``, or ``"test"``: every fifth scan, in scikit-learn's order.
    """

    def __init__(self, part: str = "train") -> None:
        if part not in ("train", "test"):
            raise RequestError(f"profiles: part {part!r}, expected train or test")
        from sklearn.datasets import load_digits

        data: Any = load_digits()
        held = np.arange(len(data.target)) % 5 == 4
        chosen = held if part == "test" else ~held
        self.scans = (data.images[chosen] / 16).astype(np.float32)
        self.labels = data.target[chosen]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"profile": self.scans[i].copy(), "label": int(self.labels[i])}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[i] for i in range(len(self)))

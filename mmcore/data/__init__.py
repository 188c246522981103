"""From rows of raw values to batches of tensors."""

from mmcore.data.table import Loader, Table, TensorBatch

__all__ = ["Loader", "Table", "TensorBatch"]

"""From rows of raw values to batches of tensors.

Names are imported when they are first used: what describes data imports no torch.
"""

from typing import TYPE_CHECKING

from mmcore._lazy import lazily
from mmcore.data.opening import at_hand, measured, open_data, open_loader, open_source
from mmcore.data.options import (
    ColumnOptions,
    DataOptions,
    EmbedOptions,
    FilterOptions,
    LoaderOptions,
    SplitOptions,
)
from mmcore.data.source import Row, Rows, Source
from mmcore.data.stream import Stream, as_source

if TYPE_CHECKING:
    from mmcore.data.batch import BadRow, TensorBatch
    from mmcore.data.batches import Batches
    from mmcore.data.dataset import Dataset
    from mmcore.data.loader import Loader
    from mmcore.data.streaming import StreamLoader
    from mmcore.data.table import Table
    from mmcore.data.transforms import Transform

_WHERE = {
    "BadRow": "batch",
    "Batches": "batches",
    "Dataset": "dataset",
    "Loader": "loader",
    "StreamLoader": "streaming",
    "Table": "table",
    "TensorBatch": "batch",
    "Transform": "transforms",
}

__all__ = [
    "BadRow",
    "Batches",
    "ColumnOptions",
    "DataOptions",
    "Dataset",
    "EmbedOptions",
    "FilterOptions",
    "Loader",
    "LoaderOptions",
    "Row",
    "Rows",
    "Source",
    "SplitOptions",
    "Stream",
    "StreamLoader",
    "Table",
    "TensorBatch",
    "Transform",
    "as_source",
    "at_hand",
    "measured",
    "open_data",
    "open_loader",
    "open_source",
]

__getattr__ = lazily(__name__, _WHERE)

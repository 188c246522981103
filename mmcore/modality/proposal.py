"""What a modality says of a column for which ``mmcore init`` looks for a reading: the core names no plugin, so each says for itself what it reads."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs


@attrs.frozen
class Proposal:
    """How a column would be read by a modality.

    Attributes:
        options: of the modality's constructor; the height and width of pictures are left to ``mmcore init``.
        note: what was found, for a person.
        numbers: how many elements one value has, by which its task is weighted.
        codes: how many its code has, by which a first model is sized.
        change: the options to change where another reading is meant.
        named: whether the column's name says so: it is then taken before what the core would take it for.
    """

    options: Mapping[str, Any]
    note: str
    numbers: int = 1
    codes: int = 1
    change: str = ""
    named: bool = False


class Proposes:
    """A modality that no column is looked for: it is named in a configuration by hand."""

    @classmethod
    def proposed(cls, name: str, values: Sequence[Any]) -> Proposal | None:
        """How a column of data would be read, for ``mmcore init``, or None where it is of another kind.

        It is asked of every installed modality. To define it is optional.

        Args:
            name: of the column.
            values: raw ones of some rows at least, as the modality's ``read`` gets them: texts, paths of files that the core does not open,
                pictures, arrays.
        """
        return None

"""What became of a trained model's weights in a model made from it: the account that the new model keeps."""

from collections.abc import Iterable, Mapping
from typing import Any, Self

import attrs
from torch import Tensor

from mmcore.errors import plainly
from mmcore.plugins.metadata import one_line

_SHOWN = 4
"""How many names a line has before it counts."""


@attrs.frozen(eq=False, repr=False)
class Grown:
    """What became of a trained model's weights in a model that was made from it; kept with the new model.

    Attributes:
        modalities: the modalities of the model that the weights come from.
        over: the names of weights that went over as they are.
        part: of weights that went over in part: columns of what is new are zero, places are interpolated, rows of new classes are as they were made.
        made: of those that are new.
        unfit: of those that have another shape there, with both shapes; here they are as they were made.
        left: of those that this model has no place for.
        fresh: of those that went over in part, which elements are new, bool; None for a model that was read from a folder, which does not keep it.
    """

    modalities: tuple[str, ...]
    over: tuple[str, ...] = ()
    part: tuple[str, ...] = ()
    made: tuple[str, ...] = ()
    unfit: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    fresh: Mapping[str, Tensor] | None = None

    def record(self) -> dict[str, list[str]]:
        """In JSON's types, as a model folder keeps it."""
        return {field.name: list(getattr(self, field.name)) for field in attrs.fields(type(self))[:-1]}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """From a folder's record.

        Raises:
            TypeError: it is none.
        """
        names = [field.name for field in attrs.fields(cls)[:-1]]
        for name in names:
            told = record[name]
            if not isinstance(told, list) or not all(isinstance(one, str) for one in told):
                raise TypeError(f"grown.{name} as {type(told).__name__}, expected a list of names")
        return attrs.evolve(cls(()), **{name: tuple(record[name]) for name in names})

    def __repr__(self) -> str:
        return plainly(f"<Grown: {self.line()}>", 400)

    def __str__(self) -> str:
        lines = {
            "went over": _counted(self.over),
            "in part": listed(self.part),
            "made new": _counted(self.made),
            "did not fit": "; ".join(self.unfit),
            "left behind": _counted(self.left),
        }
        told = [f"{title + ':':13}{text}" for title, text in lines.items() if text]
        return "\n".join([f"{'grown from:':13}{', '.join(self.modalities)}", *told])

    def line(self) -> str:
        """The same in one sentence, for a model's card."""
        parts = [f"{len(self.over)} weights went over as they are", f"{len(self.part)} in part"]
        parts += [f"{len(x)} {words}" for x, words in ((self.made, "are new"), (self.unfit, "did not fit")) if x]
        return one_line(f"Grown from a model of {', '.join(self.modalities)}: {', '.join(parts)}.")


def listed(names: Iterable[str]) -> str:
    """Names in a line; of many the first, and how many more."""
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _counted(names: Iterable[str]) -> str:
    """Names by the module that they belong to: ``backbone (84), decoders.image (6)``."""
    groups: dict[str, int] = {}
    for name in names:
        parts = name.split(".")
        group = ".".join(
            parts[: 3 if parts[1:2] == ["blocks"] else 2]
            if parts[0] != "backbone" or "blocks" in parts[1:2]
            else parts[:1]
        )
        groups[group] = groups.get(group, 0) + 1
    return ", ".join(f"{group} ({count})" for group, count in groups.items())

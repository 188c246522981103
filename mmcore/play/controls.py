"""Which control a variable has on the page: the plugin's own, or where that cannot be used, one that can."""

from mmcore.errors import MmcoreError
from mmcore.modality.base import Modality
from mmcore.modality.control import Choice, Control, File, Group, Number, Numbers, Painting, Picture, Text, suggested
from mmcore.plugins.metadata import one_line

KNOWN = (Picture, Painting, Choice, Number, Numbers, Text, File, Group)


def control_of(m: Modality) -> tuple[Control, str]:
    """A variable's control, and what was wrong with the plugin's own, in a line; empty for nothing."""
    try:
        found = m.control()
        if problem := _problem(found):
            raise MmcoreError(problem)
        return found, ""
    # A plugin's own code, which must not take the page down.
    except Exception as error:
        why = one_line(f"{m.name}: its plugin's control cannot be used ({type(error).__name__}: {error})")
    try:
        return suggested(m), why
    except Exception:  # nor its raw(), nor show()
        return File(f"an array of shape {' × '.join(map(str, m.spec.shape)) or '1'}"), why


def _problem(control: object) -> str:
    if not isinstance(control, KNOWN):
        return f"found {type(control).__name__}, expected one of {', '.join(one.__name__ for one in KNOWN)}"
    if isinstance(control, Choice) and (not control.options or len(control.options) != len(control.names)):
        return f"found {len(control.options)} options with {len(control.names)} names"
    if isinstance(control, Painting) and len(control.colours) < 2:
        return f"found {len(control.colours)} colours, expected two at least"
    if isinstance(control, Picture | Painting) and not all(1 <= side <= 4096 for side in control.size):
        return f"found the size {control.size}, expected sides in 1 … 4096"
    if isinstance(control, Group):
        inner = next(
            (one for one in control.parts.values() if not isinstance(one, Choice | Number | Numbers | Text)), None
        )
        return "" if inner is None else f"found {type(inner).__name__} in a group, expected choices, numbers and texts"
    return ""

"""Values of class maps that are hardly classes: numbers and colours that tell things apart, blurred edges, noise about two values."""

from collections import Counter

from mmcore.config.column import Question
from mmcore.data.census import Tally

_MAPS = 8
"""Maps from which on what all of them have in common says something."""
_NUMBERS = 4
"""Different largest numbers from which on 1 … n in each map are those of things."""
_VALUES = 9
"""Values from which on those that only edges have are looked for."""
LISTED = 32
"""Values that are listed in a choice."""
_ALONE = 0.8
_NEAR = 48
_GAP, _NOISE = 8, 3
"""A gap between values about which others lie, and how many lie about one of them at least."""
INSTANCES = frozenset(("instance", "instances", "instanceid", "instanceids", "object", "objects", "panoptic"))


def numbered(name: str, tally: Tally, called: bool) -> Question | None:
    """The question whether values are numbers of things, which begin anew in each map.

    Args:
        name: of the column.
        tally: its values.
        called: whether its name says so.
    """
    if tally.many or len(tally.pixels) < 3 or tally.values[0] < 0:
        return None
    tops = [max(some) for some in tally.sets if some != frozenset({0})]
    counted = all(some - {0} == frozenset(range(1, len(some - {0}) + 1)) for some in tally.sets)
    if not called and not (counted and len(set(tops)) >= _NUMBERS and tally.sets.total() >= _MAPS):
        return None
    high = tally.values[-1]
    which = (
        f"the numbers 1 … n in each map, with n from {min(tops)} to {max(tops)}"
        if counted
        else f"{len(tally.pixels)} values up to {high}, and is called so"
    )
    return Question(
        name,
        f"{name} has {which}: they may tell things apart, and be no classes",
        {
            f"{name}.threshold=1": "two classes, 1 from that value on: a thing, or none",
            f"{name}.classes={high + 1}": "classes",
            f"{name}=none": "left out",
        },
    )


def coloured(name: str, colours: Tally) -> Question | None:
    """The question whether colours tell things apart, as each occurs in one map alone."""
    if colours.many or len(colours.pixels) < _MAPS or colours.sets.total() < _MAPS:
        return None
    maps = Counter[int]()
    for some, count in colours.sets.items():
        maps.update(dict.fromkeys(some, count))
    once = sum(count == 1 for count in maps.values())
    if once < _ALONE * len(maps):
        return None
    return Question(
        name,
        f"of {len(maps)} colours {once} are in one map alone, so that {name} may tell things apart, and has no classes; "
        "the option colours names those that are",
        {f"{name}=image": "pictures", f"{name}=none": "left out"},
    )


def smoothed(name: str, colours: Tally) -> Question | None:
    """The question whether colours are those of edges alone, as a program that smooths them paints them."""
    found, solid = _edges(colours, "colours")
    if not found:
        return None
    shown = ", ".join(f"#{colour:06x}" for colour in solid[:6]) + (" …" if len(solid) > 6 else "")
    some = sorted(colours.pixels)
    choices = {f"{name}=image": "pictures", f"{name}=none": "left out"}
    if len(some) <= LISTED:
        choices = {
            f"{name}.colours={','.join(f'#{colour:06x}' for colour in some)}": "all of them are classes",
            **choices,
        }
    return Question(
        name,
        f"{name}: {found}, as where edges were smoothed: between {shown} they are no classes; make the maps anew, to the nearest pixel",
        choices,
    )


def _edges(tally: Tally, what: str) -> tuple[str, list[int]]:
    """Values that are hardly anywhere but on edges, in words, and those that are not; no words where edges have none of their own."""
    if tally.many or len(tally.pixels) < _VALUES:
        return "", []
    solid = [value for value in tally.values if tally.solid[value] >= 0.5 * tally.seen[value]]
    loose = [value for value in tally.values if tally.solid[value] <= 0.1 * tally.seen[value]]
    share = sum(tally.solid[value] for value in solid) / max(sum(tally.seen.values()), 1)
    if len(solid) < 2 or 2 * len(loose) < len(tally.pixels) or share < 0.5:
        return "", []
    return f"{len(loose)} of {len(tally.pixels)} {what} are hardly anywhere but on edges", solid


def edges(name: str, tally: Tally) -> Question | tuple[float, str] | None:
    """Values that are hardly anywhere but on edges, as where a program that mixes neighbours has resized maps.

    Returns:
        the level between the two values that are not, with the evidence; the question where there are more of them; None where edges have no values
        of their own.
    """
    found, solid = _edges(tally, "values")
    if not found:
        return None
    if len(solid) == 2:
        return sum(solid) / 2, f"{found}, between {solid[0]} and {solid[1]}"
    shown = ", ".join(map(str, solid[:6])) + (" …" if len(solid) > 6 else "")
    return Question(
        name,
        f"{name}: {found}, as where maps were resized by mixing neighbours: between {shown} they are no classes; make the maps anew, to the nearest pixel",
        {
            f"{name}.values={','.join(map(str, tally.values))}" if len(tally.values) <= LISTED else f"{name}.classes={tally.values[-1] + 1}": "all of them are classes",
            f"{name}=none": "left out",
        },
    )  # fmt: skip


def clustered(name: str, tally: Tally) -> Question | None:
    """The question whether values that lie close about a few are noise, as a lossy format leaves it in files that are none any more."""
    if tally.many or len(tally.pixels) < _VALUES:
        return None
    groups: list[list[int]] = [[]]
    for value in tally.values:
        if groups[-1] and value - groups[-1][-1] > _GAP:
            groups.append([])
        groups[-1].append(value)
    if len(groups) < 2 or sum(len(group) >= _NOISE for group in groups) < 2:
        return None
    centres = [max(group, key=lambda value: tally.pixels[value]) for group in groups]
    shown = ", ".join(map(str, centres[:6])) + (" …" if len(centres) > 6 else "")
    choices = {f"{name}.classes={tally.values[-1] + 1}": "all of them are classes", f"{name}=none": "left out"}
    if len(groups) == 2:
        level = (groups[0][-1] + groups[1][0] + 1) // 2
        choices = {f"{name}.threshold={level}": "two classes, 1 from that value on", **choices}
    return Question(
        name,
        f"{name} has {len(tally.pixels)} values close about {shown}, as a lossy format leaves them: no classes, if so; save the maps anew",
        choices,
    )


def noisy(tally: Tally) -> float:
    """The share of the pixels that are near 0 or 255, where many values are near each; 0 where only one of the two has such neighbours."""
    dark = [value for value in tally.values if 0 < value <= _NEAR]
    light = [value for value in tally.values if 255 - _NEAR <= value < 255]
    if tally.many or min(len(dark), len(light)) < _MAPS or tally.values[-1] > 255:
        return 0.0
    return sum(tally.share(value) for value in tally.values if value <= _NEAR or value >= 255 - _NEAR)

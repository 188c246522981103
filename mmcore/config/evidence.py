"""What a column is, by stated evidence over all its values: a modality and its options, or a question where the evidence does not decide."""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from mmcore.config import drawn
from mmcore.config.column import Column, Question
from mmcore.data.census import FLAT, Pixels, Tally, unpack
from mmcore.data.contract import hex_of
from mmcore.errors import RequestError

REGIONS = 256
"""Most classes of a class map."""
FEW = 64
"""Values up to which a picture of a column without a telling name may be a class map."""
_SAID = "as you say"
_AMONG = 0.1
"""The share of pictures of few values from which on they may be masks among photographs."""
STEP = 4
"""The widest step between classes beside which a value that stands apart is void."""
_BORDER = 224 << 16 | 224 << 8 | 192
VOID = (*range(250, 256), 65535)
"""Values above the classes that data sets use for void."""
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
MASK = frozenset((
    "annot", "annotation", "annotations", "annots", "class", "classes", "classmap", "gt", "gts", "instances", "label",
    "labelids", "labelmap", "labels", "labeltrainids", "map", "maps", "mask", "masks", "matte", "mattes", "parsing",
    "region", "regions", "seg", "segm", "segmentation", "segmentations", "segs", "semantic", "target", "targets",
    "trimap", "trimaps", "truth", "void",
))  # fmt: skip
IMAGE = frozenset((
    "depth", "face", "faces", "frame", "frames", "gray", "grey", "image", "images", "img", "imgs", "jpeg", "jpg",
    "photo", "photos", "pic", "pics", "picture", "pictures", "pixel", "pixels", "png", "render", "renders", "rgb",
    "scan", "scans", "sketch", "sketches", "slice", "slices", "thumbnail", "thumbnails", "xray", "xrays",
))  # fmt: skip


def words(name: str) -> set[str]:
    """The words of a column's name, in small letters: ``gtFine_labelIds`` is gt, fine, label, ids."""
    return {word.lower() for word in _WORDS.findall(name)} | {name.lower()}


def pixels(name: str, c: Pixels, given: Mapping[str, Any]) -> Column | Question:
    """A column of pictures or class maps.

    Args:
        name: of the column.
        c: its values, counted.
        given: what the user says: the modality as ``""``, and options of it.
    """
    if not any(height * width for height, width in c.sizes):
        return Column(name, note="pictures without a pixel")
    if c.hot.total() == c.count and not given:
        (classes, axis), _ = c.hot.most_common(1)[0]
        note = f"one-hot maps of {classes} classes; save the classes' numbers, x.argmax({axis})"
        return Column(name, note=note, closed=True)
    kind = given.get("") or _kind(name, c, given)
    if isinstance(kind, Question):
        return kind
    kind, why = kind if isinstance(kind, tuple) else (kind, _SAID)
    options = {key: value for key, value in given.items() if key}
    if kind not in ("mask", "image"):
        return Column(name, kind, options, f"{_shown(c)}, {why}", size=size_of(c), pictures=True)
    found = _map(name, c, options, why) if kind == "mask" else _picture(name, c, options, why)
    if isinstance(found, Question) or not found.plugin:
        return found
    told = [*found.told, *_told(c)]
    return attrs.evolve(found, size=size_of(c), pictures=True, told=tuple(told))


def _told(c: Pixels) -> Iterable[str]:
    if c.turned:
        yield f"{c.turned} of {c.count} are turned upright, as their files say (EXIF)"
    if c.frames:
        yield f"{c.frames} of {c.count} have several frames, of which the first is read"
    if len(c.sizes) > 1:
        least, most = (kind(c.sizes, key=lambda size: size[0] * size[1]) for kind in (min, max))
        yield f"{len(c.sizes)} sizes, from {least[0]} × {least[1]} to {most[0]} × {most[1]}"


def size_of(c: Pixels) -> tuple[int, int] | None:
    return next(iter(c.sizes)) if len(c.sizes) == 1 else None


def _shown(c: Pixels) -> str:
    modes = ", ".join(f"{count} of {mode}" if len(c.modes) > 1 else str(mode) for mode, count in c.modes.most_common())
    return f"{c.count} maps or pictures ({modes})"


# ---- class maps or pictures ----


def _kind(name: str, c: Pixels, given: Mapping[str, Any]) -> tuple[str, str] | Question:
    """``"mask"`` or ``"image"``, with the evidence."""
    if given.keys() & {"values", "colours", "ignore", "void", "channel", "threshold", "classes"}:
        return "mask", "as you say"
    if given.keys() & {"limits", "background", "channels", "clip"}:
        return "image", "as you say"
    mine = words(name)
    mask, image = bool(mine & MASK), bool(mine & IMAGE)
    if mask and not image:
        return "mask", f"by the name {name}"
    if image and not mask:
        return "image", f"by the name {name}"
    few = _few(c)
    if mask and image and few:
        return "mask", f"by the name {name} and {few}"
    if c.bits and not image:
        return "mask", "by its bits"
    if few and not (mask and image):
        text = f"{name} has {few}, which may be classes or grey levels and colours"
        return Question(
            name, text, {f"{name}=mask": "class maps", f"{name}=image": "pictures", f"{name}=none": "left out"}
        )
    return "image", "by its many values"


def _few(c: Pixels) -> str:
    """The few values or colours of what may be class maps, in words; empty where there are many."""
    if c.lossy or not (c.whole and c.finite) or c.clear:
        return ""
    if set(c.modes) == {"P"}:
        tally, what = (c.colours, "colours of palettes") if _by_colour(c) else (c.indices, "indices of palettes")
    elif c.unequal:
        tally, what = c.colours, "colours"
    else:
        tally, what = c.grey, "values"
    if tally.many or not 0 < len(tally.pixels) <= FEW:
        return ""
    shown = f" ({_values(tally)})" if what == "values" else ""
    return f"{len(tally.pixels)} different {what}{shown}"


# ---- class maps ----


def _map(name: str, c: Pixels, given: dict[str, Any], why: str) -> Column | Question:
    options: dict[str, Any] = {}
    notes: list[str] = []
    said = dict(given)
    threshold = said.pop("threshold", None)
    if c.clear and "channel" not in said:
        if len(c.below.pixels) <= 1 and not c.below.many:
            options["channel"] = "alpha"
            notes.append("the alpha, as the colours are one only")
        elif c.unequal or c.grey.many or len(c.grey.pixels) > 1:
            return Question(
                name,
                f"{name} has an alpha that is not opaque in {c.clear} of {c.count}, and colours too",
                {f"{name}.channel=alpha": "the alpha holds the classes", f"{name}.channel=colour": "the colours do"},
            )
    channel = said.get("channel", options.get("channel"))
    if threshold is not None:
        return _thresholded(name, {**options, **said}, threshold, "as you say")
    if "values" in said:
        _check_named(name, c, said)
    if {"values", "colours"} & said.keys() or {"classes", "void"} <= said.keys():
        merged = {**options, **said}
        return Column(name, "mask", merged, f"class maps, {why}: {_listed(merged)} as you say")
    if channel == "alpha":
        plain = not c.alpha.many and set(c.alpha.pixels) <= {0, 255}
        shares = f"{c.alpha.share(255):.1%} opaque" if plain else "soft, from 128 on opaque"
        merged = {"classes": 2, **options, **said}
        return Column(name, "mask", merged, f"two classes of {' '.join(notes) or 'the alpha'}: {shares}", "channel")
    if c.bits and set(c.channels) != {1}:
        return Column(name, note=f"bits of shape {next(iter(c.shapes), '')}, which are no class maps")
    if c.bits:
        return Column(name, "mask", {"classes": 2, **options, **said}, f"bits, {why}")
    if c.deep and not (c.whole and c.finite):
        return Question(
            name,
            f"{name} has numbers {c.low:.6g} … {c.high:.6g} with fractions, which are no classes",
            {
                f"{name}.threshold=0.5": "two classes, 1 from that number on",
                f"{name}=image": "pictures",
                f"{name}=none": "left out",
            },
        )
    if _by_colour(c):
        return _coloured(name, c, {**options, **said}, why)
    tally = c.indices if set(c.modes) <= {"P"} and c.indices.pixels else c.grey
    if not tally.many and not tally.pixels:
        shape = next(iter(c.shapes), "")
        return Column(name, note=f"arrays of shape {shape} ({', '.join(c.modes)}), which are no class maps")
    if set(c.modes) == {"P"}:
        notes.append("palettes, by their indices")
    return _graded(name, c, tally, {**options}, said, why, notes)


def _check_named(name: str, c: Pixels, said: Mapping[str, Any]) -> None:
    """Refuse values that the user says and that leave out some of the data's, at which training would stop.

    Raises:
        RequestError: naming them.
    """
    tally = c.indices if set(c.modes) == {"P"} else c.grey
    wanted = [one for value in said["values"] for one in (value if isinstance(value, list) else [value])]
    wanted += [*said.get("ignore", ()), *([said["void"]] if "void" in said else [])]
    left = [] if tally.many or c.unequal else [value for value in tally.values if value not in wanted]
    if left:
        shown = ", ".join(f"{value} ({tally.share(value):.1%})" for value in left[:6]) + (" …" if len(left) > 6 else "")
        raise RequestError(
            f"init: --assume {name}.values={_comma(said['values'])}: {name} also has {shown}, expected a class for each value; --assume {name}.ignore=… makes them void"
        )


def _by_colour(c: Pixels) -> bool:
    """Whether colours tell the classes: there are pictures in colour, or palettes that number the same few colours differently."""
    if set(c.modes) != {"P"}:
        return bool(c.unequal) or "P" in c.modes
    differ = any(len(colours) > 1 for colours in c.palette.values())
    return differ and not c.colours.many and len(c.colours.pixels) <= len(c.indices.pixels)


def _graded(
    name: str, c: Pixels, tally: Tally, options: dict[str, Any], said: dict[str, Any], why: str, notes: list[str]
) -> Column | Question:
    """Classes by grey values or indices."""
    soft = tally.many or len(tally.pixels) > 2
    ends = sum(tally.share(value) for value in (0, 255))
    middle = [value for value in tally.pixels if 0 < value < 255]
    if c.lossy and soft and not (said.keys() & {"void", "ignore"}):
        near = sum(tally.share(v) for v in tally.pixels if v <= 48 or v >= 207)
        if near >= 0.95 and tally.values[0] <= 48 and tally.values[-1] >= 207:
            return _thresholded(
                name,
                {**options, **said},
                128,
                f"{why}: {c.codec} has blurred the values 0 and 255 ({near:.1%} of the pixels are within 48 of them)",
            )
        return Question(
            name,
            f"{name} is {c.codec}, which has blurred its {len(tally.pixels)} values, so that classes cannot be told",
            {
                f"{name}.threshold=128": "two classes, 1 from that value on",
                f"{name}=image": "pictures",
                f"{name}=none": "left out",
            },
        )
    if c.high <= 255 and len(middle) >= 8 and ends >= 0.9 and 0 in tally.pixels and 255 in tally.pixels and not said:
        return _thresholded(
            name,
            options,
            128,
            f"{why}: {ends:.1%} of the pixels are 0 or 255, and {len(middle)} values between them are soft edges",
        )
    if not said:
        doubted = _doubted(name, c, tally, options, why)
        if doubted is not None:
            return doubted
    if tally.many or len(tally.pixels) > REGIONS:
        found = f"more than {len(tally.pixels) if not tally.many else 1000} different values"
        return Question(
            name,
            f"{name} has {found} in {c.low:.6g} … {c.high:.6g}, more than {REGIONS} classes",
            {
                f"{name}.threshold={128 if c.high <= 255 else 1}": "two classes, 1 from that value on"
                + ("" if c.high <= 255 else ": a thing, or none"),
                f"{name}=image": "pictures",
                f"{name}=none": "left out",
            },
        )
    bordered = set(c.modes) == {"P"} and c.palette.get(max(tally.pixels)) == {_BORDER}
    decided = classes(name, tally, said, bordered=bordered)
    if isinstance(decided, Question):
        return decided
    more, reason = decided
    merged = {**options, **more, **said}
    note = f"class maps, {why}: {'; '.join([*notes, reason])}"
    return Column(
        name,
        "mask",
        merged,
        note,
        "values, void or ignore" if "values" in merged or "void" in merged else "values or ignore",
    )


def _doubted(name: str, c: Pixels, tally: Tally, options: dict[str, Any], why: str) -> Column | Question | None:
    """What else values may be than classes, where anything speaks for it."""
    if (share := drawn.noisy(tally)) >= 0.95:
        found = f"{share:.1%} of the pixels are within 48 of 0 or 255: noise about 0 and 255, as JPEG leaves it"
        return _thresholded(name, options, 128, f"{why}: {found}")
    found = drawn.edges(name, tally)
    if isinstance(found, tuple):
        return _thresholded(name, options, found[0], f"{why}: {found[1]}")
    return found or drawn.clustered(name, tally) or drawn.numbered(name, tally, bool(words(name) & drawn.INSTANCES))


def _thresholded(name: str, options: dict[str, Any], level: float, note: str) -> Column:
    change = {"kind": "threshold", "level": level}
    return Column(
        name,
        "mask",
        {"classes": 2, **options},
        f"two classes, 1 from {level:g} on, {note}",
        "the threshold's level",
        transforms=(change,),
    )


def classes(
    name: str, tally: Tally, said: Mapping[str, Any], *, bordered: bool = False
) -> tuple[dict[str, Any], str] | Question:
    """The options of a mask by the values that occur, with the evidence.

    Args:
        name: of the column.
        tally: its values.
        said: options that the user says.
        bordered: whether the largest has the colour of Pascal VOC's border in a palette.
    """
    ignore = list(said.get("ignore", ())) + ([said["void"]] if "void" in said else [])
    values = [value for value in tally.values if value not in ignore]
    shown = _values(tally)
    if ignore:
        return _numbered(values), f"values {shown}; {', '.join(map(str, ignore))} void as you say"
    if values and values[0] >= 0 and values[-1] < said.get("classes", 0):
        return {}, f"values {shown}, the classes' numbers as you say"
    if len(values) < 2:
        return Question(
            name,
            f"{name} has the one value {shown}, where classes should differ",
            {
                f"{name}=none": "left out",
                f"{name}.values={values[0]},{1 if values[0] != 1 else 0}": "two classes, of which one does not occur",
            },
        )
    if values == [0, 1]:
        return {"classes": 2}, f"values {shown}"
    if len(values) == 2:
        low, high = values
        if values == [-1, 0] or (low > 0 and high in VOID):
            void = low if low < 0 else high
            return Question(
                name,
                f"{name} has the values {shown}, of which {void} may be void or a class",
                {
                    f"{name}.values={low},{high}": "two classes",
                    f"{name}=none": "left out, as one class beside void tells nothing",
                },
            )
        void = low if low < 0 else high
        return {"values": values}, f"two values, {shown}, so two classes: were {void} void, one class would be left"
    negative = [value for value in values if value < 0]
    if len(negative) > 1:
        return Question(
            name,
            f"{name} has the values {shown}, {len(negative)} of them below 0, which are no class indices",
            {
                f"{name}.values={_comma(values)}": f"{len(values)} classes",
                f"{name}=image": "pictures",
                f"{name}=none": "left out",
            },
        )
    rest = [value for value in values if value >= 0]
    below, top = (negative[0] if negative else None), rest[-1]
    above = top if top in VOID else None
    if below is None and above is None:
        options = _numbered(rest)
        return options, "; ".join(filter(None, [f"values {shown}", _renumbered(rest, options)]))
    void = below if above is None else above
    assert void is not None
    others = [value for value in rest if value != above]
    whole, choices = _comma(values), {f"{name}.void={void}": f"{void} is void"}
    if others == [0, 1] and above is not None and not tally.together(1, above):
        merged = {f"{name}.values=[0,[1,{above}]]": f"1 and {above} are the same class"}
        return Question(
            name,
            f"{name} has the values {shown}, but no map has both 1 and {above}: {above} may be void, a class, or 1 in other files' words",
            {f"{name}.values={whole}": f"{len(values)} classes", **choices, **merged},
        )
    step = max((b - a for a, b in itertools.pairwise(others)), default=0)
    apart = above is None or above - others[-1] > 4 * step
    if (below is not None and above is not None) or len(others) < 2 or not (bordered or (step <= STEP and apart)):
        return Question(
            name,
            f"{name} has the values {shown}, of which {void} may be void or a class",
            {f"{name}.values={whole}": f"{len(values)} classes", **choices}
            if len(values) <= drawn.LISTED
            else {
                f"{name}.classes={top + 1}": f"{top + 1} classes",
                **choices,
                f"{name}.threshold={(top + 1) // 2}": "two classes, 1 from that value on",
                f"{name}=image": "pictures",
            },
        )
    rest, kind = others, "being below" if above is None else "standing apart from"
    reason = f"{void} ({tally.share(void):.1%}) is void, {kind} the classes"
    if bordered and not (step <= STEP and apart):
        reason = f"{void} ({tally.share(void):.1%}) is void, having the colour of Pascal VOC's border"
    options = _numbered(rest) | {"void": void}
    return options, "; ".join(filter(None, [f"values {shown}", _renumbered(rest, options), reason]))


def _numbered(values: Sequence[int]) -> dict[str, Any]:
    """Classes by their own numbers, where these begin at 0 and most occur; else a table of them."""
    if values and values[0] == 0 and values[-1] + 1 <= 2 * len(values):
        return {"classes": max(2, values[-1] + 1)}
    return {"values": list(values)}


def _renumbered(values: Sequence[int], options: Mapping[str, Any]) -> str:
    if "values" in options:
        return f"renumbered 0 … {len(values) - 1}, as they have gaps or do not begin at 0"
    absent = options["classes"] - len(values)
    return f"{absent} of {options['classes']} classes do not occur" if absent > 0 else ""


def _coloured(name: str, c: Pixels, options: dict[str, Any], why: str) -> Column | Question:
    """Classes by colours."""
    found = dict(c.colours.pixels)
    if "1" in c.modes or "L" in c.modes or "uint8" in c.modes:
        for value, count in c.grey.pixels.items():
            grey = value << 16 | value << 8 | value
            found[grey] = max(found.get(grey, 0), count)
    ignore = options.get("ignore", ())
    found = {colour: count for colour, count in found.items() if hex_of(unpack(colour)) not in ignore}
    if not c.lossy and not ignore and (doubted := drawn.smoothed(name, c.colours)) is not None:
        return doubted
    if c.colours.many or c.lossy or not 2 <= len(found) <= REGIONS:
        count = "more than 1000" if c.colours.many else str(len(found))
        blurred = f", blurred by {c.codec}" if c.lossy else ""
        return Question(
            name,
            f"{name} has {count} different colours{blurred}, expected 2 … {REGIONS} that are classes",
            {f"{name}=image": "pictures", f"{name}=none": "left out"},
        )
    if not options.get("ignore") and (doubted := drawn.coloured(name, c.colours)) is not None:
        return doubted
    reason = "black first"
    order = sorted(found)
    voc = [_voc(k) for k in range(21)]
    if set(found) <= {*voc, _BORDER} and len(found) > 2:
        order = [colour for colour in voc if colour in found]
        reason = "in the order of Pascal VOC, whose colours they are"
        if _BORDER in found:
            options = {"ignore": [hex_of(unpack(_BORDER))], **options}
            reason += f"; {hex_of(unpack(_BORDER))} is its border, void"
    table = [hex_of(unpack(colour)) for colour in order]
    note = f"class maps, {why}: {len(table)} colours are {len(table)} classes, {reason}"
    return Column(name, "mask", {"colours": table, **options}, note, "colours or ignore")


def _voc(index: int) -> int:
    """The colour of a class in Pascal VOC's palette: its bits dealt to red, green and blue, the lowest to the highest."""
    channels = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            channels[channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
    return channels[0] << 16 | channels[1] << 8 | channels[2]


def _values(tally: Tally) -> str:
    values = tally.values
    if len(values) <= 6:
        return ", ".join(f"{value} ({tally.share(value):.1%})" for value in values)
    return f"{values[0]} … {values[-1]}, {len(values)} of them"


def _comma(values: Iterable[Any]) -> str:
    return ",".join(map(str, values))


def _listed(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {value}" for key, value in options.items())


# ---- pictures ----


def _picture(name: str, c: Pixels, given: dict[str, Any], why: str) -> Column | Question:
    if not c.finite:
        return Column(name, note="pictures with NaN or infinity; clean them, or write the configuration by hand")
    if not given and why != _SAID and min(c.flat, c.rich) >= max(2, _AMONG * c.count):
        return Question(
            name,
            f"{name} has {c.flat} pictures of {FLAT} values at most, such as {c.flat_at}, among {c.rich} of many: are they masks, "
            "put them into a folder or column of their own",
            {f"{name}=image": "all are pictures", f"{name}=none": "left out"},
        )
    channels = max(c.channels)
    if 0 in c.channels:
        shape = next(iter(c.shapes))
        return Column(name, note=f"arrays of shape {shape}, which no first-party modality reads")
    told: list[str] = []
    options: dict[str, Any] = {"channels": channels}
    if len(c.channels) > 1:
        told.append(f"{c.channels[1]} of {c.count} are grey, which becomes three equal channels")
    elif channels == 3 and not c.unequal:
        told.append("its three channels are equal: channels = 1 would hold them as well")
    if c.modes["CMYK"]:
        told.append(f"{c.modes['CMYK']} of {c.count} are CMYK, read as RGB without a colour profile")
    wanted = given.get("channels", channels)
    if c.clear and wanted in (1, 3):
        options["background"] = "#ffffff"
        told.append(
            f"{c.clear} of {c.count} have an alpha that is not opaque: white shows through (background); channels = 4 keeps the alpha"
        )
    elif c.alphas and not c.clear:
        told.append(f"{c.alphas} of {c.count} have an alpha, opaque everywhere, which is left out")
    if not c.deep and not c.bits and c.high < 64 and "limits" not in given:
        told.append(
            f"dark: no value is above {c.high:.0f} of 255; limits = [0, {c.high:.0f}] would use the whole range"
        )
    limits = _limits(name, c, told) if c.deep and "limits" not in given else {}
    if isinstance(limits, Question | Column):
        return limits
    merged = {**options, **limits, **given}
    note = f"pictures of {merged['channels']} {'channel' if merged['channels'] == 1 else 'channels'}, {why}"
    if "limits" in merged:
        note += f"; {merged['limits'][0]} … {merged['limits'][1]} become -1 … 1"
    return Column(name, "image", merged, note, "limits" if "limits" in merged else "", told=tuple(told))


def _limits(name: str, c: Pixels, told: list[str]) -> dict[str, Any] | Question | Column:
    """The limits of numbers that are no bytes."""
    shallow = [mode for mode in c.modes if mode in ("1", "L", "P", "RGB", "RGBA", "LA", "uint8", "bool")]
    modes = ", ".join(c.modes)
    own = f"{c.low:.6g},{c.high:.6g}"
    ask = {f"{name}.limits={own}": "the data's own extremes", f"{name}=none": "left out"}
    if shallow:
        return Column(
            name,
            note=f"pictures of {modes}, 8 bits and deeper ones, which have no one range; convert them to one depth",
        )
    floats = any(mode in ("F", "float16", "float32", "float64") for mode in c.modes)
    if not c.low < c.high:
        return Column(name, note=f"pictures of the one value {c.low:.6g}")
    if c.whole and c.low >= 0 and c.high > 1:
        top = next((2**bits - 1 for bits in (8, 10, 12, 14, 16) if c.high < 2**bits), 0)
        if top:
            top = top if 4 * c.high > top else int(c.high)
            kind = "whole numbers" if floats else modes
            told.append(
                f"{kind} in {c.low:.6g} … {c.high:.6g}: the limits are those of {(top + 1).bit_length() - 1 if (top + 1) & top == 0 else 'their largest'}{' bits' if (top + 1) & top == 0 else ''}"
            )
            return {"limits": [0, top]}
    elif floats and c.low >= 0 and c.high <= 1:
        told.append(f"floats in {c.low:.6g} … {c.high:.6g}, taken as parts of 1")
        return {"limits": [0, 1]} if "F" in c.modes else {}  # of files nothing else says it
    elif floats and c.low >= -1 and c.high <= 1:
        told.append(f"floats in {c.low:.6g} … {c.high:.6g}, below 0 and none beyond 1: scaled to -1 … 1 already")
        return {"limits": [-1, 1]}
    text = f"{name} has numbers {c.low:.6g} … {c.high:.6g} ({modes}), whose limits nothing says"
    if not words(name) & IMAGE:
        return Column(
            name,
            note=f"numbers {c.low:.6g} … {c.high:.6g} of shape {next(iter(c.shapes), '')}, such as latents or maps, whose limits nothing says; "
            f"--assume {name}.limits={own} reads them as pictures",
        )
    return Question(name, text, ask)

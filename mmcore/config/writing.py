"""The lines of a first configuration, with a comment wherever a choice was made."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmcore.config.column import Column
from mmcore.config.files import escaped
from mmcore.config.holding import groups, seeded
from mmcore.config.naming import variables
from mmcore.config.sizing import FEW, SIDE, Size, elements, picture_size, rounded
from mmcore.config.telling import left_out
from mmcore.data import Source


def lines(
    out: str,
    name: str,
    options: Mapping[str, Any],
    columns: Sequence[Column],
    used: Sequence[Column],
    source: Source,
    own: Sequence[str],
    shares: Mapping[str, float],
    *,
    apart: bool = False,
) -> Iterator[str]:
    """A configuration's text, line by line.

    Args:
        out: the run's folder.
        name: of the source.
        options: of the source.
        columns: all that the source has.
        used: those that become variables.
        source: of all rows.
        own: the parts that the data have themselves, by the source.
        shares: of the rows that have a value, by column.
        apart: whether pictures and maps of a row have several sizes, so that each is resized by itself.
    """
    called = variables(used)
    size, resized = picture_size(used)
    yield f"# Written by mmcore init from {len(source):,} rows; every line may be changed. mmcore config prints all there is to say."
    yield f"out = {_toml(out)}"
    yield "seed = 0"
    yield ""
    yield "[data]"
    yield f"source = {_toml(name)}"
    yield f"options = {_toml(options)}"
    expect = {called[column.name]: shares[column.name] for column in used if column.name in shares}
    yield f"expect = {_toml(expect)}  # the share of rows that have it; training stops where fewer than half as many do"
    special = {c.name: c.present or c.missing is not None or c.separator for c in used}
    renamed = [(called[c.name], c) for c in used if called[c.name] != c.name or special[c.name]]
    if renamed:
        yield ""
        yield "[data.columns]  # where a variable's values are, and which rows have one"
        for variable, column in renamed:
            if special[column.name]:
                table = {"column": column.name}
                table |= {"present": column.present} if column.present else {}
                table |= {"missing": [column.missing]} if column.missing is not None else {}
                table |= {"separator": column.separator} if column.separator else {}
                yield f"{variable} = {_toml(table)}"
            else:
                yield f"{variable} = {_toml(column.name)}"
    split, parts = next(((column.name, column.parts) for column in columns if column.parts), ("", {}))
    validated = not split or "validation" in parts or "validation" in own
    yield ""
    kept = [part for part in ("validation", "test") if part not in own]
    if split:
        yield "[data.split]  # the data's own parts; rows of no part named here are for training"
        yield f"by = {_toml(split)}"
        yield f"values = {_toml(parts)}"
    elif kept:
        key = groups(columns, source)
        yield "[data.split]  # rows kept aside, by a hash: for validation while training, for mmcore evaluate, and to set how sure mmcore predict is"
        if key:
            yield f"by = {_toml(key)}  # rows of one {key} stay together"
        # Of few rows a hash could leave a small share without any, and intervals set by fewer than 100 hold what they say only roughly.
        share = 0.2 if len(source) < 400 else 0.1 if len(source) < FEW else 0.05
        yield from (f"{part} = {share}" for part in kept)
        if len(source) < 400 and (seed := seeded(source, key, kept, share)):
            yield f"seed = {seed}  # the first by which every part has a row"
    else:
        yield f"# The data's own parts are used: {', '.join(own)}."
    pictures = [[called[column.name]] for column in used if column.pictures]
    for mine in (pictures if apart else [[]]) if resized else ():
        yield ""
        yield f"[[data.transforms]]  # {SIDE} pixels at most are for a CPU: more on a GPU; masks are resized to the nearest pixel"
        yield 'kind = "resize"'
        yield f"size = {_toml(list(size or ()))}"
        yield 'fit = "cover"  # or "stretch"'
        if mine:
            yield f"variables = {_toml(mine)}  # by itself, as the files of a row have several sizes"
    for column in used:
        for transform in column.transforms:
            yield ""
            yield f"[[data.transforms]]  # {column.note}"
            yield from (f"{key_} = {_toml(value)}" for key_, value in transform.items())
            yield f"variables = {_toml([called[column.name]])}"
    for column in columns:
        if column.plugin:
            yield ""
            yield f"[modalities.{called[column.name]}]  # {column.note}"
            yield f"plugin = {_toml(column.plugin)}"
            if column.pictures and size:
                yield f"size = {_toml(list(size) if size[0] != size[1] else size[0])}"
            for key_, value in column.options.items():
                yield f"{key_} = {_toml(value)}"
    left = [column for column in columns if not column.plugin]
    if left:
        yield ""
        yield "# Left out:"
        yield from (f"#   {one}" for one in left_out(left))
    yield ""
    model = Size.of(used, size, len(source))
    yield "[tasks]  # weights below 1 for pictures, so that their many pixels do not drown what is told in few numbers"
    for column in used:
        count = elements(column, size)
        if column.plugin == "mask" and count > 100:
            yield f"{called[column.name]} = {{ weight = {rounded(100 / count)} }}  # more for a pixel of a map than of a picture: it is sure but at edges"
        elif count > 13:
            yield f"{called[column.name]} = {{ weight = {rounded(12.8 / count)} }}"
    yield ""
    yield "[model]"
    yield f"backbone = {_toml(model.backbone)}"
    yield f"backbone_options = {_toml(model.options)}  # {model.note}"
    yield ""
    yield "[training]  # under an hour on two cores; mmcore train --dry-run says what it takes here"
    yield f"steps = {model.steps}"
    yield f"batch_size = {model.batch}"
    yield f"lr = {model.rate}"
    if model.few:
        yield "condition_noise = 0.2  # of few rows: noise on what is given, so that they are not known by heart"
    every = max(500, model.steps // 10)
    yield f"validate_every = {every}" if validated else "validate_every = 0  # the data have no validation rows"
    yield f"pictures_every = {max(500, model.steps // 4)}"
    yield ""
    yield "[training.roles]  # how often a row asks for everything, or gives one modality and asks for the rest"
    yield "joint = 0.15"
    yield "single = 0.7  # most questions are so; more of joint for better samples of which nothing is given"
    yield ""
    yield "[sampling]"
    yield "n = 64"


def _key(name: str) -> str:
    """A key of a table: as it is where TOML takes it so, which is of ASCII alone."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)


def _toml(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_key(k)} = {_toml(v)}' for k, v in value.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    # TOML's strings are JSON's, but for characters that are not seen.
    return escaped(json.dumps(value, ensure_ascii=False))

"""Answers as HTML: pictures inside it, and every name escaped."""

import html
from collections.abc import Mapping, Sequence

from PIL import Image

from mmcore.play.answers import Map, Shown
from mmcore.play.board import data_url
from mmcore.play.rows import Held
from mmcore.play.values import png

SMALL = 160
"""Pictures with shorter sides are enlarged with sharp pixels."""
KINDS = {".png": "image/png", ".json": "application/json"}


def escaped(text: str) -> str:
    """A text as HTML, in which nothing is a tag, nor what the page's library would take for a template."""
    told = html.escape(text)
    for sign in "{}$`":
        told = told.replace(sign, f"&#{ord(sign)};")
    return told


def head(place: str, names: Sequence[str], held: Held) -> str:
    """What the page is of."""
    rows = f" Begin with one of {len(held):,} held-out rows, or with your own." if len(held) else ""
    return (
        f"<h1>Ask <code>{escaped(place)}</code></h1><p>The model knows {escaped(listed(names))}. Say which are given and which are wanted; "
        f"what is left out is not looked at.{rows}</p>"
    )


def listed(names: Sequence[str]) -> str:
    """Names in a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def card(name: str) -> str:
    """The title of a variable."""
    return f"<h2>{escaped(name)}</h2>"


def answers(found: Sequence[Shown], seconds: float, draws: int) -> str:
    """All answers of one question."""
    took = f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    many = "one draw" if draws == 1 else f"{draws} draws"
    return f'<div class="answers"><p class="took">{many} in {took}</p>{"".join(map(_answer, found))}</div>'


def message(text: str, kind: str = "error") -> str:
    """One line to a person."""
    role = "alert" if kind == "error" else "status"
    return f'<p class="line {kind}" role="{role}">{escaped(text)}</p>'


def progress(done: int, total: int, seconds: float) -> str:
    """How far the work has come."""
    share = min(done / total, 1.0) if total else 0.0
    told = f"step {min(done + 1, total)} of {total}" if total else "starting"
    if done > 2 and seconds > 2:
        told += f", about {max(1, round(seconds / done * (total - done)))} s left"
    return (
        f'<div class="progress" role="progressbar" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{share * 100:.0f}">'
        f'<div style="width:{share * 100:.1f}%"></div></div><p class="line">{told}</p>'
    )


def downloads(files: Mapping[str, bytes]) -> str:
    """Links to files, which are in the page itself."""
    if not files:
        return ""
    links = []
    for name, data in files.items():
        kind = KINDS.get(name[name.rfind(".") :], "application/octet-stream")
        links.append(f'<a download="{escaped(name)}" href="{data_url(data, kind)}">{escaped(name)}</a>')
    what = "this file" if len(files) == 1 else "these files"
    return f'<p class="files">First save {what} where you run it: {" ".join(links)}</p>'


def _answer(one: Shown) -> str:
    name = escaped(one.name)
    filled = ", filled in where it was unknown" if one.given else ""
    body = _pictures(one) if not isinstance(one.draws[0], str) else _words(one)
    sounds = "".join(
        f'<audio controls preload="none" src="{data_url(sound, "audio/wav")}"></audio>' for sound in one.sounds
    )
    scores = "".join(f"<span>{escaped(title)} <b>{value:.3g}</b></span>" for title, value in one.scores)
    beside = f'<p class="scores">beside the row’s own: {scores}</p>' if scores else ""
    return f'<section class="answer" data-name="{name}"><h3>{name}<small>{filled}</small></h3>{body}{sounds}{beside}</section>'


def _pictures(one: Shown) -> str:
    beside = []
    if one.truth is not None and not isinstance(one.truth, str):
        beside.append(_figure(one.truth, "the row’s own", "truth"))
    if one.together is not None and not isinstance(one.together, str):
        beside.append(_figure(one.together, one.title, "together"))
    if one.map is not None:
        beside.append(_map(one.map))
    each = "".join(_figure(picture, "", "draw") for picture in one.draws if not isinstance(picture, str))
    count = len(one.draws)
    gallery = f'<div class="gallery n{min(count, 9)}">{each}</div>'
    more = "".join(beside)
    return f'{gallery}<div class="beside">{more}</div>' if more else gallery


def _words(one: Shown) -> str:
    parts = []
    if isinstance(one.together, str):
        parts.append(_big(one.together, one.title))
    elif len(one.draws) == 1:
        parts.append(_big(str(one.draws[0]), ""))
    if isinstance(one.truth, str):
        right = one.truth == (one.together if isinstance(one.together, str) else one.draws[0])
        mark = " ✓" if right else ""
        parts.append(f'<p class="truth">the row’s own: <b>{escaped(one.truth)}</b>{mark}</p>')
    if one.bars:
        rows = "".join(
            f'<div class="bar"><span>{escaped(word)}</span><i style="--share:{share:.4f}"></i><b>{share:.0%}</b></div>'
            for word, share in one.bars
        )
        left = f"<small>and {one.more} more</small>" if one.more else ""
        parts.append(f'<div class="bars">{rows}{left}</div>')
    parts += [_dots(values, truth) for _, values, truth in one.spread]
    if not one.bars and len(one.draws) > 1:
        items = "".join(f"<li>{escaped(str(word))}</li>" for word in one.draws[:64])
        parts.append(f"<details><summary>each draw</summary><ol>{items}</ol></details>")
    return "".join(parts)


def _big(text: str, title: str) -> str:
    """An answer in words, the larger the shorter it is."""
    size = "big" if len(text) <= 16 else "long"
    more = f"<small>{escaped(title)}</small>" if title else ""
    return f'<p class="{size}">{escaped(text)}{more}</p>'


def _dots(values: Sequence[float], truth: float | None) -> str:
    """A line with a dot for each draw."""
    ends = [*values, *([] if truth is None else [truth])]
    low, high = min(ends), max(ends)
    room = (high - low) or abs(high) or 1.0
    low, high = low - 0.06 * room, high + 0.06 * room

    def x(value: float) -> float:
        return round(10 + 380 * (value - low) / (high - low), 1)

    dots = "".join(f'<circle cx="{x(value)}" cy="20" r="5" />' for value in values)
    true = "" if truth is None else f'<path d="M{x(truth)} 4 V36" />'
    return (
        f'<svg class="dots" viewBox="0 0 400 56" role="img" aria-label="the draws on a line"><line x1="10" x2="390" y1="20" y2="20" />'
        f'{dots}{true}<text x="10" y="52">{low:.4g}</text><text x="390" y="52" text-anchor="end">{high:.4g}</text></svg>'
    )


def _map(one: Map) -> str:
    scale = f'<span class="scale"><em>{escaped(one.low)}</em><i></i><em>{escaped(one.high)}</em></span>'
    return _figure(one.picture, one.title, "map", scale)


def _figure(picture: Image.Image, title: str, kind: str, more: str = "") -> str:
    sharp = " sharp" if max(picture.size) < SMALL else ""
    plain = picture if picture.mode in ("1", "L", "P", "RGB", "RGBA") else picture.convert("RGB")
    alt = escaped(title or "a draw")
    told = f"<figcaption>{escaped(title)}{more}</figcaption>" if title else ""
    return f'<figure class="{kind}"><img class="pic{sharp}" alt="{alt}" src="{data_url(png(plain))}">{told}</figure>'

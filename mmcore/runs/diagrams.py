"""Diagrams of calibration as SVG inside a page: no library, no script, and readable on a phone."""

import html
from collections.abc import Callable, Sequence

import attrs

from mmcore.metrics.telling import Diagram, Point

WIDTH, HEIGHT = 320, 230
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 26, 40
STYLE = """
svg.diagram { width: 100%; max-width: 420px; height: auto; font: 12px system-ui, sans-serif; fill: var(--muted); }
svg.diagram .title { font-weight: 600; font-size: 13px; fill: var(--ink); }
svg.diagram .bar { fill: #8a93a6; } svg.diagram .dot { fill: var(--accent); }
svg.diagram .line { stroke: var(--accent); stroke-width: 2; fill: none; }
svg.diagram .span { stroke: var(--ink); stroke-width: 1.2; }
svg.diagram .wanted { stroke: var(--ink); stroke-width: 1; stroke-dasharray: 4 3; }
svg.diagram .axis { stroke: var(--line); }
.calibration { margin: 0 0 14px; } details { margin: 14px 0; } summary { cursor: pointer; padding: 6px 0; }
"""
READING = {
    "ranks": "Ranks: all bars at the dashed line are wanted. A valley in the middle says that the draws are too narrow, a hill that they are too wide, a slope that they are too low (to the right) or too high.",
    "coverage": "Coverage: below the dashed line the intervals are too narrow, above it too wide. Of all of a row jointly, as of each element.",
    "reliability": "Confidence: below the dashed line the model is surer than it is right. Under each point stands how many elements it is of.",
    "spread": "Spread: rows in fifths by the error that their draws predict. Above the dashed line the error is larger than predicted.",
}
"""What to see in each kind, for the page."""
_TITLES = {
    "ranks": "ranks of the truth",
    "coverage": "coverage of intervals",
    "reliability": "confidence",
    "spread": "spread and error",
}
_AXES = {
    "ranks": ("below all draws … above all", "share"),
    "coverage": ("probability of the interval", "covered"),
    "reliability": ("confidence", "right"),
    "spread": ("predicted error", "error"),
}


@attrs.frozen
class _Plane:
    """From values to places in the picture.

    Attributes:
        right: the largest ``x``.
        top: the largest ``y``.
    """

    right: float
    top: float

    def x(self, value: float) -> float:
        """The place of a value from 0 to ``right``."""
        return round(LEFT + (WIDTH - LEFT - RIGHT) * min(max(value / self.right, 0), 1), 1)

    def y(self, value: float) -> float:
        """The place of a value from 0 to ``top``."""
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(max(value / self.top, 0), 1), 1)


def svg(diagram: Diagram) -> str:
    """One diagram."""
    draw, plane = _drawing(diagram)
    name = {"": "", "joint": "a row jointly: "}.get(diagram.name, f"{diagram.name}: ")
    title = html.escape(f"{name}{_TITLES[diagram.kind]}")
    across, up = _AXES[diagram.kind]
    parts = [f"<text class=title x={LEFT} y=15>{title}</text>"]
    for share in (0, 0.5, 1):
        x, y = plane.x(share * plane.right), plane.y(share * plane.top)
        parts.append(f"<line class=axis x1={LEFT} x2={WIDTH - RIGHT} y1={y} y2={y} />")
        parts.append(f"<text x={LEFT - 6} y={y + 4} text-anchor=end>{_short(share * plane.top)}</text>")
        anchor = {0: "start", 0.5: "middle", 1: "end"}[share]
        parts.append(f"<text x={x} y={HEIGHT - BOTTOM + 15} text-anchor={anchor}>{_short(share * plane.right)}</text>")
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f"<text x={middle} y={HEIGHT - 6} text-anchor=middle>{across}</text>")
    turned = f"rotate(-90 12 {(TOP + HEIGHT - BOTTOM) / 2})"
    parts.append(f'<text x=12 y={(TOP + HEIGHT - BOTTOM) / 2} text-anchor=middle transform="{turned}">{up}</text>')
    parts += draw(diagram.points, plane)
    told = html.escape(f"{diagram.question} {diagram.variable}: {title}")
    return f'<svg class=diagram viewBox="0 0 {WIDTH} {HEIGHT}" role=img aria-label="{told}">{"".join(parts)}</svg>'


def _drawing(diagram: Diagram) -> tuple[Callable[[Sequence[Point], _Plane], list[str]], _Plane]:
    if diagram.kind == "ranks":
        return _bars, _Plane(1.0, _round_up(max(0.2, *(point.high for point in diagram.points))))
    if diagram.kind == "spread":
        most = _round_up(max(1e-30, *(max(point.x, point.high) for point in diagram.points)))
        return _line, _Plane(most, most)
    return (_counted if diagram.kind == "reliability" else _line), _Plane(1.0, 1.0)


def _bars(points: Sequence[Point], plane: _Plane) -> list[str]:
    width = (WIDTH - LEFT - RIGHT) / len(points)
    even = plane.y(1 / len(points))
    parts = []
    for point in points:
        x, y = plane.x(point.x), plane.y(point.y)
        parts.append(
            f"<rect class=bar x={x - width * 0.42:.1f} y={y} width={width * 0.84:.1f} height={plane.y(0) - y:.1f} />"
        )
        parts.append(_span(point, plane))
    return [*parts, f"<line class=wanted x1={LEFT} x2={WIDTH - RIGHT} y1={even} y2={even} />"]


def _line(points: Sequence[Point], plane: _Plane) -> list[str]:
    both = min(plane.right, plane.top)
    parts = [
        f"<line class=wanted x1={plane.x(0)} y1={plane.y(0)} x2={plane.x(both)} y2={plane.y(both)} />",
        *(_span(point, plane) for point in points),
    ]
    places = [(plane.x(point.x), plane.y(point.y)) for point in points]
    parts.append(f'<polyline class=line points="{" ".join(f"{x},{y}" for x, y in places)}" />')
    return [*parts, *(f"<circle class=dot cx={x} cy={y} r=3 />" for x, y in places)]


def _counted(points: Sequence[Point], plane: _Plane) -> list[str]:
    """The line, and under each point how many elements it is of."""
    parts = _line(points, plane)
    for point in points:
        below = max(plane.y(point.low), plane.y(point.y)) + 13
        y = below if below < HEIGHT - BOTTOM - 2 else min(plane.y(point.high), plane.y(point.y)) - 6
        parts.append(f"<text x={plane.x(point.x)} y={y:.1f} text-anchor=middle font-size=10>{_count(point.n)}</text>")
    return parts


def _span(point: Point, plane: _Plane) -> str:
    x = plane.x(point.x)
    return f"<line class=span x1={x} x2={x} y1={plane.y(point.low)} y2={plane.y(point.high)} />"


def _count(n: float) -> str:
    n = round(n)
    return f"{n}" if n < 10_000 else f"{n / 1e3:.0f}k" if n < 1_000_000 else f"{n / 1e6:.0f}M"


def _short(value: float) -> str:
    return f"{value:.3g}"


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 5, 6, 8 and 10 times a power of ten."""
    power = 1.0
    while power > value:
        power /= 10
    while power * 10 < value:
        power *= 10
    return next(step * power for step in (1, 2, 4, 5, 6, 8, 10) if step * power >= value * (1 - 1e-9))

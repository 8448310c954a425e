"""Small plots as inline SVG, coloured by the page's own style sheet: no script, no font, no file."""

from collections.abc import Mapping, Sequence
from html import escape

from sa_lightning.evaluation.rates import Rate

_LABELS, _BAR, _VALUES, _ROW, _TOP = 128, 230, 150, 26, 8
SERIES = ("s0", "s1", "s2", "s3", "s4", "s5")


def bars(rates: Mapping[str, Rate]) -> str:
    """Draw one rate of several arms as bars from 0 to 100 %, with their 95 % intervals."""
    height = _TOP + _ROW * len(rates) + 18
    parts = []
    for tick in (0, 25, 50, 75, 100):
        x = _LABELS + _BAR * tick / 100
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{_TOP}" y2="{height - 18}"/>')
        parts.append(f'<text class="tick" x="{x}" y="{height - 5}" text-anchor="middle">{tick}</text>')
    for row, (name, found) in enumerate(rates.items()):
        middle = _TOP + _ROW * row + _ROW / 2
        parts.append(f'<text x="{_LABELS - 8}" y="{middle + 4}" text-anchor="end">{escape(_short(name))}</text>')
        end = _LABELS + _BAR + 10
        if found["n"] == 0:
            parts.append(f'<text class="tick" x="{end}" y="{middle + 4}">no prompts</text>')
            continue
        low, value, high = (_LABELS + _BAR * found[key] for key in ("low", "rate", "high"))
        parts.append(
            f'<rect class="{SERIES[row % len(SERIES)]}" x="{_LABELS}" y="{middle - 8}" '
            f'width="{max(value - _LABELS, 0.5):.1f}" height="16" rx="2"/>'
            f'<path class="whisker" d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 4}v8'
            f'M{high:.1f} {middle - 4}v8"/>'
            f'<text x="{end}" y="{middle + 4}">{100 * found["rate"]:.1f} %  '
            f'<tspan class="tick">{found["k"]}/{found["n"]}</tspan></text>'
        )
    return _svg(_LABELS + _BAR + _VALUES, height, parts)


def lines(series: Mapping[str, Sequence[float]], across: str, up: str) -> str:
    """Draw a line with points per series over the block index, from zero up."""
    width, height, left, bottom, top = 560, 240, 54, 36, 14
    longest = max((len(values) for values in series.values()), default=0)
    highest = max((value for values in series.values() for value in values), default=0.0) or 1.0
    right = width - 12

    def place(index: int, value: float) -> tuple[float, float]:
        x = left + (right - left) * (index + 0.5) / max(longest, 1)
        return x, height - bottom - (height - bottom - top) * value / highest

    parts = []
    for part in range(5):
        value = highest * part / 4
        _, y = place(0, value)
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    step = max(1, longest // 16)
    for index in range(0, longest, step):
        x, _ = place(index, 0)
        parts.append(f'<text class="tick" x="{x:.1f}" y="{height - bottom + 15}" text-anchor="middle">{index}</text>')
    parts.append(f'<text class="tick" x="{(left + right) / 2}" y="{height - 4}" text-anchor="middle">{across}</text>')
    parts.append(f'<text class="tick" x="{left}" y="{top - 4}">{up}</text>')
    for number, values in enumerate(series.values()):
        points = [place(index, value) for index, value in enumerate(values)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        style = SERIES[number % len(SERIES)]
        parts.append(f'<polyline class="line {style}" points="{path}"/>')
        parts += [f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in points]
    return _svg(width, height, parts)


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">{"".join(parts)}</svg>'


def _short(name: str, most: int = 18) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"

"""Intervals drawn with ASCII characters, which every stream can encode: `|--o---|`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Glyphs:
    """The two ends of an interval, and what lies between them."""

    left: str
    between: str
    right: str


BARS = Glyphs("|", "-", "|")
BRACKETS = Glyphs("(", ".", ")")


@dataclass(frozen=True)
class Scale:
    """Scores from `low` to `high` over `width` columns."""

    low: float
    high: float
    width: int

    def column(self, score: float) -> int:
        """Return the column of a score, counted from 0; negative or `width` beyond the scale."""
        if score < self.low:
            return -1
        if score > self.high:
            return self.width
        span = self.high - self.low
        return round((score - self.low) / span * (self.width - 1)) if span > 0 else self.width // 2


def draw_interval(
    scale: Scale,
    score: float,
    low: float | None = None,
    high: float | None = None,
    *,
    reference: float | None = None,
    glyphs: Glyphs = BARS,
) -> str:
    """Return a line of `scale.width` characters: `o` at the score, its interval, `:` at the reference.

    A score beyond the scale is `<` or `>` at that edge, an end beyond it has no sign.
    """
    cells = [" "] * scale.width
    if low is not None and high is not None:
        first, last = scale.column(low), scale.column(high)
        for column in range(max(first, 0), min(last, scale.width - 1) + 1):
            cells[column] = glyphs.between
        if 0 <= first < scale.width:
            cells[first] = glyphs.left
        if 0 <= last < scale.width:
            cells[last] = glyphs.right
    at = scale.column(score)
    if reference is not None and 0 <= (mark := scale.column(reference)) < scale.width and mark != at:
        cells[mark] = ":" if cells[mark] in (" ", glyphs.between) else cells[mark]
    cells[min(max(at, 0), scale.width - 1)] = "<" if at < 0 else ">" if at >= scale.width else "o"
    return "".join(cells)

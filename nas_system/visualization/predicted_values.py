"""Predicted numbers of one run over the true ones, one dot each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from nas_system.visualization.canvas import BLUE, GREY, caption, draw

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INCHES = (5.4, 5.4)
_LEFT, _RIGHT, _BOTTOM, _TOP = 0.75, 0.2, 0.6, 0.75


def predicted_values(truth: ArrayLike, predicted: ArrayLike, path: str | Path, *, title: str = "") -> None:
    """Draw (n,) predictions over (n,) true values into a PNG file, with the line on which they are equal.

    Raises OSError if `path` cannot be written.
    """
    actual, guessed = (np.asarray(values, dtype=float).reshape(-1) for values in (truth, predicted))
    assert actual.shape == guessed.shape, (actual.shape, guessed.shape)
    assert len(actual) > 0, "there is nothing to draw"
    error = float(np.abs(guessed - actual).mean())
    median = float(np.abs(np.median(actual) - actual).mean())
    width, height = _INCHES

    def paint(figure: Figure) -> None:
        axes = figure.add_axes(
            (
                _LEFT / width,
                _BOTTOM / height,
                1 - (_LEFT + _RIGHT) / width,
                1 - (_BOTTOM + _TOP) / height,
            )
        )
        low, high = (float(pick((actual, guessed))) for pick in (np.min, np.max))
        margin = 0.04 * (high - low) or 0.5
        ends = (low - margin, high + margin)
        axes.plot(ends, ends, color=GREY, linewidth=0.9, linestyle=":", zorder=1)
        axes.scatter(actual, guessed, s=10, color=BLUE, alpha=0.5, linewidths=0, zorder=2)
        axes.set(xlim=ends, ylim=ends, xlabel="true value", ylabel="predicted value", aspect="equal")
        heading = "Test graphs" + (f" predicted by {title}" if title else "")
        figure.text(_LEFT / width, 1 - 0.3 / height, caption(heading, 60), fontweight="bold", fontsize=10)
        note = (
            f"{len(actual)} graphs; mean absolute error {error:.3f}; of predicting their median {median:.3f}"
        )
        figure.text(_LEFT / width, 1 - 0.52 / height, note, color=GREY, fontsize=8)

    draw(Path(path), _INCHES, paint)

"""How often each true class is predicted as which, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from nas_system.visualization.canvas import GREY, caption, draw

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INCHES = (5.4, 5.4)


def confusion_matrix(
    truth: ArrayLike,
    predicted: ArrayLike,
    path: str | Path,
    *,
    title: str = "",
    names: Sequence[str] = (),
) -> None:
    """Draw a PNG of the counts of (n,) predicted classes, a row for every true class.

    `names` label the classes; without them their numbers do. Raises OSError if `path` cannot be written.
    """
    actual, guessed = (np.asarray(values, dtype=int).reshape(-1) for values in (truth, predicted))
    assert actual.shape == guessed.shape and len(actual), (actual.shape, guessed.shape)
    size = max(len(names), int(actual.max()) + 1, int(guessed.max()) + 1)
    counts = np.zeros((size, size), dtype=int)
    np.add.at(counts, (actual, guessed), 1)
    labels = [*names, *map(str, range(len(names), size))]
    right = np.trace(counts) / len(actual)

    def paint(figure: Figure) -> None:
        axes = figure.add_axes((0.18, 0.12, 0.76, 0.72))
        axes.imshow(counts / counts.sum(1, keepdims=True).clip(min=1), cmap="Blues", vmin=0, vmax=1)
        for row, column in np.ndindex(size, size):
            dark = counts[row, column] > 0.6 * counts[row].sum()
            axes.text(
                column,
                row,
                str(counts[row, column]),
                ha="center",
                va="center",
                color="white" if dark else "black",
            )
        ticks = range(size)
        axes.set(xticks=ticks, yticks=ticks, xticklabels=labels, yticklabels=labels)
        axes.set(xlabel="predicted", ylabel="true")
        heading = "Test part" + (f" predicted by {title}" if title else "")
        figure.text(0.05, 0.95, caption(heading, 60), fontweight="bold", fontsize=10)
        figure.text(0.05, 0.905, f"{len(actual)} answers, accuracy {right:.3f}", color=GREY, fontsize=8)

    draw(Path(path), _INCHES, paint)

"""The shape of a problem, as a model has to know it: of a series' windows, or of graphs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SeriesShape:
    """Sizes of one window: `(batch, seq_len, n_inputs) -> (batch, pred_len, n_targets)`."""

    seq_len: int
    pred_len: int
    n_inputs: int
    target_columns: tuple[int, ...]
    """Where the targets stand among the inputs, in the order of the output's channels; empty when
    what is forecast is no input, as with class labels."""
    n_marks: int = 4
    """Time features per step; 0 when the family reads none."""
    n_outputs: int | None = None
    """Channels of the output when `target_columns` is empty."""
    n_known: int = 0
    """Columns whose future is known: they follow the time features in the marks of look-back and horizon."""

    @property
    def n_targets(self) -> int:
        """Channels of the output."""
        return len(self.target_columns) or self.n_outputs or 0


@dataclass(frozen=True)
class GraphShape:
    """What there is to embed in graphs, and what is to be answered for each of them or for pairs of nodes."""

    n_node_types: int
    n_edge_types: int
    n_outputs: int = 1
    """Numbers per answer: one, or one for each class."""
    level: Literal["graph", "edge"] = "graph"
    """What is answered for: a whole graph, or a pair of nodes."""

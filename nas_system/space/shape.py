"""The shape of a forecasting problem, as every sequence family needs it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SeriesShape:
    """Sizes of one window: `(batch, seq_len, n_inputs) -> (batch, pred_len, n_targets)`."""

    seq_len: int
    pred_len: int
    n_inputs: int
    target_columns: tuple[int, ...]
    """Where the targets stand among the inputs, in the order of the output's channels."""
    n_marks: int = 4
    """Time features per step; 0 when the family reads none."""

    @property
    def n_targets(self) -> int:
        return len(self.target_columns)

"""Ridge regression from moments that are added up batch by batch (Hoerl and Kennard 1970)."""

from __future__ import annotations

import torch
from torch import Tensor

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)
"""Penalties per window that are tried where none is given."""
HELD_OUT = 0.2
"""Share of the windows, the last ones, on which they are compared."""
FREE = 1e-9
"""Penalty of the last input, the constant."""


class RidgeRegression:
    """Fits `outputs = weights @ inputs`, the last input a constant that goes free."""

    def __init__(self, windows: int, *, individual: bool = False) -> None:
        """`windows` will be added; with `individual` every channel has weights of its own."""
        self.windows = windows
        self.individual = individual
        self._added = 0
        self._parts: list[list[Tensor]] = [[], []]
        """Of the windows before the held-out ones and of those: gram, moment, squares, count."""

    def add(self, inputs: Tensor, outputs: Tensor) -> None:
        """Add windows in their order: `(B, inputs, channels)` and `(B, outputs, channels)`."""
        border = min(max(int((1 - HELD_OUT) * self.windows) - self._added, 0), len(inputs))
        self._added += len(inputs)
        for held_out, rows in enumerate((slice(border), slice(border, None))):
            if len(inputs[rows]):
                self._add(held_out, inputs[rows], outputs[rows])

    def _add(self, held_out: int, inputs: Tensor, outputs: Tensor) -> None:
        rows = "nic,njc->cij" if self.individual else "nic,njc->ij"
        x, y = inputs.double(), outputs.double()
        moments = [torch.einsum(rows, x, x), torch.einsum(rows, x, y)]
        moments = [moment if self.individual else moment[None] for moment in moments]
        squares = y.square().sum(dim=(0, 1))
        per_channel = torch.full_like(squares, float(len(x)))
        sums = [squares, per_channel] if self.individual else [squares.sum()[None], per_channel.sum()[None]]
        part = self._parts[held_out]
        self._parts[held_out] = (
            [a + b for a, b in zip(part, [*moments, *sums], strict=True)]
            if part
            else [
                *moments,
                *sums,
            ]
        )

    def solution(self, strength: float | None = None) -> Tensor:
        """Return weights (1 or channels, outputs, inputs); without a strength the one that the last windows
        are forecast best with."""
        return self._solved(self._whole(), self._chosen() if strength is None else strength)

    def solution_with_errors(self) -> tuple[Tensor, Tensor]:
        """Return the solution of one output, (1 or channels, inputs), and its weights' standard errors."""
        whole, strength = self._whole(), self._chosen()
        gram, moment, squares, count = whole
        weights = self._solved(whole, strength)[:, 0]
        inverse = torch.linalg.inv(gram + self._penalties(whole, strength))
        fitted = 2 * (weights * moment[..., 0]).sum(dim=-1)
        fitted = fitted - torch.einsum("ci,cij,cj->c", weights, gram, weights)
        hat = inverse @ gram
        freedom = (count - hat.diagonal(dim1=-2, dim2=-1).sum(dim=-1)).clamp(min=1)
        variance = (squares - fitted).clamp(min=0) / freedom
        return weights, (variance[:, None] * (hat * inverse.mT).sum(dim=-1).clamp(min=0)).sqrt()

    def _whole(self) -> list[Tensor]:
        before, held_out = self._parts
        if not held_out or not before:
            return before or held_out
        return [a + b for a, b in zip(before, held_out, strict=True)]

    def _chosen(self) -> float:
        """Return the strength with which the last windows are forecast best."""
        before, held_out = self._parts
        if not held_out or not before:
            return 1e-2
        return min(STRENGTHS, key=lambda s: self._error(self._solved(before, s), held_out))

    def _solved(self, part: list[Tensor], strength: float) -> Tensor:
        return torch.linalg.solve(part[0] + self._penalties(part, strength), part[1]).mT

    @staticmethod
    def _penalties(part: list[Tensor], strength: float) -> Tensor:
        gram, _, _, count = part
        penalty = strength * count[:, None].expand(-1, gram.shape[-1]).clone()
        penalty[:, -1] = FREE * count
        return torch.diag_embed(penalty)

    @staticmethod
    def _error(weights: Tensor, part: list[Tensor]) -> float:
        gram, moment, squares, _ = part
        explained = 2 * (weights.mT * moment).sum() - (weights * (weights @ gram)).sum()
        return float(squares.sum() - explained)

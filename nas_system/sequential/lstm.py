"""LSTM: a recurrent network with a memory cell, whose last state forecasts the whole horizon at once.

Hochreiter and Schmidhuber 1997, "Long Short-Term Memory", Neural Computation 9(8), with the forget
gate of Gers, Schmidhuber and Cummins 2000, "Learning to Forget", Neural Computation 12(10).

Unlike theirs ours predicts no step from the step before: a single linear map gives all steps, so an
error does not grow along the horizon. Several steps may be read as one (Lin et al. 2023, "SegRNN",
arXiv:2308.11200), which is what makes a long look-back affordable.
"""

from __future__ import annotations

from torch import Tensor

from nas_system.sequential.forecaster import Forecaster, with_marks
from nas_system.sequential.layers.recurrent import RecurrentNetwork
from nas_system.space.families import LSTMConfig
from nas_system.space.shape import SeriesShape


class LSTMForecaster(Forecaster):
    """The LSTM family."""

    def __init__(self, config: LSTMConfig, shape: SeriesShape) -> None:
        super().__init__(config, shape)
        self.network = RecurrentNetwork("lstm", config, self.inner)

    def forecast(self, x: Tensor, x_mark: Tensor | None, y_mark: Tensor | None) -> Tensor:
        return self.network(with_marks(x, x_mark))

"""GRU: a recurrent network with two gates and no memory cell; its last state forecasts the whole horizon.

Cho et al. 2014, "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine
Translation", arXiv:1406.1078, section 2.3.

Unlike the paper's ours is no decoder: a single linear map gives all steps of the horizon. The reset
gate acts after the recurrent product, as in torch and cuDNN. Several steps may be read as one
(Lin et al. 2023, "SegRNN", arXiv:2308.11200), which makes a long look-back affordable.
"""

from __future__ import annotations

from torch import Tensor

from nas_system.sequential.forecaster import Forecaster, with_marks
from nas_system.sequential.layers.recurrent import RecurrentNetwork
from nas_system.space.families import GRUConfig
from nas_system.space.shape import SeriesShape


class GRUForecaster(Forecaster):
    """The GRU family."""

    def __init__(self, config: GRUConfig, shape: SeriesShape) -> None:
        super().__init__(config, shape)
        self.network = RecurrentNetwork("gru", config, self.inner)

    def forecast(self, x: Tensor, x_mark: Tensor | None, y_mark: Tensor | None) -> Tensor:
        return self.network(with_marks(x, x_mark))

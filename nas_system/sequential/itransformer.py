"""iTransformer: a Transformer turned on its side, whose tokens are whole columns.

Liu et al. 2024, "iTransformer: Inverted Transformers Are Effective for Time Series Forecasting",
arXiv:2310.06625, section 3. A column's whole look-back becomes one token; attention mixes columns,
the feed-forward blocks work on each column's past, and one linear map turns a token into a forecast.
Time features of the look-back are columns, too, hence further tokens.

Unlike the paper only the tokens of the targets are followed through the last layer, which changes no
number, and attention weights have no dropout. Normalisation of the window and a linear path past the
network are those of all families.
"""

from __future__ import annotations

from torch import Tensor, nn

from nas_system.errors import ConfigError
from nas_system.sequential.forecaster import Forecaster, with_marks
from nas_system.sequential.layers.dropout import Dropout
from nas_system.sequential.layers.encoder import TokenEncoder
from nas_system.space.families import ITransformerConfig
from nas_system.space.shape import SeriesShape


class ITransformerForecaster(Forecaster):
    """The inverted Transformer: one token per input column and per time feature."""

    def __init__(self, config: ITransformerConfig, shape: SeriesShape) -> None:
        if not shape.target_columns:
            raise ConfigError(
                "family 'itransformer' makes a forecast from the target's own token, but here the targets "
                "are not among the inputs; choose another family, for example tsmixer"
            )
        super().__init__(config, shape)
        self.reads_marks = config.time_features
        n_marks = shape.n_marks if config.time_features else 0
        self.embedding = nn.Linear(shape.seq_len, config.d_model)
        self.dropout = Dropout(config.dropout)
        self.encoder = TokenEncoder(
            self.inner.n_inputs + n_marks,
            d_model=config.d_model,
            n_heads=config.n_heads,
            n_layers=config.e_layers,
            d_ff=config.d_ff,
            dropout=config.dropout,
            norm_first=False,
        )
        self.head = nn.Linear(config.d_model, shape.pred_len)

    def forecast(self, x: Tensor, x_mark: Tensor | None, y_mark: Tensor | None) -> Tensor:
        columns = with_marks(x, x_mark if self.reads_marks else None)
        tokens = self.dropout(self.embedding(columns.mT))  # (B, inputs + marks, d_model)
        return self.head(self.encoder(tokens, self.target_columns)).mT

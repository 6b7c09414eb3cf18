"""Which columns a training reads and forecasts, and the shape of its windows."""

from __future__ import annotations

from nas_system.data.series import Series
from nas_system.data.time_features import n_marks
from nas_system.space.run_config import RunConfig
from nas_system.space.shape import SeriesShape


def input_columns(series: Series, config: RunConfig) -> tuple[int, ...]:
    """Return the inputs: the targets alone (S), in their order, or all columns (MS) if they are read."""
    if config.data.features == "S" or not config.reads_covariates:
        return series.column_indices(config.forecasting.targets)
    return tuple(range(len(series.columns)))


def series_shape(series: Series, config: RunConfig) -> SeriesShape:
    """Return what `build_model` has to know about the data."""
    inputs = input_columns(series, config)
    targets = series.column_indices(config.forecasting.targets)
    return SeriesShape(
        seq_len=config.data.seq_len,
        pred_len=config.forecasting.pred_len,
        n_inputs=len(inputs),
        target_columns=tuple(inputs.index(target) for target in targets),
        n_marks=n_marks(series.freq, config.model.time_marks),
        n_known=len(series.known),
    )

"""What an exported graph reads and gives, and windows of a series as it reads them. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nas_system.data.calendar import dates_after
from nas_system.data.series import Series
from nas_system.data.time_features import marks, n_marks
from nas_system.errors import ConfigError
from nas_system.space.families import TimeMarks

if TYPE_CHECKING:
    from nas_system.tasks.saved_forecaster import SavedForecaster

ROWS, PAST_MARKS, FUTURE_MARKS, FORECAST = "rows", "past_marks", "future_marks", "forecast"
KINDS: tuple[TimeMarks, ...] = ("continuous", "calendar")
"""Time features in the order of their columns, where the members read several kinds."""


@dataclass(frozen=True)
class Signature:
    """What a graph reads and gives."""

    rows: int
    """The longest look-back of the members."""
    pred_len: int
    columns: tuple[str, ...]
    """That any member reads, in the order of the first to read each."""
    targets: tuple[str, ...]
    freq: str
    kinds: tuple[TimeMarks, ...]
    """Of the time features that any member reads."""

    @classmethod
    def of(cls, forecasters: Sequence[SavedForecaster]) -> Signature:
        """Raises ConfigError for members that do not forecast the same, or that read a known future."""
        if not forecasters:
            raise ConfigError("there is nothing to export: name at least one run")
        all_metadata = [forecaster.metadata for forecaster in forecasters]
        first = all_metadata[0]
        for metadata in all_metadata:
            if metadata.shape.n_known:
                raise ConfigError(
                    f"a run of the family {metadata.config.model.family} reads a known future "
                    f"({metadata.shape.n_known} columns), which an exported graph has no input for; "
                    "export runs that read none, or forecast with nas predict"
                )
        for other in all_metadata[1:]:
            same = (first.shape.pred_len, first.targets, first.freq)
            if (other.shape.pred_len, other.targets, other.freq) != same:
                raise ConfigError(
                    "the members of one graph forecast the same targets at the same steps, but here are "
                    f"{first.shape.pred_len} steps of {first.freq} next to {other.shape.pred_len} steps of "
                    f"{other.freq}; export them one by one"
                )
        read = {metadata.config.model.time_marks for metadata in all_metadata}
        return cls(
            rows=max(metadata.shape.seq_len for metadata in all_metadata),
            pred_len=first.shape.pred_len,
            columns=tuple(dict.fromkeys(name for metadata in all_metadata for name in metadata.inputs)),
            targets=first.targets,
            freq=first.freq,
            kinds=tuple(kind for kind in KINDS if kind in read),
        )

    def marks(self, dates: NDArray[np.datetime64]) -> NDArray[np.float32]:
        """Return the time features of all kinds side by side, (rows, marks)."""
        features = [marks(dates, self.freq, kind) for kind in self.kinds]
        return np.concatenate([part for part in features if part is not None], axis=1, dtype=np.float32)

    def marks_of(self, kind: TimeMarks) -> slice:
        """Return the columns of a kind."""
        before = sum(n_marks(self.freq, other) for other in self.kinds[: self.kinds.index(kind)])
        return slice(before, before + n_marks(self.freq, kind))


@dataclass(frozen=True)
class Windows:
    """Look-backs of a series with what a graph reads about each; arrays as the graph takes them."""

    inputs: dict[str, NDArray[np.floating]]

    @classmethod
    def of(cls, series: Series, signature: Signature, most: int) -> Windows:
        """Return at most `most` windows, evenly over the series, the last one at its end.

        Raises ConfigError for a series without a column, with another step, or with too few rows.
        """
        missing = [name for name in signature.columns if name not in series.columns]
        if missing or series.freq != signature.freq or len(series) < signature.rows:
            raise ConfigError(
                f"an exported graph is checked on the series that it forecasts, which needs the columns "
                f"{', '.join(map(repr, signature.columns[:8]))}, the step {signature.freq} and at least "
                f"{signature.rows} rows; bring such a one"
            )
        count = min(most, len(series) - signature.rows + 1)
        ends = np.unique(np.linspace(signature.rows, len(series), count).round().astype(int))
        values = series.values[:, list(series.column_indices(signature.columns))]
        looks = [slice(end - signature.rows, end) for end in reversed(ends)]
        inputs: dict[str, NDArray[np.floating]] = {ROWS: np.stack([values[look] for look in looks])}
        if signature.kinds:
            dates = [series.dates[look] for look in looks]
            after = [dates_after(one, series.freq, signature.pred_len) for one in dates]
            inputs[PAST_MARKS] = np.stack([signature.marks(one) for one in dates])
            inputs[FUTURE_MARKS] = np.stack([signature.marks(one) for one in after])
        return cls(inputs)

    def __len__(self) -> int:
        return len(self.inputs[ROWS])

    def first(self, count: int) -> dict[str, NDArray[np.floating]]:
        """Return the first `count` windows, repeated where there are fewer."""
        places = np.arange(count) % len(self)
        return {name: values[places] for name, values in self.inputs.items()}

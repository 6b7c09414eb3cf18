"""How many rolling origins a series calls for: where few windows validate, luck decides which model leads."""

from __future__ import annotations

from nas_system.data.measures.card import sound_targets
from nas_system.data.panel import OpenData
from nas_system.data.splits import most_origins
from nas_system.errors import ConfigError

FEW_BLOCKS = 3
"""Horizons in the validation part, which is how many windows in it share no target: from here on one
validation period chooses as well for the same compute (`benchmarks/rolling_origins.py`)."""
LONGEST_SERIES = 3_000
"""Rows up to which that was measured, and a training is short."""
ORIGINS = 2
"""As many as are used there. With a third the earliest model has half of the training rows and says less of
the one that is kept, and a third of the configurations is tried instead of half."""


def sensible_origins(data: OpenData) -> int:
    """Return the number of origins for a search on these data: 1 unless a short series has few windows.

    Fewer where the earliest would have too few rows, or targets on which nothing can be learned.
    """
    split, pred_len = data.split, data.task.pred_len
    rows = sum(len(member.series) for member in data.members)
    if len(split.target_rows("val")) >= FEW_BLOCKS * pred_len or rows > LONGEST_SERIES:
        return 1
    return next(
        (
            count
            for count in range(min(ORIGINS, most_origins(split, pred_len)), 1, -1)
            if is_sound(data.with_origins(count))
        ),
        1,
    )


def is_sound(data: OpenData) -> bool:
    try:
        check_origins(data)
    except ConfigError:
        return False
    return True


def check_origins(data: OpenData) -> None:
    """Raise ConfigError where training or validation at an origin could not mean anything."""
    for number, origin in enumerate(data.origins()[:-1], 1):
        try:
            sound_targets(origin)
        except ConfigError as error:
            raise ConfigError(
                f"origin {number} of {data.task.origins} (--origins): {error}; or name fewer origins"
            ) from None

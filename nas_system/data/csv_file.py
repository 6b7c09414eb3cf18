"""The reader of series under the name it had when it read CSV files alone."""

from __future__ import annotations

from nas_system.data.reading.reader import read_series

__all__ = ["parse_csv"]

parse_csv = read_series

"""Reading a series from a file of any kind: what is certain is read, all else refused with the reason."""

from __future__ import annotations

from nas_system.data.reading.panel.ahead_file import read_ahead
from nas_system.data.reading.reader import read_all, read_series

__all__ = ["read_ahead", "read_all", "read_series"]

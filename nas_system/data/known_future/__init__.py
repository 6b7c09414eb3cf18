"""Columns whose future is known when a forecast is made: holidays, and what the user gives. Torch-free."""

from __future__ import annotations

from nas_system.data.known_future.future_values import known_values
from nas_system.data.known_future.holidays import holiday_values, with_holidays

__all__ = ["holiday_values", "known_values", "with_holidays"]

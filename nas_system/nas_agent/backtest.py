"""What a backtest has chosen at earlier dates, and how it did: `runs/backtest.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nas_system.errors import StateError
from nas_system.files import read_object, write_json
from nas_system.nas_agent.log_text import one_line
from nas_system.nas_agent.recommended import Ensemble, Recommended

BACKTEST_FILE = "backtest.json"
"""In the folder of all runs."""
MOST_DATES = 100

How = Literal["search", "again", "not again"]
"""By what a date's members were chosen: by the search, which had seen no later row; again, by the validation
windows known at the date; or by the search although it had seen later rows."""


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Origin(_Stored):
    """One date."""

    row: int = Field(ge=1)
    """The first row that is forecast: all before it are known."""
    how: How
    chosen: Recommended
    """With the weights that the intervals are learned from."""
    forecaster: Ensemble
    """The same members with the weights that forecast."""


class Backtest(_Stored):
    """A recipe at several dates, the earliest first."""

    origins: tuple[Origin, ...] = Field(min_length=1, max_length=MOST_DATES)
    evaluation: dict[str, Any] = Field(default_factory=dict)
    """As `nas_system.evaluate --backtest` printed it."""


def write_backtest(runs_dir: Path, backtest: Backtest) -> None:
    """Write the file. Raises OSError."""
    write_json(runs_dir / BACKTEST_FILE, backtest.model_dump(mode="json"))


def read_backtest(runs_dir: Path) -> Backtest:
    """Return what `write_backtest` wrote. Raises StateError for no file and for any other one."""
    path = runs_dir / BACKTEST_FILE
    try:
        return Backtest.model_validate(read_object(path))
    except (OSError, ValidationError, ValueError) as error:
        raise StateError(f"{path}: not a backtest ({one_line(str(error), 300)}); run it again") from None

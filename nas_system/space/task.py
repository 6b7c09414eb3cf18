"""What a search is about. Fixed for its whole life; no proposal can change it."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from nas_system.space.fields import ConfigModel


class TaskConfig(ConfigModel):
    """Dataset, targets, horizon, split and metric: what is measured, never how it is modelled."""

    name: Literal["forecasting"] = "forecasting"
    """The kind of task."""

    dataset: str = "etth1"
    """`etth1`, `synthetic`, or the path of a CSV file whose first column is the time stamp."""

    targets: tuple[str, ...] = Field(default=("OT",), min_length=1)
    """Columns to forecast."""

    pred_len: int = Field(default=24, ge=1, le=10_000)
    """Horizon: how many steps ahead are forecast."""

    train_rows: int | None = Field(default=None, ge=1)
    """Rows of the training part; None takes the data set's own split."""

    val_rows: int | None = Field(default=None, ge=1)
    """Rows of the validation part; None takes the data set's own split."""

    test_rows: int | None = Field(default=None, ge=1)
    """Rows of the test part; None takes the data set's own split."""

    @field_validator("targets", mode="before")
    @classmethod
    def _list_to_tuple(cls, value: Any) -> Any:
        # JSON and YAML have no tuples; strict validation wants one.
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.targets)) != len(self.targets):
            raise ValueError(f"targets name a column twice: {', '.join(self.targets)}")
        parts = (self.train_rows, self.val_rows, self.test_rows)
        if any(parts) and not all(parts):
            raise ValueError("train_rows, val_rows and test_rows are given together or not at all")
        return self

    @property
    def metric(self) -> str:
        """The score that selection uses; lower is better."""
        return "val_mse"

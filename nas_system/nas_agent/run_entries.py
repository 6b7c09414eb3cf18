"""What agent_state.json holds of each run: one that has ended, its repeats, and those in progress."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from nas_system.space.tasks.task import metric_on


def _finite_or_none(value: Any) -> Any:
    """JSON has no NaN: a score that is not finite is no score."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


Score = Annotated[float | None, BeforeValidator(_finite_or_none)]


class Stored(BaseModel):
    """Values that are replaced, never changed in place; no field but those that are named."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


CAUSE_CHARACTERS = 200
"""Longest cause of an end in the state."""


class RunInfo(Stored):
    """One finished run, in under 600 bytes."""

    run_id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    metric: str = Field(default="val_mse", pattern=r"^val_[a-z0-9_]{1,40}$")
    """The task's metric on the validation part, under which the original format knows the score."""
    val_score: Score = None
    """What the run is evaluated by."""
    test_score: Score = None
    """The same metric on the test part, for people: no proposer, prompt or acceptance rule may read it."""
    history_summary: str = Field(default="", max_length=300)
    accepted: bool = False
    status: str = "OK"
    cause: str | None = Field(default=None, max_length=CAUSE_CHARACTERS)
    parent: str | None = None
    family: str | None = None
    proposer: str | None = None
    key: str | None = None
    """Canonical key of the configuration: equal keys mean the same training."""
    seconds: float | None = None
    tokens: int = 0
    cost_usd: float | None = None
    """What the language model's answers about the run cost; None if no price is known."""
    attempt: int = 1

    @property
    def val_mse(self) -> float | None:
        """The original format's name of `val_score`, where the task's metric is the squared error."""
        return self.val_score if self.metric == "val_mse" else None

    @property
    def test_mse(self) -> float | None:
        """The original format's name of `test_score`, where the task's metric is the squared error."""
        return self.test_score if self.metric == "val_mse" else None

    @property
    def val_mae(self) -> float | None:
        """`val_score`, where the task's metric is the absolute error."""
        return self.val_score if self.metric == "val_mae" else None

    @property
    def test_mae(self) -> float | None:
        """`test_score`, where the task's metric is the absolute error."""
        return self.test_score if self.metric == "val_mae" else None

    @model_validator(mode="before")
    @classmethod
    def _read_old_names(cls, values: Any) -> Any:
        """Accept scores under the metric's own name, which is all that older versions and scripts write."""
        if not isinstance(values, dict):
            return values
        metric = values.get("metric")
        copies = {metric, metric_on("test", metric)} if isinstance(metric, str) else set()
        plain = {name: value for name, value in values.items() if name not in METRIC_NAMES | copies}
        if plain.get("proposer") == OLD_BASE_PROPOSER:
            plain["proposer"] = BASE_PROPOSER
        if "val_score" in plain or "test_score" in plain:
            return plain
        metric = "val_mae" if values.get("val_mae") is not None else "val_mse"
        metric = plain.get("metric", metric)
        return plain | {
            "metric": metric,
            "val_score": values.get(metric),
            "test_score": values.get(metric_on("test", metric)),
        }

    @model_serializer(mode="wrap")
    def _write_metric_names(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write the scores under the metric's own name as well: the one place where both names stand."""
        values = write(self)
        if self.metric == "val_mse":
            del values["metric"]  # the default
        copies = {self.metric: self.val_score, metric_on("test", self.metric): self.test_score}
        return {"run_id": self.run_id, **copies, **values}


BASE_PROPOSER, OLD_BASE_PROPOSER = "base config", "baseline"
"""Who proposes the first run, now and before version 4."""
METRIC_NAMES = frozenset({"val_mse", "test_mse", "val_mae", "test_mae"})
"""Names of scores in versions before 4."""


class RunInProgress(Stored):
    """A run, or a repeat of one, that has begun and has no verdict yet; and the last node that has acted on
    it."""

    run_id: str
    """Of a repeat, its folder within that of all runs: `run_0007/repeats/seed_43`."""
    step: str
    purpose: str | None = None
    """What a repeat is for, see `RepeatInfo`; None for a run."""
    after: int | None = None
    """How many runs had ended when a repeat began; None for a run."""
    device: str | None = None
    """The CUDA device that is leased to its training, None for all that there are."""
    alone: bool = False
    """Whether it needs all of the device: a share of it was too little."""

    @property
    def is_repeat(self) -> bool:
        """Return whether it trains the configuration of an earlier run with another seed."""
        return is_repeat(self.run_id)


class RepeatInfo(Stored):
    """One more training of a run's configuration, with another seed, that has ended."""

    run_id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    seed: int
    purpose: str
    """One of `PURPOSES`."""
    after: int = Field(ge=0)
    """How many runs had ended when it began."""
    ended_after: int = Field(ge=0)
    """How many runs had ended when it ended."""
    status: str = "OK"
    cause: str | None = Field(default=None, max_length=CAUSE_CHARACTERS)
    val_score: Score = None
    seconds: float | None = None
    attempt: int = 1

    @property
    def training_id(self) -> str:
        """Its folder within that of all runs."""
        return repeat_id(self.run_id, self.seed)


BASE_REPEAT, CHALLENGE, FINAL, ASKED = "base", "challenge", "final", "asked"
PURPOSES = (BASE_REPEAT, CHALLENGE, FINAL, ASKED)
"""Of repeats: the base config's, which measure the noise; the second seed of a run that may lead; fresh seeds
at the end, which no choice among many has seen; and those that the language model asks for."""


def repeat_id(run_id: str, seed: int) -> str:
    """Return the id of a repeat: its folder within that of all runs."""
    return f"{run_id}/repeats/seed_{seed}"


def parts_of_repeat(training_id: str) -> tuple[str, int]:
    """Return the run and the seed of a repeat. Raises ValueError for the id of a run."""
    run_id, _, seed = training_id.partition("/repeats/seed_")
    return run_id, int(seed)


def is_repeat(training_id: str) -> bool:
    """Return whether the id is that of a repeat, not of a run."""
    return "/" in training_id

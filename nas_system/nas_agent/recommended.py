"""What a search hands over: `ensemble.json` in the workspace, and `runs/recommended.json`.

An ensemble is an artefact like a run: its members with the checksums of their weights, and why these. What is
recommended may be an ensemble, a run or a baseline; it has members in every case, and refits of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nas_system.errors import StateError
from nas_system.files import read_object, write_json
from nas_system.nas_agent.log_text import one_line

SCHEMA_VERSION = 1
ENSEMBLE = "ensemble"
"""Its row in the leaderboard, and its name for `nas predict --run`."""
ENSEMBLE_FILE = "ensemble.json"
RECOMMENDED_FILE = "recommended.json"
"""In the folder of all runs."""
MOST_MEMBERS = 8
SLOW_BASELINES = frozenset({"lightgbm", "ets", "theta", "arima"})
"""Of the extra `stats`: fitted again for every forecast, too slow for those from many origins."""
MOST_TRAININGS = 64
"""Of one member."""

_FOLDER = r"^runs/run_[0-9]{4,9}(/(repeats|refits|backtests)/[a-z_]{1,20}[0-9]{1,20}(_seed_[0-9]{1,20})?)?$"
"""In the workspace, and nowhere else."""

Part = Literal["val", "test", "hold_out"]
PARTS: tuple[Part, ...] = get_args(Part)
"""In the order of time."""


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Training(_Stored):
    """The weights of one training."""

    folder: str = Field(pattern=_FOLDER, max_length=200)
    """Relative to the workspace: `runs/run_0003`, `runs/run_0003/refits/test_seed_42`."""
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Of its best_model.pth."""


class Member(_Stored):
    """A run, by the mean over its trainings, or a baseline."""

    name: str = Field(min_length=1, max_length=100)
    kind: Literal["run", "baseline"]
    weight: float = Field(gt=0, le=1)
    trainings: tuple[Training, ...] = Field(default=(), max_length=MOST_TRAININGS)

    @model_validator(mode="after")
    def _check(self) -> Member:
        if (self.kind == "run") != bool(self.trainings):
            raise ValueError(f"{self.name}: a run has trainings, a baseline has none")
        own = f"runs/{self.name}"
        if any(one.folder != own and not one.folder.startswith(f"{own}/") for one in self.trainings):
            raise ValueError(f"{self.name}: a training lies in the folder of another run")
        return self


class Ensemble(_Stored):
    """Members and how much each counts."""

    schema_version: int = SCHEMA_VERSION
    why: str = Field(default="", max_length=2000)
    weights: Literal["equal", "greedy"] = "equal"
    val_score: float | None = None
    """The task's metric on the validation part, the mean over its rolling origins."""
    members: tuple[Member, ...] = Field(min_length=1, max_length=MOST_MEMBERS)

    @model_validator(mode="after")
    def _check_members(self) -> Self:
        if len(set(self.names)) != len(self.names):
            raise ValueError("a member stands in it twice")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the members, in their order."""
        return tuple(member.name for member in self.members)


class Cost(_Stored):
    """What it took to hand over, since the search began."""

    refit_sec: float = Field(default=0.0, ge=0)
    """Seconds of compute of all refits."""
    evaluation_sec: float = Field(default=0.0, ge=0)
    """Seconds, by the clock, of all evaluations."""


class Recommended(Ensemble):
    """What the search recommends, what it was trained on again, and how good it is."""

    recommended: str = Field(min_length=1, max_length=100)
    """`ensemble`, or the name of its only member."""
    runs: int = Field(default=0, ge=0)
    repeats: int = Field(default=0, ge=0)
    """How many had ended when it was chosen."""
    refits: dict[Part, dict[str, tuple[Training, ...]]] = Field(default_factory=dict)
    """By the part through which they learned (`hold_out`: all rows), then by member."""
    not_begun: int = Field(default=0, ge=0)
    """Refits for which the search had no time left."""
    evaluation: dict[str, Any] = Field(default_factory=dict)
    """As `nas_system.evaluate` printed it."""
    first_seed: dict[Part, float] = Field(default_factory=dict)
    """Of a run alone that has several seeds: the metric of its own training, as in the leaderboard."""
    cost: Cost = Field(default_factory=Cost)

    @model_validator(mode="after")
    def _check_recommended(self) -> Self:
        if self.recommended != ENSEMBLE and self.names != (self.recommended,):
            raise ValueError(f"{self.recommended!a:.60} is recommended, and is not its only member")
        return self

    def refitted(self, part: Part) -> Recommended | None:
        """Return it with the weights of the refits through a part, of the runs that have some; None where no
        run has, unless all members are baselines, which are fitted when they forecast."""
        known = {name: trainings for name, trainings in self.refits.get(part, {}).items() if trainings}
        runs = [member.name for member in self.members if member.kind == "run"]
        if runs and not known.keys() & set(runs):
            return None
        members = tuple(
            member.model_copy(update={"trainings": known.get(member.name, member.trainings)})
            for member in self.members
        )
        return self.model_copy(update={"members": members})

    def scores(self, kind: Literal["as_searched", "refitted"], part: Part) -> Mapping[str, Any]:
        """Return the scores on a part; empty where there are none."""
        found: Any = self.evaluation
        for name in (kind, part):
            found = found.get(name) if isinstance(found, Mapping) else None
        return found if isinstance(found, Mapping) else {}


_Kind = TypeVar("_Kind", bound=Ensemble)


def write_ensemble(path: Path, ensemble: Ensemble) -> None:
    """Write an ensemble's file. Raises OSError."""
    write_json(path, ensemble.model_dump(mode="json"))


def read_ensemble(workspace: Path, name: str = ENSEMBLE_FILE) -> Ensemble:
    """Return the ensemble of a workspace, or another one in the file `name` there.

    Raises StateError for none, and for a file that is no ensemble.
    """
    return _read(workspace / name, Ensemble)


def write_recommended(workspace: Path, recommended: Recommended) -> None:
    """Write `runs/recommended.json`. Raises OSError."""
    write_json(workspace / "runs" / RECOMMENDED_FILE, recommended.model_dump(mode="json"))


def read_recommended(workspace: Path) -> Recommended:
    """Return what the search of a workspace recommends. Raises StateError for no such file or another one."""
    return _read(workspace / "runs" / RECOMMENDED_FILE, Recommended)


def known_recommended(workspace: Path) -> Recommended | None:
    """Return what the search recommends; None where it has not come to that, or nobody can read it."""
    try:
        return read_recommended(workspace)
    except StateError:
        return None


def _read(path: Path, kind: type[_Kind]) -> _Kind:
    try:
        return kind.model_validate(read_object(path))
    except FileNotFoundError:
        raise StateError(f"{path} does not exist; it is written when a search has ended") from None
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = one_line(".".join(str(part) for part in first["loc"]), 100) or "the file"
        problem = f"{where}: {one_line(first['msg'], 300)}"
        raise StateError(f"{path}: {problem}; let the search end again") from None
    except ValueError as error:
        raise StateError(f"{path}: {one_line(str(error), 300)}; let the search end again") from None

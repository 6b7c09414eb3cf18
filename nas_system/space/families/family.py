"""What every model family's configuration has, and the options that several of them share."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import model_validator

from nas_system.space.fields import Choice, ConfigModel, Range, When

Normalization = Literal["none", "last", "mean", "revin", "seasonal"]
TimeMarks = Literal["none", "continuous", "calendar"]
LinearStart = Literal["mean", "ridge"]


class FamilyConfig(ConfigModel):
    """A family: its key, and what the rest of the system has to know about it."""

    tasks: ClassVar[tuple[str, ...]] = ("forecasting",)
    """The kinds of task it serves."""
    reads_covariates: ClassVar[bool] = True
    """Whether other columns than the targets can be inputs."""
    needs_package: ClassVar[str | None] = None
    """An optional package it is built on; without it the family is not proposed."""
    extra: ClassVar[str | None] = None
    """The project's extra that installs the package."""
    gradient_descent: ClassVar[bool] = True
    """Whether it is trained in optimizer steps; else in closed form, and no training option counts."""

    family: str

    @property
    def time_marks(self) -> TimeMarks:
        """Which time features the model reads."""
        return "none"

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.check()
        return self

    def check(self) -> None:
        """Raise ValueError, naming the fields, if they contradict each other."""

    def check_window(self, seq_len: int, pred_len: int) -> None:
        """Raise ValueError, naming the fields, if the family cannot work on windows of these lengths."""


class NormalizedConfig(FamilyConfig):
    """A family that shifts every window by its own statistics."""

    normalization: Annotated[Normalization, Choice()] = "last"
    """Per window: subtract the last value, the mean, the season before; or RevIN (mean, scale, affine)."""

    season: Annotated[
        int, Range(2, 2048, grid=(4, 7, 12, 24, 48, 52, 96, 168), when=When("normalization", ("seasonal",)))
    ] = 24
    """Seasonal normalisation: steps in a season; at most seq_len."""

    def check_window(self, seq_len: int, pred_len: int) -> None:
        if self.normalization == "seasonal" and self.season > seq_len:
            raise ValueError(
                f"model.season={self.season} is longer than data.seq_len={seq_len}; "
                "shorten the season or lengthen seq_len"
            )


class DecomposedConfig(NormalizedConfig):
    """A normalised family that may forecast the moving average by itself."""

    decomposition: Annotated[bool, Choice()] = False
    """Split off the moving average: a linear map of its own forecasts it, the model the rest."""

    kernel: Annotated[int, Range(3, 101, grid=(13, 25, 49), when=When("decomposition", (True,)))] = 25
    """Length of the moving average in steps; odd."""

    def check(self) -> None:
        if self.kernel % 2 == 0:
            raise ValueError(f"model.kernel={self.kernel} must be odd, as a centred average needs")


class FramedConfig(DecomposedConfig):
    """A normalised family that may add a linear path past the network."""

    linear_path: Annotated[bool, Choice()] = True
    """Add a linear map from the normalised targets' look-back straight to the forecast."""

    linear_start: Annotated[LinearStart, Choice(when=When("linear_path", (True,)))] = "mean"
    """Where that map starts: the window's mean, or its ridge regression, to which the network then adds."""


class NetworkConfig(FramedConfig):
    """A framed network that may treat channels one by one and read the clock."""

    channel_independence: Annotated[bool, Choice(where="several targets")] = False
    """Forecast every target from its own past alone, with one shared network."""

    time_features: Annotated[bool, Choice()] = True
    """Read hour, weekday, day of month and day of year (what the step allows) as further inputs."""

    @property
    def time_marks(self) -> TimeMarks:
        return "continuous" if self.time_features else "none"


def check_heads(d_model: int, n_heads: int) -> None:
    """Raise ValueError unless the heads divide the width."""
    if d_model % n_heads:
        raise ValueError(
            f"model.d_model={d_model} is not divisible by model.n_heads={n_heads}; change one of them"
        )

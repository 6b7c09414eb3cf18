"""Fields of the linear family."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from nas_system.space.families.family import DecomposedConfig, LinearStart
from nas_system.space.fields import Choice


class LinearConfig(DecomposedConfig):
    """One linear map from look-back to horizon (Zeng et al. 2023, arXiv:2205.13504): NLinear, DLinear."""

    reads_covariates: ClassVar[bool] = False

    family: Literal["linear"] = "linear"

    individual: Annotated[bool, Choice(where="several targets")] = False
    """One map per target instead of one shared map."""

    linear_start: Annotated[LinearStart, Choice()] = "mean"
    """Where training starts: at the window's mean, or at the map's ridge regression."""

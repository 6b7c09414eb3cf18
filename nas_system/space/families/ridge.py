"""Fields of the ridge family."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from nas_system.space.families.family import NormalizedConfig, TimeMarks
from nas_system.space.fields import Choice, Range


class RidgeConfig(NormalizedConfig):
    """One linear map from look-back to horizon, in closed form (Hoerl and Kennard 1970): no training."""

    reads_covariates: ClassVar[bool] = False
    gradient_descent: ClassVar[bool] = False

    family: Literal["ridge"] = "ridge"

    strength: Annotated[
        float, Range(1e-6, 1e3, log=True, grid=(1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0))
    ] = 0.01
    """Penalty on the squared weights, per training window; a large one leaves the normalisation alone."""

    individual: Annotated[bool, Choice(where="several targets")] = False
    """One map per target instead of one shared map."""

    time_features: Annotated[bool, Choice()] = False
    """Read the clock at the first forecast step, as cosines of hour, weekday and the like."""

    @property
    def time_marks(self) -> TimeMarks:
        return "continuous" if self.time_features else "none"

"""The model families and their fields. One class per family; `FAMILIES` is the registry."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import model_validator

from nas_system.space.fields import Choice, ConfigModel, Range, When

Normalization = Literal["none", "last", "mean", "revin"]
TimeMarks = Literal["none", "continuous", "calendar"]


class InformerConfig(ConfigModel):
    """Informer (Zhou et al. 2021, arXiv:2012.07436): sparse attention, distilling, one-shot decoder."""

    tasks: ClassVar[tuple[str, ...]] = ("forecasting",)
    reads_covariates: ClassVar[bool] = True

    family: Literal["informer"] = "informer"

    d_model: Annotated[int, Range(8, 1024, multiple_of=2, grid=(16, 32, 64, 128, 256))] = 32
    """Width of every layer; must be divisible by n_heads."""

    n_heads: Annotated[int, Range(1, 16, grid=(2, 4, 8))] = 4
    """Attention heads; must divide d_model."""

    e_layers: Annotated[int, Range(1, 6, grid=(1, 2, 3))] = 2
    """How many layers the encoder has."""

    d_layers: Annotated[int, Range(1, 4, grid=(1, 2))] = 1
    """How many layers the decoder has."""

    d_ff: Annotated[int, Range(8, 4096, grid=(32, 64, 128, 256, 512))] = 64
    """Width inside the feed-forward blocks."""

    dropout: Annotated[float, Range(0.0, 0.7, grid=(0.0, 0.05, 0.1, 0.2, 0.3))] = 0.05
    """Share of activations dropped while training."""

    attention: Annotated[Literal["prob", "full"], Choice()] = "prob"
    """ProbSparse attention of the paper, or full attention (encoder and decoder self-attention)."""

    factor: Annotated[int, Range(1, 10, grid=(3, 4, 5), when=When("attention", ("prob",)))] = 5
    """ProbSparse: how many keys are sampled and queries kept, times ln(length)."""

    distil: Annotated[bool, Choice()] = True
    """Halve the sequence between encoder layers by convolution and max pooling."""

    mix: Annotated[bool, Choice(sampled=False)] = True
    """Mix heads and time in the decoder's self-attention output, as the reference does."""

    embed: Annotated[Literal["timeF", "fixed", "learned"], Choice(sampled=False)] = "timeF"
    """Time embedding: continuous features, fixed sinusoids or learned tables of calendar numbers."""

    activation: Annotated[Literal["gelu", "relu"], Choice(sampled=False)] = "gelu"
    """Activation of the feed-forward blocks."""

    label_len: Annotated[int, Range(0, 720, grid=(0, 24, 48))] = 48
    """How many known steps start the decoder's input; at most seq_len."""

    normalization: Annotated[Normalization, Choice()] = "last"
    """Per window: subtract the last value or the mean, or RevIN (mean, deviation, learned affine)."""

    linear_path: Annotated[bool, Choice()] = True
    """Add a linear map from the normalised targets' look-back straight to the forecast."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.d_model % self.n_heads:
            raise ValueError(
                f"model.d_model={self.d_model} is not divisible by model.n_heads={self.n_heads}; "
                "change one of them"
            )
        return self

    @property
    def time_marks(self) -> TimeMarks:
        """Which time features the model reads."""
        return "continuous" if self.embed == "timeF" else "calendar"


class LinearConfig(ConfigModel):
    """One linear map from look-back to horizon (Zeng et al. 2023, arXiv:2205.13504): NLinear, DLinear."""

    tasks: ClassVar[tuple[str, ...]] = ("forecasting",)
    time_marks: ClassVar[TimeMarks] = "none"
    reads_covariates: ClassVar[bool] = False

    family: Literal["linear"] = "linear"

    normalization: Annotated[Normalization, Choice()] = "last"
    """Per window: subtract the last value (NLinear) or the mean, or RevIN."""

    decomposition: Annotated[bool, Choice()] = False
    """Split into moving average and rest, one map each (DLinear)."""

    kernel: Annotated[int, Range(3, 101, grid=(13, 25, 49), when=When("decomposition", (True,)))] = 25
    """Length of the moving average in steps; odd."""

    individual: Annotated[bool, Choice()] = False
    """One map per target instead of one shared map."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kernel % 2 == 0:
            raise ValueError(f"model.kernel={self.kernel} must be odd, as a centred average needs")
        return self


FAMILIES: dict[str, type[InformerConfig] | type[LinearConfig]] = {
    "informer": InformerConfig,
    "linear": LinearConfig,
}
"""Every family the search knows, by its key."""

"""Fields of the Informer family."""

from __future__ import annotations

from typing import Annotated, Literal

from nas_system.space.families.family import FramedConfig, TimeMarks, check_heads
from nas_system.space.fields import Choice, Range, When


class InformerConfig(FramedConfig):
    """Informer (Zhou et al. 2021, arXiv:2012.07436): sparse attention, distilling, one-shot decoder."""

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

    @property
    def time_marks(self) -> TimeMarks:
        """Which time features the model reads."""
        return "continuous" if self.embed == "timeF" else "calendar"

    def check(self) -> None:
        super().check()
        check_heads(self.d_model, self.n_heads)

    def check_window(self, seq_len: int, pred_len: int) -> None:
        super().check_window(seq_len, pred_len)
        if self.label_len > seq_len:
            raise ValueError(
                f"model.label_len={self.label_len} is longer than data.seq_len={seq_len}; "
                "shorten label_len or lengthen seq_len"
            )

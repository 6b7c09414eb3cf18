"""How the variational transformer is built and trained."""

from __future__ import annotations

from dataclasses import dataclass

from nas_system.errors import ConfigError
from nas_system.netformer.weights.options import Options, option


@dataclass(frozen=True)
class ArchitectureConfig(Options):
    """Size of the model."""

    d_model: int = option(64, "width of the transformer", 8, 1024)
    heads: int = option(4, "attention heads", 1, 64)
    layers: int = option(1, "layers of the encoder, and of the decoder", 1, 12)
    latent_tokens: int = option(8, "latent tokens between encoder and decoder", 1, 64)
    latent_size: int = option(8, "numbers in a latent token", 1, 256)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.d_model % self.heads:
            raise ConfigError(f"d_model={self.d_model} is no multiple of heads={self.heads}")


@dataclass(frozen=True)
class LossConfig(Options):
    """Parts of the loss: sums over a network's tokens, means over networks."""

    structure: float = option(2.0, "cross-entropy of type, number and parent", 0, 1e6)
    weights: float = option(1.0, "squared error of weights times sensitivity", 0, 1e6)
    outputs: float = option(5.0, "squared error of what the network computes; 0 leaves it out", 0, 1e6)
    divergence: float = option(0.02, "divergence of the latent tokens from N(0, 1)", 0, 1e6)


@dataclass(frozen=True)
class FitConfig(Options):
    """Training."""

    epochs: int = option(60, "passes over the training networks", 1, 100_000)
    batch_size: int = option(32, "networks in a batch", 1, 100_000)
    lr: float = option(0.003, "highest learning rate of a one-cycle schedule (AdamW)", 1e-7, 1)
    seed: int = option(0, "the same seed gives the same model", 0, 2**31)

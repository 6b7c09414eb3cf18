"""A trained model with all it needs to write networks: reconstruct known ones, or make new ones up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from nas_system.errors import ConfigError, StateError
from nas_system.netformer.weights.model.network_batches import MetaScaling
from nas_system.netformer.weights.model.network_grammar import Grammar
from nas_system.netformer.weights.model.weights_transformer import ModelConfig, WeightsTransformer
from nas_system.netformer.weights.network import InvalidNetwork, Network
from nas_system.netformer.weights.tokens import Tokens, network_from_tokens
from nas_system.training.checkpoint import load_checkpoint, save_checkpoint

KIND = "netformer-weights"
CHUNK = 256
"""Networks written at once: more would need more memory and be no faster."""


@dataclass
class Writer:
    """Model, grammar and the scaling of meta-features."""

    model: WeightsTransformer
    grammar: Grammar
    scaling: MetaScaling

    @torch.no_grad()
    def reconstruct(self, tokens: Tokens, meta: Tensor) -> list[Network]:
        """Read networks and write them again, each from the mean of its latent tokens.

        `meta`: meta-features of every network's task, NaN where unknown, (networks, values).
        """
        self.model.eval()
        written: list[Network] = []
        for rows in torch.arange(len(meta)).split(CHUNK):
            part = tokens.rows(rows)
            mean, _ = self.model.encode(part.structure, part.weight, self.scaling(meta[rows]))
            written += self.write(mean)
        return written

    def sample(self, count: int, generator: torch.Generator) -> list[Network]:
        """New networks from latent tokens drawn from N(0, 1)."""
        config = self.model.config
        latent = torch.randn(count, config.latent_tokens, config.latent_size, generator=generator)
        return [network for part in latent.split(CHUNK) for network in self.write(part)]

    @torch.no_grad()
    def write(self, latent: Tensor) -> list[Network]:
        """The networks of latent tokens, (batch, latent_tokens, latent_size); every one is valid."""
        self.model.eval()
        structure = self.grammar.decode(self._scores(latent), len(latent))
        return [network_from_tokens(tokens) for tokens in self._with_weights(latent, structure)]

    @torch.no_grad()
    def write_freely(self, latent: Tensor) -> list[Network | InvalidNetwork]:
        """As `write`, but without the grammar: the best token at every place, valid or not."""
        self.model.eval()
        scores = self._scores(latent)
        length = self.grammar.max_tokens
        structure = torch.zeros(len(latent), length, 3, dtype=torch.long)
        for place in range(length):
            best = [part.argmax(-1) for part in scores(structure[:, : place + 1])]
            structure[:, place] = torch.stack(best, dim=-1)
        return [_network_or_error(tokens) for tokens in self._with_weights(latent, structure)]

    def save(self, path: Path, **extra: object) -> None:
        """Everything in one file, written atomically. Raises OSError."""
        content = {
            "kind": KIND,
            "model_config": asdict(self.model.config),
            "model": self.model.state_dict(),
            "grammar": asdict(self.grammar) | {"types": list(self.grammar.types)},
            "meta_mean": self.scaling.mean,
            "meta_std": self.scaling.std,
        }
        save_checkpoint(path, content | extra)

    @classmethod
    def load(cls, path: Path) -> Writer:
        """What `save` wrote; no code in the file is run. Raises StateError for anything else."""
        content = load_checkpoint(path)
        if content.get("kind") != KIND:
            raise StateError(f"{path}: no model of `netformer train`")
        try:
            model = WeightsTransformer(ModelConfig(**content["model_config"]))
            model.load_state_dict(content["model"])
            parts = content["grammar"]
            grammar = Grammar(**(parts | {"types": tuple(parts["types"])}))
            scaling = MetaScaling(content["meta_mean"], content["meta_std"])
        except (KeyError, TypeError, RuntimeError, ConfigError):
            raise StateError(f"{path}: its parts do not fit together; train the model again") from None
        return cls(model, grammar, scaling)

    def _scores(self, latent: Tensor) -> Callable[[Tensor], list[Tensor]]:
        def next_scores(structure: Tensor) -> list[Tensor]:
            _, scores = self.model.write_structure(latent, structure)
            return [part.log_softmax(-1) for part in self.model.choices(scores[:, -1])]

        return next_scores

    def _with_weights(self, latent: Tensor, structure: Tensor) -> list[Tokens]:
        state, _ = self.model.write_structure(latent, structure)
        weight = self.model.write_weights(latent, state, structure) * self.model.weight_scale
        return [Tokens(*row) for row in zip(structure, weight, strict=True)]


def _network_or_error(tokens: Tokens) -> Network | InvalidNetwork:
    try:
        return network_from_tokens(tokens)
    except InvalidNetwork as error:
        return error

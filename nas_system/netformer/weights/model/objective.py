"""The mixed loss: structure, weights by the sensitivity of their neurons, and what the network computes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nas_system.netformer.weights.functions import graphs_from_tokens, loss_weights, outputs_of
from nas_system.netformer.weights.model.model_config import LossConfig
from nas_system.netformer.weights.model.weights_transformer import Written
from nas_system.netformer.weights.tokens import Tokens

LEAST_VARIANCE = 0.05
"""Added to the variance of a network's outputs, so that a nearly constant one is not all of the loss."""


class MixedObjective:
    """Cross-entropy on type, number and parent; squared error of every edge times its child's sensitivity.

    The loss on outputs compares what the written network computes with what the original does:
    Meynent, Melev, Schuerholt, Mihai, Borth 2025, "Structure Is Not Enough: Leveraging Behavior for
    Neural Network Weight Reconstruction", arXiv:2503.17138. The target of a batch is the position of
    its networks in `tokens`.
    """

    names = ("loss", "structure", "weights", "outputs", "divergence")

    def __init__(
        self, tokens: Tokens, x: Tensor, max_vertices: int, weight_scale: float, config: LossConfig
    ) -> None:
        """`x`, (rows, inputs): where the networks are compared and their sensitivity is measured."""
        self.tokens = tokens
        self.x = x
        self.max_vertices = max_vertices
        self.weight_scale = weight_scale
        self.config = config
        graphs = graphs_from_tokens(tokens, max_vertices)
        self.answers = outputs_of(graphs, x)
        of_neuron = loss_weights(graphs, x)
        self.sensitivity = of_neuron.gather(1, tokens.structure[..., 1]) * tokens.edges

    def loss(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        return self.report(output, target, weight)[0]

    def report(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        length = output.shape[1]
        written = Written.from_packed(output, self.max_vertices)
        tokens = Tokens(self.tokens.structure[target, :length], self.tokens.weight[target, :length])
        config = self.config
        structure = self._structure(written, tokens)
        weights = self._weights(written, tokens, self.sensitivity[target, :length])
        divergence = written.divergence.mean()
        total = config.structure * structure + config.weights * weights + config.divergence * divergence
        # Left out, it costs nothing and is reported as zero.
        outputs = torch.zeros_like(total)
        if config.outputs:
            outputs = self._outputs(written, tokens, self.answers[target])
            total = total + config.outputs * outputs
        return torch.stack((total, structure, weights, outputs, divergence))

    def postproc(self, output: Tensor) -> Tensor:
        return output

    def _structure(self, written: Written, tokens: Tokens) -> Tensor:
        steps = torch.arange(tokens.weight.shape[1], device=tokens.weight.device)
        real = steps < tokens.lengths[:, None]
        scores = (written.kind, written.number, written.parent)
        parts = [
            F.cross_entropy(score[real], truth, reduction="sum")
            for score, truth in zip(scores, tokens.structure[real].unbind(-1), strict=True)
        ]
        return torch.stack(parts).sum() / len(real)

    def _weights(self, written: Written, tokens: Tokens, sensitivity: Tensor) -> Tensor:
        error = (written.weight - tokens.weight / self.weight_scale).square()
        return (error * sensitivity).sum() / len(error)

    def _outputs(self, written: Written, tokens: Tokens, answers: Tensor) -> Tensor:
        guess = graphs_from_tokens(
            Tokens(tokens.structure, written.weight * self.weight_scale), self.max_vertices
        )
        error = (outputs_of(guess, self.x) - answers).square().mean(1)
        relative = error / (answers.var(1) + LEAST_VARIANCE)
        # Small errors stay what they are. The few huge ones would be all of the gradient.
        return relative.log1p().mean()

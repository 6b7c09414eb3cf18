"""The mixed loss, part by part."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nas_system.netformer.weights.functions import graphs_from_tokens, loss_weights, outputs_of
from nas_system.netformer.weights.model.model_config import LossConfig
from nas_system.netformer.weights.model.objective import LEAST_VARIANCE, MixedObjective
from nas_system.netformer.weights.tokens import TOKEN_TYPES, Tokens
from nas_system.netformer.weights.zoo.zoo_files import Zoo

SCALE = 2.0
CHOSEN = torch.tensor([3, 50, 120])


def objective_of(zoo: Zoo, config: LossConfig) -> MixedObjective:
    return MixedObjective(zoo.tokens, zoo.probes, zoo.config.max_vertices, SCALE, config)


def perfect_output(zoo: Zoo, divergence: float = 0.0) -> Tensor:
    """What a model would say that is certain of the right answer."""
    part = zoo.tokens.rows(CHOSEN)
    sizes = (len(TOKEN_TYPES), zoo.config.max_vertices, zoo.config.max_vertices)
    scores = [
        F.one_hot(truth, size) * 100.0 for truth, size in zip(part.structure.unbind(-1), sizes, strict=True)
    ]
    weight = part.weight[..., None] / SCALE
    return torch.cat([*scores, weight, torch.full_like(weight, divergence)], dim=-1)


def figures(zoo: Zoo, output: Tensor, config: LossConfig | None = None) -> dict[str, float]:
    objective = objective_of(zoo, config or LossConfig())
    return dict(zip(objective.names, objective.report(output, CHOSEN, None).tolist(), strict=True))


def test_a_perfect_answer_costs_nothing(small_zoo: Zoo) -> None:
    assert figures(small_zoo, perfect_output(small_zoo)) == pytest.approx(
        {"loss": 0, "structure": 0, "weights": 0, "outputs": 0, "divergence": 0}, abs=1e-5
    )


def test_structure_is_the_cross_entropy_of_type_number_and_parent(small_zoo: Zoo) -> None:
    part = small_zoo.tokens.rows(CHOSEN)
    output = torch.randn(perfect_output(small_zoo).shape, generator=torch.Generator().manual_seed(0))
    vertices = small_zoo.config.max_vertices
    parts = output.split([len(TOKEN_TYPES), vertices, vertices, 1, 1], dim=-1)[:3]
    expected = 0.0
    for row, length in enumerate(part.lengths.tolist()):
        for place in range(length):  # the end token counts, the filling behind it does not
            for scores, truth in zip(parts, part.structure[row, place], strict=True):
                expected -= float(scores[row, place].log_softmax(-1)[truth])
    assert figures(small_zoo, output)["structure"] == pytest.approx(expected / 3, rel=1e-5)


def test_an_error_in_a_weight_counts_as_much_as_its_neuron_matters(small_zoo: Zoo) -> None:
    tokens = small_zoo.tokens.rows(CHOSEN)
    matters = loss_weights(
        graphs_from_tokens(small_zoo.tokens, small_zoo.config.max_vertices), small_zoo.probes
    )[CHOSEN]
    costs = set()
    for place in range(int(tokens.lengths[0]) - 1):
        output = perfect_output(small_zoo)
        output[0, place, -2] += 0.5
        is_edge = bool(tokens.edges[0, place])
        neuron = int(tokens.structure[0, place, 1])
        expected = 0.25 * float(matters[0, neuron]) / 3 if is_edge else 0.0
        found = figures(small_zoo, output)["weights"]
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-7)
        costs.add(round(found, 6))
    assert len(costs) > 2, "all neurons of this network matter the same, which tests nothing"


def test_errors_of_edges_are_added_up(small_zoo: Zoo) -> None:
    def cost(places: list[int]) -> float:
        output = perfect_output(small_zoo)
        output[1, places, -2] += 1.0
        return figures(small_zoo, output)["weights"]

    assert cost([2, 3, 4]) == pytest.approx(cost([2]) + cost([3]) + cost([4]), rel=1e-4)


def test_outputs_compares_what_the_networks_compute(small_zoo: Zoo) -> None:
    tokens = small_zoo.tokens.rows(CHOSEN)
    output = perfect_output(small_zoo)
    output[..., -2] *= 1.3
    vertices = small_zoo.config.max_vertices
    truth = outputs_of(graphs_from_tokens(tokens, vertices), small_zoo.probes)
    guess = outputs_of(
        graphs_from_tokens(Tokens(tokens.structure, tokens.weight * 1.3), vertices), small_zoo.probes
    )
    expected = ((guess - truth).square().mean(1) / (truth.var(1) + LEAST_VARIANCE)).log1p().mean()
    assert figures(small_zoo, output)["outputs"] == pytest.approx(float(expected), rel=1e-4)


def test_the_loss_is_the_weighted_sum_and_outputs_are_part_of_it_by_default(small_zoo: Zoo) -> None:
    output = torch.randn(perfect_output(small_zoo).shape, generator=torch.Generator().manual_seed(0))
    config = LossConfig(structure=2.0, weights=3.0, outputs=5.0, divergence=7.0)
    found = figures(small_zoo, output, config)
    expected = 2 * found["structure"] + 3 * found["weights"] + 5 * found["outputs"] + 7 * found["divergence"]
    assert found["loss"] == pytest.approx(expected, rel=1e-5)
    assert LossConfig().outputs > 0
    without = figures(small_zoo, output, replace(config, outputs=0.0))
    assert without["outputs"] == 0
    assert without["loss"] == pytest.approx(expected - 5 * found["outputs"], rel=1e-5)


def test_every_part_has_a_gradient(small_zoo: Zoo) -> None:
    output = torch.randn(perfect_output(small_zoo).shape, generator=torch.Generator().manual_seed(0))
    for name in ("structure", "weights", "outputs", "divergence"):
        others = dict.fromkeys(("structure", "weights", "outputs", "divergence"), 0.0)
        objective = objective_of(small_zoo, LossConfig(**(others | {name: 1.0})))
        leaf = output.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(objective.loss(leaf, CHOSEN, None), leaf)
        assert gradient.any(), name
        assert torch.isfinite(gradient).all(), name

"""Does it learn? Fast: a small zoo and modest figures. Slow: the full ones, printed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from nas_system.netformer.weights.model.model_config import ArchitectureConfig, FitConfig, LossConfig
from nas_system.netformer.weights.model.writer import Writer
from nas_system.netformer.weights.model.writer_fitting import evaluate, fit, untrained_writer
from nas_system.netformer.weights.network import Network
from nas_system.netformer.weights.zoo.zoo_building import build_zoo
from nas_system.netformer.weights.zoo.zoo_config import ZooConfig
from nas_system.netformer.weights.zoo.zoo_files import Zoo
from nas_system.training.engine import EpochRecord


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def share_valid_without_grammar(writer: Writer, count: int) -> float:
    config = writer.model.config
    latent = torch.randn(count, config.latent_tokens, config.latent_size, generator=generator())
    return sum(isinstance(item, Network) for item in writer.write_freely(latent)) / count


@pytest.fixture(scope="module")
def easy_zoo() -> Zoo:
    """Two sizes of networks, two activations."""
    return build_zoo(
        ZooConfig(
            networks=300,
            tasks=30,
            steps=100,
            rows=48,
            max_depth=1,
            max_width=3,
            activations=("tanh", "relu"),
            meta_features=False,
        )
    )


@pytest.fixture(scope="module")
def trained(easy_zoo: Zoo) -> Writer:
    writer = untrained_writer(easy_zoo, ArchitectureConfig(d_model=32), 0)
    fit(writer, easy_zoo, LossConfig(), FitConfig(epochs=40, lr=0.005))
    return writer


def test_networks_that_were_never_seen_are_written_again(easy_zoo: Zoo, trained: Writer) -> None:
    figures = evaluate(trained, easy_zoo, "test")
    print(json.dumps(figures))
    untrained = evaluate(untrained_writer(easy_zoo, ArchitectureConfig(d_model=32), 0), easy_zoo, "test")
    assert figures["exact_structure"] >= 0.85 > 0.5 > untrained["exact_structure"]
    assert figures["edge_accuracy"] >= 0.9
    assert figures["weight_r2"] >= 0.40
    assert figures["function_correlation"] >= 0.50
    assert figures["cosine_distance"] < 0.35 < untrained["cosine_distance"]


def test_samples_are_valid_and_of_the_kind_that_was_learnt(easy_zoo: Zoo, trained: Writer) -> None:
    samples = trained.sample(200, generator())
    known = {network.structure for network in easy_zoo.networks(torch.arange(len(easy_zoo)))}
    assert len(samples) == 200
    assert sum(network.structure in known for network in samples) >= 180
    assert len({network.structure for network in samples}) >= 3
    assert len({network.neurons[0].weights for network in samples}) == 200


def test_the_training_keeps_its_best_epoch(easy_zoo: Zoo) -> None:
    writer = untrained_writer(easy_zoo, ArchitectureConfig(d_model=16, heads=2), 0)
    kept: list[torch.Tensor] = []

    def ruin_the_third(record: EpochRecord) -> None:
        if record.epoch == 2:
            kept.append(writer.model.structure_head.weight.detach().clone())
            with torch.no_grad():
                for parameter in writer.model.parameters():
                    parameter.mul_(3)

    history = fit(writer, easy_zoo, LossConfig(), FitConfig(epochs=5), on_epoch=ruin_the_third)
    assert [record.is_best for record in history] == [True, True, True, False, False]
    assert torch.equal(writer.model.structure_head.weight, kept[0])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_full_figures() -> None:
    """The default zoo, without and with a common start, and the loss on outputs."""
    config = ZooConfig(meta_features=False)
    zoo = build_zoo(config)
    untrained = untrained_writer(zoo, ArchitectureConfig(), 0)
    print("\nuntrained, valid without the grammar:", share_valid_without_grammar(untrained, 200))
    assert share_valid_without_grammar(untrained, 200) < 0.15
    assert len(untrained.sample(200, generator())) == 200

    writer = untrained_writer(zoo, ArchitectureConfig(), 0)
    fit(writer, zoo, LossConfig(), FitConfig())
    figures = evaluate(writer, zoo, "test")
    print("trained:", json.dumps(figures))
    print("trained, valid without the grammar:", share_valid_without_grammar(writer, 200))
    assert len(writer.sample(200, generator())) == 200
    assert figures["exact_structure"] >= 0.95
    assert figures["weight_r2"] >= 0.40
    assert figures["function_correlation"] >= 0.50


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_what_a_common_start_is_worth() -> None:
    short = FitConfig(epochs=15)
    figures = {}
    for shared in (True, False):
        zoo = build_zoo(ZooConfig(meta_features=False, shared_initialisation=shared))
        writer = untrained_writer(zoo, ArchitectureConfig(), 0)
        fit(writer, zoo, LossConfig(), short)
        figures[shared] = evaluate(writer, zoo, "test")
        print(f"\nshared_initialisation={shared}:", json.dumps(figures[shared]))
    assert figures[True]["weight_r2"] > 0.3
    assert figures[False]["weight_r2"] < 0.1


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_what_the_loss_on_outputs_is_worth() -> None:
    zoo = build_zoo(ZooConfig(meta_features=False))
    figures = {}
    for loss in (LossConfig(), replace(LossConfig(), outputs=0.0)):
        writer = untrained_writer(zoo, ArchitectureConfig(), 0)
        fit(writer, zoo, loss, FitConfig(epochs=15))
        figures[loss.outputs] = evaluate(writer, zoo, "test")
        print(f"\noutputs={loss.outputs}:", json.dumps(figures[loss.outputs]))
    assert figures[LossConfig().outputs]["function_correlation"] > figures[0.0]["function_correlation"]

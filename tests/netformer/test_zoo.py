"""The zoo: random networks, random tasks, thousands of trainings at once, and the files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nas_system.errors import ConfigError, StateError
from nas_system.netformer.weights.zoo.generator import draw_layers, networks_from_layers
from nas_system.netformer.weights.zoo.regression_tasks import draw_tasks
from nas_system.netformer.weights.zoo.tiny_trainer import answers, train_layers
from nas_system.netformer.weights.zoo.zoo_building import build_zoo
from nas_system.netformer.weights.zoo.zoo_config import PARTS, ZooConfig
from nas_system.netformer.weights.zoo.zoo_files import Zoo, load_zoo, save_zoo

UNTRAINED = ZooConfig(networks=300, tasks=10, steps=0, rows=30, meta_features=False)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_networks_are_as_configured() -> None:
    config = replace(
        UNTRAINED, inputs=3, min_depth=2, max_depth=3, min_width=3, max_width=5, activations=("gelu", "sin")
    )
    networks = networks_from_layers(draw_layers(config, generator()))
    hidden = [[neuron.type for neuron in network.neurons[:-1]] for network in networks]
    assert {network.inputs for network in networks} == {3}
    assert {name for names in hidden for name in names} == {"gelu", "sin"}
    assert min(map(len, hidden)) >= 2 * 3 and max(map(len, hidden)) <= 3 * 5
    assert {len(network.neurons[0].parents) for network in networks} == {4}
    # All sizes are drawn, the largest network's too.
    sizes = {network.vertices for network in networks}
    assert min(sizes) <= 12 and max(sizes) == config.max_vertices


def test_no_network_needs_more_room_than_the_configuration_says() -> None:
    config = replace(UNTRAINED, min_width=4, min_depth=2)
    zoo = build_zoo(config)
    assert zoo.tokens.weight.shape[1] == config.max_tokens == int(zoo.tokens.lengths.max())


@pytest.mark.parametrize("density", [0.05, 0.5])
def test_thin_networks_are_still_networks(density: float) -> None:
    full = networks_from_layers(draw_layers(UNTRAINED, generator()))
    # Raises InvalidNetwork where a neuron has no parent, or no child.
    thin = networks_from_layers(draw_layers(replace(UNTRAINED, density=density), generator()))
    share = sum(len(network.edges) for network in thin) / sum(len(network.edges) for network in full)
    assert density < share < 0.85


def test_equal_places_start_from_equal_weights_unless_told_otherwise() -> None:
    def first_weights(shared: bool) -> set[float]:
        layers = draw_layers(replace(UNTRAINED, shared_initialisation=shared), generator())
        return {network.neurons[0].weights[1] for network in networks_from_layers(layers)}

    assert len(first_weights(True)) == 1
    assert len(first_weights(False)) == 300


def test_training_together_is_training_alone() -> None:
    config = replace(UNTRAINED, networks=20)
    layers = draw_layers(config, generator())
    tasks = draw_tasks(20, 30, 2, 0.05, generator(1))
    together = train_layers(layers, tasks.x, tasks.y, 30, 0.02)
    for row in (0, 13):
        one = type(layers)(*(part[row : row + 1] for part in layers))
        alone = train_layers(one, tasks.x[row : row + 1], tasks.y[row : row + 1], 30, 0.02)
        torch.testing.assert_close(alone.weight[0], together.weight[row], atol=1e-4, rtol=1e-3)


def test_training_fits_the_tasks_and_touches_no_padding() -> None:
    config = replace(UNTRAINED, networks=60, tasks=60)
    layers = draw_layers(config, generator())
    tasks = draw_tasks(60, 64, 2, 0.0, generator(1))
    seen: list[int] = []
    trained = train_layers(layers, tasks.x, tasks.y, 200, 0.02, on_step=lambda step, error: seen.append(step))
    before = (answers(layers, tasks.x) - tasks.y).square().mean(1)
    after = (answers(trained, tasks.x) - tasks.y).square().mean(1)
    assert seen == list(range(1, 201))
    assert float(after.median()) < 0.25 < float(before.median())
    assert (after < before).all()
    assert (trained.weight[~trained.mask] == 0).all()


def test_tasks_are_standardised_and_different() -> None:
    tasks = draw_tasks(50, 200, 3, 0.0, generator())
    assert tasks.x.shape == (50, 200, 3)
    torch.testing.assert_close(tasks.y.mean(1), torch.zeros(50), atol=1e-5, rtol=0)
    torch.testing.assert_close(tasks.y.std(1), torch.ones(50), atol=1e-4, rtol=0)
    assert len({round(float(value), 6) for value in tasks.y[:, 0]}) == 50


def test_the_same_seed_is_the_same_zoo() -> None:
    config = ZooConfig(networks=40, tasks=10, steps=20, rows=30, meta_features=False)
    first, second, other = (build_zoo(c) for c in (config, config, replace(config, seed=1)))
    assert torch.equal(first.tokens.weight, second.tokens.weight)
    assert torch.equal(first.tokens.structure, second.tokens.structure)
    assert not torch.equal(first.tokens.weight, other.tokens.weight)


def test_no_task_is_in_two_parts(small_zoo: Zoo) -> None:
    tasks = [set(small_zoo.task[small_zoo.part(name)].tolist()) for name in PARTS]
    assert [len(part) for part in tasks] == [16, 2, 2]
    assert len(set.union(*tasks)) == 20
    assert sum(len(small_zoo.part(name)) for name in PARTS) == len(small_zoo)


def test_a_zoo_survives_the_disk(small_zoo: Zoo, tmp_path: Path) -> None:
    save_zoo(small_zoo, tmp_path / "zoo")
    loaded = load_zoo(tmp_path / "zoo")
    assert loaded.config == small_zoo.config
    for name in ("task", "train_mse", "val_mse", "meta", "probes"):
        assert torch.equal(getattr(loaded, name), getattr(small_zoo, name))
    for first, second in zip(loaded.tokens, small_zoo.tokens, strict=True):
        assert torch.equal(first, second)


def test_the_index_says_what_was_made(small_zoo: Zoo, tmp_path: Path) -> None:
    save_zoo(small_zoo, tmp_path)
    index = json.loads((tmp_path / "index.json").read_text())
    assert ZooConfig.from_json(index["config"]) == small_zoo.config
    assert [entry["id"] for entry in index["networks"]] == list(range(200))
    entry, network = index["networks"][7], small_zoo.network(7)
    assert entry["types"] == [neuron.type for neuron in network.neurons]
    assert entry["edges"] == len(network.edges)
    assert entry["task"] == 7
    assert entry["val_mse"] == pytest.approx(float(small_zoo.val_mse[7]), abs=1e-5)


def test_a_damaged_zoo_is_refused(small_zoo: Zoo, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no zoo here; make one"):
        load_zoo(tmp_path)
    save_zoo(small_zoo, tmp_path)
    index = tmp_path / "index.json"
    good = index.read_text()
    for bad, complaint in (
        (good[:50], "is not JSON"),
        ('{"schema_version": 99}', "schema 99"),
        ("[]", "holds a list"),
        (good.replace('"inputs": 2', '"inputs": 200'), "inputs=200: must be from 1 to 8"),
        (good.replace('"inputs": 2', '"outputs": 2'), "settings do not fit"),
    ):
        index.write_text(bad)
        with pytest.raises(StateError, match=complaint):
            load_zoo(tmp_path)
    index.write_text(good)
    networks = tmp_path / "networks.pt"
    content = bytearray(networks.read_bytes())
    content[len(content) // 2] ^= 1
    networks.write_bytes(content)
    with pytest.raises(StateError, match="changed or damaged"):
        load_zoo(tmp_path)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"networks": 5}, "networks=5: must be from 10 to 100000"),
        ({"networks": True}, "must be of type int"),
        ({"lr": float("nan")}, "lr=nan"),
        ({"lr": "fast"}, "must be of type float"),
        ({"min_depth": 3}, "min_depth=3 is more than max_depth=2"),
        ({"min_width": 5}, "min_width=5 is more than max_width=4"),
        ({"tasks": 20, "networks": 10}, "some would be unused"),
        ({"activations": ("tanh", "softmax")}, "name each once, from linear"),
        ({"activations": ("tanh", "tanh")}, "name each once"),
        ({"activations": ()}, "name each once"),
    ],
)
def test_a_zoo_that_cannot_be_made_is_refused(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        ZooConfig(**changes)  # pyright: ignore[reportArgumentType]

"""Learning to write networks, from the first random network to samples from N(0, 1): about half a minute.

    python example/train_loop_example.py

Every step is also a command of `python -m nas_system.netformer`: zoo, train, eval, sample.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a bare checkout, too

import torch

from nas_system.netformer.weights.model.model_config import ArchitectureConfig, FitConfig, LossConfig
from nas_system.netformer.weights.model.writer_fitting import evaluate, fit, untrained_writer
from nas_system.netformer.weights.tokens import Tokens, network_from_tokens, tokens_from_network
from nas_system.netformer.weights.zoo.zoo_building import build_zoo
from nas_system.netformer.weights.zoo.zoo_config import ZooConfig


def main(networks: int = 600, tasks: int = 60, epochs: int = 30) -> None:
    torch.set_num_threads(1)

    # 1. A zoo: small random networks, trained together on random regression tasks. With the extra
    #    `netformer` installed, meta_features=True describes every task to the model.
    zoo = build_zoo(ZooConfig(networks=networks, tasks=tasks, steps=200, max_width=3, meta_features=False))
    print(f"zoo: {len(zoo)} networks, median validation error {zoo.val_mse.median():.3f}")

    # 2. Tokens: every network is a sentence, and comes back exactly.
    network = zoo.network(0)
    tokens: Tokens = tokens_from_network(network)
    assert network_from_tokens(tokens) == network
    print(f"network 0: {len(network.neurons)} neurons, {len(tokens.weight)} tokens")

    # 3. The model: encoder, latent tokens, decoder under a grammar.
    writer = untrained_writer(zoo, ArchitectureConfig(d_model=48), seed=0)
    print(f"untrained: {_line(evaluate(writer, zoo, 'test'))}")

    # 4. Training, with the mixed loss: structure, weights by sensitivity, and what networks compute.
    fit(
        writer,
        zoo,
        LossConfig(),
        FitConfig(epochs=epochs, batch_size=16, lr=0.004),
        on_epoch=lambda record: print(f"epoch {record.epoch + 1:2}: {_line(record.val)}"),
    )

    # 5. Evaluation on networks, and tasks, that the model has not seen.
    print(f"trained:   {_line(evaluate(writer, zoo, 'test'))}")

    # 6. Inference: latent tokens from the normal distribution become networks.
    for sample in writer.sample(3, torch.Generator().manual_seed(0)):
        hidden = ", ".join(neuron.type for neuron in sample.neurons[:-1])
        print(f"sample: {sample.inputs} inputs -> {hidden} -> output, {len(sample.edges)} weights")


def _line(figures: dict[str, float]) -> str:
    return " ".join(f"{name}={value:.3f}" for name, value in figures.items())


if __name__ == "__main__":
    main()

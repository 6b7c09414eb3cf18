"""Graphs through the engine's Trainer: the quick start, three kinds of task, exact repetition and resume."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from python_server import run_python

from nas_system.errors import StateError
from nas_system.graphs import get_dataset, get_model
from nas_system.training import Trainer, get_metrics, get_optimizer, get_scheduler, set_seed
from nas_system.training.batches import unpack

pytest.importorskip("torch_geometric", reason="needs the extra graphs")

from nas_system.graphs.pyg import import_pyg

QUICK_START = """
from nas_system.training import Trainer, get_optimizer, get_scheduler, get_loss_fn, get_metrics, set_seed
from nas_system.graphs import get_dataset
from nas_system.graphs import get_model
from torch_geometric.loader import DataLoader

set_seed(42)

dataset = get_dataset(name="zinc_synth", root="data/", train=40, val=10, test=10)
train_data, val_data, test_data = dataset.get_splits()

train_loader = DataLoader(train_data, batch_size=32, shuffle=True)
val_loader = DataLoader(val_data, batch_size=32)

model = get_model(
    name="graph_transformer",
    num_features=dataset.num_features,
    num_classes=dataset.num_classes,
    hidden_dim=256,
    num_layers=6,
)

optimizer = get_optimizer(model, optimizer_type="adamw", lr=1e-4)
scheduler = get_scheduler(optimizer, scheduler_type="cosine_warmup", total_epochs=100)

trainer = Trainer(
    model=model,
    optimizer=optimizer,
    scheduler=scheduler,
    task_type="regression",
    checkpoint_dir="checkpoints/",
)

history = trainer.fit(train_loader, val_loader, epochs=2)
print(len(history["val_loss"]), trainer.predict(DataLoader(test_data, batch_size=4)).shape)
"""
"""The seed's text, with fewer graphs and epochs, and a data set that needs no files."""


def loader(graphs: Any, batch_size: int = 16, **options: Any) -> Any:
    return import_pyg("torch_geometric.loader").DataLoader(graphs, batch_size=batch_size, **options)


def build(
    name: str = "ring_synth",
    *,
    seed: int = 1,
    encodings: tuple[str, ...] = ("laplacian",),
    relative: tuple[str, ...] = (),
    epochs: int = 4,
    model: dict[str, Any] | None = None,
    sizes: dict[str, int] | None = None,
    **options: Any,
) -> tuple[Trainer, Any, Any, Any]:
    """A trainer on a small data set, its loaders of training and validation, and the data set."""
    dataset = get_dataset(name, **(sizes or {"train": 52, "val": 22, "test": 2}))
    dataset = dataset.with_encodings([*encodings, *relative])
    train, val, _ = dataset.get_splits()
    set_seed(seed)
    network = get_model(
        "graph_transformer",
        dataset.num_features,
        dataset.num_classes,
        16,
        2,
        encodings=encodings,
        relative=relative,
        dropout=0.1,
        num_edge_types=dataset.num_edge_types,
        **(model or {}),
    )
    optimizer = get_optimizer(network, "adamw", lr=3e-3)
    trainer = Trainer(
        network,
        optimizer,
        get_scheduler(optimizer, "cosine_warmup", epochs, warmup_epochs=1),
        task_type=dataset.task_type,
        num_classes=dataset.num_classes if dataset.task_type == "classification" else None,
        device="cpu",
        **options,
    )
    return trainer, loader(train, shuffle=True), loader(val), dataset


def figures(history: dict[str, list[float]]) -> dict[str, list[float]]:
    return {name: values for name, values in history.items() if name != "seconds"}


def test_the_quick_start_runs_as_written_without_a_warning_of_ours(tmp_path: Path) -> None:
    done = run_python(["-c", QUICK_START], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(maxsplit=1) == ["2", "torch.Size([10, 1])\n"]
    assert (tmp_path / "checkpoints" / "best.pt").is_file()
    assert not (tmp_path / "data").exists()


def test_regression_takes_squared_error_and_its_metrics_by_itself() -> None:
    trainer, train, val, _ = build("zinc_synth", encodings=("random_walk",), epochs=3)
    history = trainer.fit(train, val, epochs=3)
    assert {"val_loss", "val_mse", "val_mae", "val_rmse"} < set(history)
    assert history["val_loss"] == pytest.approx(history["val_mse"], rel=1e-5)


def test_graphs_with_a_ring_of_six_are_told_from_others() -> None:
    sizes = {"train": 300, "val": 60, "test": 2}
    trainer, train, val, _ = build(encodings=("random_walk",), epochs=12, sizes=sizes)
    history = trainer.fit(train, val, epochs=12, metric_for_best="accuracy")
    assert {"val_loss", "val_accuracy", "val_f1", "val_roc_auc", "val_ap"} < set(history)
    assert trainer.engine.progress.best == max(history["val_accuracy"]) > 0.85


def test_links_are_predicted_better_than_by_chance() -> None:
    trainer, train, val, _ = build(
        "link_synth",
        encodings=("laplacian",),
        sizes={"graphs": 100},
        model={"level": "edge"},
        epochs=10,
    )
    history = trainer.fit(train, val, epochs=10, metric_for_best="roc_auc")
    assert {"val_loss", "val_roc_auc", "val_ap", "val_precision@10"} < set(history)
    assert max(history["val_roc_auc"]) > 0.75
    predictions = trainer.predict(val)
    labels = torch.cat([graph.edge_label for graph in val.dataset])
    assert predictions.shape == (len(labels), 1)
    whole = float(get_metrics("edge_prediction")["roc_auc"](predictions, labels))
    assert trainer.eval_epoch(val)["roc_auc"] == pytest.approx(whole)


def test_an_epochs_loss_counts_every_graph_once_whatever_batch_it_came_in() -> None:
    trainer, _, _, dataset = build("zinc_synth", encodings=())
    graphs = dataset.val
    target = torch.cat([graph.y for graph in graphs])
    uneven = loader(graphs, batch_size=20)
    assert [batch.num_graphs for batch in uneven] == [20, 2]
    errors = trainer.predict(uneven)[:, 0] - target
    assert trainer.eval_epoch(uneven)["loss"] == pytest.approx(errors.square().mean().item(), rel=1e-5)
    parts = [part.square().mean().item() for part in errors.split(20)]
    assert abs(sum(parts) / 2 - errors.square().mean().item()) > 1e-4


def test_an_epochs_loss_counts_every_asked_pair_once_whatever_graph_it_is_of() -> None:
    trainer, _, val, _ = build("link_synth", encodings=(), sizes={"graphs": 4}, model={"level": "edge"})
    graphs = [graph.clone() for graph in val.dataset]
    for graph, asked in zip(graphs, (2, 3, 4, 16), strict=True):
        graph.edge_label_index = graph.edge_label_index[:, :asked]
        graph.y = graph.edge_label = graph.edge_label[:asked]
    uneven = loader(graphs, batch_size=3)
    logits, labels = trainer.predict(uneven)[:, 0], torch.cat([graph.edge_label for graph in graphs])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
    assert trainer.eval_epoch(uneven)["loss"] == pytest.approx(expected.item(), rel=1e-5)
    by_batch = [
        torch.nn.functional.binary_cross_entropy_with_logits(*part).item()
        for part in zip(logits.split([9, 16]), labels.split([9, 16]), strict=True)
    ]
    assert abs((3 * by_batch[0] + by_batch[1]) / 4 - expected.item()) > 1e-4


def test_labels_of_pairs_go_before_what_is_known_of_the_graphs() -> None:
    graph = import_pyg().Data(
        x=torch.zeros(3, dtype=torch.long),
        edge_index=torch.zeros(2, 0, dtype=torch.long),
        y=torch.tensor([5.0]),
        edge_label=torch.tensor([1.0, 0.0]),
    )
    (batch,) = loader([graph, graph])
    unpacked = unpack(batch, torch.device("cpu"))
    assert (unpacked.target.tolist(), unpacked.n) == ([1, 0, 1, 0], 4)
    del graph.y
    (batch,) = loader([graph])
    assert unpack(batch, torch.device("cpu")).target.tolist() == [1, 0]
    del graph.edge_label
    (batch,) = loader([graph])
    with pytest.raises(TypeError, match="y or edge_label"):
        unpack(batch, torch.device("cpu"))


def test_the_same_seed_gives_the_same_history_and_another_seed_another() -> None:
    histories = []
    for seed in (1, 1, 2):
        trainer, train, val, _ = build(seed=seed)
        histories.append(figures(trainer.fit(train, val, epochs=3)))
    assert histories[0] == histories[1]
    assert histories[0] != histories[2]


def test_a_resumed_training_equals_an_uninterrupted_one_signs_and_dropout_included(tmp_path: Path) -> None:
    whole, train, val, _ = build()
    expected = figures(whole.fit(train, val, epochs=4))
    first, train, val, _ = build(checkpoint_dir=tmp_path)
    first.fit(train, val, epochs=2)
    resumed, train, val, _ = build(seed=9)
    assert resumed.load_checkpoint(tmp_path / "last.pt")["epoch"] == 1
    torch.rand(5)  # whatever happens before `fit` changes nothing
    assert figures(resumed.fit(train, val, epochs=4)) == expected
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


class _RunsCode:
    """What a pickle may do to whoever loads it without `weights_only`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    trainer, _, _, _ = build(checkpoint_dir=tmp_path)
    torch.save({"model": _RunsCode(tmp_path / "executed")}, tmp_path / "bad.pt")
    with pytest.raises(StateError, match=r"bad\.pt"):
        trainer.load_checkpoint("bad.pt")
    assert not (tmp_path / "executed").exists()


def test_mixed_precision_uses_nothing_that_torch_has_deprecated(project_root: Path) -> None:
    sources = [*(project_root / "nas_system").rglob("*.py")]
    assert len(sources) > 50
    assert [path.name for path in sources if "cuda.amp" in path.read_text(encoding="utf-8")] == []


def test_predictions_come_in_the_order_of_the_graphs_and_need_no_target() -> None:
    trainer, _, _, dataset = build("zinc_synth", encodings=())
    graphs = [graph.clone() for graph in dataset.val]
    expected = trainer.predict(loader(graphs, batch_size=1))
    for graph in graphs:
        del graph.y
    torch.testing.assert_close(trainer.predict(loader(graphs, batch_size=16)), expected, atol=1e-5, rtol=1e-4)


def test_bfloat16_trains_with_biases_and_message_passing() -> None:
    trainer, train, val, _ = build(relative=("shortest_path",), mixed_precision="bf16")
    history = trainer.fit(train, val, epochs=4)
    assert all(math.isfinite(value) for value in history["val_loss"])
    assert history["train_loss"][-1] < history["train_loss"][0]


def test_a_misspelt_metric_is_refused_before_the_first_step() -> None:
    trainer, train, val, _ = build()
    with pytest.raises(ValueError, match="metric_for_best='acuracy' is not measured; choose from: loss"):
        trainer.fit(train, val, epochs=1, metric_for_best="acuracy")
    assert trainer.global_step == 0

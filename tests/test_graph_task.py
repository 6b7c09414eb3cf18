"""A task on graphs from its facts to the hold-out score, by the programs that a search starts."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from python_server import run_python

pytest.importorskip("torch_geometric", reason="needs the extra graphs")

import torch

from nas_system.config_io.config_file import read_config, write_config
from nas_system.errors import ConfigError
from nas_system.graphs.baselines import counts_of, simple_predictions, targets_of
from nas_system.graphs.task_graphs import load_graphs, locate_graphs
from nas_system.model import build_model
from nas_system.space import GraphRegressionTask, GraphShape, RunConfig, SeriesShape, family_default
from nas_system.tasks import kind_of
from nas_system.training.build import build_engine
from nas_system.training.objectives import GraphRegression

SMALL = GraphRegressionTask(train_graphs=96, val_graphs=40, test_graphs=30)
FILES = {
    "attention.png",
    "best_model.pth",
    "config_used.py",
    "history.json",
    "learning_curve.png",
    "metrics.json",
    "predictions.png",
    "val_errors.npy",
}


def config(**model: Any) -> RunConfig:
    """Small graphs, a small model, two epochs."""
    base = family_default("graph_transformer").model_dump()
    base["model"] |= {"hidden_dim": 16, "num_layers": 2, "heads": 2} | model
    base["training"] |= {"max_epochs": 2}
    base["task"] = SMALL.model_dump()
    return RunConfig.model_validate(base)


def call(module: str, *arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return run_python(["-m", module, *map(str, arguments)], cwd=folder)


def train(folder: Path, tag: str, config: RunConfig, *flags: str) -> subprocess.CompletedProcess[str]:
    write_config(folder / "config.py", config)
    return call("nas_system.train", "--config", "config.py", "--tag", tag, *flags, folder=folder)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("facts")
    sizes = ("--train-graphs", "96", "--val-graphs", "40", "--test-graphs", "30")
    done = call("nas_system.describe", "--task", "zinc_synth", *sizes, "--out", "facts.json", folder=folder)
    assert done.returncode == 0, done.stderr
    assert "96 train, 40 val, 30 test, 400 hold-out" in done.stdout
    return folder / "facts.json"


TRAINED = config(random_walk=True, shortest_path=True)


@pytest.fixture(scope="module")
def trained(facts: Path) -> tuple[Path, str]:
    """The folder of one training, and what it said."""
    done = train(facts.parent, "one", TRAINED, "--facts", str(facts))
    assert done.returncode == 0, done.stderr
    return facts.parent / "runs" / "one", done.stdout


def test_a_training_judged_by_the_absolute_error_leaves_every_file(trained: tuple[Path, str]) -> None:
    run, said = trained
    assert {path.name for path in run.iterdir()} == FILES
    metrics, history = read(run / "metrics.json"), read(run / "history.json")
    assert (metrics["metric"], metrics["direction"], metrics["reason"]) == (
        "val_mae",
        "minimize",
        "completed",
    )
    assert metrics["val_mae"] == min(epoch["val_mae"] for epoch in history["epochs"])
    assert 0 < metrics["test_mae"] < 3
    assert set(history["epochs"][0]) == {
        *("epoch", "train_mae", "val_mae", "train_score", "val_score", "lr", "seconds")
    }
    assert "mse" not in said, "people are told the task's error"
    assert read_config(run / "config_used.py") == TRAINED, "what has no effect stays as it was"


def test_one_seed_gives_one_history_also_after_an_interruption(tmp_path: Path) -> None:
    """The order of the graphs and the signs of the eigenvectors are part of what a checkpoint remembers."""
    wanted = config(laplacian=True)
    problem = kind_of(wanted.task).open(wanted, None, None, torch.device("cpu"))

    def history(seed: int, *stops: int) -> list[tuple[float, float]]:
        state: dict[str, Any] | None = None
        for epochs in stops:
            engine = build_engine(wanted.model_copy(update={"seed": seed}), problem, torch.device("cpu"))
            if state is not None:
                engine.load_state_dict(state)
            assert engine.generator is not None
            engine.fit(problem.training_batches(engine.generator), problem.batches("val", 128), epochs)
            state = engine.state_dict()
        return [(record.train["mae"], record.val["mae"]) for record in engine.history]

    whole = history(42, 2)
    assert train(tmp_path, "one", wanted, "--threads", "1").returncode == 0
    epochs = read(tmp_path / "runs" / "one" / "history.json")["epochs"]
    assert [(epoch["train_mae"], epoch["val_mae"]) for epoch in epochs] == whole, "in another process"
    assert history(42, 1, 2) == whole
    assert history(43, 2) != whole


def test_baseline_rows_are_what_they_are_called(facts: Path) -> None:
    rows = {row["name"]: row for row in read(facts)["baselines"]}
    assert list(rows) == ["mean", "type counts", "no encodings"]
    assert all(set(row) == {"name", "val_mae", "test_mae"} for row in rows.values())
    graphs = load_graphs(locate_graphs(SMALL), SMALL)
    y = {part: targets_of(getattr(graphs, part)).numpy() for part in ("train", "val", "test")}
    assert rows["mean"]["val_mae"] == pytest.approx(np.abs(y["val"] - y["train"].mean()).mean(), rel=1e-5)
    table = np.c_[counts_of(graphs.train, graphs).numpy(), np.ones(96)]
    weights = np.linalg.lstsq(table.T @ table + 1e-3 * np.eye(14), table.T @ y["train"], rcond=None)[0]
    guessed = np.c_[counts_of(graphs.test, graphs).numpy(), np.ones(30)] @ weights
    assert rows["type counts"]["test_mae"] == pytest.approx(np.abs(guessed - y["test"]).mean(), rel=1e-5)
    assert set(simple_predictions(graphs)) == {"mean", "type counts"}


def test_the_row_without_encodings_is_the_default_trained(facts: Path, tmp_path: Path) -> None:
    default = family_default("graph_transformer").model_copy(update={"task": SMALL})
    assert train(tmp_path, "default", default, "--threads", "1").returncode == 0
    row = next(row for row in read(facts)["baselines"] if row["name"] == "no encodings")
    metrics = read(tmp_path / "runs" / "default" / "metrics.json")
    assert {name: metrics[name] for name in ("val_mae", "test_mae")} == pytest.approx(
        {name: row[name] for name in ("val_mae", "test_mae")}, rel=1e-5
    )


def test_the_hold_out_graphs_are_others_and_are_scored_when_asked_for(
    facts: Path, trained: tuple[Path, str]
) -> None:
    graphs = load_graphs(locate_graphs(SMALL), SMALL, hold_out=True)
    known = {graph.x.numpy().tobytes() + graph.edge_index.numpy().tobytes() for graph in graphs.train}
    hold_out = [graph.x.numpy().tobytes() + graph.edge_index.numpy().tobytes() for graph in graphs.hold_out]
    assert len(hold_out) == 400
    assert not known & set(hold_out)
    done = call("nas_system.score", "--run", trained[0], "--facts", facts, folder=facts.parent)
    assert done.returncode == 0, done.stderr
    score = json.loads(done.stdout)
    assert score["graphs"] == 400
    assert 0 < score["hold_out_mae"] < 3
    assert [row["name"] for row in score["baselines"]] == ["mean", "type counts", "no encodings"]
    assert all(set(row) == {"name", "hold_out_mae"} for row in score["baselines"])


def test_zinc_without_its_files_names_them_and_what_to_take_instead(tmp_path: Path) -> None:
    done = call("nas_system.describe", "--task", "zinc", "--data-dir", tmp_path, folder=tmp_path)
    assert done.returncode == 2
    for word in ("train.pickle", "train.index", "val.pt", str(tmp_path), "zinc_synth"):
        assert word in done.stderr, word


def test_generated_graphs_are_those_of_the_search_or_refused() -> None:
    source = locate_graphs(SMALL)
    assert load_graphs(source, SMALL).name == "zinc_synth"
    other = SMALL.model_copy(update={"val_graphs": 41})
    with pytest.raises(ConfigError, match="generated otherwise"):
        load_graphs(source, other)


def test_the_objective_decides_by_the_absolute_error() -> None:
    output, target = torch.tensor([[1.0], [4.0]]), torch.tensor([[0.0], [1.0]])
    objective = GraphRegression("mse")
    assert objective.names[0] == GraphRegressionTask().metric_name == "mae"
    assert objective.report(output, target, None).tolist() == [2.0, 5.0]
    assert objective.loss(output, target, None).item() == 5.0
    with pytest.raises(ValueError, match="cannot be compared"):
        objective.report(output, target.flatten(), None)


def test_a_model_and_a_shape_of_two_kinds_are_refused() -> None:
    with pytest.raises(ConfigError, match="a GraphShape"):
        build_model(config())
    with pytest.raises(ConfigError, match="a GraphShape"):
        build_model(config(), SeriesShape(24, 4, 1, (0,)))
    with pytest.raises(ConfigError, match="needs a SeriesShape"):
        build_model(RunConfig(), GraphShape(9, 4))


def test_a_forecaster_asked_of_a_run_on_graphs_says_what_it_is(trained: tuple[Path, str]) -> None:
    done = call("nas_system.predict", "--run", trained[0], folder=trained[0].parent)
    assert done.returncode == 2
    assert "no series to forecast" in done.stderr
    assert "Traceback" not in done.stderr

"""`scripts/train.py` and `scripts/evaluate.py` from another folder, as people call them."""

import json

import pytest
import yaml
from python_server import run_python

pytest.importorskip("hydra", reason="needs the extra hydra")

# A step schedule does not depend on the number of epochs, so a shorter training is the start of a longer one.
SHORT = ("dataset.rows=600", "device=cpu", "training.scheduler.type=step")


@pytest.fixture(scope="module")
def run(project_root):
    def run(script, *overrides, cwd, code=0):
        done = run_python([str(project_root / "scripts" / script), *overrides], cwd=cwd)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def trained(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("elsewhere")
    done = run("train.py", "dataset=tabular_synth", "model=mlp", *SHORT, "training.epochs=3", cwd=folder)
    return folder, json.loads(done.stdout.splitlines()[-1])


def test_a_training_leaves_its_files_in_one_folder(trained):
    folder, metrics = trained
    assert [path.name for path in folder.iterdir()] == ["logs"]
    output = folder / "logs" / "tabular_synth_mlp"
    assert {path.name for path in output.iterdir()} == {
        "checkpoints", "history.json", "hydra", "metrics.json", "train.log"
    }  # fmt: skip
    history = json.loads((output / "history.json").read_text())
    assert metrics == json.loads((output / "metrics.json").read_text())
    assert metrics["reason"] == "completed"
    assert metrics["best_metric"] == min(history["val_loss"])
    assert len(history["val_loss"]) == 3
    assert "epoch 2: train_loss=" in (output / "train.log").read_text()


def test_evaluation_scores_the_best_epoch_and_writes_nothing(trained, run, tmp_path):
    _, metrics = trained
    done = run("evaluate.py", f"checkpoint={metrics['checkpoint']}", "split=val", "device=cpu", cwd=tmp_path)
    figures = json.loads(done.stdout)
    assert figures["epoch"] == metrics["best_epoch"]
    assert figures["loss"] == pytest.approx(metrics["best_metric"], rel=1e-6)
    assert list(tmp_path.iterdir()) == []


def test_a_resumed_training_equals_an_uninterrupted_one(trained, run, tmp_path):
    run("train.py", *SHORT, "training.epochs=1", "output_dir=parts", cwd=tmp_path)
    run("train.py", *SHORT, "training.epochs=3", "output_dir=parts", "resume=true", cwd=tmp_path)
    whole = json.loads((trained[0] / "logs" / "tabular_synth_mlp" / "history.json").read_text())
    parts = json.loads((tmp_path / "parts" / "history.json").read_text())
    assert whole["train_loss"] == parts["train_loss"]
    assert whole["val_loss"] == parts["val_loss"]


def test_a_forecast_trains_with_a_family_of_the_search(run, tmp_path):
    overrides = ("dataset=synthetic", "model=linear", "training.epochs=1", "device=cpu")
    done = run("train.py", *overrides, cwd=tmp_path)
    metrics = json.loads(done.stdout.splitlines()[-1])
    assert 0 < metrics["best_metric"] < 1


GRAPHS = ("model=graph_transformer", "model.parameters.hidden_dim=16", "model.parameters.num_layers=1")


@pytest.mark.parametrize(
    ("dataset", "figure"),
    [
        (("dataset=zinc_synth", "dataset.options.train=60", "dataset.options.val=20"), "mae"),
        (("dataset=ring_synth", "dataset.options.train=60", "dataset.options.val=20"), "roc_auc"),
        (("dataset=link_synth", "dataset.options.graphs=20"), "roc_auc"),
    ],
)
def test_graphs_are_trained_and_judged_with_their_encodings(run, tmp_path, dataset, figure):
    pytest.importorskip("torch_geometric", reason="needs the extra graphs")
    done = run("train.py", *dataset, *GRAPHS, "pe=default", "training.epochs=2", "device=cpu", cwd=tmp_path)
    metrics = json.loads(done.stdout.splitlines()[-1])
    done = run("evaluate.py", f"checkpoint={metrics['checkpoint']}", "device=cpu", cwd=tmp_path)
    figures = json.loads(done.stdout)
    assert figures["split"] == "test"
    assert figures[figure] >= 0


def test_zinc_without_its_files_says_which_and_what_to_take_instead(run, tmp_path):
    pytest.importorskip("torch_geometric", reason="needs the extra graphs")
    done = run("train.py", "dataset=zinc", "model=graph_transformer", "pe=default", cwd=tmp_path, code=2)
    assert "train.pickle" in done.stderr
    assert "zinc_synth" in done.stderr


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (("dataset=synthetic", "model=mlp"), "model=mlp is for tabular data"),
        (("dataset=zinc_synth", "model=mlp"), "dataset=zinc_synth is graph"),
        (("pe.name=laplacian",), "pe=laplacian is for graphs"),
        (("training.metric_for_best=val_mea", "device=cpu"), "choose from: loss, mse, mae, rmse"),
    ],
)
def test_what_does_not_fit_together_is_told_in_one_line(run, tmp_path, overrides, told):
    done = run("train.py", *overrides, cwd=tmp_path, code=2)
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_evaluation_asks_for_its_checkpoint(run, tmp_path):
    done = run("evaluate.py", cwd=tmp_path, code=2)
    assert done.stderr.startswith("error: which checkpoint?")


def test_every_configuration_is_named_like_its_file(project_root):
    configs = project_root / "nas_system" / "configs"
    files = [path for group in ("dataset", "model", "pe") for path in (configs / group).glob("*.yaml")]
    assert len(files) >= 5
    assert [path for path in files if yaml.safe_load(path.read_text())["name"] != path.stem] == []

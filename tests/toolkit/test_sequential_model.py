"""Sequence models on tables: they learn, they do not look ahead, and what is saved predicts the same."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from python_server import run_python

from nas_system.errors import ConfigError, StateError
from nas_system.model import MODELS
from nas_system.toolkit.models import (
    CNNLSTMModel,
    GRUModel,
    InformerModel,
    LSTMModel,
    Seq2SeqAttentionModel,
    TCNModel,
    TFTModel,
)
from nas_system.toolkit.sequential_model import BaseSequentialModel
from nas_system.toolkit.table_models.networks import NETWORKS
from nas_system.training.checkpoint import save_checkpoint

LENGTH = 8
SMALL = {"hidden_size": 16, "num_layers": 2, "seq_length": LENGTH, "dropout": 0.0}
SHORT = {"epochs": 15, "batch_size": 32, "learning_rate": 5e-3, "device": "cpu"}
NAMED = {
    "lstm": LSTMModel,
    "gru": GRUModel,
    "seq2seq_attention": Seq2SeqAttentionModel,
    "tcn": TCNModel,
    "tft": TFTModel,
    "informer": InformerModel,
    "cnn_lstm": CNNLSTMModel,
}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Noise around 30; what comes next is decided by the four rows before."""
    index = pd.date_range("2024-01-01", periods=900, freq="h", name="time")
    noise = np.random.default_rng(0).normal(30, 5, (900, 3))
    return pd.DataFrame(noise, index=index, columns=["a", "b", "c"])


@pytest.fixture(scope="module")
def load(table) -> pd.Series:
    """100 + the deviation of the last four rows' a from 30, added up: known before its own row."""
    return (100 + (table["a"] - 30).rolling(4).sum().shift(1)).fillna(100).rename("load")


@pytest.fixture(scope="module")
def moves(load) -> pd.Series:
    return pd.Series(np.where(load > 100, "up", "down"), index=load.index, name="move")


def model_of(family, **options):
    arguments = SMALL | SHORT | options
    if family in ("informer", "tft"):
        arguments |= {"n_heads": 2}
    if family == "tft":
        pytest.importorskip("pytorch_forecasting")
        arguments |= {"num_layers": 1, "epochs": 8}
    cls = NAMED.get(family)
    return cls(3, **arguments) if cls else BaseSequentialModel(3, family=family, **arguments)


@pytest.fixture(scope="module")
def regressor(table, load):
    return model_of("gru", epochs=4).fit(table, load)


@pytest.fixture(scope="module")
def classifier(table, moves):
    return model_of("gru", task="classification", epochs=4).fit(table, moves)


# --- learning -------------------------------------------------------------------------------


@pytest.mark.parametrize("family", NETWORKS)
def test_every_family_learns_a_regression(family, table, load):
    """Against the mean predictor, on rows that neither training nor the choice of the epoch has seen."""
    model = model_of(family).fit(table[:700], load[:700])
    forecast = model.predict(table[700:])
    truth = load[forecast.index]
    assert ((forecast - truth) ** 2).mean() < 0.2 * truth.var()


@pytest.mark.parametrize("family", ["tcn", "cnn_lstm"])
def test_classes_are_learnt_from_the_sign_of_a_sum(family, table, moves):
    model = model_of(family, task="classification", epochs=25).fit(table[:700], moves[:700])
    predicted = model.predict(table[700:])
    assert (predicted == moves[predicted.index]).mean() > 0.9
    assert max(model.history["val_accuracy"]) > 0.9


def test_two_frequencies_are_told_apart():
    """Whole numbers as labels, an array instead of a table."""
    labels = np.random.default_rng(1).integers(0, 2, 60).repeat(40)
    phase = np.cumsum(np.where(labels == 1, 1.2, 0.5))
    model = LSTMModel(1, 16, 1, 16, 0.0, task="classification", bidirectional=True, **SHORT)
    model.fit(np.sin(phase)[:1800], labels[:1800])
    predicted = model.predict(np.sin(phase)[1800:])
    assert predicted.index.tolist() == list(range(16, 600))
    assert (predicted.to_numpy() == labels[1816:]).mean() > 0.9
    assert model.classes == (0, 1)


def test_several_columns_are_predicted_at_once(table, load):
    targets = pd.DataFrame({"load": load, "twice": -2 * load})
    model = model_of("tcn").fit(table[:700], targets[:700])
    forecast = model.predict(table[700:])
    assert list(forecast.columns) == ["load", "twice"]
    errors = (forecast - targets.loc[forecast.index]) ** 2
    assert (errors.mean() < 0.2 * targets.var()).all()


def test_bidirectional_has_twice_the_states(table, load):
    one, both = (
        model_of("lstm", bidirectional=value, epochs=1, num_layers=1).fit(table, load)
        for value in (False, True)
    )
    sizes = [sum(p.numel() for p in model.network.parameters()) for model in (one, both)]
    assert sizes[1] == 2 * sizes[0] - 1  # the bias of the output is there once


# --- which rows are read and predicted ------------------------------------------------------


def test_predictions_carry_the_labels_of_their_rows(regressor, table):
    forecast = regressor.predict(table)
    assert forecast.index.equals(table.index[LENGTH:])
    assert forecast.index.name == "time"
    assert forecast.name == "load"


def test_a_prediction_reads_the_rows_before_its_own_and_no_other(regressor, table):
    before, row = regressor.predict(table), 500
    changed = table.copy()
    changed.iloc[row:] = 1e6
    after = regressor.predict(changed)
    same = (before == after).to_numpy()
    assert same[: row - LENGTH + 1].all(), "the row itself is not read"
    assert not same[row - LENGTH + 1]
    changed = table.copy()
    changed.iloc[: row - LENGTH] = -50.0
    assert regressor.predict(changed).iloc[row - LENGTH :].equals(before.iloc[row - LENGTH :])


def test_a_single_prediction_is_the_one_from_the_whole_table(regressor, table):
    whole = regressor.predict(table)
    window = regressor.predict(table[100 : 100 + LENGTH + 1])
    assert window.index.equals(table.index[[100 + LENGTH]])
    assert window.iloc[0] == pytest.approx(whole[window.index[0]], rel=1e-5)


def test_a_short_table_is_padded_and_gives_its_last_row(regressor, table):
    forecast = regressor.predict(table[:5])
    assert forecast.index.equals(table.index[[4]])
    padded = pd.concat([table[:1]] * (LENGTH - 4) + [table[:5]], ignore_index=True)
    assert forecast.iloc[0] == pytest.approx(regressor.predict(padded).iloc[0], rel=1e-6)


def test_prepared_sequences_are_the_scaled_windows(regressor, table):
    windows = regressor.prepare_sequences(table)
    assert windows.shape == (len(table) - LENGTH, LENGTH, 3)
    assert windows.dtype == torch.float32
    train = table[:720]
    expected = ((table - train.mean()) / train.std(ddof=0)).to_numpy()
    assert torch.allclose(
        windows[-1], torch.tensor(expected[-LENGTH - 1 : -1], dtype=torch.float32), atol=1e-5
    )
    plain = model_of("gru").prepare_sequences(table)
    assert torch.allclose(plain[0], torch.tensor(table[:LENGTH].to_numpy(), dtype=torch.float32))


class ProgressTracker:
    """Sees the engine of a training."""

    def __init__(self):
        self.records = []

    def epoch_ended(self, engine, record):
        self.records.append(record)

    def fit_ended(self, engine, reason):
        self.reason = reason


def test_held_out_rows_change_nothing_but_the_validation(table, load):
    """Poisoned, the last fifth leaves scaling and every training figure as they were."""
    watches = ProgressTracker(), ProgressTracker()
    poisoned_x, poisoned_y = table.copy(), load.copy()
    poisoned_x.iloc[720:] = 1e3
    poisoned_y.iloc[720:] = -1e3
    for watch, X, y in zip(watches, (table, poisoned_x), (load, poisoned_y), strict=True):
        model_of("cnn_lstm", epochs=3, callbacks=[watch]).fit(X, y)
    clean, poisoned = (watch.records for watch in watches)
    assert [record.train for record in clean] == [record.train for record in poisoned]
    assert [record.val for record in clean] != [record.val for record in poisoned]
    assert watches[0].reason == "completed"


def test_given_validation_data_stands_for_itself(table, load):
    same = model_of("cnn_lstm", epochs=3).fit(table, load)
    given = model_of("cnn_lstm", epochs=3).fit(
        table[:720], load[:720], table[720 - LENGTH :], load[720 - LENGTH :]
    )
    assert {k: v for k, v in same.history.items() if k != "seconds"} == {
        k: v for k, v in given.history.items() if k != "seconds"
    }


def test_the_best_epoch_is_kept_and_patience_ends_the_training(table):
    noise = pd.Series(np.random.default_rng(3).normal(size=900), index=table.index)
    model = model_of("gru", early_stopping=3, epochs=50, learning_rate=0.02, scheduler="none").fit(
        table, noise
    )
    curve = model.history["val_mse"]
    assert model.stop_reason == "early_stopping"
    assert len(curve) == int(np.argmin(curve)) + 4
    forecast = model.predict(table[720 - LENGTH :])
    scale = noise[:720].std(ddof=0)
    error = ((forecast - noise[720:]) ** 2).mean() / scale**2
    assert error == pytest.approx(min(curve), rel=1e-4)


def test_without_held_out_rows_the_training_figures_decide(table, load):
    model = model_of("cnn_lstm", epochs=2, validation_share=0.0).fit(table, load)
    assert not [name for name in model.history if name.startswith("val_")]


# --- the same again -------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"augmentation": "jitter", "dropout": 0.2, "scheduler": "cosine"}])
def test_the_same_seed_gives_the_same_numbers_and_leaves_the_world_alone(table, load, options):
    def curve(seed):
        history = model_of("gru", epochs=2, seed=seed, **options).fit(table, load).history
        return {name: values for name, values in history.items() if name != "seconds"}

    torch.manual_seed(0)
    first = curve(1)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert curve(1) == first
    assert curve(2) != first
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), drawn)


def test_a_second_fit_starts_anew(table, load):
    model = model_of("cnn_lstm", epochs=2)
    first = model.fit(table, load).predict(table)
    assert model.fit(table, load).predict(table).equals(first)


@pytest.mark.parametrize("augmentation", ["jitter", "scaling", "time_warp", "channel_dropout"])
def test_augmentation_varies_the_training_only(table, load, augmentation):
    watches = ProgressTracker(), ProgressTracker()
    for watch, name in zip(watches, ("none", augmentation), strict=True):
        options = {"augmentation": name, "augmentation_strength": 0.3, "learning_rate": 1e-5}
        model_of("cnn_lstm", epochs=1, scheduler="none", callbacks=[watch], **options).fit(table, load)
    (plain,), (varied,) = (watch.records for watch in watches)
    assert varied.train["mse"] != plain.train["mse"]
    # A rate of nearly nothing: the two networks are the same, and so is what they are judged on.
    assert varied.val["mse"] == pytest.approx(plain.val["mse"], rel=1e-3)


def test_the_rate_follows_the_schedule_over_all_steps(table, load):
    history = model_of("cnn_lstm", epochs=10, early_stopping=None).fit(table, load).history
    rates = history["lr"]
    assert rates[0] == pytest.approx(5e-3 / 25)
    assert np.argmax(rates) in (2, 3)
    assert rates[-1] < 1e-3


def test_mixed_precision_learns(table, load):
    model = model_of("tcn", mixed_precision=True).fit(table[:700], load[:700])
    forecast = model.predict(table[700:])
    assert ((forecast - load[forecast.index]) ** 2).mean() < 0.2 * load.var()


# --- files ----------------------------------------------------------------------------------


def test_a_saved_regression_predicts_the_same(regressor, table, tmp_path):
    path = regressor.save(tmp_path / "model.pt")
    for again in (GRUModel.load(path, device="cpu"), BaseSequentialModel.load(path, device="cpu")):
        assert again.predict(table).equals(regressor.predict(table))
        assert again.history == regressor.history
        assert again.settings == regressor.settings


def test_a_saved_classification_keeps_its_labels(classifier, table, tmp_path):
    again = GRUModel.load(classifier.save(tmp_path / "model.pt"), device="cpu")
    assert again.predict(table).equals(classifier.predict(table))
    assert again.predict_proba(table).equals(classifier.predict_proba(table))
    assert again.classes == ("down", "up")


def test_probabilities_belong_to_the_predicted_classes(classifier, table):
    probabilities = classifier.predict_proba(table)
    assert list(probabilities.columns) == ["down", "up"]
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert probabilities.idxmax(axis=1).equals(classifier.predict(table).rename(None))


def test_foreign_files_are_refused(regressor, tmp_path):
    path = regressor.save(tmp_path / "model.pt")
    with pytest.raises(StateError, match=r"family 'gru'; load it with BaseSequentialModel\.load"):
        LSTMModel.load(path)
    save_checkpoint(tmp_path / "other.pt", {"model": {}})
    with pytest.raises(StateError, match="of no sequence model"):
        GRUModel.load(tmp_path / "other.pt")


def test_columns_are_found_by_name(regressor, table):
    mixed = table[["c", "a", "b"]].assign(unused=0.0)
    assert regressor.predict(mixed).equals(regressor.predict(table))
    with pytest.raises(ValueError, match=r"X lacks columns the model was trained on: \['b'\]"):
        regressor.predict(table[["c", "a"]])
    with pytest.raises(ValueError, match="X has 2 columns; the model was trained on 3"):
        regressor.predict(table.to_numpy()[:, :2])


ORIGINAL = """
model_type: lstm
task: classification

architecture:
  input_size: auto  # from the data
  hidden_size: 128
  num_layers: 2
  seq_length: 50
  dropout: 0.2
  bidirectional: false

training:
  batch_size: 128
  epochs: 100
  learning_rate: 1e-3
  optimizer: adam
  scheduler: onecycle
  early_stopping: 10

device: gpu
mixed_precision: true
"""


def test_the_original_file_describes_a_model(tmp_path):
    path = tmp_path / "lstm.yaml"
    path.write_text(ORIGINAL)
    for model in (
        LSTMModel.from_config(path, device="cpu"),
        BaseSequentialModel.from_config(path, device="cpu", input_size=4),
    ):
        settings = model.settings
        assert (settings.family, settings.task, settings.seq_length) == ("lstm", "classification", 50)
        assert (settings.hidden_size, settings.num_layers, settings.dropout) == (128, 2, 0.2)
        assert settings.architecture == {"bidirectional": False}
        assert (settings.batch_size, settings.epochs, settings.learning_rate) == (128, 100, 1e-3)
        assert (settings.scheduler, settings.early_stopping, settings.mixed_precision) == (
            "onecycle",
            10,
            True,
        )
    assert settings.input_size == 4
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="0 CUDA devices"):
            LSTMModel.from_config(path)
    with pytest.raises(ConfigError, match="GRUModel is of the family 'gru', not 'lstm'"):
        GRUModel.from_config(path, device="cpu")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("model_type: lstm", "family: lstm", "a mapping with model_type"),
        ("model_type: lstm", "model_type: lstn", "family='lstn' is not known"),
        ("model_type: lstm", "model_type: linear", "forecasts a series from its own past"),
        ("hidden_size: 128", "hiden_size: 128", "architecture lacks hidden_size"),
        ("  bidirectional: false", "  kernel_size: 3", "no setting 'kernel_size'"),
        ("  epochs: 100", "  epoch: 100", "training has no key 'epoch'; did you mean epochs"),
        ("  dropout: 0.2", "  epochs: 3", "architecture has no key 'epochs'; it belongs to training"),
        ("learning_rate: 1e-3", "learning_rate: fast", "learning_rate='fast'"),
        ("learning_rate: 1e-3", "learning_rate: 7", "lr=7"),
        ("scheduler: onecycle", "scheduler: twocycle", "scheduler='twocycle'"),
        ("training:", "training: [", "not valid YAML"),
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path, old, new, said):
    path = tmp_path / "lstm.yaml"
    path.write_text(ORIGINAL.replace(old, new))
    with pytest.raises(ConfigError, match=said):
        BaseSequentialModel.from_config(path, device="cpu")


# --- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "options", "said"),
    [
        (None, {}, "family=None is not known; choose from: lstm"),
        ("itransformer", {}, "forecasts a series from its own past"),
        ("lstm", {"learning_rat": 1e-3}, "did you mean learning_rate"),
        ("informer", {"d_model": 8}, "here it is hidden_size"),
        ("informer", {"hidden_size": 10, "n_heads": 4}, "not divisible"),
        ("informer", {"embed": "fixed"}, "reads a calendar"),
        ("tcn", {"seq_length": 400}, "raise num_layers or kernel_size"),
        ("lstm", {"dropout": 2.0}, "dropout=2.0"),
        ("lstm", {"task": "ranking"}, "task='ranking'"),
        ("lstm", {"task": "classification", "loss": "mae"}, "cross-entropy"),
        ("lstm", {"augmentation": "mixup"}, "augmentation='mixup'"),
        ("lstm", {"device": "cuda:99"}, "CUDA devices"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_any_training(family, options, said):
    with pytest.raises(ConfigError, match=said):
        BaseSequentialModel(3, **({"family": family, "device": "cpu"} | SMALL | options))


def test_data_that_do_not_fit_are_refused(table, load, moves):
    model = model_of("gru")
    with pytest.raises(ValueError, match="call fit first"):
        model.predict(table)
    with pytest.raises(ValueError, match="3 columns, but input_size=4"):
        BaseSequentialModel(4, family="gru", **SMALL).fit(table, load)
    with pytest.raises(ValueError, match="X has 900 rows and y 800"):
        model.fit(table, load[:800])
    with pytest.raises(ValueError, match="different labels"):
        model.fit(table, load[::-1])
    with pytest.raises(ValueError, match="10 rows are too few"):
        model.fit(table[:10], load[:10])
    with pytest.raises(ValueError, match="given together"):
        model.fit(table, load, X_val=table)
    with pytest.raises(ValueError, match=r"row 4 \(2024-01-01 04:00:00\), column 'load' is nan"):
        model.fit(table, load.where(load.index != load.index[4]))
    with pytest.raises(ValueError, match="y holds something that is no number"):
        model.fit(table, moves)
    chooser = model_of("gru", task="classification")
    with pytest.raises(ValueError, match=r"labels are text or whole numbers"):
        chooser.fit(table, load)
    with pytest.raises(ValueError, match="y holds 1 classes"):
        chooser.fit(table, moves.where(moves == "up", "up"))
    with pytest.raises(ValueError, match="y_val holds the class 'sideways', which y does not"):
        chooser.fit(table, moves, table, moves.where(moves == "up", "sideways"))


def test_numbers_have_no_probabilities(regressor, table):
    with pytest.raises(ValueError, match="use predict"):
        regressor.predict_proba(table)


def test_the_networks_are_the_families_own():
    assert set(NETWORKS) <= set(MODELS)
    assert all(MODELS[family] is network for family, network in NETWORKS.items())
    assert {cls.family: cls for cls in NAMED.values()} == NAMED


def test_nothing_loads_pandas_before_it_is_used():
    code = (
        "import importlib, pkgutil, sys, nas_system.sequential as package, nas_system.training_job\n"
        "for module in pkgutil.walk_packages(package.__path__, 'nas_system.sequential.'):\n"
        "    importlib.import_module(module.name)\n"
        "print('pandas' in sys.modules)\n"
    )
    done = run_python(["-c", code])
    assert done.stdout.strip() == "False"

"""No forecast knows what it forecasts: over every family, every kind of data set, and through the engine.

Every property is a function that raises; at the end each of them is shown to raise on a leak.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas_system.data import (
    DataSource,
    OpenPanel,
    OpenTask,
    Scaler,
    Series,
    Split,
    TaskWindows,
    WindowBatch,
    WindowLoader,
    WindowSet,
    build_windows,
    open_task,
    split_for,
    synthetic_series,
)
from nas_system.data.augmentation import VARIATIONS, augmented
from nas_system.data.baselines.scoring import score_baselines
from nas_system.model import MODELS, build_model
from nas_system.nas_agent.run_manager import RunPaths
from nas_system.sequential.cnn_lstm import pooled
from nas_system.sequential.informer import Informer
from nas_system.sequential.layers.attention import AttentionLayer, FullAttention, ProbSparseAttention
from nas_system.sequential.layers.causal_convolution import CausalConv
from nas_system.sequential.tcn import ResidualLevel
from nas_system.space import FAMILIES, ForecastingTask, RunConfig, SeriesShape, TaskConfig, TrainingConfig
from nas_system.tasks.forecasting_data import ForecastingProblem
from nas_system.training.build import build_engine
from nas_system.training.checkpoint import load_checkpoint
from nas_system.training.loops import evaluate
from nas_system.training.objectives import Forecasting
from nas_system.training_job import JobOptions, run_training

torch.set_num_threads(1)

SEQ_LEN, PRED_LEN = 24, 5
PARTS = ("train", "val", "test", "hold_out")
CPU = torch.device("cpu")
SOURCE = DataSource("own", "csv", None, "0" * 64, 1)
SMALL = {
    "d_model": 8, "n_heads": 2, "d_ff": 8, "e_layers": 2, "hidden_size": 8, "channels": 4, "num_layers": 3,
    "patch_len": 6, "stride": 3, "label_len": 8, "factor": 1,
}  # fmt: skip
VARIANTS = (
    {},
    {"normalization": "revin", "decomposition": True, "kernel": 5},
    {"normalization": "none", "linear_path": False, "channel_independence": True, "attention": "full"},
)
Forecasts = Callable[[Series], Tensor]
"""A series -> the forecasts of all windows of its test part, (windows, pred_len, targets)."""


class Data(NamedTuple):
    """A data set and what of it is forecast."""

    series: Series
    task: TaskConfig


@pytest.fixture(scope="module", params=["synthetic", "own csv", "etth1"])
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Data:
    if request.param == "etth1":
        task = ForecastingTask(pred_len=PRED_LEN)
        return Data(open_task(task, data_dir=request.getfixturevalue("ett_dir")).series, task)
    if request.param == "synthetic":
        task = ForecastingTask(dataset="synthetic", targets=("OT", "HUFL"), pred_len=PRED_LEN)
        return Data(synthetic_series(700), task)
    task = own_csv(tmp_path_factory.mktemp("data"))
    return Data(open_task(task).series, task)


def own_csv(folder: Path) -> TaskConfig:
    """The task of a quarter-hourly file with two columns."""
    times = (datetime(2024, 1, 1) + timedelta(minutes=15 * row) for row in range(600))
    lines = [f"{time},{10 + row % 96 + row * 37 % 11},{row % 7}" for row, time in enumerate(times)]
    (folder / "own.csv").write_text("\n".join(["date,load,heat", *lines]) + "\n")
    return ForecastingTask(dataset=str(folder / "own.csv"), targets=("load",), pred_len=PRED_LEN)


@pytest.fixture
def synthetic() -> Data:
    return Data(synthetic_series(700), ForecastingTask(dataset="synthetic", pred_len=PRED_LEN))


def config_of(family: str, task: TaskConfig, variant: dict[str, Any] | None = None) -> RunConfig:
    """A small model of the family on short windows; of the variant what the family has."""
    known = FAMILIES[family].model_fields
    model = {name: value for name, value in (SMALL | (variant or {})).items() if name in known}
    if family != "informer":
        model.pop("attention", None)
    return RunConfig.model_validate(
        {"task": task.model_dump(), "model": {"family": family, **model}, "data": {"seq_len": SEQ_LEN}}
    )


def windows_of(data: Data, family: str = "linear", **options: Any) -> TaskWindows:
    return build_windows(data.series, config_of(family, data.task, options), splits=PARTS)


def model_of(config: RunConfig, shape: SeriesShape) -> nn.Module:
    """The same weights at every call."""
    torch.manual_seed(0)
    return build_model(config, shape).eval()


@torch.no_grad()
def forecast(config: RunConfig, windows: TaskWindows, part: WindowSet) -> Tensor:
    model = model_of(config, windows.shape)
    return torch.cat([model(*batch.args) for batch in WindowLoader(part, 64)])


# --- the properties -------------------------------------------------------------------------


def check_past_lies_before_future(past: Tensor, future: Tensor) -> None:
    """Row numbers of inputs (windows, seq_len) and targets (windows, pred_len)."""
    assert (past.amax(1) < future.amin(1)).all(), "an input lies at or after the first target"
    assert (past.amax(1) + 1 == future.amin(1)).all(), "there is a gap before the first target"


def check_every_window_is_there(future: Tensor, rows: range, first: int) -> None:
    """All horizons that fit into `rows`, from the one beginning at `first` on, each once."""
    expected = range(first, rows.stop - future.shape[1] + 1)
    assert future[:, 0].tolist() == list(expected)
    assert int(future.max()) == rows.stop - 1


def check_unmoved(forecasts: Forecasts, series: Series, changed: Series, count: int) -> None:
    """The first `count` forecasts do not know how `changed` differs from `series`."""
    before, after = forecasts(series)[:count], forecasts(changed)[:count]
    assert before.isfinite().all()
    assert torch.equal(before, after), "a forecast changed with what comes after it"


def check_causal(output: Tensor, x: Tensor, ends: Sequence[int]) -> None:
    """Step j of `output (B, steps, C)` depends on the steps of `x (B, T, C)` up to `ends[j]` and no later."""
    for step, end in enumerate(ends):
        (gradient,) = torch.autograd.grad(output[:, step].square().sum(), x, retain_graph=True)
        assert gradient[:, end + 1 :].abs().sum() == 0, f"step {step} sees behind {end}"
        assert gradient[:, : end + 1].abs().sum() > 0, f"step {step} sees nothing"


def check_scaler(scaler: Scaler, series: Series, split: Split) -> None:
    train = series.values[: split.train_end]
    assert np.allclose(scaler.mean, train.mean(0)) and np.allclose(scaler.std, train.std(0))


def check_parts_are_apart(rows_of_training: Tensor, split: Split) -> None:
    """No row that validation, test or the hold-out part forecasts was seen in training."""
    for part in PARTS[1:]:
        rows = split.target_rows(part)  # type: ignore[arg-type]
        assert not set(rows) & set(rows_of_training.flatten().tolist()), f"training sees {part} rows"


def check_every_window_counts(model: nn.Module, loaders: Iterable[Any], target: Tensor, mse: float) -> None:
    """Whatever the batches: all targets in order, and one score."""
    for loader in loaders:
        seen = torch.cat([batch.target for batch in loader])
        assert torch.equal(seen, target), "windows are missing, doubled or in another order"
        score = evaluate(model, loader, Forecasting(), CPU)["mse"]
        assert score == pytest.approx(mse, rel=1e-5), "the score depends on the batches"


# --- 1, 5, 6: windows, scaler and parts, on every data set ----------------------------------


def row_numbers(data: Data, part: str, kind: type[WindowSet] = WindowSet) -> tuple[Tensor, Tensor]:
    """Rows that the windows of a part read and forecast: windows over a table of row numbers."""
    rows = len(data.series)
    starts = split_for(data.task, rows).window_starts(part, SEQ_LEN, PRED_LEN)  # type: ignore[arg-type]
    table = torch.arange(rows, dtype=torch.float64)[:, None]
    windows = kind(table, None, starts, SEQ_LEN, PRED_LEN, (0,), (0,))
    batch = windows.batch(torch.arange(len(windows)))
    return batch.args[0][..., 0].long(), batch.target[..., 0].long()


@pytest.mark.parametrize("part", PARTS)
def test_every_input_lies_before_every_target_and_no_window_is_missing(data: Data, part: str) -> None:
    past, future = row_numbers(data, part)
    check_past_lies_before_future(past, future)
    rows = split_for(data.task, len(data.series)).target_rows(part)  # type: ignore[arg-type]
    check_every_window_is_there(future, rows, SEQ_LEN if part == "train" else rows.start)
    windows = windows_of(data)[part]  # type: ignore[index]
    assert [windows.target_rows(i)[0] for i in range(len(windows))] == future[:, 0].tolist()


def test_the_scaler_knows_the_training_rows_alone(data: Data) -> None:
    check_scaler(windows_of(data).scaler, data.series, split_for(data.task, len(data.series)))


def test_no_validation_or_test_target_is_inside_a_training_window(data: Data) -> None:
    check_parts_are_apart(torch.cat(row_numbers(data, "train"), 1), split_for(data.task, len(data.series)))


# --- 2, 3: truncated and poisoned futures, every family on every data set -------------------


def fixed_parts(data: Data) -> tuple[TaskConfig, int]:
    """The task with a split that does not depend on the length of the series; where its test part begins."""
    parts = {"train_rows": 300, "val_rows": 60, "test_rows": 60}
    return data.task.model_copy(update=parts), 360


def forecasts_of(family: str, task: TaskConfig, variant: dict[str, Any]) -> Forecasts:
    config = config_of(family, task, variant)

    def forecasts(series: Series) -> Tensor:
        windows = build_windows(series, config, splits=("train", "test"))
        return forecast(config, windows, windows["test"])

    return forecasts


def poisoned(series: Series, row: int, poison: float) -> Series:
    values = series.values.copy()
    values[row:] = poison
    return replace(series, values=values)


@pytest.mark.parametrize("variant", VARIANTS, ids=["default", "framed", "bare"])
@pytest.mark.parametrize("family", MODELS)
def test_no_forecast_changes_with_what_comes_after_it(
    family: str, variant: dict[str, Any], data: Data
) -> None:
    task, test_start = fixed_parts(data)
    forecasts, series = forecasts_of(family, task, variant), data.series
    end = test_start + 60
    cut = replace(series, values=series.values[:end], dates=series.dates[:end])
    check_unmoved(forecasts, series, cut, count=60 - PRED_LEN + 1)
    # The forecast that begins at the first poisoned row is the last that must not notice.
    row = test_start + 10
    for poison in (float("nan"), 1e6):
        check_unmoved(forecasts, series, poisoned(series, row, poison), count=11)
        with pytest.raises(AssertionError, match="changed with what comes after"):
            check_unmoved(forecasts, series, poisoned(series, row, poison), count=12)


# --- 3b: several series, and columns whose future is known ----------------------------------


def panel_of(data: Data) -> OpenPanel:
    """The series and a second one like it that begins and ends later, with a scale of its own."""
    first = data.series
    second = replace(
        first, values=40 - 3 * first.values, dates=first.dates + (first.dates[50] - first.dates[0])
    )
    members = [replace(first, name="first"), replace(second, name="second")]
    task = data.task.model_copy(update={"series_columns": ("shop",)})
    assert isinstance(task, ForecastingTask)
    return OpenPanel.of_series(task, members)


def poisoned_from(panel: OpenPanel, row: int, poison: float) -> OpenPanel:
    """The panel with every value from a row of the calendar on replaced, in all of its series."""
    members = []
    for member in panel.members:
        values = member.series.values.copy()
        values[member.series.dates >= panel.dates[row]] = poison
        members.append(replace(member, series=replace(member.series, values=values)))
    return replace(panel, members=tuple(members))


@pytest.mark.parametrize("family", ["linear", "ridge", "informer", "tide"])
def test_no_forecast_of_several_series_changes_with_what_comes_after_it(family: str, synthetic: Data) -> None:
    panel = panel_of(synthetic)
    config = config_of(family, panel.task)
    row = panel.split.target_rows("test")[10]

    def forecasts(of: OpenPanel) -> tuple[Tensor, np.ndarray[Any, Any]]:
        windows = build_windows(of, config, splits=("train", "test"))
        dates = windows["test"].clusters
        assert dates is not None
        return forecast(config, windows, windows["test"]), dates

    before, dates = forecasts(panel)
    after, _ = forecasts(poisoned_from(panel, row, 1e6))
    earlier = torch.from_numpy(dates <= row)
    assert earlier.sum() == 22, "eleven of each series"
    assert torch.equal(before[earlier], after[earlier])
    assert not torch.equal(before[~earlier], after[~earlier])


def test_a_series_is_scaled_and_learned_from_before_the_date_on_which_another_is_scored(
    synthetic: Data,
) -> None:
    panel = panel_of(synthetic)
    windows = build_windows(panel, config_of("linear", panel.task), splits=("train", "val"))
    first_scored = panel.dates[panel.split.target_rows("val").start]
    learned = windows["train"].clusters
    assert learned is not None and panel.dates[learned.max() + PRED_LEN - 1] < first_scored
    rows = np.concatenate([member.series.dates[: member.split.train_end] for member in panel.members])
    assert rows.max() < first_scored


@pytest.mark.parametrize("family", MODELS)
def test_a_known_future_is_all_that_is_read_of_the_future(family: str, data: Data) -> None:
    task, test_start = fixed_parts(data)
    others = [name for name in data.series.columns if name not in task.targets]
    if not others:
        pytest.skip("a column that is no target")
    series = replace(data.series, known=(others[0],))
    config = config_of(family, task)
    row = test_start + 10
    unknown = [index for index, name in enumerate(series.columns) if name not in series.known]

    def forecasts(of: Series) -> Tensor:
        windows = build_windows(of, config, splits=("train", "test"))
        assert windows.shape.n_known == 1
        model = model_of(config, windows.shape)
        with torch.no_grad():
            # Before a training they are 0: nothing would be seen of a known column.
            for name, parameter in model.named_parameters():
                if "known" in name or "effect" in name:
                    parameter.fill_(0.1)
            return torch.cat([model(*batch.args) for batch in WindowLoader(windows["test"], 64)])

    def changed(columns: Sequence[int]) -> Series:
        values = series.values.copy()
        values[row:, list(columns)] = 1e6
        return replace(series, values=values)

    before = forecasts(series)
    check_unmoved(forecasts, series, changed(unknown), count=11)
    after = forecasts(changed(series.known_indices))
    # The window before the last that ends in time: its last step is the first changed row.
    moved = [number for number in range(len(before)) if not torch.equal(before[number], after[number])]
    assert moved[0] == 10 - PRED_LEN + 1


# --- 4: parts that claim to be causal -------------------------------------------------------


def rising(length: int, channels: int = 4) -> Tensor:
    """Positive, so that no ReLU is silent by accident."""
    values = torch.rand(2, length, channels, generator=torch.Generator().manual_seed(1)) + 0.1
    return values.requires_grad_()


@pytest.mark.parametrize("length", [9, 12])
def test_convolutions_of_tcn_and_cnn_lstm_see_no_later_step(length: int) -> None:
    torch.manual_seed(0)
    x = rising(length)
    check_causal(CausalConv(4, 3, 3)(x), x, range(length))
    check_causal(CausalConv(4, 3, 3, stride=2)(x), x, range((length - 1) % 2, length, 2))
    level = ResidualLevel(4, 4, 3, 0.0)
    check_causal(level(level(x)), x, [end for end in range(length) if (length - 1 - end) % 4 == 0])
    check_causal(pooled(x, 4), x, [end for end in range(length) if (length - 1 - end) % 4 == 0])


@pytest.mark.parametrize(
    "attention", [FullAttention(masked=True, dropout=0.0), ProbSparseAttention(12, factor=1, masked=True)]
)
def test_self_attention_of_the_informers_decoder_sees_no_later_step(attention: nn.Module) -> None:
    torch.manual_seed(0)
    x = rising(12, 8)
    layer = AttentionLayer(attention, 8, 2).eval()
    check_causal(layer(x, x), x, range(12))


@pytest.mark.parametrize("family", ["lstm", "gru", "seq2seq_attention"])
def test_recurrent_layers_read_forwards_unless_they_are_told_otherwise(family: str, synthetic: Data) -> None:
    model = model_of(config_of(family, synthetic.task), windows_of(synthetic, family).shape)
    recurrent = [part for part in model.modules() if isinstance(part, nn.LSTM | nn.GRU)]
    assert recurrent
    for part in recurrent:
        x = rising(9, part.input_size)
        check_causal(part(x)[0], x, range(9))


@pytest.mark.parametrize("family", ["seq2seq_attention", "tft"])
def test_decoders_that_write_step_by_step_read_no_later_time_mark(family: str, synthetic: Data) -> None:
    windows = windows_of(synthetic, family)
    x, x_mark, y_mark = windows["val"].batch(torch.arange(3)).args
    assert y_mark is not None
    y_mark.requires_grad_()
    output = model_of(config_of(family, synthetic.task), windows.shape)(x, x_mark, y_mark)
    check_causal(output, y_mark, range(PRED_LEN))


@pytest.mark.parametrize("family", MODELS)
def test_no_forecast_step_reads_a_known_column_of_another_step_but_where_it_says_so(family: str) -> None:
    config = config_of(
        family, ForecastingTask(dataset="synthetic", pred_len=PRED_LEN), {"time_features": False}
    )
    clock = 0 if config.model.time_marks == "none" else 4
    shape = SeriesShape(SEQ_LEN, PRED_LEN, n_inputs=2, target_columns=(0, 1), n_marks=clock, n_known=2)
    model = model_of(config, shape)
    with torch.no_grad():
        model.effects.linear.weight.fill_(0.5)  # type: ignore[union-attr]
    y_mark = rising(PRED_LEN, clock + 2)
    output = model(rising(SEQ_LEN, 2), rising(SEQ_LEN, clock + 2), y_mark)
    for step in range(PRED_LEN):
        (gradient,) = torch.autograd.grad(output[:, step].sum(), y_mark, retain_graph=True)
        read = gradient[..., clock:].abs().sum(dim=(0, 2)).nonzero().flatten().tolist()
        if family == "tide":  # its encoder reads all of the known future
            assert read == list(range(PRED_LEN))
        else:
            assert read == (list(range(step + 1)) if family in ("seq2seq_attention", "tft") else [step])


# --- 7: what a decoder is given in place of the future --------------------------------------


class Recorder(nn.Module):
    """Stands for the Informer's core and keeps what its decoder is given."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder_inputs: list[Tensor] = []

    def forward(self, x: Tensor, x_mark: Tensor, x_dec: Tensor, y_mark: Tensor) -> Tensor:
        self.decoder_inputs.append(x_dec)
        return x_dec[:, -PRED_LEN:, :1]


def test_the_informers_decoder_starts_from_known_steps_and_zeros(synthetic: Data) -> None:
    config = config_of("informer", synthetic.task, {"normalization": "none", "linear_path": False})
    windows = windows_of(synthetic, "informer")
    core = Recorder()
    args = windows["val"].batch(torch.arange(4)).args
    Informer(config.model, windows.shape, core=core)(*args)  # type: ignore[arg-type]
    (given,) = core.decoder_inputs
    assert given.shape[1] == SMALL["label_len"] + PRED_LEN
    assert torch.equal(given[:, : SMALL["label_len"]], args[0][:, -SMALL["label_len"] :])
    assert (given[:, SMALL["label_len"] :] == 0).all()


def test_the_tfts_decoder_is_given_no_value_of_an_input(synthetic: Data) -> None:
    config = config_of("tft", synthetic.task)
    windows = windows_of(synthetic, "tft")
    model = model_of(config, windows.shape)
    given: list[dict[str, Tensor]] = []
    network = model.get_submodule("network")
    network.register_forward_pre_hook(lambda module, args: given.append(args[0]))
    model(*windows["val"].batch(torch.arange(4)).args)
    n_inputs = windows.shape.n_inputs
    assert (given[0]["encoder_cont"][..., :n_inputs] != 0).any()
    assert (given[0]["decoder_cont"][..., :n_inputs] == 0).all()


@pytest.mark.parametrize("family", MODELS)
def test_no_model_is_taught_with_the_truth_in_place_of_its_own_forecast(family: str, synthetic: Data) -> None:
    """Without dropout a forecast is the same in training, and nothing but `args` reaches a model."""
    config = config_of(family, synthetic.task, {"dropout": 0.0, "attention": "full", "distil": False})
    windows = windows_of(synthetic, family)
    args = windows["train"].batch(torch.arange(4)).args
    model = model_of(config, windows.shape)
    torch.testing.assert_close(model.train()(*args), model.eval()(*args))


@pytest.mark.parametrize("embed", ["timeF", "fixed"])
def test_time_marks_come_from_the_dates_alone(embed: str, synthetic: Data) -> None:
    dirty = synthetic._replace(series=poisoned(synthetic.series, 500, 1e6))
    clean, other = (
        windows_of(d, "informer", embed=embed)["hold_out"].batch(torch.arange(4)).args
        for d in (synthetic, dirty)
    )
    assert not torch.equal(clean[0], other[0])
    for mark, same in zip(clean[1:], other[1:], strict=True):
        assert mark is not None and same is not None and torch.equal(mark, same)


# --- 8: augmentation is for training --------------------------------------------------------


@pytest.mark.parametrize("name", VARIATIONS)
def test_only_training_batches_are_varied(name: str, synthetic: Data) -> None:
    training = TrainingConfig(augmentation=name, augmentation_strength=0.5)  # type: ignore[arg-type]
    plain, windows = windows_of(synthetic, "lstm"), windows_of(synthetic, "lstm")
    loader = WindowLoader(windows["train"], 32, generator=torch.Generator().manual_seed(1))
    varied = torch.cat([batch.args[0] for batch in augmented(loader, training, windows.shape.target_columns)])
    same = WindowLoader(plain["train"], 32, generator=torch.Generator().manual_seed(1))
    assert not torch.equal(varied, torch.cat([batch.args[0] for batch in same]))
    for part in PARTS:
        before, after = (w[part].batch(torch.arange(20)) for w in (plain, windows))  # type: ignore[index]
        assert torch.equal(before.args[0], after.args[0]) and torch.equal(before.target, after.target)
    with pytest.raises(ValueError, match="evaluation sees plain windows"):
        augmented(WindowLoader(windows["val"], 32), training, windows.shape.target_columns)


def test_a_training_with_augmentation_is_scored_on_plain_windows(tmp_path: Path) -> None:
    config = config_of("linear", own_csv(tmp_path))
    training = TrainingConfig(augmentation="scaling", augmentation_strength=1.0, max_epochs=1)
    config = config.model_copy(update={"training": training})
    paths = RunPaths(tmp_path / "run")
    paths.folder.mkdir()
    run_training(config, paths, JobOptions("run", "cpu", 1, None, False, None, None, lambda: None))
    metrics = json.loads(paths.metrics.read_text())
    windows = build_windows(open_task(config.task).series, config)
    model = build_model(config, windows.shape)
    model.load_state_dict(load_checkpoint(paths.best_model)["model"])
    for part in ("val", "test"):
        score = evaluate(model, WindowLoader(windows[part], 7), Forecasting(), CPU)["mse"]
        assert metrics[f"{part}_mse"] == pytest.approx(score, rel=1e-5)


# --- 9: every window counts -----------------------------------------------------------------


@pytest.mark.parametrize("family", MODELS)
def test_the_score_counts_every_window_whatever_the_batch_size(family: str, data: Data) -> None:
    task, _ = fixed_parts(data)
    config = config_of(family, task)
    windows = build_windows(data.series, config)
    part, model = windows["val"], model_of(config, windows.shape)
    target = part.batch(torch.arange(len(part))).target
    assert len(target) == 60 - PRED_LEN + 1
    mse = (forecast(config, windows, part).double() - target).square().mean().item()
    check_every_window_counts(model, [WindowLoader(part, size) for size in (3, 16, 1000)], target, mse)


# --- 10: rolling origins --------------------------------------------------------------------

ORIGINS = 3


def with_origins(data: Data) -> OpenTask:
    """The task with its last 700 rows at most, so that it is divided by shares and quickly trained on."""
    task = data.task.model_copy(update={"origins": ORIGINS})
    series = data.series
    cut = replace(series, values=series.values[-700:], dates=series.dates[-700:])
    return OpenTask.of_series(task, cut)  # type: ignore[arg-type]


def trained_at_origin(whole: OpenTask, number: int, family: str, **model: Any) -> dict[str, Tensor]:
    """The weights of a model trained for one epoch at an origin, through the engine."""
    training = TrainingConfig(max_epochs=1)
    config = config_of(family, whole.task, model).model_copy(update={"training": training})
    last = ForecastingProblem(config, SOURCE, whole, CPU)
    problem = (*last.earlier_origins(), last)[number]
    engine = build_engine(config, problem, CPU)
    assert engine.generator is not None
    engine.fit_planned(problem.training_batches(engine.generator), problem.batches("val", 512))
    return {name: value.clone() for name, value in engine.model.state_dict().items()}


def check_same_weights(before: dict[str, Tensor], after: dict[str, Tensor]) -> None:
    assert all(torch.equal(value, after[name]) for name, value in before.items()), "the weights have moved"


def check_own_scaler(origin: OpenTask, whole: Series) -> None:
    check_scaler(origin.scaler, whole, origin.split)


def test_every_origin_is_scaled_by_the_rows_before_its_validation_part(data: Data) -> None:
    whole = with_origins(data)
    first, *_, last = whole.origins()
    assert not np.allclose(first.scaler.mean, last.scaler.mean)
    for origin in whole.origins():
        check_own_scaler(origin, whole.series)
    with pytest.raises(AssertionError):
        check_own_scaler(replace(first, scaler=last.scaler), whole.series)


def test_no_origin_has_rows_that_a_later_one_is_validated_on(data: Data) -> None:
    *earlier, last = with_origins(data).origins()
    for before, after in itertools.pairwise((*earlier, last)):
        later_targets = after.split.target_rows("val")
        assert len(before.series) == later_targets.start
        assert after.split.train_end == before.split.val_end
        windows = build_windows(before, config_of("linear", before.task), splits=("train", "val"))
        for part in ("train", "val"):
            ends = [windows[part].target_rows(i).stop for i in range(len(windows[part]))]
            assert max(ends) == before.split.target_rows(part).stop <= later_targets.start


@pytest.mark.parametrize(
    ("family", "options"), [("lstm", {}), ("linear", {"linear_start": "ridge"}), ("ridge", {})]
)
def test_the_weights_of_an_origin_do_not_know_what_comes_after_its_training_part(
    family: str, options: dict[str, Any], synthetic: Data
) -> None:
    whole = with_origins(synthetic)
    for number, origin in enumerate(whole.origins()[:2]):
        honest = trained_at_origin(whole, number, family, **options)
        end = origin.split.train_end
        changed = OpenTask.of_series(whole.task, poisoned(whole.series, end, 1e3))
        check_same_weights(honest, trained_at_origin(changed, number, family, **options))
        inside = OpenTask.of_series(whole.task, poisoned(whole.series, end - 1, 1e3))
        with pytest.raises(AssertionError, match="the weights have moved"):
            check_same_weights(honest, trained_at_origin(inside, number, family, **options))


def run_with_origins(folder: Path, poisoned_from: int | None) -> list[dict[str, Any]]:
    """What a whole run keeps of each earlier origin: its file of weights and its validation metrics."""
    folder.mkdir()
    task = own_csv(folder)
    if poisoned_from is not None:
        file = folder / "own.csv"
        head, *rows = file.read_text().splitlines()
        changed = [
            row if i < poisoned_from else row.split(",")[0] + ",1000,1000" for i, row in enumerate(rows)
        ]
        file.write_text("\n".join([head, *changed]) + "\n")
    config = config_of("lstm", task.model_copy(update={"origins": ORIGINS}))
    config = config.model_copy(update={"training": TrainingConfig(max_epochs=3)})
    paths = RunPaths(folder / "run")
    paths.folder.mkdir()
    run_training(config, paths, JobOptions("run", "cpu", 1, None, False, None, None, lambda: None))
    metrics = json.loads(paths.metrics.read_text())
    return [
        {"val": origin["val"], "model": load_checkpoint(paths.origin(number))["model"]}
        for number, origin in enumerate(metrics["earlier_origins"], 1)
    ]


def test_a_run_keeps_the_same_weights_of_an_origin_whatever_comes_after_its_validation_part(
    tmp_path: Path,
) -> None:
    # 600 rows: validated on rows 180 to 270, 270 to 360, and 360 to 450.
    honest = run_with_origins(tmp_path / "honest", None)
    changed = run_with_origins(tmp_path / "changed", 270)
    assert honest[0]["val"] == changed[0]["val"]
    check_same_weights(honest[0]["model"], changed[0]["model"])
    one_row_earlier = run_with_origins(tmp_path / "one_row_earlier", 269)
    assert honest[0]["val"] != one_row_earlier[0]["val"]
    with pytest.raises(AssertionError, match="the weights have moved"):
        check_same_weights(honest[1]["model"], one_row_earlier[1]["model"])


def test_baselines_at_an_origin_know_nothing_of_later_rows(synthetic: Data) -> None:
    whole = with_origins(synthetic)
    first = whole.origins()[0]
    changed = OpenTask.of_series(whole.task, poisoned(whole.series, first.split.val_end, 1e3)).origins()[0]
    alone = first.task.model_copy(update={"origins": 1})
    before, after = (score_baselines(replace(origin, task=alone), ("val",)) for origin in (first, changed))
    assert before == after and before


# --- the checks can fail --------------------------------------------------------------------


class LeakingWindows(WindowSet):
    """The classic mistake: the inputs are cut one step too late, so the last of them is the first target."""

    def batch(self, indices: Tensor) -> WindowBatch:
        (x, x_mark, y_mark), target, weight = super().batch(indices)
        leaked = target[:, :1].expand(-1, -1, x.shape[2])
        return WindowBatch((torch.cat([x[:, 1:], leaked], dim=1), x_mark, y_mark), target, weight)


def test_inputs_shifted_into_the_targets_are_caught(synthetic: Data) -> None:
    with pytest.raises(AssertionError, match="at or after the first target"):
        check_past_lies_before_future(*row_numbers(synthetic, "val", LeakingWindows))

    config = config_of("linear", fixed_parts(synthetic)[0])

    def forecasts(series: Series) -> Tensor:
        windows = build_windows(series, config)
        honest = windows["test"]
        leaking = copy.copy(honest)
        leaking.__class__ = LeakingWindows
        return forecast(config, windows, leaking)

    with pytest.raises(AssertionError, match="changed with what comes after"):
        check_unmoved(forecasts, synthetic.series, poisoned(synthetic.series, 370, 1e6), count=11)


def test_a_missing_last_window_is_caught(synthetic: Data) -> None:
    _, future = row_numbers(synthetic, "val")
    rows = split_for(synthetic.task, 700).target_rows("val")
    for wrong in (future[:-1], future[1:], future.flip(0)):
        with pytest.raises(AssertionError):
            check_every_window_is_there(wrong, rows, rows.start)


def test_a_symmetric_convolution_is_caught() -> None:
    x = rising(9)
    output = nn.Conv1d(4, 4, 3, padding=1)(x.mT).mT
    with pytest.raises(AssertionError, match="step 0 sees behind 0"):
        check_causal(output, x, range(9))


def test_a_bidirectional_layer_is_caught() -> None:
    x = rising(9)
    with pytest.raises(AssertionError, match="step 0 sees behind 0"):
        check_causal(nn.GRU(4, 3, batch_first=True, bidirectional=True)(x)[0], x, range(9))


def test_a_scaler_that_has_seen_everything_is_caught(data: Data) -> None:
    split = split_for(data.task, len(data.series))
    of_all = Scaler.fit(data.series, replace(split, train_end=len(data.series)))
    with pytest.raises(AssertionError):
        check_scaler(of_all, data.series, split)


def test_training_windows_that_reach_into_validation_are_caught(synthetic: Data) -> None:
    split = split_for(synthetic.task, 700)
    reaching = torch.arange(split.train_end - 10, split.train_end + 1)[None]
    with pytest.raises(AssertionError, match="training sees val rows"):
        check_parts_are_apart(reaching, split)


def test_a_loader_that_drops_the_last_batch_is_caught(synthetic: Data) -> None:
    config = config_of("linear", synthetic.task)
    windows = windows_of(synthetic)
    part, model = windows["val"], model_of(config, windows.shape)
    target = part.batch(torch.arange(len(part))).target
    mse = (forecast(config, windows, part) - target).square().mean().item()
    check_every_window_counts(model, [WindowLoader(part, 16)], target, mse)
    with pytest.raises(AssertionError, match="windows are missing"):
        check_every_window_counts(model, [WindowLoader(part, 16, drop_last=True)], target, mse)

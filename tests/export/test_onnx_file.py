"""Trained forecasters as ONNX: the numbers of torch, also for a program with numpy and onnxruntime alone."""

from __future__ import annotations

import ast
import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas_system.data import Series, build_windows
from nas_system.data.calendar import dates_after
from nas_system.errors import ConfigError
from nas_system.export.onnx_file import MOST_WINDOWS, TOLERANCE, Exported, export_onnx, why_no_baselines
from nas_system.model import MODELS, build_model
from nas_system.space import FAMILIES, RunConfig
from nas_system.tasks.saved_forecaster import SavedForecaster, SavedMetadata

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
pytest.importorskip("onnx", reason="needs the extra onnx")
torch.set_num_threads(1)

COLUMNS = ("load", "heat", "wind")
SMALL: dict[str, dict[str, Any]] = {
    "informer": {"d_model": 8, "n_heads": 2, "d_ff": 8, "label_len": 12, "factor": 1},
    "patchtst": {"patch_len": 8, "stride": 4, "d_model": 8, "n_heads": 2, "d_ff": 16},
    "itransformer": {"d_model": 8, "n_heads": 2, "d_ff": 16},
    "tsmixer": {"num_layers": 2, "d_ff": 8},
    "nhits": {"hidden_size": 16},
    "tide": {"hidden_size": 16},
    "lstm": {"hidden_size": 8},
    "gru": {"hidden_size": 8},
    "seq2seq_attention": {"hidden_size": 8},
    "tcn": {"hidden_size": 8, "num_layers": 4},
    "cnn_lstm": {"channels": 6, "hidden_size": 8},
    "tft": {"hidden_size": 8, "n_heads": 2},
}


def make_series(freq: str = "h", rows: int = 400, start: str = "2024-02-20T00") -> Series:
    """A series with a column far from zero and one of small numbers."""
    first = np.array([start], dtype="datetime64[s]")
    dates = np.concatenate([first, dates_after(first, freq, rows - 1)])
    steps, noise = np.arange(rows), np.random.default_rng(3).normal(size=(rows, 3))
    waves = np.stack([np.sin(steps / 4), np.cos(steps / 9), np.sin(steps / 11)], axis=1)
    return Series([5e6, 20, 0.03] + [90, 4, 0.01] * (waves + noise / 5), COLUMNS, dates, freq)


def forecaster(
    series: Series, family: str, seed: int = 0, seq_len: int = 48, **changes: Any
) -> SavedForecaster:
    """What `load_forecaster` makes of a run, with random weights in place of trained ones."""
    if package := FAMILIES[family].needs_package:
        pytest.importorskip(package)
    parts = {"seq_len": seq_len, "features": "MS"} | changes.pop("data", {})
    task = {"dataset": "x.csv", "targets": ["load"], "pred_len": 6} | changes.pop("task", {})
    config = RunConfig.model_validate(
        {
            "model": {"family": family} | SMALL.get(family, {}) | changes,
            "task": task,
            "data": parts,
        }
    )
    windows = build_windows(series, config)
    torch.manual_seed(seed)
    model = build_model(config, windows.shape).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    targets = series.columns if config.forecasting.forecasts_all else config.forecasting.targets
    inputs = series.columns if config.reads_covariates and parts["features"] != "S" else targets
    metadata = SavedMetadata.model_validate(
        {
            "config": config.model_dump(mode="json"),
            "shape": windows.shape,
            "scaler": windows.scaler.to_json(),
            "columns": series.columns,
            "inputs": inputs,
            "targets": targets,
            "freq": series.freq,
            "data_sha256": "0" * 64,
            "epoch": 1,
            "val": {"mse": 0.1},
        }
    )
    assert metadata.fault is None
    return SavedForecaster(model, metadata, torch.device("cpu"))


def head(series: Series, rows: int) -> Series:
    return replace(series, values=series.values[:rows], dates=series.dates[:rows])


def run_instructions(exported: Exported, series: Series, folder: Path) -> np.ndarray:
    """Run the script of the file next to the graph as it stands, where this package cannot be imported."""
    text = exported.instructions.read_text()
    script = text.split("\n```python\n")[1].rsplit("\n```", 1)[0]
    with open(folder / "rows.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("date", *series.columns))
        writer.writerows(zip(series.dates, *(column.tolist() for column in series.values.T), strict=True))
    guard = (
        "import sys\n"
        "class Guard:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('nas_system', 'nas_agent_graph', 'torch'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Guard())\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", guard + script],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return np.array(ast.literal_eval(done.stdout.strip().rsplit("] [[", 1)[1].join(("[[", ""))))


def assert_same(found: np.ndarray, expected: np.ndarray, spread: Any) -> None:
    assert found.shape == expected.shape
    assert (np.abs(found - expected) / spread).max() < 2 * TOLERANCE


@pytest.mark.parametrize("family", MODELS)
def test_every_family_gives_the_numbers_of_torch(family: str, tmp_path: Path) -> None:
    series = make_series()
    known = forecaster(series, family)
    exported = export_onnx([known], [1.0], tmp_path / "model.onnx", series)
    assert exported.windows == MOST_WINDOWS
    assert exported.difference <= TOLERANCE
    forecast = known.forecast(head(series, 333))
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    signature = exported.signature
    look = slice(333 - signature.rows, 333)
    given: dict[str, np.ndarray] = {
        "rows": series.values[look, list(series.column_indices(signature.columns))][None]
    }
    if signature.kinds:
        given["past_marks"] = signature.marks(series.dates[look])[None]
        given["future_marks"] = signature.marks(forecast.dates)[None]
    found = session.run(["forecast"], {name: given[name] for name in exported.inputs})[0]
    assert_same(found[0], forecast.values, forecast.spread)


VARIANTS = [
    ("linear", {"normalization": "seasonal", "season": 24}),
    ("linear", {"normalization": "revin", "decomposition": True, "kernel": 5}),
    ("ridge", {"normalization": "mean", "task": {"targets": ["all"]}}),
    ("patchtst", {"normalization": "revin", "decomposition": True, "task": {"targets": ["wind", "load"]}}),
    ("lstm", {"num_layers": 2, "bidirectional": True, "segment_len": 7}),
    ("gru", {"channel_independence": True, "task": {"targets": ["all"]}}),
    ("informer", {"attention": "full", "distil": False, "mix": False}),
    ("informer", {"embed": "learned", "d_layers": 2}),
    ("seq2seq_attention", {"attention": "additive", "num_layers": 2, "time_features": False}),
    ("tide", {"channel_independence": True, "layer_norm": True, "task": {"targets": ["all"]}}),
    ("cnn_lstm", {"pool": 7, "linear_path": False, "normalization": "none"}),
]


@pytest.mark.parametrize(
    ("family", "changes"), VARIANTS, ids=[f"{family} {list(c)}" for family, c in VARIANTS]
)
def test_so_do_the_other_parts_of_the_families(family: str, changes: dict[str, Any], tmp_path: Path) -> None:
    series = make_series()
    exported = export_onnx([forecaster(series, family, **changes)], [1.0], tmp_path / "m.onnx", series)
    assert exported.difference <= TOLERANCE


def test_an_ensemble_is_the_weighted_mean_of_members_that_differ(tmp_path: Path) -> None:
    series = make_series()
    members = [
        forecaster(series, "linear", data={"features": "S"}, seq_len=96),
        forecaster(series, "gru", seq_len=24),
        forecaster(series, "informer", embed="fixed", task={"scaling": "robust"}),
        forecaster(head(series, 300), "tide"),  # another scaler
    ]
    weights = [1.0, 2.0, 0.5, 0.5]
    exported = export_onnx(members, weights, tmp_path / "model.onnx", series)
    assert set(exported.signature.columns) == set(COLUMNS)
    assert exported.signature.kinds == ("continuous", "calendar")
    assert exported.inputs == ("rows", "past_marks", "future_marks")
    forecasts = [member.forecast(series) for member in members]
    expected = np.average([one.values for one in forecasts], axis=0, weights=weights)
    assert_same(run_instructions(exported, series, tmp_path), expected, forecasts[0].spread)


@pytest.mark.parametrize("freq", ["30s", "15min", "2h", "D", "W", "MS", "3MS"])
@pytest.mark.parametrize("embed", ["timeF", "fixed"])
def test_the_text_next_to_it_runs_without_this_package(freq: str, embed: str, tmp_path: Path) -> None:
    series = make_series(freq, 300, "2021-01-31T00" if freq.endswith("MS") else "2023-12-20T00")
    known = forecaster(series, "informer", embed=embed, task={"targets": ["wind", "load"]})
    exported = export_onnx([known], [1.0], tmp_path / "a 'model'.onnx", series)
    assert exported.instructions.name == "a 'model'.onnx.md"
    forecast = known.forecast(series)
    assert_same(run_instructions(exported, series, tmp_path), forecast.values, forecast.spread)


def test_names_of_columns_are_text_and_nothing_else(tmp_path: Path) -> None:
    series = replace(make_series(), columns=('load"]\n```\n# Ö', "heat'", "```wind"))
    known = forecaster(series, "tcn", task={"targets": ["all"]})
    exported = export_onnx([known], [1.0], tmp_path / "m.onnx", series)
    forecast = known.forecast(series)
    assert exported.instructions.read_text().count("\n```") == 2
    assert_same(run_instructions(exported, series, tmp_path), forecast.values, forecast.spread)


def test_time_features_that_nobody_reads_are_not_asked_for(tmp_path: Path) -> None:
    series = make_series()
    exported = export_onnx([forecaster(series, "linear")], [1.0], tmp_path / "m.onnx", series)
    assert exported.inputs == ("rows",)
    assert "marks" not in exported.instructions.read_text()
    assert exported.signature.columns == ("load",)


def test_the_file_is_computed_in_32_bits_also_where_a_training_was_not(tmp_path: Path) -> None:
    series = make_series()
    known = forecaster(series, "tsmixer")
    training = known.metadata.config.training.model_copy(update={"precision": "bf16"})
    config = known.metadata.config.model_copy(update={"training": training})
    other = SavedForecaster(
        known.model, known.metadata.model_copy(update={"config": config}), torch.device("cpu")
    )
    exported = export_onnx([other], [1.0], tmp_path / "m.onnx", series)
    forecast = known.forecast(series)
    assert_same(run_instructions(exported, series, tmp_path), forecast.values, forecast.spread)


class Untraceable(torch.nn.Module):
    def forward(self, x: torch.Tensor, x_mark: Any, y_mark: Any) -> torch.Tensor:
        return torch.linalg.matrix_exp(x.mT @ x)[:, :1].expand(-1, 6, -1)[..., :1]


class SizeReader(torch.nn.Module):
    """Forecasts something else for every number of windows, which a trace does not see."""

    def forward(self, x: torch.Tensor, x_mark: Any, y_mark: Any) -> torch.Tensor:
        return x[:, -6:, :1] * float(x.shape[0])


@pytest.mark.parametrize(
    ("network", "words"),
    [(Untraceable, ("family tcn cannot be written as ONNX", "matrix_exp")), (SizeReader, ("differs", "tcn"))],
    ids=["operator", "numbers"],
)
def test_what_is_not_the_same_is_not_written(
    network: type[torch.nn.Module], words: tuple[str, ...], tmp_path: Path, capfd: Any
) -> None:
    series = make_series()
    known = forecaster(series, "tcn")
    other = SavedForecaster(network().eval(), known.metadata, torch.device("cpu"))
    with pytest.raises(ConfigError) as refused:
        export_onnx([forecaster(series, "linear"), other], [1.0, 1.0], tmp_path / "m.onnx", series)
    for word in words:
        assert word in str(refused.value)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")  # torch prints the whole graph where it fails


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    series = make_series()
    known = forecaster(series, "linear")

    def refusal(forecasters: Any, weights: Any, path: Path, rows: Series = series) -> str:
        with pytest.raises(ConfigError) as refused:
            export_onnx(forecasters, weights, path, rows)
        return str(refused.value)

    path = tmp_path / "m.onnx"
    assert "name it so" in refusal([known], [1.0], tmp_path / "m.pt")
    assert "nothing to export" in refusal([], [], path)
    for weights in ([], [0.0], [-1.0], [float("nan")], [float("inf")]):
        assert "need a weight each" in refusal([known], weights, path)
    longer = forecaster(series, "linear", task={"pred_len": 7})
    assert "6 steps of h next to 7 steps of h" in refusal([known, longer], [1, 1], path)
    assert "at least 48 rows" in refusal([known], [1.0], path, head(series, 47))
    assert "step h" in refusal([known], [1.0], path, make_series("D"))
    assert "cannot be written" in refusal([known], [1.0], tmp_path / "nowhere" / "m.onnx")
    (tmp_path / "folder.onnx").mkdir()
    assert "is a folder" in refusal([known], [1.0], tmp_path / "folder.onnx")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder.onnx"]


def test_a_short_series_is_checked_on_the_windows_it_has(tmp_path: Path) -> None:
    series = make_series()
    known = forecaster(series, "linear")
    assert export_onnx([known], [1.0], tmp_path / "m.onnx", head(series, 50)).windows == 3
    assert export_onnx([known], [1.0], tmp_path / "m.onnx", head(series, 48)).windows == 1


def test_a_missing_package_names_its_extra(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules['onnxruntime'] = None\n"
        "from pathlib import Path\n"
        "from nas_system.errors import ConfigError\n"
        "from nas_system.export.onnx_file import export_onnx\n"
        "try:\n"
        "    export_onnx([], [], Path('m.onnx'), None)\n"
        "except ConfigError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "onnxruntime cannot be imported" in done.stdout
    assert "nas-agent[onnx]" in done.stdout


def test_baselines_are_named_with_a_way_out() -> None:
    text = why_no_baselines(["theta", "nlinear-336"])
    assert text.startswith("theta, nlinear-336: a baseline")
    assert "--run" in text


def test_a_run_that_reads_a_known_future_is_refused(tmp_path: Path) -> None:
    series = make_series()
    plain, known = forecaster(series, "linear"), forecaster(series, "lstm")
    known.metadata = known.metadata.model_copy(update={"shape": replace(known.metadata.shape, n_known=2)})
    with pytest.raises(ConfigError, match=r"lstm reads a known future \(2 columns\).*nas predict"):
        export_onnx([plain, known], [0.5, 0.5], tmp_path / "model.onnx", series)
    assert not list(tmp_path.iterdir())

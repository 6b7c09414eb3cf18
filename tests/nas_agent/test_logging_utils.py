"""metrics.json and history.json: strict JSON, whole or absent."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_system.errors import StateError
from nas_system.nas_agent.logging_utils import load_history, load_metrics, save_history, save_metrics

METRICS = {
    "best_epoch": 17,
    "val_mse": 0.1855,
    "test_mse": 0.1923,
    "train_mse": 0.1621,
    "train_time_sec": 285.4,
    "n_params": 4932103,
}


def _refuse(token: str) -> Any:
    raise AssertionError(f"{token} is not JSON")


def strict(path: Path) -> Any:
    return json.loads(path.read_text(), parse_constant=_refuse)


def test_metrics_come_back_as_they_went_and_the_folder_is_made(tmp_path: Path) -> None:
    run_dir = tmp_path / "runs" / "run_0000"
    save_metrics(run_dir, METRICS)
    assert load_metrics(run_dir) == METRICS
    assert strict(run_dir / "metrics.json") == METRICS
    assert [file.name for file in run_dir.iterdir()] == ["metrics.json"]


def test_history_comes_back_as_it_went(tmp_path: Path) -> None:
    history = {
        "best_epoch": 1,
        "epochs": [
            {"epoch": 0, "train_mse": 1.02, "val_mse": 1.05, "lr": 0.0001},
            {"epoch": 1, "train_mse": 0.85, "val_mse": 0.89, "lr": 0.0001},
        ],
    }
    save_history(tmp_path, history)
    assert load_history(tmp_path) == history == strict(tmp_path / "history.json")


def test_numbers_that_json_cannot_say_are_null_and_named(tmp_path: Path) -> None:
    save_metrics(tmp_path, {"val_mse": math.nan, "test_mse": -math.inf, "n_params": 3})
    assert strict(tmp_path / "metrics.json") == {
        "val_mse": None,
        "test_mse": None,
        "n_params": 3,
        "non_finite": ["val_mse", "test_mse"],
    }
    save_history(tmp_path, {"epochs": [{"epoch": 0, "val_mse": 1.0}, {"epoch": 1, "val_mse": math.inf}]})
    assert strict(tmp_path / "history.json")["non_finite"] == ["epochs.1.val_mse"]


def test_what_was_not_finite_is_still_named_after_loading_and_saving_again(tmp_path: Path) -> None:
    save_metrics(tmp_path, {"val_mse": math.nan})
    save_metrics(tmp_path, load_metrics(tmp_path) | {"test_mse": math.nan})
    assert load_metrics(tmp_path)["non_finite"] == ["val_mse", "test_mse"]


def test_scalars_of_numpy_are_numbers(tmp_path: Path) -> None:
    save_metrics(
        tmp_path, {"val_mse": np.float32(0.5), "n": np.int64(3), "bad": np.float32("nan"), "ok": True}
    )
    assert load_metrics(tmp_path) == {"val_mse": 0.5, "n": 3, "bad": None, "ok": True, "non_finite": ["bad"]}


def test_saving_does_not_change_what_is_saved(tmp_path: Path) -> None:
    history = {"epochs": [{"val_mse": math.nan}]}
    save_history(tmp_path, history)
    assert math.isnan(history["epochs"][0]["val_mse"])
    assert set(history) == {"epochs"}


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"run_0000/metrics\.json does not exist"):
        load_metrics(tmp_path / "run_0000")
    with pytest.raises(StateError, match=r"history\.json does not exist"):
        load_history(tmp_path)


def test_every_torn_file_is_a_state_error_that_names_it(tmp_path: Path) -> None:
    save_metrics(tmp_path, METRICS)
    whole = (tmp_path / "metrics.json").read_bytes().rstrip()
    for length in range(len(whole)):
        (tmp_path / "metrics.json").write_bytes(whole[:length])
        with pytest.raises(StateError, match=r"metrics\.json cannot be read: it is (empty|not JSON)"):
            load_metrics(tmp_path)


@pytest.mark.parametrize("content", [b"\0" * 40, b"\xff\xfe", b"[1]", b"3", b"null", b"[" * 100_000])
def test_a_foreign_file_is_a_state_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "history.json").write_bytes(content)
    with pytest.raises(StateError, match=r"history\.json"):
        load_history(tmp_path)


def test_a_folder_in_the_files_place_is_a_state_error(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").mkdir()
    with pytest.raises(StateError, match="cannot be read"):
        load_metrics(tmp_path)

"""Predictions are held against what became of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nas_agent_graph.analysis.calibration import Prediction, calibrate, format_calibration, predictions_of
from nas_system.nas_agent.agent_state import AgentState, RunInfo
from nas_system.nas_agent.ledger import Ledger


def test_errors_bias_and_share_within_the_noise_are_those_computed_by_hand() -> None:
    stated = [
        Prediction("llm:a", 0.050, 0.052),
        Prediction("llm:a", 0.050, 0.0495),
        Prediction("llm:a", 0.050, None),
        Prediction("llm:b", 0.060, None),
    ]
    first, second = calibrate(stated, 0.001, "minimize")
    assert (first.proposer, first.n, first.unscored) == ("llm:a", 2, 1)
    assert first.mean_error == pytest.approx(0.00125)
    assert first.bias == pytest.approx(0.00075)
    assert first.within_noise == 0.5
    assert (second.n, second.unscored, second.mean_error, second.bias) == (0, 1, None, None)
    assert format_calibration(first, 0.001) == (
        "2 scored, off by 0.00125 on average (1.25 x noise), too optimistic by 0.00075; "
        "50% within the noise; 1 got no score"
    )
    assert format_calibration(second, 0.001) == "0 scored; 1 got no score"


def test_without_a_measured_noise_nothing_is_said_about_it() -> None:
    (row,) = calibrate([Prediction("llm:a", 0.07, 0.05)], None, "minimize")
    assert format_calibration(row, None) == "1 scored, off by 0.02 on average, too pessimistic by 0.02"


def test_whoever_expects_more_of_a_maximized_metric_is_too_optimistic() -> None:
    stated = [Prediction("llm:a", 0.90, 0.80), Prediction("llm:a", 0.70, 0.76)]
    (row,) = calibrate(stated, 0.07, "maximize")
    assert (row.mean_error, row.bias) == (pytest.approx(0.08), pytest.approx(0.02))
    assert "off by 0.08 on average (1.14 x noise), too optimistic by 0.02" in format_calibration(row, 0.07)
    assert calibrate(stated, 0.07, "minimize")[0].bias == pytest.approx(-0.02)


@pytest.mark.parametrize("stated", [None, "0.05", True, [0.05], 10**400])
def test_what_is_no_number_is_no_prediction(tmp_path: Path, stated: Any) -> None:
    folder = tmp_path / "runs" / "run_0000"
    folder.mkdir(parents=True)
    (folder / "proposal.json").write_text(json.dumps({"expected_val_mse": stated}))
    state = AgentState(runs=(RunInfo(run_id="run_0000", val_mse=0.05),))
    assert predictions_of(Ledger(tmp_path, state)) == []


def test_a_prediction_of_a_failed_run_has_no_score_to_be_held_against(tmp_path: Path) -> None:
    runs = []
    for number, status in enumerate(("OK", "DIVERGED")):
        folder = tmp_path / "runs" / f"run_000{number}"
        folder.mkdir(parents=True)
        (folder / "proposal.json").write_text('{"expected_val_mse": 0.04}')
        runs.append(RunInfo(run_id=folder.name, val_mse=0.05, status=status, proposer="llm:a"))
    found = predictions_of(Ledger(tmp_path, AgentState(runs=tuple(runs))))
    assert found == [Prediction("llm:a", 0.04, 0.05), Prediction("llm:a", 0.04, None)]

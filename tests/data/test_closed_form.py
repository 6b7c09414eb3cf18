"""The closed form: its errors are those of the same map fitted and scored window by window."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from nas_system.data.loading import OpenTask
from nas_system.data.measures.closed_form import ClosedForm, clock_waves, search_closed_form
from nas_system.data.series import Series
from nas_system.data.time_features import continuous
from nas_system.sequential import linear
from nas_system.space import ForecastingTask, RunConfig
from nas_system.tasks.forecasting_data import ForecastingProblem
from nas_system.training.build import build_engine

torch.set_num_threads(1)

START = np.datetime64("2019-01-01T00:00:00")


def open_series(values: np.ndarray, pred_len: int, freq: str = "D") -> OpenTask:
    step = np.timedelta64(1, "D" if freq == "D" else "h")
    values = values.reshape(len(values), -1)
    names = tuple(f"y{i}" for i in range(values.shape[1]))
    series = Series(values, names, START + np.arange(len(values)) * step, freq)
    return OpenTask.of_series(ForecastingTask(dataset="x.csv", targets=names, pred_len=pred_len), series)


def weekly(rows: int, seed: int = 0, targets: int = 1) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((rows, targets))
    cycle = np.sin(2 * np.pi * np.arange(rows) / 7)[:, None] * (1 + np.arange(targets))
    return 5 * cycle + noise


@pytest.fixture(scope="module")
def forms() -> tuple[OpenTask, tuple[ClosedForm, ...]]:
    data = open_series(weekly(300, targets=2), 5)
    return data, search_closed_form(data, [7])


def test_all_sensible_combinations_are_tried_and_ordered_by_their_error(forms):
    data, found = forms
    losses = [form.loss for form in found]
    assert losses == sorted(losses) and all(map(math.isfinite, losses))
    assert len(set(found)) == len(found)
    longest = (data.split.train_end - 5) // 2
    assert {form.seq_len for form in found} == {12, 14, 18, 21, 24, 28, 36, 48, 72, longest}
    assert {(form.normalization, form.season) for form in found} == {
        ("none", None),
        ("last", None),
        ("mean", None),
        ("seasonal", 7),
    }
    assert any(form.individual for form in found) and any(form.time_features for form in found)


@pytest.mark.parametrize("place", [0, 7, 100, -1])
def test_the_model_of_a_combination_has_the_error_that_was_promised(forms, place):
    data, found = forms
    check_model(data, found[place])


@pytest.mark.parametrize("change", [{"individual": True}, {"time_features": True}])
def test_so_have_a_map_per_target_and_one_that_reads_the_clock(forms, change):
    data, found = forms
    check_model(data, next(f for f in found if all(getattr(f, k) == v for k, v in change.items())))


def check_model(data: OpenTask, form: ClosedForm) -> None:
    model = {"family": "ridge", "normalization": form.normalization, "strength": form.strength}
    model |= {"individual": form.individual, "time_features": form.time_features}
    if form.season is not None:
        model["season"] = form.season
    config = RunConfig.model_validate(
        {"task": data.task.model_dump(), "model": model, "data": {"features": "S", "seq_len": form.seq_len}}
    )
    problem = ForecastingProblem(config, data.source, data.series, torch.device("cpu"))  # type: ignore[arg-type]
    engine = build_engine(config, problem, problem.device)
    assert engine.generator is not None
    reason = engine.fit_planned(problem.training_batches(engine.generator), problem.batches("val", 512))
    assert (reason, engine.steps, len(engine.history)) == ("completed", 0, 1)
    assert engine.history[0].val["mse"] == pytest.approx(form.val_mse, rel=2e-4)


def test_the_earlier_error_is_that_of_a_map_which_has_not_seen_the_last_training_windows():
    """Checked by least squares over windows one by one; as many of them are scored at every look-back."""
    values, pred_len, look_back = weekly(300), 5, 28
    data = open_series(values, pred_len)
    found = search_closed_form(data, [7])
    form = next(f for f in found if (f.seq_len, f.normalization, f.strength) == (look_back, "last", 0.1))
    rows = data.scaler.transform(values)[: data.split.train_end, 0]
    windows = np.lib.stride_tricks.sliding_window_view(rows, look_back + pred_len)
    last = windows[:, look_back - 1 : look_back]
    inputs, outputs = windows[:, :look_back] - last, windows[:, look_back:] - last
    longest = max(f.seq_len for f in found)
    late = (data.split.train_end - longest - pred_len + 1) // 2
    early = len(windows) - late - (pred_len - 1)
    penalty = np.sqrt(0.1 * early) * np.eye(look_back + 1)[:-1]
    design = np.vstack([np.hstack([inputs[:early], np.ones((early, 1))]), penalty])
    answer = np.vstack([outputs[:early], np.zeros((look_back, pred_len))])
    weights = np.linalg.lstsq(design, answer)[0]
    forecast = np.hstack([inputs[-late:], np.ones((late, 1))]) @ weights
    assert form.earlier_mse == pytest.approx(np.mean((forecast - outputs[-late:]) ** 2), rel=1e-5)


def test_many_validation_windows_decide_alone():
    few, many = (search_closed_form(open_series(weekly(rows), 1), [7]) for rows in (300, 340))
    assert all(form.earlier_mse != form.val_mse for form in few)
    assert all(form.earlier_mse == form.val_mse for form in many)


def test_a_weekly_pattern_is_found_and_the_error_comes_near_the_noise():
    data = open_series(weekly(700), 14)
    best = search_closed_form(data, [7])[0]
    noise = 1 / data.scaler.std[0] ** 2
    assert best.val_mse < 1.3 * noise
    assert search_closed_form(open_series(weekly(700) * 1000 + 5, 14), [7])[0].val_mse == pytest.approx(
        best.val_mse, rel=1e-6
    ), "shift and scale change nothing"


def test_nothing_helps_on_a_random_walk_and_a_large_penalty_leaves_the_last_value():
    walk = np.random.default_rng(3).standard_normal(600).cumsum()
    found = search_closed_form(open_series(walk, 5), [])
    strong = [f for f in found if f.normalization == "last" and f.strength == 100.0 and not f.time_features]
    starts = open_series(walk, 5).split.window_starts("val", 1, 5)
    scaled = open_series(walk, 5).scaler.transform(walk[:, None])[:, 0]
    last = np.mean([(scaled[s + 1 : s + 6] - scaled[s]) ** 2 for s in starts])
    for form in strong:
        assert form.val_mse == pytest.approx(last, rel=0.2)


def test_a_series_too_short_for_two_inputs_has_no_combination():
    data = open_series(weekly(40), 5)
    found = search_closed_form(data, [7])
    assert max(form.seq_len for form in found) == (data.split.train_end - 5) // 2 == 9
    shortest = search_closed_form(replace(data, split=replace(data.split, train_end=9)))
    assert shortest and {form.seq_len for form in shortest} == {2}, "three windows: two to fit, one to score"
    assert search_closed_form(replace(data, split=replace(data.split, train_end=7))) == ()


def test_what_would_take_too_much_work_is_left_out_from_the_longest_on():
    data = open_series(weekly(300, targets=2), 5)
    assert {form.seq_len for form in search_closed_form(data, [7], work=0.0)} == {12}
    some = search_closed_form(data, [7], work=2e6)
    assert 12 < max(form.seq_len for form in some) < 72
    assert some == search_closed_form(data, [7], work=2e6), "counted, not timed"


def test_the_clock_has_the_same_waves_in_the_search_and_in_the_model():
    dates = START + np.arange(50) * np.timedelta64(1, "h")
    features = continuous(dates, "h")
    mark = torch.from_numpy(features)[:, None]
    np.testing.assert_allclose(linear.clock_waves(mark).numpy(), clock_waves(features), atol=1e-5)
    assert clock_waves(continuous(dates, "MS")).shape == (50, 0), "months alone give no clock"

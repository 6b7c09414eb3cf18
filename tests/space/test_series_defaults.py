"""Defaults fitted to a series: from its best linear forecast and from the number of its windows."""

from __future__ import annotations

import math
from typing import Any

import pytest

from nas_system.space import (
    Change,
    ForecastingTask,
    RunConfig,
    apply_changes,
    canonical_key,
    changes_between,
    families_of,
)
from nas_system.space.changes import default_next_to, family_default
from nas_system.space.sampling import fitting_default
from nas_system.space.series_defaults import SeriesFit

TASK = ForecastingTask(dataset="own.csv", targets=("y",), pred_len=14)
RIDGE: dict[str, Any] = {
    "seq_len": 72,
    "normalization": "seasonal",
    "season": 7,
    "strength": 0.1,
    "individual": False,
    "time_features": True,
    "val_mse": 0.008,
    "last_val_mse": 0.01,
}


def measured(rows: int = 438, **changes: Any) -> dict[str, Any]:
    return {"ridge": RIDGE | changes, "split": {"train": [0, rows], "val": [rows, rows + 100]}}


def fit(rows: int = 438, **changes: Any) -> SeriesFit:
    found = SeriesFit.of(measured(rows, **changes))
    assert found is not None
    return found


@pytest.mark.parametrize("family", families_of("forecasting"))
@pytest.mark.parametrize(
    ("rows", "seq_len", "season"), [(438, 72, 7), (86, 12, 12), (10_452, 1024, 24), (60, 6, 4)]
)
def test_every_default_fits_the_series(family, rows, seq_len, season):
    config = fitting_default(family, TASK, 1, rows - 14, fit(rows, seq_len=seq_len, season=season))
    assert config is not None
    assert config.data.seq_len == min(seq_len, {"informer": 96, "ridge": 1024}.get(family, 512))
    assert config.model.normalization == "seasonal" and config.model.season == season  # type: ignore[attr-defined]
    assert (config.task, config.seed) == (TASK, 1)


def test_the_ridge_family_starts_at_the_best_combination():
    config = fitting_default("ridge", TASK, 1, 400, fit())
    assert config is not None
    found = config.model.model_dump() | {"seq_len": config.data.seq_len}
    assert found == {name: RIDGE[name] for name in RIDGE if not name.endswith("mse")} | {"family": "ridge"}


def test_networks_take_over_a_normalisation_only_where_it_is_clearly_better():
    clearly, hardly = (fit(last_val_mse=last) for last in (0.01, 0.0081))
    chosen = [
        fitting_default(family, TASK, 1, 400, found).model.normalization  # type: ignore[union-attr]
        for family in ("ridge", "tsmixer")
        for found in (clearly, hardly)
    ]
    assert chosen == ["seasonal", "seasonal", "seasonal", "last"]


def test_a_short_series_gets_small_batches_few_steps_and_the_linear_start():
    short, long = (fitting_default("itransformer", TASK, 1, 9_999, fit(rows)) for rows in (438, 9_000))
    assert short is not None and long is not None
    assert (short.data.batch_size, long.data.batch_size) == (32, 128)
    assert (short.training.max_steps, long.training.max_steps) == (400, 520)
    assert (short.model.linear_start, long.model.linear_start) == ("ridge", "mean")  # type: ignore[attr-defined]


def test_several_short_series_are_no_short_series():
    known = measured(300) | {"series": {"count": 50, "train_rows": 15_000}}
    found = SeriesFit.of(known)
    assert found is not None and found.windows(72, 14) == 15_000 - 50 * 85
    many = fitting_default("itransformer", TASK, 1, 286, found)
    assert many is not None
    assert (many.data.batch_size, many.model.linear_start) == (128, "mean")  # type: ignore[attr-defined]
    for wrong in ({"count": 50}, {"count": "many", "train_rows": 1}, {"train_rows": 15_000}):
        assert SeriesFit.of(measured(300) | {"series": wrong}) is None


@pytest.mark.parametrize("family", families_of("forecasting"))
def test_a_change_of_the_family_starts_from_its_fitted_default(family):
    parent = fitting_default("linear" if family != "linear" else "ridge", TASK, 1, 424, fit())
    assert parent is not None
    start = apply_changes(
        parent, [Change(parameter="model.family", value=family)], max_seq_len=424, fit=fit()
    )
    assert canonical_key(start) == canonical_key(default_next_to(parent, family, fit()))
    named = changes_between(parent, start, fit())
    assert [change.parameter for change in named] == ["model.family"]
    assert canonical_key(
        apply_changes(start, changes_between(start, parent, fit()), fit=fit())
    ) == canonical_key(parent)


def test_without_a_measurement_the_default_is_the_one_of_every_task():
    assert SeriesFit.of({}) is None
    base = RunConfig(task=TASK)
    assert default_next_to(base, "patchtst") == family_default("patchtst").model_copy(
        update={"task": TASK, "seed": 42}
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"seq_len": "long"},
        {"seq_len": -3},
        {"seq_len": 10**9},
        {"season": 10**9},
        {"season": None},
        {"strength": math.nan},
        {"strength": -1.0},
        {"normalization": "magic"},
        {"individual": 3},
    ],
)
def test_what_somebody_wrote_into_the_file_is_taken_or_left_but_never_breaks(wrong):
    found = SeriesFit.of(measured(**wrong))
    for family in families_of("forecasting"):
        config = fitting_default(family, TASK, 1, 400, found)
        assert config is None or config.data.seq_len <= 400


def test_a_fit_needs_the_rows_of_the_training_part():
    for split in ({}, {"train": None}, {"train": [0]}, {"train": [0, "many"]}, "all", None):
        assert SeriesFit.of({"ridge": RIDGE, "split": split}) is None

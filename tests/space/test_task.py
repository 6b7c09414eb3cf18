"""What a search is about: its split, step and targets, however they are written."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError

from nas_system.config_io.config_file import read_config, render_config
from nas_system.errors import ConfigError
from nas_system.nas_agent.agent_state import load_agent_state
from nas_system.space import (
    ForecastingTask,
    RunConfig,
    active_values,
    canonical_key,
    families_of,
    family_default,
    parameters,
    task_adapter,
)
from nas_system.space.task_flags import columns_of, split_of, task_fields, task_with
from nas_system.space.time_steps import SECONDS, normalised_step

OWN: dict[str, Any] = {"dataset": "own.csv", "freq": "15min", "missing": "ffill"}


# ------------------------------------------------------------------------------------ the step


@pytest.mark.parametrize(
    ("step", "spellings"),
    [
        ("s", ["s", "S", "1s"]),
        ("min", ["min", "T", "t", "1min", "60s", "MIN"]),
        ("15min", ["15min", "15T", "15 min", "900s", " 15min "]),
        ("h", ["h", "H", "1h", "60min", "3600s"]),
        ("90min", ["90min", "90T"]),
        ("D", ["D", "d", "1D", "24h", "1440min"]),
        ("W", ["W", "w", "7D", "168h", "W-SUN", "W-MON"]),
        ("2W", ["14D", "2W"]),
        ("MS", ["MS", "M", "ME", "1MS"]),
        ("3MS", ["Q", "QS", "QE", "3M", "QE-DEC"]),
        ("12MS", ["Y", "YS", "A", "YE-DEC", "12MS", "4Q"]),
    ],
)
def test_a_step_has_one_spelling_whatever_people_write(step: str, spellings: list[str]) -> None:
    assert {normalised_step(text) for text in spellings} == {step}


@pytest.mark.parametrize("step", ["s", "min", "15min", "h", "90min", "D", "2W"])
def test_a_step_is_as_long_as_pandas_says(step: str) -> None:
    start = pd.Timestamp("2020-01-05")
    unit = step.lstrip("0123456789")
    seconds = int(step.removesuffix(unit) or 1) * SECONDS[unit]
    assert start + pd.tseries.frequencies.to_offset(step) - start == pd.Timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("m", "could be minutes or months; write min or MS"),
        ("15m", "could be minutes or months"),
        ("B", "skips weekends"),
        ("ms", "is not known; write a unit"),
        ("0h", "is not known"),
        ("1.5h", "is not known"),
        ("-h", "is not known"),
        ("", "is not known"),
        ("hourly", "is not known"),
        ("h-SUN", "is not known"),
        ("MS-JAN", "is not known"),
        ("٣h", "is not known"),
        ("9" * 5000 + "h", "is not known"),
    ],
)
def test_what_is_no_step_is_refused_with_what_is(text: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ForecastingTask(freq=text)


# ------------------------------------------------------------------------------------ the split


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ([0.7, 0.2, 0.2], "the split 0.7,0.2,0.2: the shares add up to 1.1, but 1 is all there is"),
        ([0.8, 0.2], "the split 0.8,0.2 has 2 shares, but there are three: train, val and test"),
        (
            [60, 20, 20],
            "the split 60,20,20: 60 is no share between 0 and 1; write, for example, 0.6,0.15,0.15",
        ),
        ([0.5, 0.5, 0.0], "0 is no share between 0 and 1"),
        ([0.5, 0.6, -0.1], "-0.1 is no share"),
        ([0.5, float("nan"), 0.1], "nan is no share"),
        ([0.5, 10**400, 0.1], "is no share"),
        (["2017-07-01"], "the split 2017-07-01 has 1 of two or three dates"),
        (["2017-07-01"] * 4, "has 4 of two or three dates"),
        (["2017-07-01", "2017-02-30"], "there is no such date as '2017-02-30'"),
        (["2017-07-01", "1.11.2017"], "'1.11.2017' is no date; write it as 2017-07-01 or 2017-07-01 14:00"),
        (
            ["2017-11-01", "2017-07-01"],
            "2017-07-01 is not after 2017-11-01; val comes first, then test, then hold-out",
        ),
        (["2017-07-01", "2017-07-01 00:00"], "2017-07-01 is not after 2017-07-01"),
        ([0.6, "2017-07-01", 0.2], "is neither three shares"),
        ([True, True, True], "is neither three shares"),
        ([], "is neither three shares"),
        ("0.6,0.2,0.2", "is neither three shares"),
        ({"train": 0.6}, "is neither three shares"),
    ],
)
def test_a_split_that_cannot_be_is_refused_with_what_can(split: Any, message: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        ForecastingTask(split=split)
    assert message in str(refusal.value)


def test_rows_and_split_are_two_answers_to_one_question() -> None:
    with pytest.raises(ValidationError, match=r"the split 0.6,0.2,0.1 and train_rows.*keep one"):
        ForecastingTask(split=(0.6, 0.2, 0.1), train_rows=10, val_rows=10, test_rows=10)


def test_a_date_has_one_spelling() -> None:
    task = ForecastingTask(split=("2017-07", "2017-11-01 00:00", "2018-03-01T06:00"))
    assert task.split == ("2017-07-01", "2017-11-01", "2018-03-01 06:00:00")


# ---------------------------------------------------------------------------- writing and reading


@pytest.mark.parametrize(
    "split",
    [
        None,
        (0.6, 0.15, 0.15),
        ("2017-07-01", "2017-11-01"),
        ("2017-07-01 06:00:00", "2017-11-01", "2018-03-01"),
    ],
)
@pytest.mark.parametrize("targets", [("all",), ("load", "heat")])
def test_a_task_survives_every_format(tmp_path: Path, split: Any, targets: tuple[str, ...]) -> None:
    task = ForecastingTask(targets=targets, split=split, **OWN)
    assert task_adapter.validate_json(task.model_dump_json()) == task
    assert task_adapter.validate_python(task.model_dump(mode="json")) == task
    config = family_default("linear").model_copy(update={"task": task})
    for name, text in {
        "config.py": render_config(config),
        "config.json": json.dumps(config.model_dump(mode="json")),
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert read_config(tmp_path / name).task == task


def test_yaml_takes_shares_and_quoted_dates(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        'task: {dataset: own.csv, freq: 60min, split: ["2017-07-01", "2017-11-01"], missing: ffill}'
    )
    task = read_config(path).task
    assert (task.freq, task.split, task.missing) == ("h", ("2017-07-01", "2017-11-01"), "ffill")
    path.write_text("task: {split: [0.7, 0.1, 0.1], targets: [all]}")
    assert read_config(path).task == ForecastingTask(split=(0.7, 0.1, 0.1), targets=("all",))
    path.write_text("task:\n  split: [2017-07-01, 2017-11-01]\n")
    with pytest.raises(ConfigError, match="line 2: '2017-07-01' is no plain value; put text in quotes"):
        read_config(path)


def test_a_search_of_before_these_fields_goes_on(tmp_path: Path) -> None:
    stored = {
        "name": "forecasting", "dataset": "own.csv", "targets": ["load"], "pred_len": 6,
        "train_rows": None, "val_rows": None, "test_rows": None,
    }  # fmt: skip
    state = {"schema_version": 1, "max_runs": 3, "runs": [], "task": stored}
    (tmp_path / "agent_state.json").write_text(json.dumps(state))
    task = load_agent_state(tmp_path / "agent_state.json").task
    assert task == ForecastingTask(dataset="own.csv", targets=("load",), pred_len=6)
    assert task is not None and (task.freq, task.missing, task.split) == (None, "refuse", None)


# ------------------------------------------------------------------------------------ every column


@pytest.mark.parametrize("family", families_of("forecasting"))
def test_no_covariates_remain_when_every_column_is_a_target(family: str) -> None:
    config = family_default(family)
    every = config.model_copy(update={"task": ForecastingTask(targets=("all",))})
    assert not every.reads_covariates and every.task.has_several_targets
    assert "data.features" not in active_values(every)
    alone, other = (
        every.model_copy(update={"data": every.data.model_copy(update={"features": features})})
        for features in ("S", "MS")
    )
    assert canonical_key(alone) == canonical_key(other)
    several = {p.path for p in parameters(family) if p.where == "several targets" and p.when is None}
    assert several <= set(active_values(every))


def test_m_in_a_configuration_says_where_it_belongs(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("data:\n  features: M\n")
    with pytest.raises(
        ConfigError, match=r"line 2: data.features='M'.* set task.targets to \['all'\].*'S' or 'MS'"
    ):
        read_config(path)


# ------------------------------------------------------------------------------------ flags


def test_flags_become_fields() -> None:
    arguments = argparse.Namespace(
        task=None,
        dataset="own.csv",
        target='a, "b,c" ,d',
        pred_len=3,
        freq=None,
        missing=None,
        split="0.5,0.2,0.2",
    )
    fields = task_fields(arguments)
    assert fields == {
        "dataset": "own.csv", "targets": ("a", "b,c", "d"), "pred_len": 3, "split": (0.5, 0.2, 0.2)
    }  # fmt: skip
    assert task_with(ForecastingTask(**OWN), fields).freq == "15min"


@pytest.mark.parametrize(
    ("text", "columns"), [("all", ("all",)), ("", ("",)), ("a,", ("a", "")), ("ä b", ("ä b",))]
)
def test_columns_are_separated_by_commas(text: str, columns: tuple[str, ...]) -> None:
    assert columns_of(text) == columns


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("0.6, 0.2,.1", (0.6, 0.2, 0.1)),
        ("2017-07-01,2018", ("2017-07-01", "2018")),
        ("", ("",)),
        ("a", ("a",)),
    ],
)
def test_a_split_is_numbers_or_text(text: str, split: tuple[Any, ...]) -> None:
    assert split_of(text) == split


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pred_len": 0}, "--pred-len: Input should be greater than or equal to 1 (got 0)"),
        ({"targets": ("a", "a")}, "--target: targets name a column twice: a, a"),
        ({"freq": "x"}, "--freq: the step 'x' is not known"),
        ({"missing": "drop"}, "--missing: Input should be 'refuse', 'ffill' or 'interpolate' (got 'drop')"),
        ({"split": ("",)}, "--split: the split : '' is no date"),
        ({"name": "chess"}, "--task: there is no task 'chess'; choose from: forecasting, zinc, zinc_synth"),
        ({"train_rows": 5}, "train_rows, val_rows and test_rows are given together or not at all"),
    ],
)
def test_a_wrong_flag_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        task_with(RunConfig().task, given)
    assert str(refusal.value).startswith(message)


def test_a_column_that_cannot_be_read_is_a_wrong_flag() -> None:
    with pytest.raises(ConfigError, match="--target: "):
        columns_of("a\rb")


@pytest.mark.parametrize("augmentation", ["time_warp", "window_slice"])
@pytest.mark.parametrize(
    "known", [{"future": ("promo",)}, {"holidays": ("DE",)}], ids=["columns", "holidays"]
)
def test_no_augmentation_moves_what_is_known_of_a_step(augmentation: str, known: dict[str, Any]) -> None:
    task = ForecastingTask(dataset="own.csv", targets=("y",)).model_dump()
    config = {"model": {"family": "linear"}, "training": {"augmentation": augmentation}}
    RunConfig.model_validate(config | {"task": task})
    with pytest.raises(ValidationError, match="bends the time of a window"):
        RunConfig.model_validate(config | {"task": task | known})

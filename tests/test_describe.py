"""`python -m nas_system.describe`: the facts of a task, for the search and for people."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from nas_system.data import DataSource, locate, open_task
from nas_system.describe import main
from nas_system.space import ForecastingTask
from nas_system.tasks.forecasting import describe_source

Cli = Callable[..., subprocess.CompletedProcess[str]]


def facts_of(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    out = tmp_path / "task_facts.json"
    assert main([*arguments, "--out", str(out)]) == 0
    return json.loads(out.read_text())


def test_the_facts_of_the_generated_series(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, "--dataset", "synthetic", "--target", "OT,HUFL", "--pred-len", "48")
    assert facts["schema"] == 2
    measured = facts["measured"]
    task = ForecastingTask(dataset="synthetic", targets=("OT", "HUFL"), pred_len=48)
    assert facts["task"] == task.model_dump(mode="json")
    assert facts["columns"] == ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]
    assert (measured["rows"], measured["freq"]) == (17_420, "h")
    assert (measured["first"], measured["last"]) == ("2020-01-01T00:00:00", "2021-12-26T19:00:00")
    assert measured["split"] == {
        "train": [0, 8640], "val": [8640, 11520], "test": [11520, 14400], "hold_out": [14400, 17420]
    }  # fmt: skip
    assert (measured["seq_len"], facts["max_seq_len"]) == (96, 8592)
    assert facts["sizes"] == {"train": 8497, "val": 2833, "test": 2833, "hold_out": 2973}
    assert [set(row) for row in facts["baselines"]] == [{"name", "val_mse", "test_mse", "accuracy"}] * 4
    assert len(measured["scaler"]["mean"]) == len(measured["scaler"]["std"]) == 2


def test_a_training_reads_the_same_data_from_the_facts(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, "--dataset", "synthetic")
    task = ForecastingTask.model_validate_json(json.dumps(facts["task"]))
    data = open_task(task, DataSource.from_json(facts["source"]))
    assert data.scaler.of_columns((6,)).to_json() == facts["measured"]["scaler"]


def test_the_task_may_come_as_json(tmp_path: Path) -> None:
    flags = facts_of(tmp_path, "--dataset", "synthetic", "--pred-len", "12")
    task = json.dumps({"dataset": "synthetic", "targets": ["OT"], "pred_len": 12})
    assert facts_of(tmp_path, "--task-json", task) == flags


def test_the_hold_out_rows_are_scored_only_when_asked() -> None:
    task = ForecastingTask(dataset="synthetic")
    source = locate(task)
    assert "hold_out_mse" not in describe_source(task, source).baselines[0].scores
    assert "hold_out_mse" in describe_source(task, source, hold_out=True).baselines[0].scores


def test_people_get_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--dataset", "synthetic"]) == 0
    printed = capsys.readouterr()
    assert "test      rows 11520 to 14400, 2857 windows" in printed.out
    assert "\nhold-out  rows 14400 to 17420, " in printed.out
    assert [line.split()[0] for line in printed.out.splitlines()[-5:]] == [
        "baseline", "last-value", "drift", "seasonal-24", "nlinear-336"
    ]  # fmt: skip
    assert printed.err == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "TO"], "there is no column 'TO'; did you mean 'OT'?"),
        (["--pred-len", "0"], "error: --pred-len: Input should be greater than or equal to 1 (got 0)"),
        (["--pred-len", "soon"], "argument --pred-len: invalid int value: 'soon'"),
        (["--pred-len", "5000"], "the val part of 'synthetic' has 2880 of 17420 rows"),
        (["--train-rows", "100"], "train_rows, val_rows and test_rows are given together or not at all"),
        (["--task-json", "{}"], "--task-json is the whole task; leave out --dataset"),
        (["--out", "no/such/folder/facts.json"], "no/such/folder/facts.json cannot be written: No such file"),
        (["--horizon", "3"], "unrecognized arguments: --horizon 3"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    run_cli: Cli, tmp_path: Path, arguments: list[str], message: str
) -> None:
    ended = run_cli("nas_system.describe", "--dataset", "synthetic", *arguments, cwd=tmp_path)
    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1
    assert message in ended.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["not json", "[1]", '{"datset": "etth1"}', '{"pred_len": "24"}'])
def test_a_bad_task_as_json_is_one_line_too(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--task-json", text]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: the task is wrong: ") and printed.count("\n") == 1


def test_a_stand_in_is_announced_on_stderr_and_remembered(run_cli: Cli, tmp_path: Path) -> None:
    arguments = ("--no-download", "--out", tmp_path / "facts.json")
    environment = {"NAS_DATA_DIR": "", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    ended = run_cli("nas_system.describe", *arguments, cwd=tmp_path, env=environment)
    assert ended.returncode == 0
    assert ended.stderr.startswith("note: ETTh1.csv is not here") and ended.stderr.count("\n") == 1
    source = json.loads((tmp_path / "facts.json").read_text())["source"]
    assert source["kind"] == "synthetic" and "GENERATED" in source["notice"]


def test_an_own_file_is_described(run_cli: Cli, tmp_path: Path) -> None:
    rows = [f"{2000 + month // 12}-{month % 12 + 1:02d}-01,{month % 12},{month}" for month in range(200)]
    (tmp_path / "own.csv").write_text("\n".join(["month,sales,trend", *rows]))
    arguments = ("--dataset", "own.csv", "--target", "sales", "--pred-len", "3", "--out", "facts.json")
    ended = run_cli("nas_system.describe", *arguments, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert facts["source"]["path"] == str(tmp_path / "own.csv") and facts["measured"]["freq"] == "MS"
    seasonal = next(row for row in facts["baselines"] if row["name"] == "seasonal-12")
    assert seasonal["val_mse"] == pytest.approx(0, abs=1e-20)


# ------------------------------------------------------------------------------- an own CSV file


def csv_file(path: Path, rows: int = 400, *, lines: dict[int, str] | None = None) -> Path:
    """An hourly series with `lines` (the header is 1) replaced; an empty one is left out."""
    first = datetime(2024, 1, 1)
    text = [
        "date,load,heat",
        *(f"{first + timedelta(hours=hour)},{hour % 24},{hour % 7}" for hour in range(rows)),
    ]
    for line, replacement in (lines or {}).items():
        text[line - 1] = replacement
    path.write_text("\n".join(line for line in text if line) + "\n")
    return path


def test_every_column_is_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = csv_file(tmp_path / "own.csv")
    facts = facts_of(tmp_path, "--dataset", str(own), "--target", "all", "--pred-len", "4")
    assert facts["task"]["targets"] == ["all"] and facts["measured"]["targets"] == ["load", "heat"]
    assert len(facts["measured"]["scaler"]["mean"]) == 2
    assert "4 steps ahead of load, heat" in capsys.readouterr().out
    both = facts_of(tmp_path, "--dataset", str(own), "--target", "load,heat", "--pred-len", "4")
    assert both["baselines"] == facts["baselines"]


def test_filled_cells_are_counted_in_facts_and_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gaps = {9: "2024-01-01 07:00:00,,1", 10: "2024-01-01 08:00:00,NaN,2", 20: "2024-01-01 18:00:00,18,-"}
    own = csv_file(tmp_path / "own.csv", lines=gaps)
    facts = facts_of(
        tmp_path, "--dataset", str(own), "--target", "load", "--pred-len", "4", "--missing", "ffill"
    )
    assert facts["measured"]["filled"] == {"load": 2, "heat": 1}
    assert "\nfilled    2 in load, 1 in heat: missing values" in capsys.readouterr().out
    whole = facts_of(tmp_path, "--dataset", str(csv_file(own)), "--target", "load", "--missing", "ffill")
    assert whole["measured"]["filled"] == {}
    assert "\nfilled" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("split", "borders"),
    [
        ("0.5,0.2,0.2", [[0, 200], [200, 280], [280, 360], [360, 400]]),
        ("2024-01-09,2024-01-13", [[0, 192], [192, 288], [288, 400], [400, 400]]),
        ("2024-01-09,2024-01-13,2024-01-15 12:00", [[0, 192], [192, 288], [288, 348], [348, 400]]),
    ],
)
def test_shares_and_dates_split_an_own_file(tmp_path: Path, split: str, borders: list[list[int]]) -> None:
    own = csv_file(tmp_path / "own.csv")
    facts = facts_of(tmp_path, "--dataset", str(own), "--target", "load", "--pred-len", "4", "--split", split)
    assert list(facts["measured"]["split"].values()) == borders
    again = facts_of(tmp_path, "--task-json", json.dumps(facts["task"]))
    assert again == facts


FFILL = ("--missing", "ffill")
ROW_FLAGS = ("--train-rows", "9", "--val-rows", "9", "--test-rows", "9")


@pytest.mark.parametrize(
    ("lines", "flags", "message"),
    [
        ({9: "2024-01-01 06:00:00,7,0"}, (), "line 9, column 'date': ... T06:00:00 repeats the one"),
        ({9: "2023-01-01 07:00:00,7,0"}, (), "line 9, column 'date': ... T07:00:00 is earlier than"),
        ({9: ""}, (), "line 9, column 'date': ... T08:00:00 comes 2h after the one before, elsewhere it is"),
        ({9: "2024-01-01 07:10:00,7,0"}, (), "line 9, column 'date': ... T07:10:00 comes 70min after"),
        ({9: "01.01.2024 07:00,7,0"}, (), "line 9, column 'date': '01.01.2024 07:00' is not a time stamp"),
        ({9: "2024-01-01 27:00:00,7,0"}, (), "line 9, column 'date': there is no such time as '2024-01-01"),
        ({9: "2024-01-01 07:00:00,,0"}, (), "line 9, column 'load': the value is missing ... --missing"),
        ({9: "2024-01-01 07:00:00,7,x"}, FFILL, "line 9, column 'heat': 'x' is not a finite number"),
        ({2: "2024-01-01 00:00:00,,0"}, FFILL, "line 2, column 'load': the first row has no value"),
        ({9: "2024-01-01 07:00:00,7,0,1"}, (), "line 9: 4 values, but the header names 3 columns"),
        ({9: ""}, ("--freq", "h"), "line 9, column 'date': ... comes 2h after ... --freq (task.freq) says h"),
        ({}, ("--freq", "15T"), "own.csv: the step of the time stamps is h, but --freq ... says 15min"),
        ({}, ("--freq", "m"), "--freq: the step 'm' could be minutes or months; write min or MS"),
        ({}, ("--missing", "guess"), "argument --missing: invalid choice: 'guess'"),
        ({}, ("--target", "load,all"), "there is no column 'all'; 'all' means every column and stands alone"),
        ({}, ("--target", "OT"), "no column 'OT' (columns: load, heat); --target names columns, or all"),
        ({}, ("--target", "load,load"), "--target: targets name a column twice: load, load"),
        ({}, ("--split", "0.7,0.3,0.2"), "--split: the split 0.7,0.3,0.2: the shares add up to 1.2"),
        ({}, ("--split", "0.6,half,0.2"), "--split: the split 0.6,half,0.2: '0.6' is no date"),
        ({}, ("--split", "2024-01-09,2025-01-01"), "test would begin on 2025-01-01 ... to 2024-01-17 15:00"),
        ({}, ("--split", "2024-01-09,2024-01-02"), "--split: ... 2024-01-02 is not after 2024-01-09"),
        ({}, ("--split", "0.98,0.005,0.01"), "the val part of ... has 2 of 400 rows ... --split"),
        ({}, ("--split", "0.6,0.2,0.2", *ROW_FLAGS), "the split 0.6,0.2,0.2 and train_rows ... keep one"),
    ],
)  # fmt: skip
def test_a_bad_file_or_flag_is_one_line_with_its_place(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    lines: dict[int, str],
    flags: tuple[str, ...],
    message: str,
) -> None:
    own = csv_file(tmp_path / "own.csv", lines=lines)
    target = () if "--target" in flags else ("--target", "load")
    command = [
        "--dataset",
        str(own),
        "--pred-len",
        "4",
        "--out",
        str(tmp_path / "facts.json"),
        *target,
        *flags,
    ]
    if "invalid choice" in message:
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert ended.value.code == 2
    else:
        assert main(command) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert all(part in printed.err for part in message.split(" ... ")), printed.err
    assert not (tmp_path / "facts.json").exists()


@pytest.mark.parametrize("module", ["nas_system.describe", "nas_system.data"])
def test_neither_describe_nor_the_data_package_loads_torch_or_pandas(project_root: Path, module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'pandas'}} & set(sys.modules)))"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=project_root, capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == "[]"

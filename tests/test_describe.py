"""`python -m nas_system.describe`: the facts of a task, for the search and for people."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nas_system.data import DataSource, locate, open_task
from nas_system.describe import describe, main
from nas_system.space import TaskConfig

Cli = Callable[..., subprocess.CompletedProcess[str]]


def facts_of(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    out = tmp_path / "task_facts.json"
    assert main([*arguments, "--out", str(out)]) == 0
    return json.loads(out.read_text())


def test_the_facts_of_the_generated_series(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, "--dataset", "synthetic", "--target", "OT,HUFL", "--pred-len", "48")
    assert facts["schema"] == 1
    task = TaskConfig(dataset="synthetic", targets=("OT", "HUFL"), pred_len=48)
    assert facts["task"] == task.model_dump(mode="json")
    assert facts["columns"] == ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]
    assert (facts["rows"], facts["freq"]) == (17_420, "h")
    assert (facts["first"], facts["last"]) == ("2020-01-01T00:00:00", "2021-12-26T19:00:00")
    assert facts["split"] == {
        "train": [0, 8640], "val": [8640, 11520], "test": [11520, 14400], "sealed": [14400, 17420]
    }  # fmt: skip
    assert facts["windows"] == {
        "seq_len": 96, "max_seq_len": 8592, "train": 8497, "val": 2833, "test": 2833, "sealed": 2973
    }  # fmt: skip
    assert [set(row) for row in facts["references"]] == [{"name", "val_mse", "test_mse"}] * 3
    assert len(facts["scaler"]["mean"]) == len(facts["scaler"]["std"]) == 2


def test_a_training_reads_the_same_data_from_the_facts(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, "--dataset", "synthetic")
    task = TaskConfig.model_validate_json(json.dumps(facts["task"]))
    data = open_task(task, DataSource.from_json(facts["source"]))
    assert data.scaler.of_columns((6,)).to_json() == facts["scaler"]


def test_the_task_may_come_as_json(tmp_path: Path) -> None:
    flags = facts_of(tmp_path, "--dataset", "synthetic", "--pred-len", "12")
    task = json.dumps({"dataset": "synthetic", "targets": ["OT"], "pred_len": 12})
    assert facts_of(tmp_path, "--task-json", task) == flags


def test_the_sealed_rows_are_scored_only_when_asked() -> None:
    task = TaskConfig(dataset="synthetic")
    source = locate(task)
    assert "sealed_mse" not in describe(task, source)["references"][0]
    assert "sealed_mse" in describe(task, source, sealed=True)["references"][0]


def test_people_get_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--dataset", "synthetic"]) == 0
    printed = capsys.readouterr()
    assert "test      rows 11520 to 14400, 2857 windows" in printed.out
    assert [line.split()[0] for line in printed.out.splitlines()[-4:]] == [
        "reference", "last-value", "seasonal-24", "nlinear-336"
    ]  # fmt: skip
    assert printed.err == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "TO"], "there is no column 'TO'; did you mean 'OT'?"),
        (["--pred-len", "0"], "the task is wrong: pred_len: Input should be greater than or equal to 1"),
        (["--pred-len", "soon"], "argument --pred-len: invalid int value: 'soon'"),
        (["--pred-len", "5000"], "the val part of 'synthetic' has 2880 of 17420 rows"),
        (["--train-rows", "100"], "train_rows, val_rows and test_rows are given together or not at all"),
        (["--task-json", "{}"], "--task-json is the whole task; leave out the flags for dataset"),
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
    assert facts["source"]["path"] == str(tmp_path / "own.csv") and facts["freq"] == "MS"
    seasonal = next(row for row in facts["references"] if row["name"] == "seasonal-12")
    assert seasonal["val_mse"] == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("module", ["nas_system.describe", "nas_system.data"])
def test_neither_describe_nor_the_data_package_loads_torch_or_pandas(project_root: Path, module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'pandas'}} & set(sys.modules)))"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=project_root, capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == "[]"

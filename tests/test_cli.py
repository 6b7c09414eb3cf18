"""The command line as people type it: `nas COMMAND`, and the module of every command."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nas_agent_graph import __version__
from nas_agent_graph.cli import COMMANDS, main

Cli = Callable[..., subprocess.CompletedProcess[str]]
HEAVY = {
    *("torch", "langgraph", "langchain", "langchain_core", "langchain_openai", "openai", "anthropic"),
    *("optuna", "pandas", "matplotlib"),
}
CONFIG = """
model: {family: linear}
data: {features: S, seq_len: 24, batch_size: 64}
task: {dataset: synthetic, pred_len: 6, train_rows: 300, val_rows: 100, test_rows: 100}
training: {max_epochs: 1}
"""


@pytest.fixture
def nas(run_cli: Cli, tmp_path: Path) -> Cli:
    """Runs `nas WORDS...` by its module: the script itself may not be installed where the tests run."""

    def run(*words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        return run_cli("nas_agent_graph.cli", *words, cwd=tmp_path, **options)

    return run


def module_of(command: str) -> str:
    package = COMMANDS[command].entry.partition(".")[0]
    return f"{package}.{command}"


def test_the_script_is_this_program(project_root: Path) -> None:
    project = tomllib.loads((project_root / "pyproject.toml").read_text())["project"]
    module, _, function = project["scripts"]["nas"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_help_lists_every_command_with_a_line_each(nas: Cli, words: tuple[str, ...]) -> None:
    done = nas(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: nas COMMAND [options]\n")
    listed = done.stdout.partition("commands (each has a --help of its own):\n")[2].splitlines()
    assert [line.split(maxsplit=1)[0] for line in listed] == list(COMMANDS)
    assert all(
        line.endswith(command.purpose) for line, command in zip(listed, COMMANDS.values(), strict=True)
    )


def test_the_version_is_that_of_the_package(nas: Cli) -> None:
    done = nas("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"nas-agent {__version__}\n", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_one_help_in_both_its_forms_and_loads_nothing_heavy_for_it(
    nas: Cli, run_cli: Cli, tmp_path: Path, command: str
) -> None:
    short = nas(command, "--help", env={"PYTHONPROFILEIMPORTTIME": "1"}, fresh=True)
    long = run_cli(module_of(command), "--help", cwd=tmp_path)
    assert (short.returncode, long.returncode, long.stderr) == (0, 0, "")
    assert short.stdout.startswith(f"usage: nas {command} ")
    assert long.stdout.startswith(f"usage: python -m {module_of(command)} ")
    # The usage is indented by the length of the program's name; the rest is the same to the letter.
    assert short.stdout.partition("\n\n")[2] == long.stdout.partition("\n\n")[2]
    # "import time: own us | with its imports | name"
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in short.stderr.splitlines()}
    assert "argparse" in loaded
    assert not HEAVY & loaded
    assert "pydantic" not in loaded or command in ("run", "compare", "describe"), (
        "only the flags of a task need it"
    )


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["dance"], "there is no command 'dance'; choose from: run, compare, show, note, report,"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["run", "--max-runs", "0"], "argument --max-runs: '0' is not a whole number of 1 or more"),
        (["show", "run_0001", "--plot", "a.png"], "--plot draws the whole search; leave out the run id"),
        (["train", "--config", "c.py"], "the following arguments are required: --tag"),
    ],
)
def test_what_cannot_be_meant_ends_the_process_with_one_line(
    nas: Cli, words: list[str], complaint: str
) -> None:
    done = nas(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert complaint in done.stderr


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        *((f"{name} --nonsense", "") for name in COMMANDS),
        *((name, "the following arguments are required") for name in ("train", "score", "replay")),
        ("predict --intervals 0", "name up to 5 different levels between 1 and 99"),
        ("run --max-hours nan", "argument --max-hours: 'nan' is not a number above 0"),
        ("run --seed -1", "argument --seed: '-1' is not a whole number of 0 or more"),
        ("run --keep-free -1", "argument --keep-free: '-1' is not a number of 0 or more"),
        ("run --pred-len far", "argument --pred-len: invalid int value: 'far'"),
        ("run --missing drop", "argument --missing: invalid choice: 'drop'"),
        ("show --limit x", "argument --limit: 'x' is not a whole number of 1 or more"),
        ("report --watch 0", "argument --watch: '0' is not a number of seconds from 0.2 to 3600"),
        ("report --out a.json", "argument --out: 'a.json' does not end in .html"),
        ("train --config c.py --tag a --threads 0", "'0' is not auto or a whole number of 1 or more"),
    ],
)
def test_a_wrong_argument_is_named(line: str, complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, *arguments = line.split()
    with pytest.raises(SystemExit) as ended:
        COMMANDS[name].parser(f"nas {name}").parse_args(arguments)
    printed = capsys.readouterr()
    assert (ended.value.code, printed.out) == (2, "")
    assert printed.err.startswith("error: ") and printed.err.endswith("; see --help\n")
    assert complaint in printed.err


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("show run_0001 --lessons", "--lessons is about the whole search; leave out the run id"),
        ("show --transcript", "name it, for example run_0007"),
        ("describe --train-rows 5", "train_rows, val_rows and test_rows are given together or not at all"),
        ("describe --train-graphs 5", "--train-graphs: the task forecasting has nothing of the kind"),
        ("describe --freq x", "--freq: the step 'x' is not known"),
        ("predict --run r --csv a.csv --facts f.json", "leave out --facts and --data-dir"),
        ("predict --run r --plot a.svg", "the picture is a PNG"),
        ("score --run nowhere", "nowhere"),
    ],
)
def test_what_does_not_fit_together_is_an_error_of_one_line(
    line: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert complaint in printed.err


def test_a_search_has_every_flag_that_describes_its_task(nas: Cli) -> None:
    def task_flags(command: str) -> list[str]:
        text = nas(command, "--help").stdout
        groups = [group for group in text.split("\n\n") if group.startswith("task")]
        return [
            line.split(maxsplit=1)[0] for group in groups for line in group.splitlines() if "  --" in line
        ]

    assert task_flags("run") == task_flags("describe")
    assert {"--task", "--dataset", "--pred-len", "--train-rows", "--train-graphs"} <= set(task_flags("run"))


def test_old_spellings_of_flags_are_understood() -> None:
    arguments = COMMANDS["run"].parser("nas").parse_args(["--repeat-baseline", "7", "--targets", "a,b"])
    assert (arguments.repeat_base, arguments.target) == (7, "a,b")
    assert COMMANDS["describe"].parser("nas").parse_args(["--sealed"]).hold_out is True


def test_a_configuration_is_trained_and_described(nas: Cli, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    trained = nas("train", "--config", "config.yaml", "--tag", "trial", "--no-pictures", timeout_s=110)
    assert trained.returncode == 0, trained.stderr
    assert json.loads((tmp_path / "runs/trial/metrics.json").read_text())["val_mse"] > 0
    rows = ("--train-rows", "300", "--val-rows", "100", "--test-rows", "100")
    described = nas("describe", "--dataset", "synthetic", "--pred-len", "6", *rows, "--out", "facts.json")
    assert described.returncode == 0, described.stderr
    assert "6 steps ahead of OT" in described.stdout
    task = json.loads((tmp_path / "facts.json").read_text())["task"]
    assert (task["pred_len"], task["val_rows"]) == (6, 100)


def test_the_space_ends_quietly_when_its_reader_has_seen_enough(tmp_path: Path, project_root: Path) -> None:
    command = "python -m nas_agent_graph.cli space --json | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command.replace("python", sys.executable, 1)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(project_root), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "{\n", "")


def test_the_space_knows_a_family(nas: Cli) -> None:
    done = nas("space", "linear", "--json")
    assert done.returncode == 0, done.stderr
    assert list(json.loads(done.stdout)) == ["linear"]

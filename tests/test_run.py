"""The search through its front door: real processes, real trainings on a small series, real signals."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from builders import write_hourly

from nas_system.nas_agent.agent_state import load_agent_state
from nas_system.processes.run_lock import is_alive

ROWS = 700
SAID = "said.txt"
SHORT = """
model: {family: linear}
data: {features: S, seq_len: 24, batch_size: 64}
training: {lr: 0.01, max_epochs: 2, patience: 2}
"""
LONG = """
model: {family: linear}
data: {features: S, seq_len: 24, batch_size: 4}
training: {lr: 0.0001, scheduler: none, max_epochs: 40, patience: 40}
"""
TASK = ("--dataset", "series.csv", "--target", "load", "--pred-len", "6", "--base-config", "base.yaml")
LEFT_BEHIND = {
    *(
        "proposal.json",
        "config_used.py",
        "train.log",
        "history.json",
        "learning_curve.png",
        "predictions.png",
    ),
    *("best_model.pth", "val_errors.npy", "metrics.json", "exit.json", "verdict.json"),
}


@pytest.fixture
def workspace(tmp_path):
    def load(hour):
        return 10 + 3 * (8 <= hour % 24 < 20) + 0.01 * hour + 0.05 * ((hour * 7919) % 13 - 6)

    columns = {"load": lambda hour: f"{load(hour):.3f}", "heat": lambda hour: f"{20 - load(hour) / 3:.3f}"}
    write_hourly(tmp_path / "series.csv", ROWS, **columns)
    (tmp_path / "base.yaml").write_text(SHORT)
    return tmp_path


@pytest.fixture
def search(run_cli, workspace):
    def run(*arguments, **options):
        options.setdefault("cwd", workspace)
        return run_cli("nas_agent_graph.run", *arguments, **options)

    return run


@pytest.fixture
def quick_search(run_search, workspace):
    """The same for what does not depend on the training: a stand-in takes its place."""
    split = ("--split", "0.7,0.15,0.15")

    def run(*arguments):
        return run_search(*arguments, *(split if "--dataset" in arguments else ()), cwd=workspace)

    return run


@contextlib.contextmanager
def running(workspace, project_root, *arguments, until):
    """A search in the background, once `until(workspace)` holds; what it prints is in the file SAID."""
    with open(workspace / SAID, "w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "nas_agent_graph.run", *arguments],
            cwd=workspace,
            env={**os.environ, "PYTHONPATH": str(project_root)},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for(lambda: until(workspace) or process.poll() is not None)
        assert process.poll() is None, (workspace / SAID).read_text()
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def trains(run_id):
    """Whether the run has finished an epoch and goes on."""
    return lambda workspace: (workspace / "runs" / run_id / "history.json").exists()


def says(text):
    """Whether the search in the background has printed it."""
    return lambda workspace: text in (workspace / SAID).read_text()


def exit_record(workspace, run_id):
    return json.loads((workspace / "runs" / run_id / "exit.json").read_text())


def test_a_search_ends_with_a_leaderboard_a_model_and_every_file(search, workspace, run_cli):
    done = search(*TASK, "--max-runs", "3", "--repeat-baseline", "1")
    assert done.returncode == 0, done.stderr
    assert "proposer: tpe" in done.stdout
    assert "last-value" in done.stdout
    assert re.search(r"best model: .*runs/run_000\d/best_model.pth", done.stdout)
    state = load_agent_state(workspace / "agent_state.json")
    assert [run.run_id for run in state.runs] == ["run_0000", "run_0001", "run_0002"]
    assert {run.status for run in state.runs} == {"OK"}
    assert state.noise_runs == 2
    assert list(state.hold_out) == [state.best_run_id]
    for run in state.runs:
        found = {path.name for path in (workspace / "runs" / run.run_id).iterdir()}
        assert found >= LEFT_BEHIND
        assert "last.pth" not in found
        metrics = json.loads((workspace / "runs" / run.run_id / "metrics.json").read_text())
        assert metrics["data"]["sha256"] == state.data["sha256"]
        assert metrics["val_mse"] == run.val_mse
    entry = json.dumps(state.runs[-1].model_dump())
    assert len(entry) < 700, "an entry of agent_state.json stays small"

    again = search("--max-runs", "3")
    assert again.returncode == 0
    assert "all 3 runs are done" in again.stdout

    shown = run_cli("nas_agent_graph.show", state.best_run_id, cwd=workspace)
    assert shown.returncode == 0
    assert "val_mse" in shown.stdout


def test_a_finished_search_goes_on_when_more_runs_are_allowed(quick_search, workspace):
    assert quick_search(*TASK, "--max-runs", "1", "--repeat-baseline", "0").returncode == 0
    first = load_agent_state(workspace / "agent_state.json").runs[0]
    done = quick_search("--max-runs", "2")
    assert done.returncode == 0, done.stderr
    runs = load_agent_state(workspace / "agent_state.json").runs
    assert runs[0] == first
    assert [run.run_id for run in runs] == ["run_0000", "run_0001"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["--max-runs", "0"], "'0' is not a whole number of 1 or more"),
        (["--max-runs", "many"], "'many' is not a whole number"),
        (["--minutes-per-run", "-1"], "'-1' is not a number above 0"),
        (["--workspace", "/proc/nowhere"], "cannot be written"),
        (["--dataset", "series.csv", "--target", "lood"], "did you mean"),
        (["--dataset", "absent.csv", "--target", "load"], "absent.csv"),
        (["--dataset", "etth9"], "etth1"),
        (["--task", "chess"], "forecasting"),
        (
            ["--proposer", "oracle", "--dataset", "series.csv", "--target", "load"],
            "tpe, random_search, netformer, llm",
        ),
        (["--proposer", "llm", "--dataset", "series.csv", "--target", "load"], "NAS_LLM_MODEL"),
        (
            ["--base-config", "hostile.py", "--dataset", "series.csv", "--target", "load"],
            'hostile.py: line 1: "dict(d_model=',
        ),
        (["--base-config", "nobody"], "nobody"),
        (["--data-dir", "empty"], "ETTh1.csv"),
        (["--target", "OT,OT"], "twice"),
        (["--device", "tpu", "--dataset", "series.csv", "--target", "load"], "'tpu' is not known"),
        (["--device", "cuda:77", "--dataset", "series.csv", "--target", "load"], "CUDA devices"),
    ],
)
def test_bad_input_is_named_and_nothing_is_trained(search, workspace, arguments, complaint):
    (workspace / "hostile.py").write_text("model = dict(d_model=__import__('os').system('touch canary'))\n")
    (workspace / "empty").mkdir()
    done = search(*arguments)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert complaint in done.stderr
    assert not list(workspace.glob("runs/run_*/exit.json"))
    assert not (workspace / "canary").exists()


def test_a_search_is_never_continued_with_another_task_base_or_data(quick_search, workspace):
    assert quick_search(*TASK, "--max-runs", "1", "--repeat-baseline", "0").returncode == 0
    before = (workspace / "agent_state.json").read_bytes()
    (workspace / "other.yaml").write_text(SHORT.replace("0.01", "0.02"))
    for arguments, complaint in [
        (["--pred-len", "12"], "pred_len is 6, not 12"),
        (["--target", "heat"], "targets is ('load',), not ('heat',)"),
        (["--base-config", "other.yaml"], "another base configuration"),
        (["--seed", "7"], "began with --seed 42, not 7"),
    ]:
        done = quick_search("--max-runs", "2", *arguments)
        assert done.returncode == 2
        assert complaint in done.stderr
    content = (workspace / "series.csv").read_text()
    (workspace / "series.csv").write_text(content.replace("10.", "11."))
    done = quick_search("--max-runs", "2")
    assert done.returncode == 2
    assert "never mixes two" in done.stderr
    assert (workspace / "agent_state.json").read_bytes() == before


@pytest.mark.fault(29)
def test_ctrl_c_stops_the_training_and_the_same_command_continues(search, workspace, project_root):
    (workspace / "base.yaml").write_text(LONG)
    command = (*TASK, "--max-runs", "1", "--repeat-baseline", "0")
    with running(workspace, project_root, *command, until=trains("run_0000")) as process:
        process.send_signal(signal.SIGINT)
        process.wait(120)
    output = (workspace / SAID).read_text()
    assert process.returncode == 130, output
    assert "the same command continues" in output
    run_dir = workspace / "runs" / "run_0000"
    assert not is_alive(run_dir)
    epochs = len(json.loads((run_dir / "history.json").read_text())["epochs"])
    state = load_agent_state(workspace / "agent_state.json")
    assert (state.runs, [run.run_id for run in state.in_progress]) == ((), ["run_0000"])

    done = search(*command)
    assert done.returncode == 0, done.stderr
    state = load_agent_state(workspace / "agent_state.json")
    assert [run.run_id for run in state.runs] == ["run_0000"]
    assert exit_record(workspace, "run_0000")["attempt"] == 2
    # It went on where it stood: the epochs of the first attempt were not trained again.
    assert f"resumed after epoch {epochs - 1}" in (run_dir / "train.log").read_text()
    assert len(json.loads((run_dir / "history.json").read_text())["epochs"]) == 40


@pytest.mark.fault(1, 3, 50)
def test_kill_9_of_the_agent_leaves_a_training_that_the_next_agent_adopts(workspace, project_root):
    (workspace / "base.yaml").write_text(LONG)
    command = (*TASK, "--max-runs", "1", "--repeat-baseline", "0")
    run_dir = workspace / "runs" / "run_0000"
    with running(workspace, project_root, *command, until=trains("run_0000")) as process:
        training = json.loads((run_dir / "proc.json").read_text())["training"]["pid"]
        # It stands still until the next agent has found it.
        os.kill(training, signal.SIGSTOP)
        process.kill()
        process.wait()
    assert is_alive(run_dir), "the training outlives its agent"
    adopted = "run_0000: its training outlived an earlier agent and is adopted"
    try:
        with running(workspace, project_root, *command, until=says(adopted)) as process:
            os.kill(training, signal.SIGCONT)
            assert process.wait(120) == 0, (workspace / SAID).read_text()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(training, signal.SIGCONT)
    state = load_agent_state(workspace / "agent_state.json")
    assert [run.run_id for run in state.runs] == ["run_0000"]
    assert state.runs[0].status == "OK"
    assert exit_record(workspace, "run_0000")["attempt"] == 1
    log = (run_dir / "train.log").read_text()
    assert log.count("epoch 1/40 ") == 1, "one process trained it, once"


@pytest.mark.fault(5)
def test_a_damaged_state_is_set_aside_and_rebuilt_and_the_search_goes_on(quick_search, workspace):
    damage = b'{"max_runs": 2, "runs": [{"run'
    assert quick_search(*TASK, "--max-runs", "2", "--repeat-baseline", "0").returncode == 0
    path = workspace / "agent_state.json"
    before = load_agent_state(path)
    path.write_bytes(damage)
    done = quick_search("--max-runs", "3")
    assert done.returncode == 0, done.stderr
    assert len([line for line in done.stderr.splitlines() if "rebuilt from 2 runs" in line]) == 1
    after = load_agent_state(path)
    assert after.runs[:2] == before.runs
    assert [run.run_id for run in after.runs] == ["run_0000", "run_0001", "run_0002"]
    assert (after.task, after.data["sha256"], after.seed) == (before.task, before.data["sha256"], before.seed)
    assert (workspace / "agent_state.json.damaged").read_bytes() == damage


@pytest.mark.fault(15)
def test_a_state_of_a_newer_program_is_refused_and_left_alone(quick_search, workspace):
    content = b'{"schema_version": 99, "runs": [], "something": "new"}'
    (workspace / "agent_state.json").write_bytes(content)
    done = quick_search(*TASK)
    assert done.returncode == 2
    assert "newer version" in done.stderr
    assert (workspace / "agent_state.json").read_bytes() == content


@pytest.mark.fault(14)
def test_a_run_whose_folder_was_deleted_does_not_stop_the_search(quick_search, workspace):
    assert quick_search(*TASK, "--max-runs", "2", "--repeat-baseline", "0").returncode == 0
    shutil.rmtree(workspace / "runs" / "run_0000")
    shutil.rmtree(workspace / "runs" / "run_0001")
    done = quick_search("--max-runs", "3")
    assert done.returncode == 0, done.stderr
    runs = load_agent_state(workspace / "agent_state.json").runs
    assert [run.run_id for run in runs] == ["run_0000", "run_0001", "run_0002"]
    assert runs[2].status == "OK"


def test_without_any_data_a_stand_in_is_used_and_said_loudly(search, workspace):
    (workspace / "base.yaml").write_text(SHORT)
    done = search(
        "--base-config", "base.yaml", "--max-runs", "1", "--repeat-baseline", "0", env={"NAS_DATA_DIR": ""}
    )
    assert done.returncode == 0, done.stderr
    assert "GENERATED" in done.stdout
    state = load_agent_state(workspace / "agent_state.json")
    assert state.data["kind"] == "synthetic"


def test_the_original_manual_way_works_literally(project_root, tmp_path, ett_dir):
    """`cd nas_system && python train.py --config config.py --tag run_0000`, and the library beside it."""
    tree = tmp_path / "nas_system"
    ignored = shutil.ignore_patterns("__pycache__", "runs")
    shutil.copytree(project_root / "nas_system", tree, ignore=ignored)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def python(*arguments):
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tree,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
        )

    done = python("train.py", "--config", "config.py", "--tag", "run_0000", "--max-epochs", "1")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tree / "runs" / "run_0000" / "metrics.json").read_text())
    assert {"best_epoch", "val_mse", "test_mse", "train_mse", "train_time_sec", "n_params"} <= set(metrics)
    assert metrics["val_mse"] < 0.0696, "below repeating the last value"
    assert Path(tree / "runs" / "run_0000" / "config_used.py").exists()

    script = (
        "from pathlib import Path\n"
        "from nas_agent import (load_agent_state, save_agent_state, add_run, get_best_run,\n"
        "    get_recent_runs, RunInfo, load_history, build_history_summary, get_run_dir, snapshot_config)\n"
        "from model import build_model\n"
        "state = load_agent_state()\n"
        "run = RunInfo(run_id='run_0000', val_mse=0.185, test_mse=0.192,\n"
        "    history_summary='...', accepted=True)\n"
        "state = add_run(state, run)\n"
        "save_agent_state(state)\n"
        "print(get_best_run(load_agent_state()).run_id, len(get_recent_runs(state, k=5)))\n"
        "print(build_history_summary(load_history(Path('runs/run_0000'))))\n"
        "snapshot_config(Path('config.py'), get_run_dir('run_0001'))\n"
        "import config\n"
        "print(sum(p.numel() for p in build_model(config).parameters()))\n"
    )
    done = python("-c", script)
    assert done.returncode == 0, done.stderr
    first, second, third = done.stdout.strip().splitlines()
    assert first == "run_0000 1"
    assert second.startswith("1 epoch")
    assert int(third) == metrics["n_params"]

    refused = python("train.py", "--config", "config.py", "--tag", "run_0000", "--max-epochs", "1")
    assert refused.returncode == 2
    assert "already holds a training" in refused.stderr


def test_whether_a_module_is_compiled_is_seen_without_importing_it(tmp_path, run_cli):
    (tmp_path / "lazily.py").write_text("raise SystemExit('imported')\n")
    (tmp_path / "ask.py").write_text(
        "import py_compile\nfrom nas_agent_graph.launchers.local import has_bytecode\n"
        "print(has_bytecode('lazily'))\npy_compile.compile('lazily.py')\nprint(has_bytecode('lazily'))\n"
        "print(has_bytecode('no_such_module'), has_bytecode('sys'))\n"
    )
    done = run_cli("ask", cwd=tmp_path)
    assert done.stdout.splitlines() == ["False", "True", "True True"], done.stderr

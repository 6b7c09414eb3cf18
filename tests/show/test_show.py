"""`python -m nas_agent_graph.show` as people call it: a process of its own, on folders made by hand."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from builders import run_info

from nas_system.config_io.config_file import write_config
from nas_system.files import read_object, write_json
from nas_system.nas_agent.agent_state import (
    AgentState,
    RunInfo,
    RunInProgress,
    add_run,
    load_agent_state,
    save_agent_state,
)
from nas_system.nas_agent.pruned import Pruned, write_pruned
from nas_system.nas_agent.run_manager import RunPaths
from nas_system.space import Change, ForecastingTask, RunConfig, apply_changes

Show = Callable[..., subprocess.CompletedProcess[str]]

SOURCE = {
    "name": "ETTh1",
    "kind": "file",
    "path": None,
    "sha256": "f18de3ad269cef59",
    "bytes": 1,
    "notice": None,
}
FACTS = {
    "task": ForecastingTask().model_dump(mode="json"),
    "references": [{"name": "nlinear-336", "val_mse": 0.049, "test_mse": 0.026}],
    "source": SOURCE,
}
CHANGES = [
    Change(parameter="model.d_model", value=64),
    Change(parameter="training.optimizer", value="sgd"),
]
HYPOTHESIS = "A wider model \x1b[31m[bold]may learn\x1b[0m the daily pattern."


@pytest.fixture
def show(run_cli: Callable[..., subprocess.CompletedProcess[str]]) -> Show:
    def call(workspace: Path, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        return run_cli("nas_agent_graph.show", *arguments, cwd=workspace, **options)

    return call


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A base config, an accepted run, a failed one and one running; the best run has its hold-out score."""
    state = AgentState(max_runs=10, task=ForecastingTask(), data=SOURCE, leads_by="margin")
    state = state.replace(noise=0.001, noise_runs=3)
    base = RunConfig()
    good = add(tmp_path, run_info(0, 0.06, test_mse=0.03, accepted=True, proposer="base config"), base)
    better = run_info(
        1,
        0.05,
        test_mse=0.025,
        accepted=True,
        parent="run_0000",
        proposer="llm",
        tokens=812,
        cost_usd=0.00311,
    )
    better = add(tmp_path, better, apply_changes(base, CHANGES), hypothesis=HYPOTHESIS, expected=0.048)
    bad = run_info(2, None, status="DIVERGED", cause="the loss became NaN", parent="run_0000", proposer="tpe")
    bad = add(tmp_path, bad, base)
    for run in (good, better, bad):
        state = add_run(state, run)
    for seed, score in ((43, 0.061), (44, 0.0595)):
        finish(tmp_path / "runs/run_0000/repeats" / f"seed_{seed}", score)
    (tmp_path / "runs/run_0003").mkdir()
    hold_out = {"references": [{"name": "nlinear-336", "sealed_mse": 0.0333}]}
    write_json(tmp_path / "runs/run_0001/sealed.json", hold_out)
    state = state.replace(
        in_progress=(RunInProgress(run_id="run_0003", step="launch_training"),), hold_out={"run_0001": 0.0312}
    )
    write_json(tmp_path / "runs/task_facts.json", FACTS)
    save_agent_state(state, tmp_path / "agent_state.json")
    return tmp_path


def add(
    workspace: Path, run: RunInfo, config: RunConfig, hypothesis: str = "", expected: float | None = None
) -> RunInfo:
    """The folder of a finished run."""
    paths = RunPaths(workspace / "runs" / run.run_id)
    finish(paths.folder, run.val_mse)
    write_config(paths.config, config)
    write_json(
        paths.proposal,
        {
            "proposer": run.proposer,
            "parent": run.parent,
            "hypothesis": hypothesis,
            "expected_val_mse": expected,
            "changes": [change.model_dump() for change in CHANGES] if hypothesis else [],
        },
    )
    scores = enumerate((0.07, 0.058, 0.05, 0.055))
    epochs = [{"epoch": n, "train_mse": 0.1 - n / 100, "val_mse": score} for n, score in scores]
    write_json(paths.history, {"best_epoch": 2, "epochs": epochs})
    write_json(paths.verdict, {"accepted": run.accepted, "reason": "0.010000 below run_0000", "run": {}})
    paths.log.write_text("epoch 0\nValueError: \x1b[31mloss is NaN\x1b[0m\n")
    return run


def finish(folder: Path, score: float | None) -> None:
    """What supervisor and training leave behind."""
    folder.mkdir(parents=True)
    write_json(
        folder / "exit.json",
        {
            "schema": 1,
            "attempt": 1,
            "ended": "exited",
            "returncode": 3 if score is None else 0,
            "wall_s": 12.0,
            "peak_memory_mb": 512.0,
        },
    )
    if score is None:
        error = {"kind": "diverged", "message": "the loss became NaN", "epoch": 3, "step": 700, "lr": 0.5}
        write_json(folder / "error.json", error)
    else:
        write_json(folder / "metrics.json", {"val_mse": score, "test_mse": score / 2})


LEADERBOARD = """\
3 of 10 runs finished, run_0003 begun (at launch_training)
Task: forecast OT, 24 steps ahead; lowest val_mse on scaled data wins
Data: ETTh1 (file, sha256 f18de3ad269c...)

                               test (not used by the search)
#   run          family    val_mse     delta  noise      mse  by            sec
1   nlinear-336  baseline  0.04900  -0.00100   -1.0  0.02600
2 * run_0001     informer  0.05000                   0.02500  llm          12.0
3 + run_0000     informer  0.06000  +0.01000  +10.0  0.03000  base config  12.0
* best run   + accepted when it was evaluated   delta: val_mse minus the best
    run's   noise: delta / noise

1 without a score: DIVERGED 1
  run       end       family    cause
  run_0002  DIVERGED  informer  the loss became NaN

Noise 0.00100 over 3 seeds (standard deviation of the base config's val_mse)
The best run run_0001 (0.05000) is WORSE than simple forecasts: nlinear-336 by
  0.00100
Best run on the hold-out set: run_0001 mse 0.03120 (there: nlinear-336 0.03330)
Language model: 812 tokens for 1 run, $0.0031
Predictions by llm: 1 scored, off by 0.002 on average (2 x noise), too
  optimistic by 0.002; 0% within the noise
Proposed by: sampler 1 run, in the lead 0 times, 1 failed; language model 1 run,
  in the lead 1 time
"""

GOOD_RUN = """\
run_0001: OK, the best run
proposed by  llm, 812 tokens ($0.0031); parent: run_0000
hypothesis   A wider model [bold]may learn the daily pattern.
expected     val_mse 0.04800; it became 0.05000, 0.00200 worse than expected

  parameter           run_0000      run_0001
  model.d_model             32  ->  64
  training.optimizer      adam  ->  sgd
  training.momentum          -  ->  0.9

curve        4 epochs, val_mse from 0.07000 to 0.05000 at epoch 2 (counted from
             0), at the end 0.05500; overfit
             █▄▁▃
val_mse      0.050000
test_mse     0.025000 (for people; not used by the search)
verdict      accepted: 0.010000 below run_0000
end          OK; 12 s, peak memory 512 MiB
"""

BAD_RUN_END = """\
end          DIVERGED: the loss became NaN; 12 s, peak memory 512 MiB (epoch 3,
             step 700, lr 0.5)
"""


def test_without_a_run_it_shows_the_leaderboard(show: Show, workspace: Path) -> None:
    done = show(workspace)
    assert (done.stdout, done.stderr, done.returncode) == (LEADERBOARD, "", 0)


def test_a_wide_terminal_has_room_for_the_changes(show: Show, workspace: Path) -> None:
    done = show(workspace, env={"COLUMNS": "120"})
    assert "12.0  d_model=64, optimizer=sgd" in done.stdout


def test_the_workspace_may_be_somewhere_else(show: Show, workspace: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert show(elsewhere, "--workspace", workspace).stdout == LEADERBOARD


def test_of_a_run_that_a_model_was_asked_about_in_vain_the_reason_is_shown(
    show: Show, workspace: Path
) -> None:
    path = RunPaths(workspace / "runs/run_0002").proposal
    write_json(path, read_object(path) | {"arm": "sampler", "wasted": "no JSON\x1b[31m object"})
    shown = " ".join(show(workspace, "run_0002").stdout.split())
    assert (
        "proposed by tpe (arm: sampler), after the language model was asked for nothing to train: no JSON"
        in shown
    )
    assert "\x1b" not in shown


def test_a_good_run_is_told_from_proposal_to_verdict(show: Show, workspace: Path) -> None:
    done = show(workspace, "run_0001")
    assert done.returncode == 0
    assert done.stdout.startswith(GOOD_RUN)
    assert "history.json (" in done.stdout
    assert "the last lines of train.log" not in done.stdout


ACCURACY = {
    "mase": 0.58594,
    "smape": 11.0612,
    "rmse": 20281.66,
    "mae": 1.49611,
    "per_step": {"mae": [1.2, 1.8], "rmse": [2.0, 2.2]},
}


def test_a_run_and_a_baseline_have_their_errors_in_the_units_of_the_data(show: Show, workspace: Path) -> None:
    test = ACCURACY | {"mase": None, "mae": 0.000012}
    metrics = {"val_mse": 0.05, "test_mse": 0.025, "accuracy": {"val": ACCURACY, "test": test}}
    write_json(workspace / "runs/run_0001/metrics.json", metrics)
    baseline = FACTS["references"][0] | {"accuracy": {"val": test}}
    write_json(workspace / "runs/task_facts.json", FACTS | {"references": [baseline]})
    text = " ".join(show(workspace, "run_0001").stdout.split())
    assert (
        "accuracy on validation MASE 0.5859, sMAPE 11.06 %, RMSE 20,282, MAE 1.496; RMSE and MAE in the "
        "units of the data on test sMAPE 11.06 %, RMSE 20,282, MAE 1.2e-05 (for people; not used by the "
        "search) verdict"
    ) in text
    run = json.loads(show(workspace, "run_0001", "--json").stdout)
    assert run["accuracy"] == {"val": ACCURACY, "test": test}
    rows = {row["name"]: row for row in json.loads(show(workspace, "--json").stdout)["rows"]}
    assert rows["run_0001"]["accuracy"]["val"]["rmse"] == 20281.66
    assert rows["nlinear-336"]["accuracy"]["val"] == {
        name: value for name, value in test.items() if name != "per_step"
    }
    assert rows["run_0000"]["accuracy"] == {}


def test_no_error_on_the_test_part_is_shown_where_its_score_is_not(show: Show, workspace: Path) -> None:
    state = load_agent_state(workspace / "agent_state.json")
    runs = [run.model_copy(update={"test_score": None}) for run in state.runs]
    save_agent_state(state.replace(runs=tuple(runs)), workspace / "agent_state.json")
    metrics = {"val_mse": 0.05, "accuracy": {"val": ACCURACY, "test": ACCURACY | {"mase": 0.987654}}}
    for name in ("run_0001", "run_0002"):  # the latter failed
        write_json(workspace / "runs" / name / "metrics.json", metrics)
        for flags in ([], ["--json"]):
            shown = show(workspace, name, *flags).stdout
            assert "0.98" not in shown and ("0.5859" in shown) == (name == "run_0001")
    assert "0.98" not in show(workspace, "--json").stdout


def test_what_the_sandbox_of_a_run_did_not_hold_is_shown(show: Show, workspace: Path) -> None:
    path = workspace / "runs" / "run_0001" / "exit.json"
    held = {"held": ["files"], "open": {"network": "the kernel has no rule for it\x1b[2J"}}
    write_json(path, json.loads(path.read_text()) | {"confinement": "landlock 3", "sandbox": held})
    shown = show(workspace, "run_0001").stdout
    assert "landlock 3" in shown
    assert "does not hold: network, the kernel has no rule for it" in " ".join(shown.split())
    assert "\x1b" not in shown
    record = json.loads(show(workspace, "run_0001", "--json").stdout)
    assert list(record["outcome"]["not_held"]) == ["network"]


def test_a_failed_run_shows_its_cause_its_numbers_and_its_log(show: Show, workspace: Path) -> None:
    done = show(workspace, "run_0002")
    assert done.returncode == 0
    assert done.stdout.startswith("run_0002: DIVERGED, no score\n")
    assert BAD_RUN_END in done.stdout
    assert done.stdout.endswith("of train.log (at most 20):\n  epoch 0\n  ValueError: loss is NaN\n")


def test_the_base_config_shows_the_repeats_that_measured_the_noise(show: Show, workspace: Path) -> None:
    done = show(workspace, "run_0000")
    assert "repeat       seed_43: val_mse 0.061000\n" in done.stdout
    assert "repeat       seed_44: val_mse 0.059500\n" in done.stdout


def test_a_running_run_says_whether_it_is_training(show: Show, workspace: Path) -> None:
    lock = workspace / "runs/run_0003/run.lock"
    resting = show(workspace, "run_0003").stdout
    assert "run_0003: running (not training at this moment; at launch_training)" in resting
    with held(lock):
        assert "run_0003: running (training now; at launch_training)" in show(workspace, "run_0003").stdout


def test_each_run_in_progress_shows_its_epochs_so_far(show: Show, workspace: Path) -> None:
    state = load_agent_state(workspace / "agent_state.json")
    run_ids = [f"run_{number:04d}" for number in range(3, 7)]
    runs = tuple(RunInProgress(run_id=run_id, step="launch_training") for run_id in run_ids)
    save_agent_state(state.replace(in_progress=runs), workspace / "agent_state.json")
    assert "3 of 10 runs finished, 4 runs in progress: run_0003 to run_0006\n" in show(workspace).stdout
    for number, run_id in enumerate(run_ids):
        paths = RunPaths(workspace / "runs" / run_id)
        paths.folder.mkdir(exist_ok=True)
        epochs = [{"epoch": n, "train_mse": 0.1, "val_mse": 0.09 - n / 100} for n in range(number)]
        write_json(paths.history, {"planned_epochs": 8, "epochs": epochs})
    assert "curve        no epoch yet\n" in show(workspace, "run_0003").stdout
    assert "curve        1 epoch, val_mse from 0.09000" in show(workspace, "run_0004").stdout
    told = show(workspace, "run_0006").stdout
    assert "curve        3 epochs, val_mse from 0.09000 to 0.07000 at epoch 2" in told
    assert "█▅▁" in told
    assert show(workspace, "run_0007").stderr.count("run_0003") == 1


def test_a_run_whose_folder_is_gone_says_so(show: Show, workspace: Path) -> None:
    for path in (workspace / "runs/run_0002").iterdir():
        path.unlink()
    (workspace / "runs/run_0002").rmdir()
    done = show(workspace, "run_0002")
    assert done.returncode == 0
    assert "today its folder says MISSING: its folder is gone" in done.stdout


def test_an_unknown_run_names_those_there_are(show: Show, workspace: Path) -> None:
    done = show(workspace, "run_9")
    assert done.returncode == 2
    assert done.stderr.startswith("error: no run 'run_9' in ")
    assert "run_0000, run_0001, run_0002, run_0003" in done.stderr
    assert show(workspace, "../../etc").returncode == 2


def test_a_folder_without_a_search_says_what_to_type(show: Show, tmp_path: Path) -> None:
    done = show(tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "there is no search in" in done.stderr
    assert "nas run" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_lost_state_is_not_called_an_empty_folder(show: Show, workspace: Path) -> None:
    (workspace / "agent_state.json").unlink()
    done = show(workspace)
    assert done.returncode == 2
    assert "rebuilds it from the 4 runs on disk" in done.stderr


@pytest.mark.parametrize("content", [b"", b"\x00\x00", b'{"runs": [', b"[]", b'{"schema_version": 99}'])
def test_a_damaged_or_newer_state_is_left_alone(show: Show, workspace: Path, content: bytes) -> None:
    (workspace / "agent_state.json").write_bytes(content)
    before = snapshot(workspace)
    done = show(workspace)
    assert done.returncode == 2
    newer = b"99" in content
    assert ("written by a newer version" if newer else "sets it aside and rebuilds it") in done.stderr
    assert "Traceback" not in done.stderr
    assert snapshot(workspace) == before


def test_it_reads_only_and_does_not_wait_for_a_running_search(show: Show, workspace: Path) -> None:
    lock = workspace / "runs/.agent.lock"
    lock.touch()
    before = snapshot(workspace)
    with held(lock):
        assert show(workspace, timeout_s=20).stdout == LEADERBOARD
        assert show(workspace, "run_0001", timeout_s=20).returncode == 0
    assert snapshot(workspace) == before


def test_files_that_anybody_may_have_spoiled_are_no_errors(show: Show, workspace: Path) -> None:
    folder = workspace / "runs/run_0001"
    for name, text in {
        "proposal.json": '{"changes": 7, "parent": ["x"], "hypothesis": {"a": 1}, "expected_val_mse": 1e999}',
        "history.json": '{"epochs": [1, {"val_mse": "x"}, {"val_mse": NaN}], "best_epoch": -4}',
        "verdict.json": '{"accepted": "perhaps", "reason": ["why"]}',
        "exit.json": "{",
        "config_used.py": "import os",
        "metrics.json": '{"accuracy": {"val": {"mase": "x", "smape": 3, "rmse": 1e999}, "test": 7}}',
        "sealed.json": '{"accuracy": [[]]}',
    }.items():
        (folder / name).write_text(text)
    (workspace / "runs/task_facts.json").write_text("[1, 2]")
    for arguments in ([], ["run_0001"], ["run_0001", "--json"], ["--json"]):
        done = show(workspace, *arguments, env={"COLUMNS": "120"})
        assert (done.returncode, done.stderr) == (0, "")


def test_json_is_for_programs(show: Show, workspace: Path) -> None:
    board = json.loads(show(workspace, "--json").stdout)
    assert [row["name"] for row in board["rows"]] == ["nlinear-336", "run_0001", "run_0000"]
    assert board["rows"][0]["run"] is None
    assert board["rows"][1]["run"]["proposer"] == "llm"
    assert [run["run_id"] for run in board["failed"]] == ["run_0002"]
    assert board["in_progress"] == [
        {
            "run_id": "run_0003",
            "step": "launch_training",
            "purpose": None,
            "after": None,
            "device": None,
            "alone": False,
        }
    ]
    run = json.loads(show(workspace, "run_0001", "--json").stdout)
    assert run["changes"][0] == {"parameter": "model.d_model", "old": 32, "new": 64}
    assert run["curve"]["flag"] == "overfit"
    assert run["outcome"]["status"] == "OK"


def test_the_progress_of_the_search_can_be_drawn(show: Show, workspace: Path) -> None:
    done = show(workspace, "--plot", "progress.png")
    assert (done.stdout, done.stderr, done.returncode) == ("wrote progress.png\n", "", 0)
    assert (workspace / "progress.png").read_bytes().startswith(b"\x89PNG\r\n")
    done = show(workspace, "--plot", "nowhere/progress.png")
    assert done.returncode == 2
    assert done.stderr == "error: nowhere/progress.png cannot be written: No such file or directory\n"


@pytest.mark.parametrize("arguments", [["--limit", "0"], ["--limit", "x"], ["run_0001", "--plot", "x.png"]])
def test_nonsense_is_refused_with_a_sentence(show: Show, workspace: Path, arguments: list[str]) -> None:
    done = show(workspace, *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "_count" not in done.stderr


def test_a_reader_that_has_seen_enough_ends_it_quietly(workspace: Path, project_root: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "nas_agent_graph.show"],
        cwd=workspace,
        env={**os.environ, "PYTHONPATH": str(project_root)},
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=240,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_thousand_runs_take_less_than_a_second(show: Show, tmp_path: Path) -> None:
    runs = tuple(
        run_info(number, 0.05 + number / 10_000, proposer="tpe", history_summary="x" * 250)
        for number in range(1000)
    )
    (tmp_path / "runs").mkdir()
    write_json(tmp_path / "runs/task_facts.json", FACTS)
    save_agent_state(AgentState(max_runs=1000, data=SOURCE, runs=runs), tmp_path / "agent_state.json")
    show(tmp_path)  # compiles
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = show(tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "1000 of 1000 runs finished" in done.stdout
    # Processor time: what other programs do at the same moment does not count.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


def test_help_and_leaderboard_load_nothing_heavy(workspace: Path, run_cli: Any) -> None:
    code = """
import contextlib, json, sys
from nas_agent_graph.cli import main
with contextlib.suppress(SystemExit):
    main(["show", *json.loads(sys.argv[1])])
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
    (workspace / "loaded.py").write_text(code)

    def loaded(*arguments: str) -> set[str]:
        done = run_cli("loaded", json.dumps(arguments), cwd=workspace)
        assert done.returncode == 0, done.stderr
        return set(json.loads(done.stdout.splitlines()[-1]))

    heavy = {"torch", "langgraph", "langchain_core", "pandas", "matplotlib", "numpy", "optuna", "openai"}
    assert not heavy & loaded()
    assert not (heavy | {"pydantic", "rich"}) & loaded("--help")


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@contextmanager
def held(lock: Path) -> Iterator[None]:
    """As another process would: a lock of another open file, held exclusively."""
    with open(lock, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_a_run_that_was_stopped_early_shows_its_evidence_and_is_no_failure(
    show: Show, tmp_path: Path
) -> None:
    pruned = Pruned(
        rule="margin",
        rung="1/2",
        epoch=4,
        planned_epochs=8,
        direction="minimize",
        score=0.0612,
        threshold=0.055,
        reference=0.05,
        against="run_0000",
        margin=0.1,
        compared=9,
    )
    cause = pruned.cause("val_mse")
    state = AgentState(max_runs=10, task=ForecastingTask(), data=SOURCE)
    state = add_run(state, add(tmp_path, run_info(0, 0.05, accepted=True), RunConfig()))
    run = add(tmp_path, run_info(1, None, status="PRUNED", cause=cause, proposer="tpe"), RunConfig())
    folder = tmp_path / "runs/run_0001"
    write_pruned(folder, pruned, attempt=1)
    end = {"schema": 1, "attempt": 1, "ended": "stop_request", "returncode": 5, "wall_s": 12.0}
    write_json(folder / "exit.json", end)
    save_agent_state(add_run(state, run), tmp_path / "agent_state.json")
    page = show(tmp_path, "run_0001").stdout
    assert "run_0001: stopped early, no score" in page
    flat = " ".join(page.split())
    assert f"end PRUNED: {cause}; 12 s" in flat
    enough = (
        "val_mse 0.061200 in the first 4 of 8 epochs (rung 1/2); 0.055000 would have been enough to go on"
    )
    assert f"best so far {enough}" in flat
    assert "the last lines of train.log" not in page
    assert "today its folder says" not in page
    record = json.loads(show(tmp_path, "run_0001", "--json").stdout)
    assert record["outcome"]["pruned"]["score"] == 0.0612
    search = json.loads(show(tmp_path, "--json").stdout)
    assert [run["run_id"] for run in search["pruned"]] == ["run_0001"]
    assert search["failed"] == []

"""agent_state.json: whole or refused, rebuilt from runs/, and never silently started afresh."""

import json
import math
import os
import subprocess
import sys

import pytest

from nas_system.config_io.config_file import write_config
from nas_system.errors import ConfigError, StateError, WorkspaceBusy
from nas_system.files import write_json
from nas_system.nas_agent.agent_state import (
    SCHEMA_VERSION,
    AgentState,
    NewerState,
    RunInfo,
    RunInProgress,
    RunTexts,
    add_run,
    get_best_run,
    get_recent_runs,
    load_agent_state,
    save_agent_state,
)
from nas_system.nas_agent.ledger import Ledger
from nas_system.nas_agent.workspace_lock import WorkspaceLock
from nas_system.space import ForecastingTask, RunConfig

DATA = {"name": "ETTh1", "kind": "file", "sha256": "0" * 64, "path": None, "bytes": 1, "notice": None}


def run(number, val_mse=0.05, **fields):
    return RunInfo(run_id=f"run_{number:04d}", val_mse=val_mse, **fields)


@pytest.fixture
def workspace(tmp_path):
    """A search with three finished runs, on disk as the nodes leave it."""
    runs = tmp_path / "runs"
    state = AgentState(task=ForecastingTask(), data=DATA, seed=7, max_runs=9)
    for number, score in enumerate([0.06, 0.05, 0.07]):
        info = run(number, score, accepted=number < 2, status="OK", family="linear")
        (runs / info.run_id).mkdir(parents=True)
        verdict = {"accepted": info.accepted, "noise": 0.001, "noise_runs": 3, "run": info.model_dump()}
        write_json(runs / info.run_id / "verdict.json", verdict)
        state = add_run(state, info)
    state = state.replace(noise=0.001, noise_runs=3)
    write_json(runs / "task_facts.json", {"task": ForecastingTask().model_dump(mode="json"), "source": DATA})
    write_config(runs / "base_config.py", RunConfig(seed=7))
    save_agent_state(state, tmp_path / "agent_state.json")
    return tmp_path


def test_the_state_survives_a_round_trip(tmp_path):
    state = AgentState(
        task=ForecastingTask(targets=("OT", "HUFL")),
        data=DATA,
        in_progress=(RunInProgress(run_id="run_0001", step="x"),),
    )
    state = add_run(state, run(0, history_summary="20 epochs", accepted=True, test_mse=0.1))
    save_agent_state(state, tmp_path / "s.json")
    assert load_agent_state(tmp_path / "s.json") == state
    stored = json.loads((tmp_path / "s.json").read_text())
    assert stored["best_run_id"] == "run_0000"
    assert set(stored["runs"][0]) >= {"run_id", "val_mse", "test_mse", "history_summary", "accepted"}


def test_a_state_is_written_alike_whether_the_text_of_its_runs_is_kept_or_not(tmp_path):
    texts, path = RunTexts(), tmp_path / "agent_state.json"
    state = AgentState(task=ForecastingTask(), data=DATA | {"runs": [], '\n "runs": []': {"runs": []}})
    for number in range(4):
        summary = 'the last "epoch"\n\u2028 was its best'
        state = add_run(state, run(number, 0.05 - number / 1000, history_summary=summary, test_mse=0.1))
        changed = (*state.runs[:1], *(one.model_copy(update={"accepted": True}) for one in state.runs[1:]))
        for other in (state, state.replace(runs=changed, hold_out={"run_0000": 0.1}), AgentState()):
            save_agent_state(other, path, texts)
            assert path.read_text() == other.model_dump_json(indent=1) + "\n"


def test_the_original_fields_alone_are_a_valid_state(tmp_path):
    original = {
        "max_runs": 100,
        "best_run_id": "run_0003",
        "runs": [
            {
                "run_id": "run_0003",
                "val_mse": 0.1855,
                "test_mse": 0.1923,
                "history_summary": "...",
                "accepted": True,
            }
        ],
    }
    (tmp_path / "s.json").write_text(json.dumps(original))
    assert get_best_run(load_agent_state(tmp_path / "s.json")).val_mse == 0.1855


def test_the_best_run_is_the_accepted_one_with_the_lowest_score():
    state = AgentState()
    for number, (score, accepted) in enumerate([(0.06, True), (0.05, False), (0.055, True), (0.058, True)]):
        state = add_run(state, run(number, score, accepted=accepted))
    assert get_best_run(state).run_id == "run_0002"
    assert [r.run_id for r in get_recent_runs(state, k=2)] == ["run_0002", "run_0003"]
    assert get_recent_runs(state, k=0) == []


def test_a_score_that_is_not_finite_is_no_score(tmp_path):
    state = add_run(AgentState(), run(0, math.nan, accepted=True))
    save_agent_state(state, tmp_path / "s.json")
    assert load_agent_state(tmp_path / "s.json").runs[0].val_mse is None


def test_a_run_is_added_once():
    with pytest.raises(StateError, match="already in the state"):
        add_run(add_run(AgentState(), run(0)), run(0))


def test_an_entry_stays_under_600_bytes():
    entry = run(
        999,
        0.0491056181490421,
        test_mse=0.0258999541401863,
        history_summary="x" * 220,
        accepted=True,
        parent="run_0998",
        family="informer",
        proposer="random_search",
        key="0" * 16,
        seconds=1234.567,
        tokens=123456,
    )
    assert len(entry.model_dump_json()) < 600


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 300, b"[]", b"null", b'{"foo": 1}', b'"text"', b"\xff\xfe", b"{"]
)
def test_what_is_no_state_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "s.json"
    path.write_bytes(content)
    with pytest.raises(StateError, match=r"s\.json"):
        load_agent_state(path)
    assert path.read_bytes() == content


@pytest.mark.fault(5)
def test_every_truncation_is_rebuilt_from_the_runs(workspace):
    path = workspace / "agent_state.json"
    whole, expected = path.read_bytes(), load_agent_state(path)
    for length in range(0, len(whole) - 2, 40):
        path.write_bytes(whole[:length])
        ledger, note = Ledger.open(workspace)
        assert "rebuilt from 3 runs" in note
        assert ledger.state.runs == expected.runs
        assert (ledger.state.noise, ledger.state.seed) == (0.001, 7)
        assert ledger.state.best_run_id == expected.best_run_id
    aside = sorted(workspace.glob("agent_state.json.damaged*"))
    assert len(aside) == len(range(0, len(whole) - 2, 40)), "every damaged file is kept"


@pytest.mark.fault(5)
def test_a_missing_state_beside_runs_is_rebuilt_not_started_afresh(workspace):
    os.unlink(workspace / "agent_state.json")
    ledger, note = Ledger.open(workspace)
    assert "was missing" in note
    assert len(ledger.state.runs) == 3


@pytest.mark.fault(5, 14)
def test_the_run_under_way_is_found_again_and_a_lost_folder_is_marked(workspace):
    (workspace / "runs" / "run_0003").mkdir()
    os.unlink(workspace / "runs" / "run_0001" / "verdict.json")
    (workspace / "agent_state.json").write_bytes(b"")
    ledger, _ = Ledger.open(workspace)
    assert [run.run_id for run in ledger.state.in_progress] == ["run_0003"]
    assert [r.status for r in ledger.state.runs] == ["OK", "MISSING", "OK"]


@pytest.mark.fault(5)
def test_when_nothing_can_be_rebuilt_the_file_stays_and_the_search_does_not_start(tmp_path):
    (tmp_path / "agent_state.json").write_bytes(b"torn")
    with pytest.raises(StateError, match="holds no run to rebuild it from"):
        Ledger.open(tmp_path)
    assert (tmp_path / "agent_state.json").read_bytes() == b"torn"
    assert not list(tmp_path.glob("*.damaged*"))


def test_runs_made_by_hand_are_never_written_over_by_a_search(tmp_path):
    (tmp_path / "runs" / "run_0000").mkdir(parents=True)
    with pytest.raises(StateError, match="no search made"):
        Ledger.open(tmp_path)
    os.rmdir(tmp_path / "runs" / "run_0000")
    save_agent_state(add_run(AgentState(), run(0, accepted=True)), tmp_path / "agent_state.json")
    with pytest.raises(StateError, match="no search made"):
        Ledger.open(tmp_path)


@pytest.mark.fault(15)
def test_a_newer_state_is_refused_untouched(workspace):
    path = workspace / "agent_state.json"
    path.write_text(json.dumps({"schema_version": SCHEMA_VERSION + 1, "runs": "in another shape"}))
    with pytest.raises(NewerState):
        Ledger.open(workspace)
    assert "another shape" in path.read_text()


def test_a_workspace_has_one_holder_and_his_death_frees_it(tmp_path):
    code = (
        "import sys, time, pathlib\n"
        "from nas_system.nas_agent.workspace_lock import WorkspaceLock\n"
        "with WorkspaceLock(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True); time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(WorkspaceBusy, match=f"pid {holder.pid}"), WorkspaceLock(tmp_path):
            pass
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    with WorkspaceLock(tmp_path):
        assert f'"pid": {os.getpid()},' in (tmp_path / "runs" / ".agent.lock").read_text()


@pytest.mark.fault(10)
def test_a_folder_that_cannot_be_written_is_a_clear_error():
    from pathlib import Path

    with pytest.raises(ConfigError, match="cannot be written"), WorkspaceLock(Path("/proc/nowhere")):
        pass

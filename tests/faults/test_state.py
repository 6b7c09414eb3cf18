"""A state file that is truncated, foreign, huge, a link or of another version: rebuilt or refused."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from nas_system.errors import StateError
from nas_system.nas_agent.agent_state import (
    MIGRATIONS,
    SCHEMA_VERSION,
    AgentState,
    NewerState,
    load_agent_state,
)
from nas_system.nas_agent.ledger import Ledger

GoOn = Callable[[], tuple[int, str]]
RUNS = 3
"""Of the finished search in `workspace`."""


def state_of(workspace: Path) -> AgentState:
    return load_agent_state(workspace / "agent_state.json")


def put(content: bytes) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.write_bytes(content)

    return damage


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def double_a_key(path: Path) -> None:
    path.write_bytes(path.read_bytes().rstrip()[:-1] + b', "runs": []}')


DAMAGE: dict[str, Callable[[Path], None]] = {
    "empty": put(b""),
    "zeros": put(b"\0" * 4096),
    "truncated": lambda path: os.truncate(path, path.stat().st_size * 2 // 3),
    "zeros at the end": lambda path: os.truncate(path, path.stat().st_size + 4096),
    "binary": put(bytes(range(256)) * 20),
    "foreign": put(b'{"version": 3, "trials": []}'),
    "nothing in it": put(b"{}"),
    "another kind of version": put(b'{"schema_version": true}'),
    "deep": put(b'{"runs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "a long number": put(b'{"max_runs": ' + b"9" * 10_000 + b"}"),
    "half a character": put(b'{"schema_version": 1, "best_run_id": "\\ud800"}'),
    "a doubled key": double_a_key,
    "huge": lambda path: os.truncate(path, 2**30),
    "a folder": make_folder,
    "a FIFO": make_fifo,
}


@pytest.mark.fault(5)
@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_state_is_set_aside_and_all_that_is_known_is_carried_over(
    kind: str, workspace: Path
) -> None:
    before = state_of(workspace)
    DAMAGE[kind](workspace / "agent_state.json")
    ledger, note = Ledger.open(workspace)
    assert note is not None
    assert "set aside as agent_state.json.damaged and rebuilt from 3 runs" in note
    assert ledger.state == before.replace(max_runs=100), "the flag --max-runs gives it again at every start"
    assert state_of(workspace) == ledger.state
    assert os.path.lexists(workspace / "agent_state.json.damaged")


@pytest.mark.fault(5)
def test_a_search_goes_on_after_its_state_was_destroyed(workspace: Path, go_on: GoOn) -> None:
    before = state_of(workspace)
    DAMAGE["zeros"](workspace / "agent_state.json")
    code, said = go_on()
    assert code == 0, said
    assert said.count("rebuilt from 3 runs") == 1
    after = state_of(workspace)
    assert after.runs[:RUNS] == before.runs
    assert [run.run_id for run in after.runs] == [f"run_{number:04d}" for number in range(RUNS + 1)]
    assert (after.task, after.data, after.seed, after.noise) == (
        before.task,
        before.data,
        before.seed,
        before.noise,
    )


@pytest.mark.fault(5)
@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_is_refused_and_both_ends_are_named(dangling: bool, workspace: Path, go_on: GoOn) -> None:
    path, elsewhere = workspace / "agent_state.json", workspace.parent / "elsewhere.json"
    content = path.read_bytes()
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    if dangling:
        elsewhere.unlink()
    code, said = go_on()
    assert code == 2, said
    assert f"{path} is a link to {elsewhere}" in said
    assert path.is_symlink()
    assert dangling or elsewhere.read_bytes() == content


@pytest.mark.fault(5)
def test_when_both_are_lost_the_search_ends_with_2_and_names_both(workspace: Path, go_on: GoOn) -> None:
    path = workspace / "agent_state.json"
    path.write_bytes(b"broken")
    (workspace / "runs" / "task_facts.json").unlink()
    code, said = go_on()
    assert code == 2, said
    assert "agent_state.json: not a valid search state" in said
    assert "no task_facts.json" in said
    assert path.read_bytes() == b"broken"


@pytest.mark.fault(5, 14)
def test_a_copied_folder_does_not_pass_for_the_run_whose_name_it_has(workspace: Path) -> None:
    runs = workspace / "runs"
    shutil.rmtree(runs / "run_0001")
    shutil.copytree(runs / "run_0002", runs / "run_0001")
    (workspace / "agent_state.json").write_bytes(b"")
    ledger, _ = Ledger.open(workspace)
    assert [(run.run_id, run.status) for run in ledger.state.runs] == [
        ("run_0000", "OK"),
        ("run_0001", "MISSING"),
        ("run_0002", "OK"),
    ]


@pytest.mark.fault(5)
@pytest.mark.parametrize("noise", ["much", [1], -1e400])
def test_what_a_rebuilt_state_holds_can_be_read_again(noise: object, workspace: Path) -> None:
    for file in workspace.glob("runs/*/verdict.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"noise": noise, "noise_runs": 2}))
    (workspace / "agent_state.json").unlink()
    try:
        ledger, _ = Ledger.open(workspace)
    except StateError:
        return
    assert state_of(workspace) == ledger.state


# As the original library wrote it, one file per version that was ever written.
_RUN_SINCE_1: dict[str, object] = {
    "run_id": "run_0003", "val_mse": 0.05, "test_mse": 0.03, "history_summary": "2 epochs.", "accepted": True,
    "status": "OK", "cause": None, "parent": None, "family": "linear", "proposer": "llm:m", "key": "0" * 16,
    "seconds": 12.5, "tokens": 960, "attempt": 1,
}  # fmt: skip
_SINCE_1: dict[str, object] = {
    "max_runs": 7, "best_run_id": "run_0003", "seed": 42, "task": None, "data": None, "noise": None,
    "noise_runs": 0, "current": None, "sealed": {},
}  # fmt: skip
_SINCE_4 = {name: value for name, value in _SINCE_1.items() if name != "sealed"}
VERSIONS: dict[int, dict[str, object]] = {
    0: {
        "max_runs": 100,
        "best_run_id": "run_0003",
        "runs": [
            {
                "run_id": "run_0003",
                "val_mse": 0.1855,
                "test_mse": 0.1923,
                "history_summary": "val loss fell, " * 100,
                "accepted": True,
            },
            {
                "run_id": "run_0004",
                "val_mse": float("nan"),
                "test_mse": float("nan"),
                "history_summary": "",
                "accepted": False,
            },
        ],
    },
    1: {**_SINCE_1, "schema_version": 1, "runs": [_RUN_SINCE_1]},
    2: {**_SINCE_1, "schema_version": 2, "runs": [{**_RUN_SINCE_1, "cost_usd": 0.0102}]},
    3: {
        **_SINCE_1,
        "schema_version": 3,
        "sealed": {"run_0003": 0.62},
        "task": {"name": "zinc_synth", "train_graphs": 100, "val_graphs": None, "test_graphs": None},
        "runs": [
            {
                **_RUN_SINCE_1,
                **{"cost_usd": None, "val_mse": None, "test_mse": None, "val_mae": 0.61, "test_mae": 0.63},
            }
        ],
    },
    4: {
        **_SINCE_4,
        "schema_version": 4,
        "hold_out": {"run_0003": 0.04},
        "runs": [
            {**_RUN_SINCE_1, "val_score": 0.05, "test_score": 0.03, "cost_usd": None},
            {
                **{
                    name: value for name, value in _RUN_SINCE_1.items() if name not in ("val_mse", "test_mse")
                },
                **{"run_id": "run_0004", "metric": "val_mae", "val_score": 0.61, "test_score": 0.63},
            },
        ],
    },
    5: {
        **{name: value for name, value in _SINCE_4.items() if name != "current"},
        "schema_version": 5,
        "in_progress": [
            {"run_id": "run_0004", "step": "launch_training", "device": "0", "alone": True},
            {"run_id": "run_0005", "step": "read_context", "device": None, "alone": False},
        ],
        "runs": [{**_RUN_SINCE_1, "val_score": 0.05, "test_score": 0.03, "cost_usd": None}],
    },
    6: {
        **{name: value for name, value in _SINCE_4.items() if name != "current"},
        "schema_version": 6,
        "leads_by": "mean",
        "in_progress": [
            {"run_id": "run_0003/repeats/seed_44", "step": "launch_training", "purpose": "final", "after": 1}
        ],
        "runs": [{**_RUN_SINCE_1, "val_score": 0.05, "test_score": 0.03, "cost_usd": None}],
        "repeats": [
            {
                **{"run_id": "run_0003", "seed": 43, "purpose": "final", "after": 1, "ended_after": 1},
                **{"status": "OK", "cause": None, "val_score": 0.051, "seconds": 2.0, "attempt": 1},
            }
        ],
    },
}


@pytest.mark.fault(15)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_state_of_every_earlier_version_can_be_read_and_is_written_in_the_latest(
    version: int, tmp_path: Path
) -> None:
    path = tmp_path / "agent_state.json"
    path.write_text(json.dumps(VERSIONS[version]))
    state = load_agent_state(path)
    assert state.best_run_id == "run_0003"
    Ledger(tmp_path, state).save(seed=7)
    written = json.loads(path.read_text())
    assert (written["schema_version"], written["seed"]) == (SCHEMA_VERSION, 7)
    assert load_agent_state(path) == state.replace(seed=7)


@pytest.mark.fault(15)
def test_there_is_a_fixture_for_every_version_and_a_way_up_from_each() -> None:
    assert sorted(VERSIONS) == list(range(SCHEMA_VERSION + 1))
    assert len(MIGRATIONS) == SCHEMA_VERSION
    original = load_from(VERSIONS[0])
    assert original.runs[0].val_mse == 0.1855
    assert len(original.runs[0].history_summary) == 300
    assert original.runs[1].val_mse is None
    assert [load_from(VERSIONS[version]).runs[0].cost_usd for version in (1, 2)] == [None, 0.0102]
    on_graphs = load_from(VERSIONS[3])
    assert (on_graphs.metric, on_graphs.runs[0].val_score, on_graphs.runs[0].test_score) == (
        "val_mae",
        0.61,
        0.63,
    )
    assert on_graphs.hold_out == {"run_0003": 0.62}
    latest = load_from(VERSIONS[4])
    assert latest.hold_out == {"run_0003": 0.04}
    assert [(run.metric, run.val_score, run.test_score, run.val_mse) for run in latest.runs] == [
        ("val_mse", 0.05, 0.03, 0.05),
        ("val_mae", 0.61, 0.63, None),
    ]


def load_from(values: dict[str, object]) -> AgentState:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "agent_state.json")
        path.write_text(json.dumps(values))
        return load_agent_state(path)


@pytest.mark.fault(15)
@pytest.mark.parametrize("lacking", ["max_runs", "best_run_id", "runs"])
def test_what_has_no_version_has_to_have_the_original_fields(lacking: str) -> None:
    values = {name: value for name, value in VERSIONS[0].items() if name != lacking}
    with pytest.raises(StateError, match="original format"):
        load_from(values)


@pytest.mark.fault(15)
def test_newer_files_are_refused_and_left_as_they_are(workspace: Path, go_on: GoOn) -> None:
    path, run_dir = workspace / "agent_state.json", workspace / "runs" / "run_0003"
    values = json.loads(path.read_text())
    newer = json.dumps(values | {"schema_version": SCHEMA_VERSION + 1, "of_tomorrow": 1})
    path.write_text(newer)
    with pytest.raises(NewerState):
        Ledger.open(workspace)
    code, said = go_on()
    assert (code, path.read_text()) == (2, newer)
    assert "written by a newer version" in said
    path.write_text(json.dumps(values | {"current": {"run_id": "run_0003", "step": "launch_training"}}))
    shutil.copytree(workspace / "runs" / "run_0002", run_dir)
    record = json.loads((run_dir / "exit.json").read_text()) | {"schema": 99}
    (run_dir / "exit.json").write_text(json.dumps(record))
    code, said = go_on()
    assert code == 2, said
    assert "exit.json has schema 99" in said
    assert json.loads((run_dir / "exit.json").read_text()) == record
    assert state_of(workspace).runs[-1].run_id == "run_0002"

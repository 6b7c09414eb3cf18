"""Which slot trained what, and when: the record behind the report's timeline."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from builders import run_info

from nas_agent_graph.report.timeline import MOST_ROWS, Timeline, timeline_of
from nas_system.files import write_json
from nas_system.nas_agent.agent_state import AgentState, RepeatInfo, RunInProgress, add_repeat, add_run

BEGAN = datetime(2026, 1, 2, 3, 0, 0, tzinfo=UTC)


def stamp(seconds: float) -> str:
    return (BEGAN + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


def train(folder: Path, start: float, end: float | None, **fields: Any) -> None:
    """What a supervisor leaves of a training that ended, or that goes on."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "proc.json", {"schema": 1, "attempt": 1, "started_at": stamp(start)})
    if end is not None:
        times = {"started_at": stamp(start), "ended_at": stamp(end), "wall_s": end - start}
        write_json(folder / "exit.json", {"schema": 1, "attempt": 1, **times, **fields})


def search(workspace: Path, *trained: tuple[float, float | None]) -> AgentState:
    """A search of these trainings; one without an end is in progress."""
    state = AgentState()
    for number, (start, end) in enumerate(trained):
        run_id = f"run_{number:04d}"
        train(workspace / "runs" / run_id, start, end)
        if end is None:
            begun = RunInProgress(run_id=run_id, step="launch_training")
            state = state.replace(in_progress=(*state.in_progress, begun))
        else:
            state = add_run(state, run_info(number, 0.05))
    return state


def timeline(workspace: Path, state: AgentState, now_s: float = 1e6, *, live: bool = True) -> Timeline | None:
    return timeline_of(workspace / "runs", state, BEGAN + timedelta(seconds=now_s), live=live)


def bars(found: Timeline | None) -> list[tuple[str, int, float, float]]:
    assert found is not None
    return [(bar["run"], bar["row"], bar["start"], bar["end"]) for bar in found["bars"]]


def test_trainings_one_after_the_other_need_no_timeline(tmp_path: Path) -> None:
    assert timeline(tmp_path, AgentState()) is None
    assert timeline(tmp_path, search(tmp_path, (0, 10), (10, 30), (31, 40))) is None


def test_repeats_of_one_run_side_by_side_need_no_timeline(tmp_path: Path) -> None:
    state = search(tmp_path, (0, 10), (40, 50))
    for seed in (43, 44):
        train(tmp_path / f"runs/run_0000/repeats/seed_{seed}", 11, 30)
    assert timeline(tmp_path, state) is None


def test_a_training_takes_the_first_slot_that_is_free(tmp_path: Path) -> None:
    found = timeline(tmp_path, search(tmp_path, (0, 10), (10, 40), (12, 20), (20, 31), (33, 40), (40, 50)))
    assert bars(found) == [
        ("run_0000", 0, 0, 10),
        ("run_0001", 0, 10, 40),
        ("run_0002", 1, 12, 20),
        ("run_0003", 1, 20, 31),
        ("run_0004", 1, 33, 40),
        ("run_0005", 0, 40, 50),
    ]
    assert found is not None
    assert (found["rows"], found["seconds"], found["began"]) == (2, 50, "2026-01-02T03:00:00+00:00")
    assert found["share"] == pytest.approx((10 + 30 + 8 + 11 + 7 + 10) / (2 * 50))


def test_repeats_have_bars_of_their_own(tmp_path: Path) -> None:
    state = search(tmp_path, (0, 10), (40, 50), (41, 50))
    for seed in (43, 44):
        train(tmp_path / f"runs/run_0000/repeats/seed_{seed}", 11, 30)
    found = timeline(tmp_path, state)
    assert found is not None
    repeats = [(bar["run"], bar["repeat"], bar["row"]) for bar in found["bars"] if bar["repeat"]]
    assert sorted(repeats) == [("run_0000", "seed_43", 0), ("run_0000", "seed_44", 1)]


def test_repeats_of_a_run_that_has_ended_have_their_purpose_and_may_run_now(tmp_path: Path) -> None:
    state = search(tmp_path, (0, 10), (5, 12))
    for seed, end in ((43, 30), (44, None)):
        train(tmp_path / f"runs/run_0001/repeats/seed_{seed}", 20, end)
    repeat = RepeatInfo(run_id="run_0001", seed=43, purpose="challenge", after=2, ended_after=2)
    begun = RunInProgress(run_id="run_0001/repeats/seed_44", step="launch_training", purpose="final")
    state = add_repeat(state, repeat).replace(in_progress=(begun,))
    found = timeline(tmp_path, state, 40)
    assert found is not None
    repeats = {bar["repeat"]: (bar["purpose"], bar["running"]) for bar in found["bars"] if bar["repeat"]}
    assert repeats == {"seed_43": ("challenge", False), "seed_44": ("final", True)}
    ended = timeline(tmp_path, state, 40, live=False)
    assert ended is not None and len(ended["bars"]) == 3


def test_what_runs_now_ends_now_unless_no_agent_is_there(tmp_path: Path) -> None:
    state = search(tmp_path, (0, 10), (10, 20), (11, None), (20, None))
    found = timeline(tmp_path, state, 30)
    assert bars(found)[2:] == [("run_0002", 1, 11, 30), ("run_0003", 0, 20, 30)]
    assert found is not None
    assert [bar["running"] for bar in found["bars"]] == [False, False, True, True]
    assert timeline(tmp_path, state, 30, live=False) is None


def test_a_night_between_two_halves_of_a_search_is_cut_out(tmp_path: Path) -> None:
    night = 8 * 3600
    found = timeline(
        tmp_path, search(tmp_path, (0, 100), (1, 100), (night, night + 50), (night + 60, night + 90))
    )
    assert found is not None
    assert found["pauses"] == [{"at": 100, "seconds": night - 100}]
    # A short gap stays to be seen.
    assert bars(found)[2:] == [("run_0002", 0, 100, 150), ("run_0003", 0, 160, 190)]
    assert found["seconds"] == 190


@pytest.mark.parametrize(
    "record",
    [
        {"started_at": "yesterday", "ended_at": "today"},
        {"started_at": None, "ended_at": 5},
        {"started_at": "2026-01-02T03:00:09Z", "ended_at": "2026-01-02T03:00:01Z"},
        {"started_at": "0001-01-01T00:00:00Z", "ended_at": "9999-12-31T23:59:59Z"},
        {"started_at": "2026-01-02T03:00:00" + "0" * 10**6, "ended_at": "2026-01-02T03:00:01Z"},
        {"started_at": "9999-12-31T23:59:59-23:59", "ended_at": "9999-12-31T23:59:59-23:59"},
    ],
)
def test_times_that_cannot_be_are_left_out(tmp_path: Path, record: dict[str, Any]) -> None:
    state = search(tmp_path, (0, 10), (5, 20), (7, 20))
    write_json(tmp_path / "runs/run_0001/exit.json", record)
    (tmp_path / "runs/run_0002/exit.json").write_bytes(b'{"started_at": ')
    assert timeline(tmp_path, state) is None
    train(tmp_path / "runs/run_0002", 7, 20, wall_s=1e308)
    assert bars(timeline(tmp_path, state)) == [("run_0000", 0, 0, 10), ("run_0002", 1, 7, 20)]


def test_stamps_without_a_time_zone_or_of_another_one_are_the_same_moment(tmp_path: Path) -> None:
    state = search(tmp_path, (0, 10), (5, 20))
    times = {"started_at": "2026-01-02T04:00:05+01:00", "ended_at": "2026-01-02T03:00:20"}
    write_json(tmp_path / "runs/run_0001/exit.json", times)
    assert bars(timeline(tmp_path, state))[1] == ("run_0001", 1, 5, 20)


def test_a_link_in_the_place_of_a_run_or_its_repeats_is_not_followed(tmp_path: Path) -> None:
    train(tmp_path / "elsewhere/seed_43", 0, 100)
    state = search(tmp_path, (0, 10), (5, 20))
    (tmp_path / "runs/run_0000/repeats").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "runs/run_0001/repeats").mkdir()
    (tmp_path / "runs/run_0001/repeats/seed_43").symlink_to(tmp_path / "elsewhere/seed_43")
    assert len(bars(timeline(tmp_path, state))) == 2


def test_more_trainings_at_once_than_there_are_rows_are_counted(tmp_path: Path) -> None:
    found = timeline(tmp_path, search(tmp_path, *[(number / 10, 100.0) for number in range(MOST_ROWS + 6)]))
    assert found is not None
    assert (found["rows"], len(found["bars"]), found["left_out"]) == (MOST_ROWS, MOST_ROWS, 6)
    assert 0 < found["share"] <= 1


def test_a_thousand_runs_with_a_pause_after_every_pair_stay_one_picture(tmp_path: Path) -> None:
    state = search(tmp_path, *[(number // 2 * 200.0, number // 2 * 200.0 + 1) for number in range(1000)])
    found = timeline(tmp_path, state)
    assert found is not None
    assert (found["rows"], len(found["bars"]), len(found["pauses"])) == (2, 1000, 499)
    assert (found["seconds"], found["share"]) == (500, 1.0)

"""Which refits are worth their compute, without a training: by the files of runs that have ended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import FACTS, run_info

from nas_agent_graph.handover.refits import (
    MOST_SHARE,
    ends_of,
    plan_refits,
    refitted_seconds,
    seconds_to_come,
)
from nas_system.config_io.config_file import write_config
from nas_system.files import write_json
from nas_system.nas_agent.agent_state import AgentState, add_run
from nas_system.nas_agent.ledger import Ledger
from nas_system.nas_agent.recommended import Member, Part, Training
from nas_system.processes.run_files import RunPaths
from nas_system.space import ForecastingTask, RunConfig
from nas_system.space.task_info import TaskInfo
from nas_system.space.tasks import class_of

PARTS: tuple[Part, ...] = ("val", "test", "hold_out")
SPLIT = {"train": [0, 600], "val": [600, 750], "test": [750, 900], "hold_out": [900, 1000]}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Three runs of 10, 40 and 200 seconds of compute, with the best epoch at half of them."""
    state = AgentState(leads_by="mean", task=ForecastingTask(), data=FACTS["source"], seed=42)
    for number, seconds in enumerate((10.0, 40.0, 200.0)):
        paths = RunPaths(tmp_path / f"runs/run_{number:04d}")
        paths.folder.mkdir(parents=True)
        write_config(paths.config, RunConfig())
        write_json(paths.metrics, {"compute_sec": seconds, "best_epoch": 4, "epochs": 10})
        state = add_run(state, run_info(number, 0.1 + number / 100))
    return Ledger(tmp_path, state)


def info(**measured: Any) -> TaskInfo:
    return replace(TaskInfo.from_json(FACTS), measured={"split": SPLIT} | measured)


def members(*numbers: int) -> list[Member]:
    names = [f"run_{number:04d}" for number in numbers]
    own = [(Training(folder=f"runs/{name}", sha256="0" * 64),) for name in names]
    return [
        Member(name=name, kind="run", weight=1 / len(names), trainings=trainings)
        for name, trainings in zip(names, own, strict=True)
    ]


def end_refit(ledger: Ledger, run: int, name: str, seconds: float) -> None:
    paths = RunPaths(ledger.paths(f"run_{run:04d}").folder / "refits" / name)
    paths.folder.mkdir(parents=True)
    write_json(paths.metrics, {"compute_sec": seconds, "checkpoint_sha256": "0" * 64})
    write_json(paths.exit, {"returncode": 0})
    paths.best_model.write_bytes(b"weights")


def test_the_cheapest_members_are_refitted_for_a_share_of_the_search(ledger: Ledger) -> None:
    found = plan_refits(members(2, 1, 0), PARTS, info(), ledger)
    # Half of the epochs, on 750, 900 and 1,000 rows instead of 600: 22 of 250 s for the cheapest, 88 for the
    # next; 37.5 are the limit.
    assert {refit.run_id for refit in found} == {"run_0000"}
    assert seconds_to_come(found) == pytest.approx(10 * 0.5 * (750 + 900 + 1000) / 600)
    assert seconds_to_come(found) < MOST_SHARE * 250


def test_what_forecasts_comes_first(ledger: Ledger) -> None:
    assert [refit.through for refit in plan_refits(members(0), PARTS, info(), ledger)] == [
        "hold_out",
        "val",
        "test",
    ]


def test_one_member_is_refitted_whatever_it_costs(ledger: Ledger) -> None:
    found = plan_refits(members(2), PARTS, info(), ledger)
    assert len(found) == 3 and seconds_to_come(found) > MOST_SHARE * 250


def test_what_refits_of_an_earlier_end_took_is_counted(ledger: Ledger) -> None:
    for number in range(3):
        paths = ledger.paths(f"run_{number:04d}")
        write_json(paths.metrics, {"compute_sec": 100.0, "best_epoch": 0, "epochs": 10})
    # A tenth of the epochs: 44 s for each member, 45 are the limit of 300.
    assert len(plan_refits(members(0, 1, 2), PARTS, info(), ledger)) == 3
    for number in range(3):
        paths = ledger.paths(f"run_{number:04d}")
        write_json(paths.metrics, {"compute_sec": 100.0, "best_epoch": 0, "epochs": 50})
    # 9 s for each.
    names = {refit.run_id for refit in plan_refits(members(0, 1, 2), PARTS, info(), ledger)}
    assert names == {"run_0000", "run_0001", "run_0002"}
    end_refit(ledger, 2, "hold_out_seed_7", 30.0)
    assert refitted_seconds(ledger) == 30.0
    found = plan_refits(members(0, 1, 2), PARTS, info(), ledger)
    assert len({refit.run_id for refit in found}) == 1


def test_what_has_ended_costs_nothing_more(ledger: Ledger) -> None:
    before = plan_refits(members(0), PARTS, info(), ledger)
    seconds = seconds_to_come(before)
    end_refit(ledger, 0, "val_seed_42", 6.25)
    after = plan_refits(members(0), PARTS, info(), ledger)
    assert [refit.paths for refit in after] == [refit.paths for refit in before]
    assert seconds - seconds_to_come(after) == pytest.approx(6.25)


def test_a_link_in_the_place_of_refits_is_not_counted(ledger: Ledger, tmp_path: Path) -> None:
    end_refit(ledger, 0, "val_seed_42", 6.25)
    folder = ledger.paths("run_0000").folder / "refits"
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert refitted_seconds(ledger) == 0.0


def test_the_parts_of_graphs_end_where_their_sizes_say() -> None:
    task = class_of("zinc_synth")
    assert task is not None
    found = replace(
        TaskInfo.from_json(FACTS),
        task=task(),
        measured={},
        sizes={"train": 64, "val": 32, "test": 16, "hold_out": 8},
    )
    assert ends_of(found) == {"train": 64, "val": 96, "test": 112, "hold_out": 120}

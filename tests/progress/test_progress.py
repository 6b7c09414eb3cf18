"""What a person sees while a search runs."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import task_info
from rich.console import Console

from nas_agent_graph.budget import Limits
from nas_agent_graph.context import Progress, Proposal
from nas_agent_graph.progress.live import LiveProgress
from nas_agent_graph.progress.plain import PlainProgress, build_progress
from nas_system.nas_agent.agent_state import AgentState, RunInfo, add_run
from nas_system.space import Change, ForecastingTask, RunConfig

SOURCE = {"name": "ETTh1", "kind": "file", "sha256": "f18de3ad269cef59", "notice": None}
INFO = task_info([{"name": "last-value", "val_mse": 0.0696}, {"name": "nlinear-336", "val_mse": 0.049}])
CONFIG = RunConfig()
HOSTILE = "\x1b[2J\x07[red]wipe[/red]\r\n\u202eevil\x9b31m"


class HandClock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def history(*scores: float, seconds: float = 2.0) -> dict[str, Any]:
    return {"epochs": [{"epoch": i, "val_mse": s, "seconds": seconds} for i, s in enumerate(scores)]}


def finished(number: int, val_mse: float | None, **fields: Any) -> RunInfo:
    return RunInfo(run_id=f"run_{number:04d}", val_mse=val_mse, family="informer", seconds=20.0, **fields)


def verdict(noise: float | None = None, reason: str = "the first run with a score") -> dict[str, Any]:
    return {"reason": reason, "noise": noise, "noise_runs": 3 if noise else 0}


def proposal(hypothesis: str = "wider is better") -> Proposal:
    changes = (Change(parameter="model.d_model", value=64), Change(parameter="training.lr", value=0.0005))
    return Proposal("tpe", "run_0000", changes, hypothesis)


def drive(progress: Progress, clock: HandClock) -> None:
    """A base config with one repeat, a good run, a refused proposal and a failure."""
    progress.begin(AgentState(max_runs=5, data=SOURCE), INFO, Limits(max_runs=5))
    progress.proposed("run_0000", Proposal("base config", None, (), "the base configuration"), CONFIG)
    progress.training("run_0000", "run_0000", None)
    clock.now += 2
    progress.training("run_0000", "run_0000", history(0.08))
    clock.now += 10
    progress.training("seed_43", "run_0000, repeat 1 of 1 with seed 43", None)
    clock.now += 8
    progress.finished(finished(0, 0.08, accepted=True), verdict(noise=0.001))
    progress.proposed("run_0001", proposal(), CONFIG)
    for number in range(1, 4):
        clock.now += 2
        progress.training("run_0001", "run_0001", history(*(0.07 - 0.01 * i for i in range(number))))
    clock.now += 0.5
    progress.training("run_0001", "run_0001", history(0.07, 0.06, 0.05))
    progress.finished(finished(1, 0.05, accepted=True), verdict(noise=0.001, reason="0.03 below run_0000"))
    progress.refused("run_0002", "'d_modell' is not a parameter", "llm")
    clock.now += 20
    progress.finished(finished(2, None, status="DIVERGED", cause="NaN at step 7"), verdict(noise=0.001))
    progress.close()


TRANSCRIPT = """\
Data: ETTh1 (file, sha256 f18de3ad269c...)
val_mse of simple forecasts: nlinear-336 0.04900, last-value 0.06960
0/5 runs done
run_0000 proposed by base config: informer, no change
run_0000 because: the base configuration
run_0000 training
run_0000 epoch 1/10 val_mse 0.08000 up to 18 s left
run_0000, repeat 1 of 1 with seed 43 training
run_0000 val_mse 0.08000 ACCEPTED: the first run with a score (20 s); 1/5 runs done, about 80 s left
noise 0.00100 over 3 seeds
run_0001 proposed by tpe, from run_0000: informer, d_model=64, lr=0.0005
run_0001 because: wider is better
run_0001 training
run_0001 epoch 2/10 val_mse 0.06000 (best 0.08000 run_0000) up to 16 s left
run_0001 epoch 3/10 val_mse 0.05000 (best 0.08000 run_0000) up to 14 s left
run_0001 val_mse 0.05000 ACCEPTED: 0.03 below run_0000 (20 s); 2/5 runs done, about 40 s left
run_0002 proposal by llm refused: 'd_modell' is not a parameter
run_0002 DIVERGED: NaN at step 7 (20 s); 3/5 runs done, about 40 s left
"""


def test_plain_lines_tell_the_whole_story_once() -> None:
    stream, clock = io.StringIO(), HandClock()
    drive(PlainProgress(stream, clock), clock)
    assert stream.getvalue() == TRANSCRIPT


def test_a_run_that_was_stopped_early_says_so_in_one_line() -> None:
    stream, clock = io.StringIO(), HandClock()
    progress = PlainProgress(stream, clock)
    progress.begin(AgentState(max_runs=5, data=SOURCE), INFO, Limits(max_runs=5))
    cause = "stopped early at epoch 4 of 8 at val_mse 0.061200, 22 % above run_0001 (rule margin)"
    progress.finished(finished(2, None, status="PRUNED", cause=cause), verdict(noise=0.001))
    assert f"\nrun_0002 {cause} (20 s); 1/5 runs done" in stream.getvalue()
    assert "PRUNED" not in stream.getvalue()


def test_the_same_epoch_is_told_once_however_often_it_is_seen() -> None:
    stream, clock = io.StringIO(), HandClock()
    progress = PlainProgress(stream, clock)
    for _ in range(100):
        clock.now += 0.1
        progress.training("run_0000", "run_0000", history(0.08))
    assert stream.getvalue().count("epoch 1") == 1


def test_epochs_that_come_fast_share_a_line() -> None:
    stream, clock = io.StringIO(), HandClock()
    progress = PlainProgress(stream, clock)
    for number in range(1, 41):
        clock.now += 0.1
        progress.training("run_0000", "run_0000", history(*[0.08] * number))
    told = re.findall(r"epoch (\d+)", stream.getvalue())
    assert len(told) <= 4
    assert int(told[-1]) > 30


def test_a_long_silence_is_broken_once_a_minute() -> None:
    stream, clock = io.StringIO(), HandClock()
    progress = PlainProgress(stream, clock)
    progress.proposed("run_0000", proposal(), CONFIG)
    for _ in range(1900):
        clock.now += 0.1
        progress.training("run_0000", "run_0000", None)
    assert stream.getvalue().count("run_0000 no epoch finished yet (of 10)") == 3


def test_the_time_that_is_left_is_that_of_the_planned_epochs_by_the_clock() -> None:
    stream, clock = io.StringIO(), HandClock()
    progress = PlainProgress(stream, clock)
    # On a busy machine ten seconds of compute take longer.
    progress.begin(AgentState(), INFO, Limits(max_runs=5, run_seconds=10.0))
    progress.proposed("run_0000", proposal(), CONFIG)
    progress.training("run_0000", "run_0000", None)
    assert "left" not in stream.getvalue().splitlines()[-1]
    clock.now += 40
    progress.training("run_0000", "run_0000", history(0.08, seconds=40.0) | {"planned_epochs": 3})
    assert stream.getvalue().splitlines()[-1].endswith("epoch 1/3 val_mse 0.08000 up to 80 s left")


def test_after_the_last_epoch_no_time_is_promised() -> None:
    stream, clock = io.StringIO(), HandClock()
    progress = PlainProgress(stream, clock)
    progress.proposed("run_0000", proposal(), CONFIG)
    progress.training("run_0000", "run_0000", None)
    clock.now += 2
    progress.training("run_0000", "run_0000", history(*[0.08] * 10))
    assert stream.getvalue().endswith("run_0000 epoch 10/10 val_mse 0.08000\n")


def test_a_search_that_goes_on_starts_from_its_best_run() -> None:
    stream = io.StringIO()
    state = AgentState(max_runs=100)
    for number in range(3):
        state = add_run(state, finished(number, 0.06 - number / 100, accepted=number < 2))
    PlainProgress(stream, HandClock()).begin(state, INFO, Limits(max_runs=100))
    assert "3/100 runs done, about 32.3 min left; best 0.05000 run_0001" in stream.getvalue()


def test_a_stand_in_for_the_data_is_shouted_at_the_start() -> None:
    stream = io.StringIO()
    source = {"name": "synthetic", "kind": "synthetic", "sha256": "ab", "notice": "a GENERATED series"}
    PlainProgress(stream).begin(AgentState(data=source), INFO, Limits(max_runs=1))
    assert "!!! SYNTHETIC STAND-IN" in stream.getvalue()


def drive_hostile(progress: Progress) -> None:
    source = {"name": HOSTILE, "kind": HOSTILE, "sha256": HOSTILE, "notice": HOSTILE}
    info = task_info([{"name": HOSTILE, "val_mse": 0.05}])
    progress.begin(AgentState(data=source), info, Limits(max_runs=5))
    progress.note(HOSTILE)
    progress.refused("run_0000", HOSTILE, HOSTILE)
    change = Change(parameter=HOSTILE, value=HOSTILE)
    progress.proposed("run_0000", Proposal(HOSTILE, "run_0000", (change,), HOSTILE), CONFIG)
    progress.training("run_0000", HOSTILE, {"epochs": [None, {"val_mse": HOSTILE, "seconds": 10**400}]})
    progress.finished(finished(0, 0.05, accepted=True), verdict(reason=HOSTILE))
    progress.finished(finished(1, None, status=HOSTILE, cause=HOSTILE), verdict(reason=HOSTILE))
    progress.close()


@pytest.mark.parametrize("build", [PlainProgress, LiveProgress])
def test_hostile_text_comes_out_harmless(build: Callable[[io.StringIO], Progress]) -> None:
    stream = io.StringIO()
    drive_hostile(build(stream))
    lines = stream.getvalue().splitlines()
    assert lines
    assert all(line.isprintable() for line in lines)
    assert "[red]wipe[/red]" in stream.getvalue()


def test_a_reader_that_goes_away_does_not_end_the_search() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w")
    progress = build_progress(stream)
    assert isinstance(progress, PlainProgress)
    drive(progress, HandClock())
    with pytest.raises(BrokenPipeError):
        stream.close()  # what was written really had nowhere to go


def test_a_stream_that_cannot_spell_a_character_gets_a_question_mark() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    progress = build_progress(stream)
    progress.note("größer, 幅")
    assert stream.buffer.getvalue().decode("latin-1") == "note: größer, ?\n"  # type: ignore[attr-defined]


class Epochs(list[Any]):
    """Counts how often somebody walks through it."""

    walks = 0

    def __iter__(self) -> Iterator[Any]:
        self.walks += 1
        return super().__iter__()


def test_epochs_that_were_seen_are_not_read_again() -> None:
    progress = PlainProgress(io.StringIO())
    epochs = Epochs(history(*[0.05] * 1000)["epochs"])
    progress.training("run_0000", "run_0000", {"epochs": epochs})
    assert epochs.walks > 0
    epochs.walks = 0
    for _ in range(1000):
        progress.training("run_0000", "run_0000", {"epochs": epochs})
    assert epochs.walks == 0


def test_the_live_display_shows_the_run_and_what_it_has_to_beat() -> None:
    progress = LiveProgress(io.StringIO(), HandClock())
    progress.begin(add_run(AgentState(), finished(0, 0.06, accepted=True)), INFO, Limits(max_runs=5))
    progress.proposed("run_0001", proposal(), CONFIG)
    progress.training("run_0001", "run_0001", history(0.09, 0.08, 0.07))
    shown = io.StringIO()
    Console(file=shown, width=80).print(progress.frame())
    progress.close()
    text = shown.getvalue()
    assert "1/5 runs done, about 80 s left" in text
    assert "run_0001  informer  by tpe, from run_0000" in text
    assert "d_model=64, lr=0.0005" in text
    assert "epoch 3/10 val_mse 0.07000  up to 14 s left" in text
    assert "█▅▁  +0.01000 to the best" in text
    assert re.search(r"best, run_0000 +0\.06000", text)
    assert re.search(r"nlinear-336 +0\.04900", text)
    assert max(map(len, text.splitlines())) <= 80


LIVE_CRASH = """
from nas_agent_graph.context import Limits
from nas_agent_graph.progress.plain import build_progress
from nas_system.nas_agent.agent_state import AgentState
progress = build_progress()
print(type(progress).__name__, flush=True)
with progress:
    progress.begin(AgentState(), {}, Limits(max_runs=3))
    progress.note("under way")
    raise RuntimeError("a bug")
"""


def in_terminal(code: str, folder: Path, **environment: str) -> str:
    """Everything that `code` shows in a terminal of its own."""
    ours, theirs = pty.openpty()
    root = str(Path(__file__).resolve().parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": root, "TERM": "xterm", "COLUMNS": "80", **environment},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # Linux: the other side is closed
        pass
    os.close(ours)
    assert process.wait(timeout=240) == 1
    return shown.decode()


def test_a_crash_gives_the_terminal_back(tmp_path: Path) -> None:
    shown = in_terminal(LIVE_CRASH, tmp_path)
    assert "LiveProgress" in shown
    assert "under way" in shown
    assert "RuntimeError: a bug" in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1


def test_a_dumb_terminal_gets_plain_lines_and_no_color_means_none(tmp_path: Path) -> None:
    assert "PlainProgress" in in_terminal(LIVE_CRASH, tmp_path, TERM="dumb")
    assert "\x1b[33m" in in_terminal(LIVE_CRASH, tmp_path)
    assert "\x1b[33m" not in in_terminal(LIVE_CRASH, tmp_path, NO_COLOR="1")


class R2(ForecastingTask):
    """A task whose metric is maximized."""

    metric_name = "r2"
    direction = "maximize"


def test_the_best_of_a_maximized_metric_is_the_highest() -> None:
    info = task_info([{"name": "mean", "val_r2": -3.0}, {"name": "majority", "val_r2": 92.1}])
    stream, clock = io.StringIO(), HandClock()
    plain = PlainProgress(stream, clock)
    plain.begin(AgentState(max_runs=5, task=R2()), info, Limits(max_runs=5))
    assert "val_r2 of simple forecasts: majority 92.10000, mean -3.00000\n" in stream.getvalue()
    live = LiveProgress(io.StringIO(), clock)
    live.begin(AgentState(max_runs=5, task=R2()), info, Limits(max_runs=5))
    live.finished(finished(0, 91.5, accepted=True), verdict())
    live.finished(finished(1, 70.0), verdict())
    live.proposed("run_0002", proposal(), CONFIG)
    scores = [{"val_r2": score} for score in (60.0, 90.0, 75.0)]
    live.training("run_0002", "run_0002", {"epochs": scores})
    shown = io.StringIO()
    Console(file=shown, width=100).print(live.frame())
    live.close()
    assert re.search(r"this run +90\.00000 +▁█▅ +-1\.50000 to the best", shown.getvalue())
    assert re.search(r"best, run_0000 +91\.50000 +▁▁", shown.getvalue())

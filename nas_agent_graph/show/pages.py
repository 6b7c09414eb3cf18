"""Shared by every page about a search: its state, its task info, and the leaderboard on stdout."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas_agent_graph.analysis.calibration import Calibration
    from nas_agent_graph.selection.conclusion import Conclusion
    from nas_agent_graph.text.terminal import Line
    from nas_system.nas_agent.agent_state import AgentState
    from nas_system.nas_agent.recommended import Recommended
    from nas_system.space.task_info import TaskInfo

_CHANGES_CHARACTERS = 160


def read_state(workspace: Path) -> AgentState:
    """Read the search in `workspace`. Raises StateError or ConfigError that say what to type next."""
    from nas_system.errors import ConfigError, StateError
    from nas_system.nas_agent.agent_state import STATE_FILE, NewerState, load_agent_state
    from nas_system.nas_agent.run_folders import refuse_linked_runs
    from nas_system.processes.run_files import run_ids

    refuse_linked_runs(workspace / "runs")
    path = workspace / STATE_FILE
    command = "nas run"
    if not path.exists():
        left = run_ids(workspace / "runs")
        if left:
            raise StateError(f"{path} is missing; `{command}` rebuilds it from the {len(left)} runs on disk")
        raise ConfigError(f"there is no search in {workspace}; start one there with `{command} --max-runs 5`")
    try:
        return load_agent_state(path)
    except NewerState:
        raise
    except StateError as error:
        if path.is_symlink():
            raise StateError(f"{error}; put the file itself in its place") from None
        raise StateError(f"{error}. Nothing was changed; `{command}` sets it aside and rebuilds it") from None


def read_info(workspace: Path, state: AgentState) -> TaskInfo | None:
    """Read the task info, None if it is missing or invalid; baselines get their hold-out scores once the
    best run has one."""
    from dataclasses import replace

    from nas_system.files import read_record
    from nas_system.nas_agent.run_manager import load_task_info
    from nas_system.processes.run_files import RunPaths
    from nas_system.space.task_info import baselines_from

    info = load_task_info(workspace / "runs")
    if info is None or state.best_run_id is None or state.best_run_id not in state.hold_out:
        return info
    hold_out = read_record(RunPaths(workspace / "runs" / state.best_run_id).hold_out) or {}
    scored = {baseline.name: baseline for baseline in baselines_from(hold_out)}
    merged = [
        row
        if (there := scored.get(row.name)) is None
        else replace(row, scores={**row.scores, **there.scores}, accuracy={**row.accuracy, **there.accuracy})
        for row in info.baselines
    ]
    return replace(info, baselines=tuple(merged))


def conclusion_of(workspace: Path, state: AgentState) -> Conclusion | None:
    """Return what the search said at its end; None before that."""
    from nas_system.processes.run_files import CONCLUSION_FILE

    if not (workspace / "runs" / CONCLUSION_FILE).is_file():
        return None
    # Brings numpy, which pages about a search that goes on do without.
    from nas_agent_graph.analysis.conclusions import read_conclusion

    return read_conclusion(workspace, state)


def recommended_by(workspace: Path, state: AgentState) -> Recommended | None:
    """Return what the search hands over; None before its end, and once it has gone on since."""
    from nas_system.nas_agent.recommended import known_recommended

    known = known_recommended(workspace)
    current = known is not None and (known.runs, known.repeats) == (len(state.runs), len(state.repeats))
    return known if current else None


def print_leaderboard(
    workspace: Path,
    state: AgentState,
    info: TaskInfo | None,
    *,
    limit: int | None = None,
    say_conclusion: bool = False,
) -> None:
    """Print the leaderboard as wide as the terminal; opens only the folders of the rows that are shown.

    With `say_conclusion` what the search said at its end stands below it.
    """
    from nas_agent_graph.show.leaderboard import LIMIT, leaderboard_lines
    from nas_agent_graph.text.terminal import format_changes, width_of
    from nas_system.files import read_record
    from nas_system.processes.run_files import RunPaths

    def changes(run_id: str) -> str:
        proposal = read_record(RunPaths(workspace / "runs" / run_id).proposal) or {}
        return format_changes(proposal.get("changes"), _CHANGES_CHARACTERS)

    page = leaderboard_lines(
        state,
        info,
        width=width_of(sys.stdout),
        limit=LIMIT if limit is None else limit,
        changes=changes,
        conclusion=conclusion_of(workspace, state),
        recommended=recommended_by(workspace, state),
        say_conclusion=say_conclusion,
    )
    said = [*calibration_lines(workspace, state), *arm_lines(workspace, state), *notes_lines(workspace)]
    write_page([*page, *said])


def notes_lines(workspace: Path) -> list[Line]:
    """Say that there are notes for the language model; nothing where there are none."""
    from nas_agent_graph.text.notes import NOTES_FILE, read_notes
    from nas_agent_graph.text.terminal import Line, width_of, wrapped

    notes = read_notes(workspace)
    count = len(notes.text.splitlines())
    if notes.problem is not None:
        text = f"{NOTES_FILE} {notes.problem} and is not read."
    elif count:
        text = (
            f"{NOTES_FILE}: {count} line{'s' * (count != 1)} for the language model; `nas note` prints them."
        )
    else:
        return []
    return [Line(""), *wrapped(text, width_of(sys.stdout), indent=2)]


def calibration_record(workspace: Path, state: AgentState) -> list[dict[str, object]]:
    """Return how good each proposer's predictions were."""
    from dataclasses import asdict

    return [asdict(row) for row in _calibration(workspace, state)]


def _calibration(workspace: Path, state: AgentState) -> list[Calibration]:
    from nas_agent_graph.analysis.calibration import calibrate, predictions_of
    from nas_system.nas_agent.ledger import Ledger

    return calibrate(predictions_of(Ledger(workspace, state)), state.noise, state.direction)


def calibration_lines(workspace: Path, state: AgentState) -> list[Line]:
    from nas_agent_graph.analysis.calibration import format_calibration
    from nas_agent_graph.text.terminal import printable, width_of, wrapped

    lines = []
    for row in _calibration(workspace, state):
        text = f"Predictions by {printable(row.proposer, 60)}: {format_calibration(row, state.noise)}"
        lines += wrapped(text, width_of(sys.stdout), indent=2)
    return lines


def arm_lines(workspace: Path, state: AgentState) -> list[Line]:
    """Return what each arm of a search with a language model has done; nothing of other searches."""
    from nas_agent_graph.text.arms import arm_sentences, has_model

    if not has_model(state.runs):
        return []
    from nas_agent_graph.text.terminal import printable, width_of, wrapped
    from nas_system.nas_agent.ledger import Ledger

    width, sentences = width_of(sys.stdout), arm_sentences(Ledger(workspace, state))
    return [line for text in sentences for line in wrapped(printable(text, 600), width, indent=2)]


def write_page(page: Iterable[Line]) -> None:
    from nas_agent_graph.text.terminal import write_lines

    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that knows no block characters gets question marks, not a traceback.
        sys.stdout.reconfigure(errors="replace")
    write_lines(page, sys.stdout)

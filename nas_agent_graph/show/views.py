"""What `nas show` prints: a search, one of its runs, a conversation, the lessons; for people or as JSON.

Reads only, and takes no lock on the workspace: it may be called at any time while a search runs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nas_agent_graph.show.pages import (
    calibration_lines,
    calibration_record,
    conclusion_of,
    print_leaderboard,
    read_info,
    read_state,
    recommended_by,
    write_page,
)
from nas_system.errors import ConfigError

if TYPE_CHECKING:
    from nas_agent_graph.selection.conclusion import Conclusion
    from nas_agent_graph.show.rows import Row
    from nas_system.nas_agent.agent_state import AgentState
    from nas_system.nas_agent.recommended import Recommended
    from nas_system.space.accuracy import Accuracy
    from nas_system.space.task_info import TaskInfo


def show(arguments: argparse.Namespace) -> None:
    """Print or draw what the arguments of `nas show` ask for. Raises ConfigError."""
    if arguments.run_id is not None and arguments.plot is not None:
        raise ConfigError("--plot draws the whole search; leave out the run id")
    if arguments.run_id is not None and arguments.lessons:
        raise ConfigError("--lessons is about the whole search; leave out the run id")
    if arguments.run_id is None and arguments.transcript:
        raise ConfigError("--transcript is the conversation about one run; name it, for example run_0007")
    from nas_agent_graph.text.notes import read_notes
    from nas_system.nas_agent.log_text import one_line

    workspace = arguments.workspace.absolute()
    state = read_state(workspace)
    info = read_info(workspace, state)
    if arguments.run_id is not None:
        _show_run(workspace, state, arguments)
    elif arguments.plot is not None:
        _plot(workspace, state, info, arguments.plot)
        print(f"wrote {one_line(str(arguments.plot), 300)}")
    elif arguments.lessons:
        _show_lessons(workspace, state)
    elif arguments.json:
        conclusion, recommended = conclusion_of(workspace, state), recommended_by(workspace, state)
        record = search_record(state, info, arguments.limit, conclusion, workspace / "runs", recommended)
        more = {
            "calibration": calibration_record(workspace, state),
            "notes": read_notes(workspace).text or None,
        }
        print(json.dumps({**record, **more}, indent=1))
    else:
        print_leaderboard(workspace, state, info, limit=arguments.limit, say_conclusion=True)


def _show_lessons(workspace: Path, state: AgentState) -> None:
    """Print the note that the language model reads, verbatim, and how good its predictions were."""
    from nas_agent_graph.analysis.lessons import REBUILT_EVERY, lessons_note
    from nas_agent_graph.context import run_views
    from nas_agent_graph.text.terminal import width_of, wrapped
    from nas_system.config_io.config_file import read_config
    from nas_system.nas_agent.ledger import Ledger
    from nas_system.processes.run_files import BASE_CONFIG_FILE
    from nas_system.space.sampling import usable_families

    note = None
    if len(state.runs) >= REBUILT_EVERY:
        runs = run_views(Ledger(workspace, state))
        base = read_config(workspace / "runs" / BASE_CONFIG_FILE, follow_link=False)
        note = lessons_note(runs, base, state.noise, usable_families(base.task))
    text = note or f"No lessons yet: the first note comes after {REBUILT_EVERY} runs."
    width = width_of(sys.stdout)
    page = [line for entry in text.splitlines() for line in wrapped(entry, width, indent=2)]
    write_page([*page, *calibration_lines(workspace, state)])


def search_record(
    state: AgentState,
    info: TaskInfo | None,
    limit: int | None,
    conclusion: Conclusion | None = None,
    runs_dir: Path | None = None,
    recommended: Recommended | None = None,
) -> dict[str, object]:
    """Return the leaderboard for programs: `rows` best first (a baseline's `run` is None), then those
    stopped early (`pruned`) and `failed`.

    A row's score is the mean over its `seeds`, and `sd` their standard deviation; `tie` says whether it
    cannot be told from the recommended run of the `conclusion`. `accuracy` is in the units of the data, of a
    run that of its own training, where `runs_dir` says where runs are.
    """
    from nas_agent_graph.show.accuracy import accuracy_of_run, totals_of
    from nas_agent_graph.show.contenders import conclusion_record
    from nas_agent_graph.show.rows import failures_of, pruned_of, rows_of, shown_rows
    from nas_agent_graph.show.run import run_record
    from nas_agent_graph.show.seeds import luck_record, noise_record, spread_of
    from nas_agent_graph.text.terminal import printable
    from nas_system.space import metric_on
    from nas_system.space.data_card import CARD

    rows = rows_of(state, info, conclusion, recommended)
    if limit is not None:
        rows = shown_rows(state, rows, limit)
    baselines = {printable(row.name, 40): row.accuracy for row in (info.baselines if info else ())}

    def accuracy_of(row: Row) -> Mapping[str, Accuracy]:
        if row.run is None:
            return baselines.get(row.name, {})
        return {} if runs_dir is None else accuracy_of_run(row.run, runs_dir)

    return {
        **state.model_dump(mode="json", exclude={"runs"}),
        "finished": len(state.runs),
        "card": None if info is None else info.measured.get(CARD),
        "noise_of_seeds": noise_record(state),
        "leads_with_one_seed": luck_record(state),
        "conclusion": None if conclusion is None else conclusion_record(conclusion, state),
        "recommended": None if recommended is None else recommended.model_dump(mode="json"),
        "rows": [
            {
                "rank": row.rank,
                "name": row.name,
                state.metric: row.val_score,
                "seeds": len(row.scores) or None,
                "sd": spread_of(row.scores),
                "scores": list(row.scores),
                "tie": row.tie,
                "members": row.members or None,
                metric_on("test", state.metric): row.test_score,
                "accuracy": totals_of(accuracy_of(row)),
                "run": run_record(row.run, state.metric) if row.run else None,
            }
            for row in rows
        ],
        "pruned": [run_record(run, state.metric) for run in pruned_of(state)],
        "failed": [run_record(run, state.metric) for run in failures_of(state)],
    }


def _show_run(workspace: Path, state: AgentState, arguments: argparse.Namespace) -> None:
    from nas_agent_graph.show.run import page, record_of_run
    from nas_agent_graph.text.terminal import width_of
    from nas_system.nas_agent.ledger import Ledger

    known = state.run_ids
    if arguments.run_id not in known:
        names = ", ".join(known) if len(known) <= 12 else f"{known[0]} to {known[-1]} ({len(known)} runs)"
        raise ConfigError(f"no run {arguments.run_id!a:.80} in {workspace}; there are: {names or 'none yet'}")
    if arguments.transcript:
        from nas_agent_graph.show.transcript import record_of_transcript, transcript_lines

        record = record_of_transcript(workspace / "runs", arguments.run_id)
        lines = transcript_lines(record, width_of(sys.stdout))
    else:
        conclusion = conclusion_of(workspace, state)
        run = record_of_run(Ledger(workspace, state), arguments.run_id, conclusion)
        record, lines = run.to_json(), page(run, width_of(sys.stdout))
    if arguments.json:
        print(json.dumps(record, indent=1))
    else:
        write_page(lines)


def _plot(workspace: Path, state: AgentState, info: TaskInfo | None, path: Path) -> None:
    from nas_agent_graph.show.contenders import contenders_of
    from nas_agent_graph.show.seeds import scores_by_run
    from nas_system.visualization import Seeds, search_progress

    conclusion = conclusion_of(workspace, state)
    runs = (
        [] if conclusion is None else [one for one in contenders_of(conclusion, state) if not one.is_baseline]
    )
    seeds = Seeds(
        scores_by_run(state),
        {one.name: (one.bounds.low, one.bounds.high) for one in runs if one.bounds},
        {one.name for one in runs if one.tie},
    )
    baselines = [baseline.to_json() for baseline in info.baselines] if info else []
    try:
        search_progress(
            state.runs, baselines, path, metric=state.metric, direction=state.direction, seeds=seeds
        )
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from None

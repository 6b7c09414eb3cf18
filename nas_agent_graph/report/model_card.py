"""The model card of a search: what was found on which data, how it was chosen, its scores and its limits.

Mitchell et al. 2019, "Model Cards for Model Reporting", arXiv:1810.03993, section 4, for what a search
knows. Every file it reads may be missing, damaged or edited; what it cannot read is left out.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_agent_graph import __version__
from nas_agent_graph.report.card_limits import limits
from nas_agent_graph.report.card_scores import as_mapping, scores
from nas_agent_graph.report.markdown import code, prose, table
from nas_agent_graph.show.rows import failures_of, pruned_of, rows_of
from nas_agent_graph.text.terminal import duration, format_value
from nas_system.files import finite, write_atomic
from nas_system.nas_agent.agent_state import AgentState, get_best_run, get_run
from nas_system.nas_agent.ledger import Ledger
from nas_system.space import RunConfig, active_values
from nas_system.space.data_card import target_lines, warnings_of
from nas_system.space.task_info import TaskInfo

if TYPE_CHECKING:
    from nas_agent_graph.selection.conclusion import Conclusion

FILE_NAME = "model_card.md"
MOST_NAMES = 12
"""Columns, proposers or members that are named."""
COMPUTED = "holiday_"
"""How the names of columns begin whose future nobody has to give (`nas_system.data.known_future`)."""
MOST_PARAMETERS = 8
"""Of a member's network."""


def write_model_card(
    workspace: Path,
    state: AgentState,
    info: TaskInfo | None,
    conclusion: Conclusion | None,
    recommended: object,
) -> Path:
    """Write `model_card.md` in the workspace and return its path.

    `conclusion` is what the search said at its end, `recommended` what stands in `runs/recommended.json`:
    anything, None where there is no such file. Raises OSError where the card cannot be written.
    """
    path = workspace / FILE_NAME
    write_atomic(path, model_card(workspace, state, info, conclusion, recommended).encode())
    return path


def model_card(
    workspace: Path,
    state: AgentState,
    info: TaskInfo | None,
    conclusion: Conclusion | None,
    recommended: object,
) -> str:
    """Return the card as Markdown."""
    record = as_mapping(recommended)
    parts = {
        "Data": _data(state, info),
        "Task": _task(state),
        "What is recommended": _recommendation(workspace, state, record),
        "How it was chosen": _choice(state, conclusion, as_mapping(record.get("cost"))),
        "Scores": scores(state, rows_of(state, info, conclusion), info, record),
        "Limits": limits(state, info, conclusion, record),
        "How to use it": _use(state, info, record),
        "Versions": _versions(),
    }
    lines = [f"# Model card of the search {code(workspace.resolve().name)}"]
    for title, body in parts.items():
        lines += ["", f"## {title}", "", *body]
    return "\n".join([*lines, ""])


# --- data and task --------------------------------------------------------------------------


def _data(state: AgentState, info: TaskInfo | None) -> list[str]:
    if info is None:
        source = as_mapping(state.data)
        lines = [
            f"- Name: {code(source.get('name', 'unknown'))}",
            f"- SHA-256: {code(source.get('sha256'), 64)}",
        ]
        return [*lines, "- What was measured of it (`runs/task_facts.json`) is missing or cannot be read."]
    known = info.measured
    lines = [f"- Name: {code(info.source.name)}", f"- SHA-256: {code(info.source.sha256, 64)}"]
    if "rows" in known:
        lines.append(
            f"- {prose(known['rows'], 20)} rows, {code(known.get('first'))} to {code(known.get('last'))}, "
            f"step {code(known.get('freq'))}"
        )
    if info.columns:
        lines.append(f"- Columns: {_named(info.columns)}")
    if count := as_mapping(known.get("series")).get("count"):
        lines.append(f"- Series: {prose(count, 20)}")
    if ahead := _known(info):
        lines.append(f"- Known for the future: {_named(ahead)}")
    if info.sizes:
        unit = "Windows" if state.task is None or state.task.is_series else state.labels.samples.capitalize()
        sizes = ", ".join(f"{size:,} {name.replace('_', '-')}" for name, size in info.sizes.items())
        lines.append(f"- {unit}: {prose(sizes)}")
    filled = as_mapping(known.get("filled"))
    if filled:
        cells = ", ".join(
            f"{prose(count, 20)} in {code(name)}" for name, count in [*filled.items()][:MOST_NAMES]
        )
        lines.append(f"- Missing cells that hold the value before them: {cells}")
    lines += [f"- {prose(line)}" for line in target_lines(info, MOST_NAMES)]
    return lines + [f"- Warning: {prose(text)}" for text in warnings_of(info)]


def _known(info: TaskInfo) -> Sequence[object]:
    """Return the columns whose future is known."""
    known = info.measured.get("known")
    return known if isinstance(known, list) else ()


def _task(state: AgentState) -> list[str]:
    labels = state.labels
    winning = "lowest" if state.direction == "minimize" else "highest"
    lines = [
        f"- {prose(labels.goal)} ({labels.field})",
        f"- Compared by {code(state.metric)}, the {prose(labels.metric)}; the {winning} wins",
    ]
    scaling = getattr(state.task, "scaling", None)
    return lines + ([f"- Scaling, by the training rows: {code(scaling)}"] if scaling else [])


def _named(names: Sequence[object]) -> str:
    listed = ", ".join(code(name) for name in names[:MOST_NAMES])
    more = len(names) - MOST_NAMES
    return f"{listed} and {more} more" if more > 0 else listed


# --- what is recommended --------------------------------------------------------------------


def _recommendation(workspace: Path, state: AgentState, record: Mapping[str, Any]) -> list[str]:
    best = get_best_run(state)
    name = record.get("recommended")
    if not isinstance(name, str):
        if best is None:
            return ["Nothing: no run has a score."]
        lines = [f"The best run, {code(best.run_id)}."]
        members: list[Mapping[str, Any]] = [{"name": best.run_id, "kind": "run", "weight": 1.0}]
    else:
        why = record.get("why")
        lines = [f"{code(name)}" + (f": {prose(why)}" if isinstance(why, str) and why else "")]
        listed = record.get("members")
        members = [as_mapping(one) for one in listed] if isinstance(listed, list) else []
    ledger = Ledger(workspace, state)
    rows = [_member(ledger, one) for one in members[:MOST_NAMES] if isinstance(one.get("name"), str)]
    lines += ["", *table(("member", "family", "main parameters", "weight"), rows, texts=3)] if rows else []
    more = len(members) - MOST_NAMES
    lines += ["", f"And {more} members more."] if more > 0 else []
    known = as_mapping(as_mapping(record.get("refits")).get("hold_out"))
    runs = [one.get("name") for one in members if one.get("kind") == "run"]
    refitted = sum(name in known for name in runs if isinstance(name, str))
    if refitted:
        which = "its runs were" if refitted == len(runs) else f"{refitted} of its {len(runs)} runs were"
        lines += ["", f"For forecasts {which} trained again, on all rows."]
    return lines


def _member(ledger: Ledger, member: Mapping[str, Any]) -> tuple[str, str, str, str]:
    name, weight = str(member["name"]), finite(member.get("weight"))
    shown = "" if weight is None else f"{weight:.3g}"
    run = None if member.get("kind") == "baseline" else get_run(ledger.state, name)
    if run is None:
        return code(name), "baseline" if member.get("kind") == "baseline" else "", "", shown
    config = ledger.config(run.run_id)
    parameters = ", ".join(_parameters(config)) if config else ""
    return code(name), code(run.family or ""), parameters, shown


def _parameters(config: RunConfig) -> Iterator[str]:
    """Yield the look-back and the first parameters of the network."""
    values = active_values(config)
    names = [name for name in values if name.startswith("model.") and name != "model.family"]
    for name in ["data.seq_len", *names[:MOST_PARAMETERS]]:
        if name in values:
            yield code(f"{name.partition('.')[2]}={format_value(values[name])}", 80)


# --- how it was chosen ----------------------------------------------------------------------


def _choice(state: AgentState, conclusion: Conclusion | None, cost: Mapping[str, Any]) -> list[str]:
    from nas_agent_graph.selection.sentences import sentences

    scored = sum(run.val_score is not None for run in state.runs)
    ended = f"{len(failures_of(state))} failed, {len(pruned_of(state))} were stopped early"
    proposers = Counter(run.proposer for run in state.runs if run.proposer)
    seconds = sum(run.seconds or 0.0 for run in state.runs) + sum(one.seconds or 0.0 for one in state.repeats)
    lines = [
        f"- {len(state.runs)} runs ({scored} with a score, {ended}) and {len(state.repeats)} further "
        f"trainings of runs with other seeds, {duration(seconds)} in all; the search's seed is {state.seed}",
    ]
    refit_s, evaluation_s = (finite(cost.get(name)) or 0.0 for name in ("refit_sec", "evaluation_sec"))
    if refit_s > 0:
        lines.append(
            f"- After them refits of what is recommended, {duration(refit_s)} of compute, and evaluations, "
            f"{duration(evaluation_s)}"
        )
    if proposers:
        counts = ", ".join(f"{code(name)} {count}" for name, count in proposers.most_common(MOST_NAMES))
        lines.append(f"- Proposed by: {counts}")
    lines.append(
        "- Chosen on the validation part alone: whoever proposed or chose read no test and no hold-out score"
    )
    if conclusion is None:
        return [*lines, "- The search has not concluded, or went on since; what follows may change."]
    said = sentences(conclusion, state.metric, state.direction)
    return lines + [f"- {prose(text, 2000)}" for text in said]


# --- how to use it --------------------------------------------------------------------------


def _use(state: AgentState, info: TaskInfo | None, record: Mapping[str, Any]) -> list[str]:
    if state.best_run_id is None and not record:
        return ["There is nothing to use."]
    if state.task is not None and not state.task.is_series:
        return [
            "In the folder of the search:",
            "",
            "```bash",
            f"nas score --run runs/{state.best_run_id}",
            "```",
        ]
    how = [] if record else [f"--run {state.best_run_id}"]
    export = ["--export model.onnx   # for programs without this package"]
    if info is not None:
        given = [name for name in _known(info) if not str(name).startswith(COMPUTED)]
        how += ["--future-csv ahead.csv"] if given else []
        # A graph holds one scale, and has no input for a future that is known.
        export = [] if _known(info) or info.measured.get("series") else export
    return [
        "In the folder of the search:",
        "",
        "```bash",
        " ".join(["nas predict", *how, "--plot forecast.png"]),
        " ".join(["nas predict", *how, "--csv new.csv"]) + "   # the same columns, with the same step",
        *(" ".join(["nas predict", *how, flag]) for flag in export),
        "```",
    ]


def _versions() -> list[str]:
    lines = [f"- nas-agent {__version__}, Python {platform.python_version()}"]
    for package in ("torch", "numpy"):
        try:
            lines.append(f"- {package} {code(metadata.version(package))}")
        except metadata.PackageNotFoundError:
            continue
    return lines

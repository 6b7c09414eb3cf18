"""One run on one page: who proposed it and why, what changed, how it went, and the verdict.

`record_of_run` reads the run's folder in any state; `page` formats the record as lines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypedDict

from nas_agent_graph.launchers.place import where_it_trains
from nas_agent_graph.show.accuracy import accuracy_of_run, format_accuracy, format_series
from nas_agent_graph.show.contenders import Contender, contender_record, standing_of
from nas_agent_graph.show.run_seeds import (
    LABEL_COLUMNS,
    Repeat,
    labelled,
    repeat_record,
    repeats_of,
    seeds_lines,
    standing_lines,
)
from nas_agent_graph.show.seeds import scores_of_run, spread_of
from nas_agent_graph.text.terminal import (
    Column,
    Line,
    dollars,
    duration,
    format_value,
    printable,
    sparkline,
    table,
)
from nas_system.errors import StateError
from nas_system.files import finite, read_record
from nas_system.nas_agent.agent_state import RunInfo, get_run, get_run_in_progress
from nas_system.nas_agent.history_summary import CurveDigest, curve_digest
from nas_system.nas_agent.ledger import Ledger
from nas_system.nas_agent.logging_utils import load_history
from nas_system.nas_agent.outcome import Outcome, Status, log_tail, read_outcome
from nas_system.space import active_values, changes_between, metric_name_of, metric_on
from nas_system.space.accuracy import Accuracy
from nas_system.space.score import Direction, gain_of, loss_of

if TYPE_CHECKING:
    from nas_agent_graph.selection.conclusion import Conclusion

LOG_LINES = 20
MOST_FILES = 100
"""Files of a run that are listed."""
_LEFT_OUT = {"run_id", "val_mse", "test_mse", "val_mae", "test_mae", "history_summary", "key"}


@dataclass(frozen=True)
class ChangedParameter:
    """A parameter's value in the parent (None: not known, or it had no effect there) and in the run."""

    parameter: Any
    old: Any
    new: Any


class FileSize(TypedDict):
    name: str
    bytes: int


@dataclass(frozen=True)
class RunRecord:
    """All that is known of a run; proposal and verdict as they are on disk, valid or not."""

    run_id: str
    metric: str
    direction: Direction
    running: bool
    step: str | None
    now: str
    """Whether and where it trains; empty unless it is running."""
    run: RunInfo | None
    """None before the run has finished."""
    is_best_run: bool
    proposal: Mapping[str, Any]
    config_problem: str | None
    changes: list[ChangedParameter]
    digest: CurveDigest | None
    scores: list[float | None]
    """Validation score per epoch."""
    verdict: Mapping[str, Any]
    outcome: Outcome | None
    plan: str | None
    """Why the training is as long as it is, in its own words; None if it does not say."""
    accuracy: Mapping[str, Accuracy]
    """Of its own training, by part, in the units of the data; empty where it has no score."""
    repeats: list[Repeat]
    seed_scores: tuple[float, ...]
    """Validation scores of its own training and of its repeats; empty without its own."""
    conclusion: Conclusion | None
    standing: Contender | None
    """How it stands to the recommended run; None for a run that was not compared, or before the end."""
    files: list[FileSize]
    log_tail: str

    @property
    def expected(self) -> float | None:
        """The score that the proposer predicted."""
        return finite(self.proposal.get(f"expected_{self.metric}"))

    def to_json(self) -> dict[str, object]:
        """Return the record for programs, scores under the metric's name."""
        record = asdict(replace(self, conclusion=None, standing=None))
        digest, scores = record.pop("digest"), record.pop("scores")
        seeds = record.pop("seed_scores")
        del record["standing"]
        return record | {
            "run": None if self.run is None else run_record(self.run, self.metric),
            "curve": None if digest is None else digest | {self.metric: scores},
            "accuracy": {part: figures.to_json() for part, figures in self.accuracy.items()},
            "repeats": [repeat_record(repeat, self.metric) for repeat in self.repeats],
            "over_seeds": {
                "seeds": len(seeds),
                "mean": fmean(seeds) if seeds else None,
                "sd": spread_of(seeds),
                "scores": list(seeds),
            },
            "conclusion": None if self.conclusion is None else self._conclusion_record(self.conclusion),
        }

    def _conclusion_record(self, conclusion: Conclusion) -> dict[str, object]:
        standing = self.standing
        return {
            "recommended": conclusion.recommended,
            "word": conclusion.word,
            "in_tie_set": self.run_id in conclusion.ties,
            "standing": None if standing is None else contender_record(standing),
        }


def record_of_run(ledger: Ledger, run_id: str, conclusion: Conclusion | None = None) -> RunRecord:
    """Gather all that is known of a run. Nothing is written, no missing file is an error.

    `conclusion` is what the search said at its end.
    """
    state, paths, folder = ledger.state, ledger.paths(run_id), ledger.runs_dir / run_id
    run, current = get_run(state, run_id), get_run_in_progress(state, run_id)
    running = run is None and current is not None
    proposal = read_record(paths.proposal) or {}
    digest, scores = _curve(ledger, run_id)
    return RunRecord(
        run_id=run_id,
        metric=state.metric,
        direction=state.direction,
        running=running,
        step=current.step if running and current else None,
        now=where_it_trains(folder) if running else "",
        run=run,
        is_best_run=run_id == state.best_run_id,
        proposal=proposal,
        config_problem=None if run is None else ledger.config_problem(run_id),
        changes=_changes(ledger, run_id, proposal),
        digest=digest,
        scores=scores,
        verdict={key: value for key, value in (read_record(paths.verdict) or {}).items() if key != "run"},
        outcome=None if running else _outcome(ledger, run_id),
        plan=_plan(ledger, run_id),
        accuracy={} if run is None else accuracy_of_run(run, ledger.runs_dir),
        repeats=repeats_of(ledger, run_id),
        seed_scores=() if run is None else scores_of_run(state, run),
        conclusion=conclusion,
        standing=None if conclusion is None else standing_of(conclusion, state, run_id),
        files=_files(ledger, run_id),
        log_tail=log_tail(folder, LOG_LINES) if run is not None and has_failed(run) else "",
    )


def has_failed(run: RunInfo) -> bool:
    """Return whether the run ended in another way than with a score, or stopped early by the search."""
    return run.status not in ("OK", Status.PRUNED)


def run_record(run: RunInfo, metric: str) -> dict[str, object]:
    """Return a run's entry for programs, with the scores of its task and of no other."""
    scores = {"run_id": run.run_id, metric: run.val_score, metric_on("test", metric): run.test_score}
    return scores | run.model_dump(exclude=_LEFT_OUT)


def _changes(ledger: Ledger, run_id: str, proposal: Mapping[str, Any]) -> list[ChangedParameter]:
    """Compare the run's configuration with its parent's; where one is missing, list what was proposed."""
    parent_id = proposal.get("parent")
    # A name in a file must be a run of this search, not a path to somewhere else.
    parent = None
    if isinstance(parent_id, str) and get_run(ledger.state, parent_id) is not None:
        parent = ledger.config(parent_id)
    config = ledger.config(run_id)
    if parent is None or config is None:
        stated = proposal.get("changes")
        return [
            ChangedParameter(change.get("parameter"), None, change.get("value"))
            for change in (stated if isinstance(stated, list) else [])
            if isinstance(change, dict)
        ]
    before = active_values(parent)
    return [
        ChangedParameter(change.parameter, before.get(change.parameter), change.value)
        for change in changes_between(parent, config)
        if change.parameter not in before or before[change.parameter] != change.value
    ]


def _curve(ledger: Ledger, run_id: str) -> tuple[CurveDigest | None, list[float | None]]:
    """Return the learning curve's digest and its validation scores; None and nothing without an epoch."""
    try:
        history = load_history(ledger.runs_dir / run_id)
    except StateError:
        return None, []
    epochs = history.get("epochs")
    entries = [entry for entry in epochs if isinstance(entry, dict)] if isinstance(epochs, list) else []
    if not entries:
        return None, []
    metric = ledger.state.metric
    return curve_digest(history, metric_name_of(metric)), [finite(entry.get(metric)) for entry in entries]


def _outcome(ledger: Ledger, run_id: str) -> Outcome | None:
    try:
        return read_outcome(ledger.runs_dir / run_id, ledger.state.metric)
    except StateError:  # trained again by hand at this moment, or newer than this program
        return None


def _plan(ledger: Ledger, run_id: str) -> str | None:
    plan = (read_record(ledger.paths(run_id).metrics) or {}).get("plan")
    why = plan.get("why") if isinstance(plan, dict) else None
    return why if isinstance(why, str) and why else None


def _files(ledger: Ledger, run_id: str) -> list[FileSize]:
    folder = ledger.runs_dir / run_id
    if not folder.is_dir():
        return []
    own = [
        path
        for path in sorted(folder.iterdir())
        if not path.name.endswith((".lock", ".tmp")) and not path.is_symlink() and path.is_file()
    ]
    return [{"name": path.name, "bytes": path.lstat().st_size} for path in own[:MOST_FILES]]


def page(record: RunRecord, width: int) -> list[Line]:
    """Format the record for people."""
    run, proposal = record.run, record.proposal
    lines = [_title(record)]
    parent = printable(proposal.get("parent") or (run and run.parent) or "none", 64)
    lines += labelled("proposed by", _format_proposer(record, parent), width)
    if proposal.get("hypothesis"):
        lines += labelled("hypothesis", printable(proposal["hypothesis"], 1000), width)
    lines += _expectation(record, width)
    if record.config_problem:
        lines += labelled("", printable(record.config_problem, 400), width, "yellow")
    lines += _changes_table(record.changes, parent, record.run_id, width)
    if record.plan:
        lines += labelled("length", printable(record.plan, 300), width)
    lines += _curve_lines(record, width)
    lines += _result_lines(record, width)
    lines += _file_lines(record.files, width)
    if record.log_tail:
        lines += [Line(""), Line(f"the last lines of train.log (at most {LOG_LINES}):", "bold")]
        lines += [Line(f"  {printable(text, 400)}", "dim") for text in record.log_tail.splitlines()]
    return lines


def _title(record: RunRecord) -> Line:
    run = record.run
    if record.running:
        now = printable(record.now, 160)
        return Line(f"{record.run_id}: running ({now}; at {printable(record.step, 40)})", "bold yellow")
    if run is None:
        return Line(f"{record.run_id}: not in the search's state, only its folder is there", "bold yellow")
    if run.status == Status.PRUNED:
        return Line(f"{record.run_id}: stopped early, no score", "bold yellow")
    if run.status != "OK":
        return Line(f"{record.run_id}: {printable(run.status, 20)}, no score", "bold red")
    verdict = "the best run" if record.is_best_run else "accepted" if run.accepted else "not accepted"
    return Line(f"{record.run_id}: OK, {verdict}", "bold green" if run.accepted else "bold")


def _format_proposer(record: RunRecord, parent: str) -> str:
    run = record.run
    who = record.proposal.get("proposer") or (run and run.proposer)
    if not who:
        return "nobody yet" if record.running else "unknown: proposal.json is missing or unreadable"
    arm = record.proposal.get("arm")
    text = printable(who, 64) + (f" (arm: {printable(arm, 16)})" if arm and isinstance(arm, str) else "")
    if run is not None and run.tokens:
        text += f", {run.tokens} tokens"
    if run is not None and run.cost_usd is not None:
        text += f" ({dollars(run.cost_usd)})"
    wasted = record.proposal.get("wasted")
    if isinstance(wasted, str) and wasted:
        text += f", after the language model was asked for nothing to train: {printable(wasted, 300)}"
    return text + (f"; parent: {parent}" if parent != "none" else "; no parent")


def _expectation(record: RunRecord, width: int) -> list[Line]:
    expected, actual = record.expected, record.run.val_score if record.run else None
    if expected is None:
        return []
    text = f"{record.metric} {expected:.5f}"
    if actual is not None:
        gain = gain_of(actual, expected, record.direction)
        text += f"; it became {actual:.5f}, {abs(gain):.5f} {'better' if gain > 0 else 'worse'} than expected"
    return labelled("expected", text, width)


def _changes_table(changes: list[ChangedParameter], parent: str, run_id: str, width: int) -> list[Line]:
    if not changes:
        return []
    old = ["-" if change.old is None else format_value(change.old) for change in changes]
    columns = [
        Column("  parameter", [f"  {printable(change.parameter, 60)}" for change in changes], least=20),
        Column(parent, old, "right", least=8),
        Column("", ["->"] * len(changes)),
        Column(run_id, [format_value(change.new) for change in changes], least=8),
    ]
    return [Line(""), *table(columns, [""] * len(changes), width), Line("")]


def _curve_lines(record: RunRecord, width: int) -> list[Line]:
    digest = record.digest
    if digest is None:
        return labelled("curve", "no epoch yet" if record.running else "no epoch was completed", width)
    text = f"{digest.epochs} epoch" + "s" * (digest.epochs != 1)
    known = [score for score in record.scores if score is not None]
    if known:
        best = min(known, key=lambda score: loss_of(score, record.direction))
        text += (
            f", {record.metric} from {digest.first_val:.5f} to {best:.5f}"
            f" at epoch {digest.best_epoch} (counted from 0), at the end {digest.last_val:.5f}"
        )
    lines = labelled("curve", f"{text}; {digest.flag.replace('_', ' ')}", width)
    drawn = sparkline(record.scores, width - LABEL_COLUMNS - 1, record.direction)
    return lines + ([Line(" " * (LABEL_COLUMNS + 1) + drawn, "cyan")] if drawn.strip() else [])


def _result_lines(record: RunRecord, width: int) -> list[Line]:
    lines, run, metric, verdict = [], record.run, record.metric, record.verdict
    if run is not None and run.val_score is not None:
        lines += labelled(metric, f"{run.val_score:.6f}", width, "bold")
    if run is not None and run.test_score is not None:
        text = f"{run.test_score:.6f} (for people; not used by the search)"
        lines += labelled(metric_on("test", metric), text, width)
    lines += _accuracy_lines(record, width)
    lines += seeds_lines(record.repeats, record.seed_scores, metric, width)
    if record.conclusion is not None and record.seed_scores:
        lines += standing_lines(record.run_id, record.conclusion, record.standing, record.direction, width)
    if verdict:
        accepted = "accepted" if verdict.get("accepted") else "not accepted"
        lines += labelled("verdict", f"{accepted}: {printable(verdict.get('reason', ''))}", width)
    verified = _verified(record)
    if (again := finite(verified.get("val_score"))) is not None:
        lines += labelled("verified", f"{metric} {again:.6f}, computed again from its weights", width)
    if run is None:
        return lines
    lines += labelled("end", _format_end(run, record.outcome), width, "red" if has_failed(run) else "")
    if record.outcome is None or verified.get("problem"):  # then the folder holds what was refused
        return lines
    return lines + _outcome_lines(run, record.outcome, metric, width)


def _accuracy_lines(record: RunRecord, width: int) -> list[Line]:
    """Format the figures on the validation part, and on the test part where its score is shown."""
    lines, val, test = [], record.accuracy.get("val"), record.accuracy.get("test")
    if val is not None:
        text = f"on validation {format_accuracy(val)}; RMSE and MAE in the units of the data"
        lines += labelled("accuracy", text, width)
        lines += labelled("by series", format_series(val.by_series), width) if val.by_series else []
    if test is not None:
        text = f"on test {format_accuracy(test)} (for people; not used by the search)"
        lines += labelled("" if lines else "accuracy", text, width)
    return lines


def _verified(record: RunRecord) -> Mapping[str, Any]:
    """Return what the search computed again of this run; nothing if it took the training at its word."""
    found = record.verdict.get("verified")
    entries = [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
    return next((entry for entry in entries if entry.get("run") == record.run_id), {})


def _outcome_lines(run: RunInfo, outcome: Outcome, metric: str, width: int) -> list[Line]:
    """Format what the folder says now: the sandbox, and where it differs from what the search read."""
    lines, score = [], outcome.val_score
    if (pruned := outcome.pruned) is not None:
        text = (
            f"{metric} {pruned.score:.6f} in the first {pruned.epoch} of {pruned.planned_epochs} epochs "
            f"(rung {pruned.rung}); {pruned.threshold:.6f} would have been enough to go on"
        )
        lines += labelled("best so far", text, width)
    if outcome.sandbox:
        lines += labelled("sandbox", printable(outcome.sandbox, 120), width)
    for name, why in outcome.not_held.items():
        lines += labelled("", printable(f"does not hold: {name}, {why}"), width, "yellow")
    if outcome.status != run.status:
        text = f"today its folder says {outcome.status}: {printable(outcome.cause or 'no cause')}"
        lines += labelled("", text, width, "yellow")
    elif score is not None and score != run.val_score:
        text = f"today its metrics.json says {metric} {score:.6f}; the search keeps what it read"
        lines += labelled("", text, width, "yellow")
    return lines


def _format_end(run: RunInfo, outcome: Outcome | None) -> str:
    text = printable(run.status, 20)
    if run.cause:
        text += f": {printable(_without_numbers(run.cause, outcome))}"
    if run.seconds is not None:
        text += f"; {duration(run.seconds)}"
    if run.attempt > 1:
        text += f", attempt {run.attempt}"
    if outcome is None:
        return text
    if outcome.peak_memory_mb:
        text += f", peak memory {outcome.peak_memory_mb:.0f} MiB"
    if has_failed(run):
        known = {**outcome.numbers, "epoch": outcome.epoch, "step": outcome.step}
        numbers = [f"{printable(name, 40)} {value:.6g}" for name, value in known.items() if value is not None]
        text += f" ({', '.join(numbers)})" if numbers else ""
    return text


def _without_numbers(cause: str, outcome: Outcome | None) -> str:
    """Strip the numbers that the state keeps in brackets: this page prints them in full behind the cause."""
    plain = outcome.cause if outcome else None
    return plain if plain and cause.startswith(f"{plain} (") else cause


def _file_lines(files: list[FileSize], width: int) -> list[Line]:
    if not files:
        return labelled("files", "none", width)
    names = ", ".join(f"{printable(file['name'], 60)} ({_size(file['bytes'])})" for file in files)
    return labelled("files", names, width)


def _size(count: int) -> str:
    # No space: a line must not break inside.
    if count < 1000:
        return f"{count}B"
    return f"{count / 1e3:.1f}kB" if count < 1e6 else f"{count / 1e6:.1f}MB"

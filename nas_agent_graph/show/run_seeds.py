"""A run's trainings with other seeds, and how it stands to the run that a search recommends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from nas_agent_graph.show.contenders import Contender
from nas_agent_graph.show.seeds import spread_of
from nas_agent_graph.text.terminal import Line, duration, printable, wrapped
from nas_system.errors import StateError
from nas_system.nas_agent.agent_state import is_fresh
from nas_system.nas_agent.ledger import Ledger
from nas_system.nas_agent.outcome import read_outcome
from nas_system.space.score import Direction

if TYPE_CHECKING:
    from nas_agent_graph.selection.conclusion import Conclusion

MOST_REPEATS = 100
"""Folders of repeats that are looked at."""
MOST_NAMED_TIES = 12
LABEL_COLUMNS = 12
"""Of the labels on the left."""


@dataclass(frozen=True)
class Repeat:
    """The run's configuration trained with another seed."""

    name: str
    """Of its folder: `seed_43`."""
    status: str
    val_score: float | None = None
    seed: int | None = None
    purpose: str | None = None
    """None for one that the search's state does not know."""
    fresh: bool = False
    """Whether it is of the final, so that no choice among many has seen its score."""
    seconds: float | None = None


def repeats_of(ledger: Ledger, run_id: str) -> list[Repeat]:
    """Return the repeats that the state knows, in the order of their ends, then those in progress or known
    by their folders alone."""
    state = ledger.state
    found = [
        Repeat(
            f"seed_{repeat.seed}",
            repeat.status,
            repeat.val_score if repeat.status == "OK" else None,
            repeat.seed,
            repeat.purpose,
            is_fresh(repeat, state),
            repeat.seconds,
        )
        for repeat in state.repeats
        if repeat.run_id == run_id
    ]
    known = {repeat.name for repeat in found}
    begun = {run.run_id: run for run in state.in_progress if run.is_repeat}
    for folder in sorted((ledger.runs_dir / run_id / "repeats").glob("seed_*"))[:MOST_REPEATS]:
        if folder.name in known:
            continue
        name = folder.name.removeprefix("seed_")
        seed = int(name) if name.isdecimal() and len(name) < 20 else None
        running = begun.get(f"{run_id}/repeats/{folder.name}")
        purpose = running.purpose if running else None
        try:
            outcome = read_outcome(folder, state.metric)
        except StateError:
            found.append(Repeat(folder.name, "training", seed=seed, purpose=purpose))
        else:
            score = outcome.val_score
            found.append(Repeat(folder.name, str(outcome.status), score, seed, purpose))
    return found


def repeat_record(repeat: Repeat, metric: str) -> dict[str, object]:
    """Return a repeat for programs, its score under the metric's name."""
    return {
        "name": repeat.name,
        "seed": repeat.seed,
        "purpose": repeat.purpose,
        "fresh": repeat.fresh,
        "status": repeat.status,
        metric: repeat.val_score,
        "seconds": repeat.seconds,
    }


def seeds_lines(repeats: Sequence[Repeat], scores: tuple[float, ...], metric: str, width: int) -> list[Line]:
    """List the repeats, then mean and spread over all seeds."""
    lines = []
    for repeat in repeats:
        score = printable(repeat.status, 20)
        if repeat.val_score is not None:
            score = f"{metric} {repeat.val_score:.6f}"
        why = f" ({printable(repeat.purpose, 20)})" if repeat.purpose else ""
        took = f"; {duration(repeat.seconds)}" if repeat.seconds is not None else ""
        lines += labelled("repeat", f"{repeat.name}{why}: {score}{took}", width)
    spread = spread_of(scores)
    if spread is not None:
        text = f"mean {fmean(scores):.6f}, standard deviation {spread:.2g} ({len(scores)} seeds)"
        lines += labelled("over seeds", text, width, "bold")
    return lines


def standing_lines(
    run_id: str,
    conclusion: Conclusion,
    standing: Contender | None,
    direction: Direction,
    width: int,
) -> list[Line]:
    """Say how a run with a score stands to the recommended one, and by what margins."""
    best = conclusion.recommended
    if standing is None:
        text = f"not compared with {best}: its mean is not among the lowest"
        if direction == "maximize":
            text = f"not compared with {best}: its mean is not among the highest"
        return labelled("standing", text, width)
    if run_id == best:
        return labelled("standing", f"recommended, {_word_of(conclusion)}", width, "bold")
    told = standing.comparison.told_apart if standing.comparison else None
    if told is None:
        text = f"not tested against {best}"
    elif told:
        text = f"told apart from {best}, which is better"
    else:
        member = "in the tie set" if run_id in conclusion.ties else "a tie, outside the tie set's limit"
        text = f"{member}: cannot be told apart from {best}"
    return labelled("standing", text, width) + labelled("", _distance(standing, best, direction), width)


def _word_of(conclusion: Conclusion) -> str:
    if conclusion.word != "not distinguishable":
        return conclusion.word
    tied = [*conclusion.ties[1:], *conclusion.baseline_ties]
    names = printable(", ".join(tied[:MOST_NAMED_TIES]), 600)
    more = len(tied) - MOST_NAMED_TIES + conclusion.ties_left_out
    further = f" and {more} more" if len(tied) > MOST_NAMED_TIES or conclusion.ties_left_out else ""
    return f"not distinguishable from {names}{further}"


def _distance(standing: Contender, best: str, direction: Direction) -> str:
    """Format the distance to the recommended run and what chance explains of it."""
    compared = standing.comparison
    if compared is None:
        return ""
    ahead = compared.lead < 0
    higher = ahead == (direction == "maximize")
    text = f"{'higher' if higher else 'lower'} than {best} by {abs(compared.lead):.2g}"
    margins = [
        f"{margin:.2g} {source}"
        for margin, source in (
            (compared.seeds_margin, "from seeds"),
            (compared.rows_margin, "from the validation rows"),
            (compared.margin, "together"),
        )
        if margin is not None
    ]
    if margins:
        text += f" (margin of error at 90 %: {', '.join(margins)})"
    if compared.rows is not None and not compared.rows.trusted:
        text += "; the validation rows cannot tell"
    return text


def labelled(label: str, text: str, width: int, style: str = "") -> list[Line]:
    """Return text with a label on its left, wrapped."""
    return wrapped(f"{label:<{LABEL_COLUMNS}} {text}", width, style=style, indent=LABEL_COLUMNS + 1)

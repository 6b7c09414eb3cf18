"""How far a proposer's predictions can be trusted: expected against measured score, by proposer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from nas_agent_graph.analysis.standings import known_of_seeds
from nas_system.files import finite
from nas_system.nas_agent.ledger import Ledger
from nas_system.space.score import Direction, gain_of


@dataclass(frozen=True)
class Prediction:
    """The score that a proposer expected of a run, and the measured one; None if the run has none."""

    proposer: str
    expected: float
    actual: float | None


@dataclass(frozen=True)
class Calibration:
    """One proposer's predictions against the measured scores, in units of the task's metric."""

    proposer: str
    n: int
    """Predictions of runs that got a score."""
    unscored: int
    """Predictions of runs that got none."""
    mean_error: float | None
    """Mean distance between expected and measured score."""
    bias: float | None
    """By how much expected scores are better than measured ones, on average; above 0 is optimistic."""
    within_noise: float | None
    """Share of predictions closer than the noise; None while the noise is unknown."""


def predictions_of(ledger: Ledger) -> list[Prediction]:
    """Read what was expected of the finished runs from their proposal.json; measured are means over seeds."""
    found, name = [], f"expected_{ledger.state.metric}"
    scores = known_of_seeds(ledger.state).scores
    for run in ledger.state.runs:
        expected = finite(ledger.proposal(run.run_id).get(name))
        if expected is not None:
            actual = fmean(scores[run.run_id]) if run.run_id in scores else None
            found.append(Prediction(run.proposer or "unknown", expected, actual))
    return found


def calibrate(
    predictions: Iterable[Prediction], noise: float | None, direction: Direction
) -> list[Calibration]:
    """Return a row for every proposer that predicted anything, the one with most scored predictions first."""
    by_proposer: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        by_proposer.setdefault(prediction.proposer, []).append(prediction)
    rows = [_row(proposer, stated, noise, direction) for proposer, stated in by_proposer.items()]
    return sorted(rows, key=lambda row: (-row.n, row.proposer))


def _row(proposer: str, stated: list[Prediction], noise: float | None, direction: Direction) -> Calibration:
    errors = [gain_of(p.expected, p.actual, direction) for p in stated if p.actual is not None]
    close = [abs(error) <= noise for error in errors] if noise is not None else []
    return Calibration(
        proposer=proposer,
        n=len(errors),
        unscored=len(stated) - len(errors),
        mean_error=fmean(map(abs, errors)) if errors else None,
        bias=fmean(errors) if errors else None,
        within_noise=fmean(close) if close else None,
    )


def format_calibration(row: Calibration, noise: float | None) -> str:
    """Return `12 scored, off by 0.0021 on average (4.2 x noise), too optimistic by 0.0013; ...`."""
    text = f"{row.n} scored"
    if row.mean_error is not None and row.bias is not None:
        units = f" ({row.mean_error / noise:.3g} x noise)" if noise else ""
        leaning = "optimistic" if row.bias > 0 else "pessimistic"
        text += f", off by {row.mean_error:.3g} on average{units}"
        text += f", too {leaning} by {abs(row.bias):.3g}" if row.bias else ", without bias"
    if row.within_noise is not None:
        text += f"; {row.within_noise:.0%} within the noise"
    return text + (f"; {row.unscored} got no score" if row.unscored else "")

"""What proposers see of a search, and what they return: no test metrics, no files, no processes."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NotRequired, Protocol, runtime_checkable

# pydantic, which draws the form in LangGraph Studio, takes only this one before Python 3.12.
from typing_extensions import TypedDict

from nas_agent_graph.analysis.training_facts import TrainingFacts
from nas_agent_graph.budget import Left
from nas_system.errors import NasError, ProposalError
from nas_system.files import finite
from nas_system.nas_agent.agent_state import BASE_PROPOSER, OLD_BASE_PROPOSER
from nas_system.nas_agent.history_summary import curve_digest
from nas_system.space import Change, RunConfig, TaskConfig, canonical_key
from nas_system.space.sampling import usable_families
from nas_system.space.series_defaults import SeriesFit


class ChangeRecord(TypedDict):
    """One parameter that a proposal changes."""

    parameter: str
    value: Any


class ProposalRecord(TypedDict):
    """A `Proposal` as JSON. Its file calls the expected score by the metric's name, `expected_val_mse`."""

    rank: NotRequired[int]
    proposer: str
    parent: str | None
    hypothesis: str
    expected_score: float | None
    changes: list[ChangeRecord]
    tokens: int
    cost_usd: float | None
    must_restructure: NotRequired[bool]
    repeat: NotRequired[str]
    arm: NotRequired[str]
    wasted: NotRequired[str]


Arm = Literal["default", "sampler", "model"]
"""Where a proposal of a hybrid search comes from: a family's default, the sampler, the language model."""
ARMS: tuple[Arm, ...] = ("default", "sampler", "model")
LONGEST_REASON = 300


@dataclass(frozen=True)
class Proposal:
    """One idea: changes to a parent run's configuration, and what is expected of them."""

    proposer: str
    parent: str | None
    changes: tuple[Change, ...] = ()
    hypothesis: str = ""
    expected_score: float | None = None
    tokens: int = 0
    cost_usd: float | None = None
    """Of all answers about the run; None if no price is known."""
    rank: int | None = None
    """Its place in a ranked list, if it comes from one."""

    must_restructure: bool = False
    """Whether its proposer was shown that the search is stuck, so that it has to change the structure."""
    repeat: str | None = None
    """A run that its proposer wants trained once more with another seed, before it proposes."""
    arm: Arm | None = None
    """Which part of its proposer it comes from; None where a proposer has one part."""
    wasted: str = ""
    """Why what the language model was asked for this run gave nothing to train; empty where it was not."""

    def to_record(self) -> ProposalRecord:
        """Return the proposal as JSON."""
        record = ProposalRecord(
            proposer=self.proposer,
            parent=self.parent,
            hypothesis=self.hypothesis,
            expected_score=self.expected_score,
            changes=[ChangeRecord(parameter=c.parameter, value=c.value) for c in self.changes],
            tokens=self.tokens,
            cost_usd=self.cost_usd,
        )
        if self.rank is not None:
            record["rank"] = self.rank
        if self.must_restructure:
            record["must_restructure"] = True
        if self.repeat is not None:
            record["repeat"] = self.repeat
        if self.arm is not None:
            record["arm"] = self.arm
        if self.wasted:
            record["wasted"] = self.wasted[:LONGEST_REASON]
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Proposal:
        """Read a proposal back from JSON. Raises ProposalError if it is none."""
        try:
            return cls(
                proposer=str(record["proposer"]),
                parent=record["parent"],
                changes=tuple(Change.model_validate(change) for change in record["changes"]),
                hypothesis=str(record.get("hypothesis", "")),
                expected_score=finite(record.get("expected_score")),
                tokens=int(record.get("tokens", 0)),
                cost_usd=finite(record.get("cost_usd")),
                rank=record.get("rank"),
                must_restructure=record.get("must_restructure") is True,
                repeat=None if record.get("repeat") is None else str(record["repeat"]),
                arm=arm_in(record),
                wasted=wasted_in(record),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ProposalError(f"the proposal cannot be read ({error})") from None

    def to_file(self, metric: str) -> dict[str, object]:
        """Return what proposal.json holds: the record with the expected score under the metric's name."""
        named = {"expected_score": f"expected_{metric}"}
        return {named.get(name, name): value for name, value in self.to_record().items()}

    @classmethod
    def from_file(cls, content: Mapping[str, Any], metric: str) -> Proposal:
        """Read proposal.json, which anybody may have edited. Raises ProposalError."""
        proposal = cls.from_record({**content, "expected_score": content.get(f"expected_{metric}")})
        old = proposal.proposer == OLD_BASE_PROPOSER
        return replace(proposal, proposer=BASE_PROPOSER) if old else proposal


def arm_in(record: Mapping[str, Any]) -> Arm | None:
    """Return the arm that a proposal.json names, which anybody may have edited."""
    return next((arm for arm in ARMS if arm == record.get("arm")), None)


def wasted_in(record: Mapping[str, Any]) -> str:
    """Return why the model was asked in vain, by a proposal.json; empty if it was not."""
    reason = record.get("wasted")
    return reason[:LONGEST_REASON] if isinstance(reason, str) else ""


BASE_RUN = "run_0000"
RUNNING = "RUNNING"
"""Status of a run in progress: it has begun and has no verdict."""
PRUNED = "PRUNED"
"""Status of a run that the search stopped early, for what its first epochs scored."""
CONTINUED = "continued"
"""Who proposes the rest of a training that was stopped early: a person, with `--continue`."""
BLAMELESS = ("LOST", "KILLED", "STOPPED", "DISK_FULL", "MISSING")
"""Ends that say nothing about the configuration."""


@dataclass(frozen=True)
class RunView:
    """One run, finished or in progress, as a proposer may see it: without its test metrics."""

    run_id: str
    status: str
    cause: str | None
    config: RunConfig | None
    """None when the run's folder is gone."""
    family: str | None
    key: str | None
    """Canonical key of the configuration, known also when the folder is gone."""
    val_score: float | None
    """Mean over its seeds; in a search that leads by a margin its own score."""
    accepted: bool
    parent: str | None
    summary: str
    proposer: str = ""
    hypothesis: str = ""
    """The proposer's own words."""
    expected_score: float | None = None
    epochs: int = 0
    """Epochs that a run in progress, or one stopped early, has trained; 0 for others."""
    best_so_far: float | None = None
    """Best validation score of those epochs; None if there is none, and for other runs."""
    scores: tuple[float, ...] = ()
    """Those that `val_score` is the mean of, one a seed: its own first, then those of its repeats."""
    failed_repeats: int = 0
    """Its repeats that ended without a score."""
    training: TrainingFacts | None = None
    """What its own training cost and how it went; None for a run in progress, and where no file says so."""
    arm: Arm | None = None
    """Which part of its proposer it comes from; None where that was not written down."""
    wasted: str = ""
    """Why the language model was asked for this run in vain; empty where it was not."""

    @property
    def is_base(self) -> bool:
        """Return whether it trains the configuration that the search began with."""
        return self.run_id == BASE_RUN


def run_in_progress(
    run_id: str,
    config: RunConfig,
    history: Mapping[str, Any],
    *,
    parent: str | None,
    proposer: str,
    arm: Arm | None = None,
    wasted: str = "",
) -> RunView:
    """Return a training without a verdict as proposers see it; `history` is what it has written, or empty."""
    digest = curve_digest(history, config.task.metric.removeprefix("val_"))
    return RunView(
        run_id=run_id,
        status=RUNNING,
        cause=None,
        config=config,
        family=config.model.family,
        key=canonical_key(config),
        val_score=None,
        accepted=False,
        parent=parent,
        summary="",
        proposer=proposer,
        epochs=digest.epochs,
        best_so_far=digest.best_val,
        arm=arm,
        wasted=wasted,
    )


@dataclass(frozen=True)
class SearchView:
    """All that a proposer may know. Test metrics are not in it, by construction."""

    run_id: str
    """The run a proposal is wanted for."""
    task: TaskConfig
    base: RunConfig
    """What run_0000 trained."""
    columns: tuple[str, ...]
    """Of the series; graphs have none."""
    baselines: tuple[tuple[str, float], ...]
    """Name and score of the baselines."""
    runs: tuple[RunView, ...]
    best_run: RunView | None
    noise: float | None
    """Standard deviation of a score over seeds."""
    seed: int
    max_runs: int
    refused: tuple[str, ...] = ()
    """Why earlier proposals for this run were refused, oldest first."""
    max_seq_len: int | None = None
    """The longest look-back that leaves a training window; None if nobody has measured it."""
    attempt: int = 0
    """Refused proposals so far for this run."""
    left: Left = field(default_factory=Left)
    """What is left of the budget besides the runs."""
    run_seconds: float | None = None
    """Seconds of compute for which one training is planned."""
    run_steps: int | None = None
    """Most optimizer steps of one training."""
    families: tuple[str, ...] = ()
    """The families to choose from; by default all that serve the task and are installed."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Samples to train and to validate on; the test part is not mentioned."""
    measured: Mapping[str, object] = field(default_factory=dict)
    """What else was measured of data of this kind (see `TaskInfo.seen`)."""
    running: tuple[RunView, ...] = ()
    """Runs in progress, in the order they began: a configuration, status RUNNING, no score."""
    leads_by: Literal["mean", "margin"] = "margin"
    """How a run comes to lead, see `AgentState.leads_by`."""
    noise_runs: int = 0
    """Runs with two scores or more, over which the noise is pooled."""
    luck: Mapping[str, float] = field(default_factory=dict)
    """By run that leads with one seed: how probable it is, by the noise, that its lead is none."""
    resolution: float | None = None
    """Differences below it cannot be resolved by the validation rows (90 %); None if it is not known."""
    final: int = 0
    """Trainings with fresh seeds after the last run."""
    repeating: tuple[str, ...] = ()
    """Runs that are being trained once more."""
    repeats_left: int = 0
    """How many repeats a proposer may still ask for now."""
    notes: str = ""
    """What a person wishes of the search, a line for each wish (see `text.notes`)."""
    compact: bool = False
    """Whether a prompt spells out only the families that still matter."""
    moment: Mapping[str, int] = field(default_factory=dict)
    """How far the search has come, see `pool.moments`."""
    may_wait: bool = False
    """Whether other runs can begin while a language model thinks about this one."""

    @property
    def fit(self) -> SeriesFit | None:
        """What was measured of the series that defaults are fitted to."""
        return SeriesFit.of(self.measured)

    def __post_init__(self) -> None:
        if not self.families:
            object.__setattr__(self, "families", tuple(usable_families(self.task)))

    def refuse_if_running(self, key: str) -> None:
        """Raise ProposalError if a run in progress trains the configuration with this canonical key."""
        refuse_if_running({run.run_id: run.key for run in self.running}, key)

    def refuse_repeat_of(self, run_id: str) -> None:
        """Raise ProposalError if this run cannot be trained once more by a proposer's wish."""
        run = next((run for run in self.runs if run.run_id == run_id), None)
        if not self.repeats_left:
            raise ProposalError("no repeat can be asked for now; propose a new configuration")
        if run is None:
            raise ProposalError(f"{run_id!r:.80} is not a run of this search that has ended")
        if run.val_score is None or run.config is None:
            why = f"ended as {run.status}" if run.val_score is None else "has lost its configuration"
            raise ProposalError(f"{run_id} {why} and cannot be repeated")
        if run_id in self.repeating:
            raise ProposalError(f"{run_id} is being repeated now; wait for its score, propose another one")


def refuse_if_running(running: Mapping[str, str | None], key: str) -> None:
    """Raise ProposalError if one of these runs trains the configuration with this canonical key; `running`
    holds theirs."""
    for run_id, other in running.items():
        if other == key:
            raise ProposalError(f"this is {run_id}, which is training now; propose another one")


class Proposer(Protocol):
    """Proposes what to train next: a function of the view alone."""

    name: str

    def propose(self, view: SearchView) -> Proposal:
        """Raises ProposalError if no usable answer came; SearchPaused if none can come now; AnswerPending
        if one is on its way, and the view says that others may begin until then."""
        ...


@runtime_checkable
class ThinkingProposer(Proposer, Protocol):
    """A proposer that need not be waited for."""

    def thinking(self, *, others_may_begin: bool) -> Container[str]:
        """Return the runs about which it has been asked and that wait: there is no answer yet, and others
        may begin meanwhile."""
        ...


class AnswerPending(NasError):
    """The language model has been asked and has not answered; other runs may begin meanwhile."""

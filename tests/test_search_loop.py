"""The loop over a launcher that trains nothing: order, memory, acceptance, and going on after a crash."""

import itertools
import json
import math
from dataclasses import replace

import pytest
from builders import Scripted, by_lr, drive, search_context

from nas_agent_graph.acceptance import Verdict, evaluate
from nas_agent_graph.analysis.stagnation import is_stuck
from nas_agent_graph.budget import Limits
from nas_agent_graph.context import Context, Proposal, SearchInterrupted, StopRequest
from nas_agent_graph.graph import build_graph, steps_for
from nas_agent_graph.launchers.scripted import ScriptedLauncher
from nas_agent_graph.state import initial_state
from nas_system.errors import ProposalError
from nas_system.files import read_record
from nas_system.nas_agent.agent_state import AgentState, RunInfo, load_agent_state
from nas_system.space import RunConfig
from nas_system.space.tasks import GraphClassificationTask


def test_a_search_runs_to_its_end_and_its_ids_are_consecutive(tmp_path):
    context = search_context(tmp_path, max_runs=6)
    assert drive(context)["end"] == "all 6 runs are done"
    state = load_agent_state(tmp_path / "agent_state.json")
    assert [run.run_id for run in state.runs] == [f"run_{i:04d}" for i in range(6)]
    assert state.in_progress == ()
    assert state.best_run_id == min(state.runs, key=lambda run: run.val_mse).run_id
    assert [event[1].run_id for event in context.progress.events if event[0] == "finished"] == [
        r.run_id for r in state.runs
    ]


def test_the_first_run_is_the_base_configuration_unchanged(tmp_path):
    context = search_context(tmp_path, max_runs=1)
    drive(context)
    assert context.ledger.config("run_0000") == RunConfig()
    assert read_record(context.ledger.paths("run_0000").proposal)["proposer"] == "base config"


def test_every_family_default_is_tried_right_after_the_base(tmp_path):
    context = search_context(tmp_path, max_runs=3)
    drive(context)
    # The base config here is no family's default, so the Informer's own is tried, too.
    assert [run.family for run in context.ledger.state.runs][1:] == ["informer", "ridge"]


def test_a_failed_training_is_remembered_and_the_search_goes_on(tmp_path):
    outcomes = itertools.chain([0.06, None], itertools.repeat(0.05))
    context = search_context(tmp_path, launcher=ScriptedLauncher(lambda config: next(outcomes)), max_runs=4)
    drive(context)
    assert [run.status for run in context.ledger.state.runs] == ["OK", "FAILED", "OK", "OK"]
    failed = context.ledger.state.runs[1]
    assert failed.cause
    assert not failed.accepted
    assert context.view("run_0004").runs[1].val_score is None


@pytest.mark.fault(31)
def test_a_refused_proposal_goes_back_with_its_reason_and_nothing_is_trained(tmp_path):
    proposer = Scripted({"training.lr": 5.0}, ProposalError("not JSON"), {"training.lr": 0.01})
    context = search_context(tmp_path, proposer=proposer, max_runs=2)
    drive(context)
    assert proposer.views[0].refused == ()
    assert "training.lr=5.0" in proposer.views[1].refused[0]
    assert proposer.views[2].refused == ("not JSON",)
    assert context.launcher.submitted == [("run_0000", 1), ("run_0001", 1)]
    assert read_record(context.ledger.paths("run_0001").proposal)["attempt"] == 2


@pytest.mark.fault(30)
def test_the_fallback_steps_in_after_two_repairs(tmp_path):
    proposer = Scripted(*[{"model.nonsense": 1}] * 3)
    context = search_context(tmp_path, proposer=proposer, max_runs=2)
    drive(context)
    run = context.ledger.state.runs[1]
    assert run.proposer == "random_search"
    assert run.status == "OK"


@pytest.mark.fault(32)
def test_a_configuration_is_never_trained_twice(tmp_path):
    proposer = Scripted({"training.lr": 0.01}, {"training.lr": 0.01}, {"training.lr": 0.02})
    context = search_context(tmp_path, proposer=proposer, max_runs=3)
    drive(context)
    reason = next(e[2] for e in context.progress.events if e[0] == "refused")
    assert "configuration of run_0001" in reason
    assert "val_mse" in reason
    assert len({run.key for run in context.ledger.state.runs}) == 3


def test_a_search_ends_when_nothing_new_can_be_proposed(tmp_path):
    class Stubborn:
        name = "stubborn"

        def propose(self, view):
            return Proposal("stubborn", "run_0000", ())

    context = search_context(tmp_path, proposer=Stubborn(), max_runs=3)
    context = Context(**{**vars(context), "fallback": Stubborn()})
    assert "no new configuration" in drive(context)["end"]
    assert len(context.ledger.state.runs) == 1


def test_only_gains_beyond_the_noise_are_accepted(tmp_path):
    scores = iter([0.0600, 0.0620, 0.0580, 0.0590, 0.0500])
    proposer = Scripted({"training.lr": 0.01}, {"training.lr": 0.02})
    launcher = ScriptedLauncher(lambda config: next(scores))
    context = search_context(
        tmp_path, proposer=proposer, launcher=launcher, limits=Limits(max_runs=3, repeat_base=2)
    )
    context.ledger.save(leads_by="margin")
    drive(context)
    state = context.ledger.state
    assert launcher.submitted == [
        ("run_0000", 1),
        ("seed_43", 1),
        ("seed_44", 1),
        ("run_0001", 1),
        ("run_0002", 1),
    ]
    assert (state.noise_runs, state.noise) == (3, pytest.approx(0.002))
    assert [run.accepted for run in state.runs] == [True, False, True]
    verdict = read_record(context.ledger.paths("run_0001").verdict)
    assert "within the noise of 0.002000" in verdict["reason"]


def test_an_accepted_score_is_always_finite(tmp_path):
    context = search_context(tmp_path, launcher=ScriptedLauncher(lambda config: float("inf")), max_runs=2)
    drive(context)
    assert [run.accepted for run in context.ledger.state.runs] == [False, False]
    assert context.ledger.state.best_run_id is None


@pytest.mark.parametrize(
    ("score", "noise", "accepted", "reason"),
    [
        (0.92, 0.01, True, "0.020000 above run_0003 (0.900000), more than the noise of 0.010000"),
        (0.92, None, True, "0.020000 above run_0003 (0.900000), noise unknown"),
        (0.905, 0.01, False, "0.005000 above run_0003 (0.900000), but within the noise of 0.010000"),
        (0.85, 0.01, False, "0.050000 below run_0003 (0.900000)"),
        (math.inf, 0.01, False, "there is no finite score"),
    ],
)
def test_of_a_maximized_metric_the_higher_score_is_accepted(score, noise, accepted, reason):
    best_run = RunInfo(run_id="run_0003", metric="val_accuracy", val_score=0.9, accepted=True)
    state = AgentState(task=GraphClassificationTask(), runs=(best_run,), noise=noise)
    assert evaluate("OK", score, state) == Verdict(accepted, reason)
    mirrored = AgentState(runs=(RunInfo(run_id="run_0003", val_score=0.1, accepted=True),), noise=noise)
    assert evaluate("OK", 1 - score, mirrored).accepted == accepted


def test_only_who_was_shown_that_the_search_is_stuck_has_to_change_the_structure(tmp_path):
    """Every run after the first is worse; a proposer that was shown nothing goes on as it likes."""

    class Told(Scripted):
        def propose(self, view):
            return replace(super().propose(view), must_restructure=is_stuck(view))

    flat = [{"training.lr": 0.002 + n / 1e4} for n in range(7)]
    launcher = ScriptedLauncher(lambda config: 0.05 + config.training.lr)
    context = search_context(tmp_path / "any", proposer=Scripted(*flat), launcher=launcher, max_runs=8)
    drive(context)
    assert not [event for event in context.progress.events if event[0] == "refused"]

    proposer = Told(*flat[:6], {"model.normalization": "revin"})
    context = search_context(tmp_path / "told", proposer=proposer, launcher=launcher, max_runs=7)
    drive(context)
    (refused,) = [event for event in context.progress.events if event[0] == "refused"]
    assert refused[1] == "run_0006" and "the structure has to change" in refused[2]
    assert proposer.views[-1].refused == (refused[2],)
    stored = read_record(context.ledger.paths("run_0006").proposal)
    assert stored["must_restructure"] is True and stored["attempt"] == 1


STEPS = [
    "read_context",
    "propose_config",
    "validate_config",
    "launch_training",
    "parse_results",
    "summarize_history",
    "decide_acceptance",
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A search that was never cut."""
    context = search_context(tmp_path_factory.mktemp("whole"), max_runs=5)
    drive(context)
    return context


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.fault(1, 2)
def test_a_crash_at_any_node_loses_nothing_and_trains_nothing_twice(tmp_path, whole, step, when):
    """The graph is cut at each node in run_0002; a new one over the same folder must end equal."""
    cut = search_context(tmp_path / "cut", max_runs=5)
    graph = build_graph()
    interrupt = {f"interrupt_{when}": [step]}
    # A checkpointer-less graph stops for good at an interrupt: the state it held is gone.
    from langgraph.checkpoint.memory import InMemorySaver

    graph = build_graph(InMemorySaver())
    config = {"recursion_limit": steps_for(cut.limits), "configurable": {"thread_id": "1"}}
    graph.invoke(initial_state(), config=config, context=cut, **interrupt)
    for _ in range(2):
        graph.invoke(None, config=config, context=cut, **interrupt)

    again = search_context(tmp_path / "cut", max_runs=5)
    drive(again)
    assert [run.model_dump() for run in again.ledger.state.runs] == [
        run.model_dump() for run in whole.ledger.state.runs
    ]
    trained = cut.launcher.submitted + again.launcher.submitted
    assert sorted(trained) == sorted(whole.launcher.submitted)


@pytest.mark.fault(29)
@pytest.mark.parametrize("when", ["start", "training"])
def test_a_stop_request_waits_for_a_start_cancels_a_training_and_leaves_the_run_open(tmp_path, when):
    class Endless(ScriptedLauncher):
        cancelled = 0

        def submit(self, run_dir, job, attempt):
            if when == "start":
                stop.note(2)
            self.submitted.append((run_dir.name, attempt))

        def survey(self, run_dirs):
            if when == "training" and self.submitted:
                stop.note(2)
            running = self.submitted and not self.cancelled
            return dict.fromkeys(run_dirs, "running" if running else "absent")

        def cancel(self, run_dir, *, force=False):
            self.cancelled += 1

    stop = StopRequest()
    launcher = Endless(by_lr)
    context = search_context(tmp_path, launcher=launcher, stop=stop)
    with pytest.raises(SearchInterrupted) as stopped:
        drive(context)
    assert stopped.value.exit_code == 130
    # What was starting is ended by whoever drives the graph.
    assert (launcher.submitted, launcher.cancelled) == ([("run_0000", 1)], when == "training")
    state = load_agent_state(tmp_path / "agent_state.json")
    assert state.in_progress[0].run_id == "run_0000"
    assert state.runs == ()


def test_no_test_figure_is_in_anything_a_proposer_can_see(tmp_path):
    sentinel = 0.123456789

    class Sentinel(ScriptedLauncher):
        def submit(self, run_dir, job, attempt):
            super().submit(run_dir, job, attempt)
            metrics = json.loads((run_dir / "metrics.json").read_text())
            (run_dir / "metrics.json").write_text(json.dumps(metrics | {"test_mse": sentinel}))

    proposer = Scripted({"training.lr": 0.01}, {"training.lr": 0.02})
    context = search_context(tmp_path, proposer=proposer, launcher=Sentinel(by_lr), max_runs=3)
    assert isinstance(context.info.baselines[0].scores, dict)
    context.info.baselines[0].scores["test_mse"] = sentinel
    drive(context)
    assert context.ledger.state.runs[0].test_mse == sentinel
    assert str(sentinel) not in repr(proposer.views)

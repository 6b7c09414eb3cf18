"""What the classical samplers have in common, and what TPE does beyond it."""

import itertools
import math
import random
import statistics
import subprocess
import sys
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from nas_agent_graph.context import RunView, SearchView
from nas_agent_graph.proposers.random_search import RandomSearchProposer
from nas_agent_graph.proposers.sampling import draw_config
from nas_agent_graph.proposers.tpe import WIDE_DRAWS, TPEProposer, draw_family, family_study
from nas_agent_graph.search_view import run_in_progress
from nas_system.errors import ProposalError
from nas_system.space import (
    Change,
    DataConfig,
    ForecastingTask,
    GraphRegressionTask,
    RunConfig,
    active_values,
    apply_changes,
    canonical_key,
    changes_between,
    families_of,
    family_default,
    is_active,
    parameters,
)
from nas_system.space.sampling import draw_value, sampled_parameters, usable_families
from nas_system.space.score import Direction

SAMPLERS = {"tpe": TPEProposer, "random_search": RandomSearchProposer}
BASE = RunConfig()
GRAPHS = family_default("graph_transformer")
FORECASTERS = families_of("forecasting")
on_both_tasks = pytest.mark.parametrize("base", [BASE, GRAPHS], ids=["forecasting", "graphs"])


def view_of(configs, scores, run_number=None, seed=1, refused=(), base=BASE, max_seq_len=None):
    runs = tuple(
        RunView(
            run_id=f"run_{i:04d}",
            status="OK" if score is not None else "OOM_HOST",
            cause=None,
            config=config,
            family=config.model.family if config else None,
            key=canonical_key(config) if config else None,
            val_score=score,
            accepted=False,
            parent=None,
            summary="",
        )
        for i, (config, score) in enumerate(zip(configs, scores, strict=True))
    )
    return SearchView(
        run_id=f"run_{len(runs) if run_number is None else run_number:04d}",
        task=base.task,
        base=base,
        columns=("OT",),
        baselines=(),
        runs=runs,
        best_run=None,
        noise=None,
        seed=seed,
        max_runs=100,
        refused=refused,
        max_seq_len=max_seq_len,
    )


def grow(proposer, score, runs, seed=1, base=BASE, max_seq_len=None) -> tuple[list[Any], list[Any]]:
    configs, scores = [base], [score(base)]
    while len(configs) < runs:
        view = view_of(configs, scores, seed=seed, base=base, max_seq_len=max_seq_len)
        proposal = proposer.propose(view)
        config = apply_changes(base, proposal.changes, max_seq_len=max_seq_len)
        configs.append(config)
        scores.append(score(config))
    return configs, scores


def smooth(config):
    return 0.05 + abs(config.training.lr - 0.01) + 0.001 * (config.model.family != "linear")


@on_both_tasks
@pytest.mark.parametrize("name", SAMPLERS)
def test_every_proposal_is_valid_and_new(name, base):
    configs, _ = grow(SAMPLERS[name](), smooth, 25, base=base)
    assert len({canonical_key(config) for config in configs}) == 25
    assert {config.task for config in configs} == {base.task}


@pytest.mark.parametrize("name", SAMPLERS)
def test_proposals_for_graphs_change_the_model_and_nothing_that_a_series_has(name):
    view, proposer = view_of([GRAPHS], [0.6], base=GRAPHS), SAMPLERS[name]()
    changed = set()
    for seed in range(40):
        proposal = proposer.propose(replace(view, seed=seed))
        changed |= {change.parameter for change in proposal.changes}
    without_effect = {
        p.path
        for p in parameters("graph_transformer")
        if p.where in ("covariates", "series", "several targets")
    }
    assert {"data.features", "data.seq_len", "training.augmentation"} <= without_effect
    assert not changed & without_effect
    assert sum(path.startswith("model.") for path in changed) > 10


def test_tpe_begins_broadly_where_there_is_one_family_only():
    def needs_an_encoding(config):
        return 0.2 if config.model.random_walk else 0.8

    found, wide, then = [], [], []
    for seed in range(20):
        configs, _ = grow(TPEProposer(), needs_an_encoding, WIDE_DRAWS + 2, base=GRAPHS, seed=seed)
        first, last = configs[1 : WIDE_DRAWS + 1], configs[-1]
        assert all(config.training == GRAPHS.training for config in first), "the models alone are drawn"
        wide += [len(changes_between(GRAPHS, config)) for config in first]
        found.append(any(config.model.random_walk for config in first))
        then.append(min(len(changes_between(config, last)) for config in configs[:-1]))
    assert sum(found) >= 18, "half of the draws have it"
    assert statistics.mean(wide) > 5
    assert statistics.median(then) <= 3, "then a few parameters of the best run at a time"


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_default_of_every_family_comes_right_after_the_baseline_and_once(name):
    base = family_default("informer")
    configs, _ = grow(SAMPLERS[name](), smooth, len(FORECASTERS) + 1, base=base)
    first = configs[: len(FORECASTERS)]
    assert [config.model.family for config in first] == list(FORECASTERS)
    defaults = [canonical_key(family_default(family)) for family in FORECASTERS]
    assert [canonical_key(config) for config in first] == defaults
    assert canonical_key(configs[-1]) not in defaults


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_baseline_of_its_own_does_not_stand_for_its_family(name):
    own = apply_changes(BASE, [Change(parameter="model.d_model", value=256)])
    first = SAMPLERS[name]().propose(view_of([own], [0.06], base=own))
    config = apply_changes(own, first.changes)
    assert canonical_key(config) == canonical_key(family_default("informer"))


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_family_that_somebody_has_searched_needs_no_default(name):
    searched = apply_changes(family_default("linear"), [Change(parameter="training.lr", value=0.02)])
    base = family_default("informer")
    proposal = SAMPLERS[name]().propose(view_of([base, searched], [0.06, 0.05], base=base))
    assert apply_changes(base, proposal.changes).model.family == "ridge"


@pytest.mark.parametrize("name", SAMPLERS)
def test_no_proposal_reads_further_back_than_a_short_series_allows(name):
    base = family_default("informer").model_copy(update={"data": DataConfig(seq_len=48)})
    configs, _ = grow(SAMPLERS[name](), smooth, 30, base=base, max_seq_len=100)
    assert {config.data.seq_len for config in configs[1:]} <= {48, 96}
    of_linear = next(config for config in configs if config.model.family == "linear")
    assert of_linear.data.seq_len == 48, "the default's 336, cut to what leaves half of the windows"
    assert of_linear.training == family_default("linear").training


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_tiny_series_leaves_out_defaults_that_cannot_fit_it(name):
    base = apply_changes(
        family_default("linear"), [Change(parameter="data.seq_len", value=10)], max_seq_len=10
    )
    configs, _ = grow(SAMPLERS[name](), smooth, 25, base=base, max_seq_len=10)
    assert {config.data.seq_len for config in configs} == {5, 10}


@pytest.mark.parametrize(
    ("family", "task"),
    [
        *itertools.product(
            FORECASTERS, [ForecastingTask(), ForecastingTask(targets=("OT", "HUFL"), pred_len=720)]
        ),
        ("graph_transformer", GraphRegressionTask()),
    ],
)
def test_most_random_draws_of_a_family_are_valid(family, task):
    """A draw that contradicts itself costs time, and shifts the odds towards what is easy to satisfy."""
    generator = random.Random(0)
    base = family_default(families_of(task.kind)[0]).model_dump() | {"task": task}
    view = view_of([], [], base=RunConfig.model_validate(base))
    refusals = []
    for _ in range(120):
        try:
            config = draw_config(view, family, lambda parameter: draw_value(parameter, generator))
        except ProposalError as problem:
            refusals.append(str(problem))
        else:
            drawn = {p.path for p in sampled_parameters(family, view.max_seq_len) if is_active(config, p)}
            # A family that counts in passes has no number of steps.
            assert drawn - {"training.max_steps"} <= active_values(config).keys()
    assert len(refusals) < 60
    assert not [refusal for refusal in refusals if "has no effect" in refusal]


def test_a_family_without_its_package_is_not_proposed():
    assert "tft" in usable_families(BASE.task, installed=lambda package: True)
    without = usable_families(BASE.task, installed=lambda package: False)
    assert without == [name for name in FORECASTERS if name != "tft"]
    assert view_of([BASE], [0.06]).families == tuple(usable_families(BASE.task))


@on_both_tasks
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_proposal_is_a_function_of_the_view_alone(name, base):
    configs, scores = grow(SAMPLERS[name](), smooth, len(FORECASTERS) + 3, base=base)
    view, other = (view_of(configs, scores, seed=seed, base=base) for seed in (1, 2))
    assert SAMPLERS[name]().propose(view) == SAMPLERS[name]().propose(view)
    assert SAMPLERS[name]().propose(other) != SAMPLERS[name]().propose(view)


@on_both_tasks
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_refusal_leads_to_another_proposal(name, base):
    configs, scores = grow(SAMPLERS[name](), smooth, len(FORECASTERS) + 3, base=base)
    first = SAMPLERS[name]().propose(view_of(configs, scores, base=base))
    second = SAMPLERS[name]().propose(view_of(configs, scores, refused=("out of memory",), base=base))
    assert first.changes != second.changes


@pytest.mark.parametrize("name", SAMPLERS)
def test_failed_and_vanished_runs_do_not_disturb(name):
    configs, scores = grow(SAMPLERS[name](), smooth, 10)
    scores[3] = scores[5] = None
    configs[4], scores[4] = None, None
    proposal = SAMPLERS[name]().propose(view_of(configs, scores))
    assert canonical_key(apply_changes(BASE, list(proposal.changes))) not in {
        canonical_key(config) for config in configs if config
    }


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_same_proposal_comes_in_another_process(name):
    code = (
        "from nas_agent_graph.proposers.random_search import RandomSearchProposer\n"
        "from nas_agent_graph.proposers.tpe import TPEProposer\n"
        "from nas_agent_graph.context import SearchView, RunView\n"
        "from nas_system.space import RunConfig, ForecastingTask, canonical_key, family_default\n"
        "runs = tuple(\n"
        "    RunView(f'run_{i:04d}', 'OK', None, c, c.model.family, canonical_key(c), s, False, None, '')\n"
        "    for i, (c, s) in enumerate([(RunConfig(), .07), (family_default('linear'), .05)]))\n"
        "base = RunConfig()\n"
        "view = SearchView('run_0002', base.task, base, ('OT',), (), runs, None, None, 1, 10)\n"
        f"print({SAMPLERS[name].__name__}().propose(view))\n"
    )
    first, second = (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert first == second != ""


def test_tpe_concentrates_where_the_score_is_good():
    """After 30 runs of a smooth problem TPE draws clearly better configurations than chance does."""

    def score(config):
        off = abs(math.log10(config.training.lr) + 2)
        return 0.05 + 0.02 * off + 0.01 * (config.data.seq_len != 336)

    def mean_of_the_last(name):
        scores = [grow(SAMPLERS[name](), score, 40, seed=seed)[1][-10:] for seed in range(3)]
        return statistics.mean(itertools.chain(*scores)) - 0.05

    assert mean_of_the_last("tpe") < 0.75 * mean_of_the_last("random_search")


class Maximized(ForecastingTask):
    direction: ClassVar[Direction] = "maximize"


def test_tpe_proposes_for_a_maximized_score_what_it_proposes_for_the_mirrored_error():
    configs, scores = grow(TPEProposer(), smooth, 30)
    error = view_of(configs, scores)
    mirrored = [None if score is None else -score for score in scores]
    accuracy = replace(view_of(configs, mirrored), task=Maximized())
    assert TPEProposer().propose(accuracy) == TPEProposer().propose(error)
    minimized = view_of(configs, mirrored)
    assert TPEProposer().propose(minimized) != TPEProposer().propose(error)


LEVELS = {"linear": 0.0489, "patchtst": 0.050, "tsmixer": 0.051, "itransformer": 0.052, "informer": 0.0525}


def test_tpe_spends_its_runs_on_the_families_whose_best_run_is_good():
    def score(config):
        return LEVELS.get(config.model.family, 0.056) + 0.002 * abs(math.log10(config.training.lr) + 2.5)

    spent = []
    for seed in range(4):
        configs, _ = grow(
            TPEProposer(), score, len(FORECASTERS) + 20, seed=seed, base=family_default("informer")
        )
        spent += [config.model.family for config in configs[len(FORECASTERS) :]]
    assert 0.45 < spent.count("linear") / len(spent) < 0.85
    assert len(set(spent)) > 3, "no family is given up for good"


def test_a_family_is_judged_by_its_best_run_and_failures_come_last():
    good, bad = family_default("linear"), family_default("lstm")
    view = view_of([good, good, bad, family_default("gru")], [0.9, 0.04, 0.05, None])
    drawn = [draw_family(view.runs, ["gru", "lstm", "linear"], random.Random(seed)) for seed in range(400)]
    counts = [drawn.count(name) for name in ("linear", "lstm", "gru")]
    # 1, 1/4 and 1/9 of 49/36.
    for count, share in zip(counts, (0.735, 0.184, 0.082), strict=True):
        assert abs(count / 400 - share) < 0.06


def test_a_trial_holds_active_parameters_only_and_a_failure_is_as_bad_as_can_be():
    sgd = [
        Change(parameter="training.optimizer", value="sgd"),
        Change(parameter="training.momentum", value=0.5),
        Change(parameter="data.seq_len", value=300),
    ]
    configs = [family_default("linear"), apply_changes(family_default("linear"), sgd)]
    view = view_of([*configs, *configs], [0.05, None, float("nan"), 0.06])
    study = family_study(view.runs, sampled_parameters("linear", view.max_seq_len), seed=0)
    adam, with_sgd, *_ = study.get_trials()
    assert "training.momentum" not in adam.params and "training.momentum" in with_sgd.params
    for trial in (adam, with_sgd):
        assert (
            not {"data.features", "model.individual", "model.kernel", "training.gamma"} & trial.params.keys()
        )
    assert with_sgd.params["data.seq_len"] == 3, "300 is nearest to 336, the fourth on the grid"
    assert with_sgd.params["training.momentum"] == 1, "0.5 is nearer to 0.9 than to 0"
    assert [trial.value for trial in study.get_trials()] == [0.05, None, None, 0.06]
    states = [trial.state.name for trial in study.get_trials()]
    assert states == ["COMPLETE", "PRUNED", "PRUNED", "COMPLETE"], "before its first score"


def stopped(run, epochs, best_so_far):
    return replace(run, status="PRUNED", val_score=None, epochs=epochs, best_so_far=best_so_far)


def test_a_run_stopped_early_is_told_with_its_score_so_far_and_is_no_failure():
    view = view_of([family_default("linear")] * 5, [0.05, None, 1.0, 1.0, 1.0])
    ok, failed, *others = view.runs
    ends = [(4, 0.07), (2, 0.06), (4, 0.065)]
    pruned = [stopped(run, *end) for run, end in zip(others, ends, strict=True)]
    study = family_study([ok, failed, *pruned], sampled_parameters("linear", view.max_seq_len), seed=0)
    trials = study.get_trials()
    assert [trial.state.name for trial in trials] == ["COMPLETE", *["PRUNED"] * 4]
    assert [trial.intermediate_values for trial in trials] == [{}, {}, {4: 0.07}, {2: 0.06}, {4: 0.065}]


def test_a_family_is_judged_by_the_best_so_far_of_a_run_stopped_early():
    families = ["gru", "lstm", "linear"]
    view = view_of([family_default(name) for name in families], [None, None, 0.05])
    gru, lstm, linear = view.runs
    runs = [gru, stopped(lstm, 2, 0.04), linear]
    drawn = [draw_family(runs, families, random.Random(seed)) for seed in range(100)]
    assert sorted(families, key=drawn.count) == ["gru", "linear", "lstm"]


def test_what_was_stopped_early_of_a_maximized_score_is_mirrored_like_the_others():
    configs, scores = grow(TPEProposer(), smooth, 30)
    error = view_of(configs, scores)
    runs = [stopped(run, 3, run.val_score) if number % 3 else run for number, run in enumerate(error.runs)]
    mirrored = [
        replace(
            run,
            val_score=None if run.val_score is None else -run.val_score,
            best_so_far=None if run.best_so_far is None else -run.best_so_far,
        )
        for run in runs
    ]
    accuracy = replace(error, task=Maximized(), runs=tuple(mirrored))
    assert TPEProposer().propose(accuracy) == TPEProposer().propose(replace(error, runs=tuple(runs)))


def in_progress(number, config):
    return run_in_progress(f"run_{number:04d}", config, {}, parent="run_0000", proposer="tpe")


def begin(proposer, view, count, base=BASE):
    """Begin `count` runs of which none ends."""
    begun = []
    for number in range(len(view.runs), len(view.runs) + count):
        now = replace(view, run_id=f"run_{number:04d}", running=tuple(begun))
        config = apply_changes(base, proposer.propose(now).changes, max_seq_len=view.max_seq_len)
        begun.append(in_progress(number, config))
    return begun


@on_both_tasks
@pytest.mark.parametrize("name", SAMPLERS)
def test_no_proposal_doubles_a_run_in_progress(name, base):
    for done in (1, 12):
        configs, scores = grow(SAMPLERS[name](), smooth, done, base=base)
        begun = begin(SAMPLERS[name](), view_of(configs, scores, base=base), 8, base=base)
        assert len({*map(canonical_key, configs), *(run.key for run in begun)}) == done + 8


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_draw_that_is_in_training_is_passed_over(name):
    """A draw is a function of the run's number: only what is known of the first stands in its second way."""
    configs, scores = grow(SAMPLERS[name](), smooth, len(FORECASTERS) + 3)
    view, proposer = view_of(configs, scores), SAMPLERS[name]()
    first = apply_changes(BASE, proposer.propose(view).changes)
    running = (in_progress(len(configs), first),)
    second = apply_changes(BASE, proposer.propose(replace(view, running=running)).changes)
    assert canonical_key(second) != canonical_key(first)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_default_of_a_family_in_progress_is_not_proposed_again(name):
    base = family_default("informer")
    begun = begin(SAMPLERS[name](), view_of([base], [0.06], base=base), len(FORECASTERS) - 1, base=base)
    assert [run.family for run in begun] == list(FORECASTERS)[1:]
    # A run of another configuration stands for its family, too.
    searched = apply_changes(family_default("ridge"), [Change(parameter="data.seq_len", value=48)])
    view = replace(view_of([base], [0.06], base=base, run_number=2), running=(in_progress(1, searched),))
    assert apply_changes(base, SAMPLERS[name]().propose(view).changes).model.family == "linear"
    # The base config does so only if it is its family's default: here it is not, and has not ended either.
    own = apply_changes(BASE, [Change(parameter="model.d_model", value=256)])
    running = (in_progress(0, own), in_progress(1, family_default("ridge")))
    view = replace(view_of([], [], base=own, run_number=2), running=running)
    assert apply_changes(own, SAMPLERS[name]().propose(view).changes).model.family == "informer"


def test_tpe_draws_away_from_what_is_in_progress():
    """Beyond passing doubles over: a running trial counts as a bad one until its score is known."""
    rate = next(p for p in sampled_parameters("linear", None) if p.path == "training.lr")
    rates = [1e-4 * 10 ** (n / 10) for n in range(31)]
    configs = [
        apply_changes(family_default("linear"), [Change(parameter=rate.path, value=value)]) for value in rates
    ]
    done = view_of(configs, [0.05 + abs(math.log10(value) + 2) for value in rates]).runs
    crowd = [in_progress(90 + n, configs[20]) for n in range(8)]
    distances = {}
    for count in (0, 8):
        drawn = []
        for seed in range(30):
            study = family_study(done, [rate], seed, running=crowd[:count])
            drawn.append(study.ask().suggest_float(rate.path, rate.low, rate.high, log=rate.log))
        distances[count] = statistics.median(abs(math.log10(value) + 2) for value in drawn)
    assert distances[8] > 1.5 * distances[0], distances


def test_where_one_family_begins_broadly_what_is_in_progress_counts():
    begun = begin(TPEProposer(), view_of([GRAPHS], [0.6], base=GRAPHS), WIDE_DRAWS + 1, base=GRAPHS)
    assert all(run.config.training == GRAPHS.training for run in begun[:WIDE_DRAWS])
    assert len({run.key for run in begun}) == WIDE_DRAWS + 1
    view = view_of([GRAPHS], [0.6], base=GRAPHS, run_number=WIDE_DRAWS + 1)
    after = TPEProposer().propose(replace(view, running=tuple(begun[:WIDE_DRAWS])))
    assert after.hypothesis.startswith("TPE over 1 scored")


def test_the_study_of_a_long_search_holds_a_window_of_its_runs():
    configs, scores = grow(SAMPLERS["random_search"](), smooth, 20)
    view = view_of(configs * 20, scores * 20)
    sampled = sampled_parameters("linear", view.max_seq_len)
    assert len(family_study(view.runs, sampled, seed=0).get_trials()) < len(view.runs) / 2

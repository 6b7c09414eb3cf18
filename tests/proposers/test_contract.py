"""One contract suite over every classical proposer."""

import itertools
import math
import random
import statistics
import subprocess
import sys
import time
from typing import Any

import pytest

from nas_agent_graph.context import RunView, SearchView
from nas_agent_graph.proposers import PROPOSERS
from nas_agent_graph.proposers.random_search import draw_value
from nas_agent_graph.proposers.sampling import draw_config, families_for, sampled_parameters
from nas_agent_graph.proposers.tpe import TPEProposer, draw_family, family_study
from nas_system.errors import ProposalError
from nas_system.space import (
    FAMILIES,
    Change,
    DataConfig,
    RunConfig,
    TaskConfig,
    active_values,
    apply_changes,
    canonical_key,
    family_default,
    is_active,
)

BASE = RunConfig()


def view_of(configs, scores, run_number=None, seed=1, refused=(), base=BASE, max_seq_len=None):
    runs = tuple(
        RunView(
            run_id=f"run_{i:04d}",
            status="OK" if score is not None else "OOM_HOST",
            cause=None,
            config=config,
            family=config.model.family if config else None,
            key=canonical_key(config) if config else None,
            val_mse=score,
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
        references=(),
        runs=runs,
        champion=None,
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


@pytest.mark.parametrize("name", PROPOSERS)
def test_every_proposal_is_valid_and_new(name):
    configs, _ = grow(PROPOSERS[name](), smooth, 25)
    assert len({canonical_key(config) for config in configs}) == 25


@pytest.mark.parametrize("name", PROPOSERS)
def test_the_default_of_every_family_comes_right_after_the_baseline_and_once(name):
    base = family_default("informer")
    configs, _ = grow(PROPOSERS[name](), smooth, len(FAMILIES) + 1, base=base)
    assert [config.model.family for config in configs[: len(FAMILIES)]] == list(FAMILIES)
    defaults = [canonical_key(family_default(family)) for family in FAMILIES]
    assert [canonical_key(config) for config in configs[: len(FAMILIES)]] == defaults
    assert canonical_key(configs[-1]) not in defaults


@pytest.mark.parametrize("name", PROPOSERS)
def test_a_baseline_of_its_own_does_not_stand_for_its_family(name):
    own = apply_changes(BASE, [Change(parameter="model.d_model", value=256)])
    first = PROPOSERS[name]().propose(view_of([own], [0.06], base=own))
    config = apply_changes(own, first.changes)
    assert canonical_key(config) == canonical_key(family_default("informer"))


@pytest.mark.parametrize("name", PROPOSERS)
def test_a_family_that_somebody_has_searched_needs_no_default(name):
    searched = apply_changes(family_default("linear"), [Change(parameter="training.lr", value=0.02)])
    base = family_default("informer")
    proposal = PROPOSERS[name]().propose(view_of([base, searched], [0.06, 0.05], base=base))
    assert apply_changes(base, proposal.changes).model.family == "patchtst"


@pytest.mark.parametrize("name", PROPOSERS)
def test_no_proposal_reads_further_back_than_a_short_series_allows(name):
    base = family_default("informer").model_copy(update={"data": DataConfig(seq_len=48)})
    configs, _ = grow(PROPOSERS[name](), smooth, 30, base=base, max_seq_len=100)
    assert {config.data.seq_len for config in configs[1:]} <= {48, 96}
    of_linear = next(config for config in configs if config.model.family == "linear")
    assert of_linear.data.seq_len == 96, "the default's 336, cut to the longest usual value that fits"
    assert of_linear.training == family_default("linear").training


@pytest.mark.parametrize("name", PROPOSERS)
def test_a_tiny_series_leaves_out_defaults_that_cannot_fit_it(name):
    base = apply_changes(
        family_default("linear"), [Change(parameter="data.seq_len", value=10)], max_seq_len=10
    )
    configs, _ = grow(PROPOSERS[name](), smooth, 25, base=base, max_seq_len=10)
    assert {config.data.seq_len for config in configs} == {10}


@pytest.mark.parametrize("task", [TaskConfig(), TaskConfig(targets=("OT", "HUFL"), pred_len=720)])
@pytest.mark.parametrize("family", FAMILIES)
def test_most_random_draws_of_a_family_are_valid(family, task):
    """A draw that contradicts itself costs time, and shifts the odds towards what is easy to satisfy."""
    generator = random.Random(0)
    view = view_of([], [], base=RunConfig(task=task))
    refusals = []
    for _ in range(120):
        try:
            config = draw_config(view, family, lambda parameter: draw_value(parameter, generator))
        except ProposalError as problem:
            refusals.append(str(problem))
        else:
            drawn = {p.path for p in sampled_parameters(view, family) if is_active(config, p)}
            assert drawn <= active_values(config).keys()
    assert len(refusals) < 60
    assert not [refusal for refusal in refusals if "has no effect" in refusal]


def test_a_family_without_its_package_is_not_proposed():
    view = view_of([BASE], [0.06])
    assert "tft" in families_for(view, installed=lambda package: True)
    assert families_for(view, installed=lambda package: False) == [f for f in FAMILIES if f != "tft"]


@pytest.mark.parametrize("name", PROPOSERS)
def test_a_proposal_is_a_function_of_the_view_alone(name):
    configs, scores = grow(PROPOSERS[name](), smooth, len(FAMILIES) + 3)
    view = view_of(configs, scores)
    assert PROPOSERS[name]().propose(view) == PROPOSERS[name]().propose(view)
    assert PROPOSERS[name]().propose(view_of(configs, scores, seed=2)) != PROPOSERS[name]().propose(view)


@pytest.mark.parametrize("name", PROPOSERS)
def test_a_refusal_leads_to_another_proposal(name):
    configs, scores = grow(PROPOSERS[name](), smooth, len(FAMILIES) + 3)
    first = PROPOSERS[name]().propose(view_of(configs, scores))
    second = PROPOSERS[name]().propose(view_of(configs, scores, refused=("out of memory",)))
    assert first.changes != second.changes


@pytest.mark.parametrize("name", PROPOSERS)
def test_failed_and_vanished_runs_do_not_disturb(name):
    configs, scores = grow(PROPOSERS[name](), smooth, 10)
    scores[3] = scores[5] = None
    configs[4], scores[4] = None, None
    proposal = PROPOSERS[name]().propose(view_of(configs, scores))
    assert canonical_key(apply_changes(BASE, list(proposal.changes))) not in {
        canonical_key(config) for config in configs if config
    }


@pytest.mark.parametrize("name", PROPOSERS)
def test_the_same_proposal_comes_in_another_process(name):
    code = (
        "from nas_agent_graph.proposers import PROPOSERS\n"
        "from nas_agent_graph.context import SearchView, RunView\n"
        "from nas_system.space import RunConfig, TaskConfig, canonical_key, family_default\n"
        "runs = tuple(\n"
        "    RunView(f'run_{i:04d}', 'OK', None, c, c.model.family, canonical_key(c), s, False, None, '')\n"
        "    for i, (c, s) in enumerate([(RunConfig(), .07), (family_default('linear'), .05)]))\n"
        "view = SearchView('run_0002', TaskConfig(), RunConfig(), ('OT',), (), runs, None, None, 1, 10)\n"
        f"print(PROPOSERS['{name}']().propose(view))\n"
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
        scores = [grow(PROPOSERS[name](), score, 40, seed=seed)[1][-10:] for seed in range(3)]
        return statistics.mean(itertools.chain(*scores)) - 0.05

    assert mean_of_the_last("tpe") < 0.75 * mean_of_the_last("random_search")


LEVELS = {"linear": 0.0489, "patchtst": 0.050, "tsmixer": 0.051, "itransformer": 0.052, "informer": 0.0525}


def test_tpe_spends_its_runs_on_the_families_whose_best_run_is_good():
    def score(config):
        return LEVELS.get(config.model.family, 0.056) + 0.002 * abs(math.log10(config.training.lr) + 2.5)

    spent = []
    for seed in range(4):
        configs, _ = grow(
            TPEProposer(), score, len(FAMILIES) + 20, seed=seed, base=family_default("informer")
        )
        spent += [config.model.family for config in configs[len(FAMILIES) :]]
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
    study = family_study(view.runs, sampled_parameters(view, "linear"), seed=0)
    adam, with_sgd, *_ = study.get_trials()
    assert "training.momentum" not in adam.params and "training.momentum" in with_sgd.params
    for trial in (adam, with_sgd):
        assert (
            not {"data.features", "model.individual", "model.kernel", "training.gamma"} & trial.params.keys()
        )
    assert with_sgd.params["data.seq_len"] == 3, "300 is nearest to 336, the fourth on the grid"
    assert with_sgd.params["training.momentum"] == 1, "0.5 is nearer to 0.9 than to 0"
    assert [trial.value for trial in study.get_trials()] == [0.05, math.inf, math.inf, 0.06]


def test_a_proposal_after_sixty_runs_takes_no_time_worth_speaking_of():
    configs, scores = grow(PROPOSERS["random_search"](), smooth, 60)
    view = view_of(configs, scores)
    TPEProposer().propose(view)
    seconds = []
    for _ in range(5):
        start = time.process_time()
        TPEProposer().propose(view)
        seconds.append(time.process_time() - start)
    # Measured at 10 ms; the bound leaves room for a slow machine.
    assert min(seconds) < 0.15

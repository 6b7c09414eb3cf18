"""One contract suite over every classical proposer."""

import itertools
import math
import statistics
import subprocess
import sys

import pytest

from nas_agent_graph.context import RunView, SearchView
from nas_agent_graph.proposers import PROPOSERS
from nas_system.space import FAMILIES, RunConfig, TaskConfig, apply_changes, canonical_key

BASE = RunConfig()


def view_of(configs, scores, run_number=None, seed=1, refused=()):
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
        task=TaskConfig(),
        base=BASE,
        columns=("OT",),
        references=(),
        runs=runs,
        champion=None,
        noise=None,
        seed=seed,
        max_runs=100,
        refused=refused,
    )


def grow(proposer, score, runs, seed=1):
    configs, scores = [BASE], [score(BASE)]
    while len(configs) < runs:
        proposal = proposer.propose(view_of(configs, scores, seed=seed))
        config = apply_changes(BASE, list(proposal.changes))
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
def test_the_default_of_every_family_comes_right_after_the_baseline(name):
    configs, _ = grow(PROPOSERS[name](), smooth, 1 + len(FAMILIES))
    assert {config.model.family for config in configs[: len(FAMILIES)]} == set(FAMILIES)


@pytest.mark.parametrize("name", PROPOSERS)
def test_a_proposal_is_a_function_of_the_view_alone(name):
    configs, scores = grow(PROPOSERS[name](), smooth, 12)
    view = view_of(configs, scores)
    assert PROPOSERS[name]().propose(view) == PROPOSERS[name]().propose(view)
    assert PROPOSERS[name]().propose(view_of(configs, scores, seed=2)) != PROPOSERS[name]().propose(view)


@pytest.mark.parametrize("name", PROPOSERS)
def test_a_refusal_leads_to_another_proposal(name):
    configs, scores = grow(PROPOSERS[name](), smooth, 8)
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

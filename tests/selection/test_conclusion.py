"""What a search may say at its end, from seeds, from rows and from both, and how it says it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np
import pytest

from nas_agent_graph.selection.candidates import Candidate
from nas_agent_graph.selection.conclusion import MOST_TIES, Conclusion, conclude
from nas_agent_graph.selection.noise import SeedNoise, probability_of_luck
from nas_agent_graph.selection.record import from_record, to_record
from nas_agent_graph.selection.sentences import sentences

WINDOWS = 2_000
BLOCK = 50
QUIET = Candidate("run_0000", "base", (0.900, 0.902, 0.904))
"""Of the base config, whose repeats tell the noise: a standard deviation of 0.002."""


def run(number: int, first: float, *fresh: float, family: str = "gru") -> Candidate:
    return Candidate(f"run_{number:04d}", family, (first, *fresh), fresh)


def errors_of(candidates: tuple[Candidate, ...], spread: float = 0.0) -> dict[str, np.ndarray]:
    """Losses on windows whose means are the scores; `spread` is that of a difference between two runs."""
    rng = np.random.default_rng(0)
    hard = 0.1 * rng.standard_normal(WINDOWS)
    return {
        one.run_id: with_mean(hard + spread * rng.standard_normal(WINDOWS), fmean(one.fresh or one.scores))
        for one in candidates
    }


def with_mean(losses: np.ndarray, mean: float) -> np.ndarray:
    return losses - losses.mean() + mean


def concluded(*candidates: Candidate, spread: float = 0.01, **changes: Any) -> Conclusion:
    given: dict[str, Any] = {
        "errors": errors_of(candidates, spread),
        "baseline_errors": {},
        "baseline_scores": {},
        "blocks": BLOCK,
    }
    found = conclude(candidates, SeedNoise.of(candidates), **(given | changes))
    assert found is not None
    return found


BEST, SECOND = run(1, 0.498, 0.500, 0.501, 0.499), run(2, 0.600, 0.610, 0.609)
CLOSE = run(2, 0.499, 0.502, 0.501)
LUCKY = run(3, 0.4993)
"""Lower than the mean of `BEST`, with one seed."""
SPREAD = 0.001 * WINDOWS**0.5
"""Of a difference between windows: its mean then has a standard error of about 0.0014."""


# -- the word ----------------------------------------------------------------------------------------


def test_a_lead_beyond_seeds_and_rows_is_confirmed() -> None:
    found = concluded(QUIET, BEST, SECOND)
    assert (found.recommended, found.word) == ("run_0001", "confirmed")
    assert found.ties == ("run_0001",)
    assert {one.name for one in found.comparisons} == {"run_0000", "run_0002"}
    assert all(one.by_seeds and one.by_rows and one.told_apart for one in found.comparisons)


def test_a_lead_within_the_noise_of_seeds_is_not() -> None:
    loud = replace(QUIET, scores=(0.90, 0.99, 0.81))
    found = concluded(loud, BEST, CLOSE, spread=0.0001)
    assert found.word == "not distinguishable"
    assert found.ties == ("run_0001", "run_0002")
    tie = next(one for one in found.comparisons if one.name == "run_0002")
    assert (tie.by_seeds, tie.by_rows, tie.told_apart) == (False, True, False)


def test_a_lead_that_the_rows_do_not_resolve_is_not() -> None:
    steady = replace(QUIET, scores=(0.90, 0.9001, 0.9002))
    found = concluded(steady, run(1, 0.500, 0.500, 0.5001), run(2, 0.5005, 0.501, 0.5011), spread=SPREAD)
    tie = next(one for one in found.comparisons if one.name == "run_0002")
    assert (tie.by_seeds, tie.by_rows) == (True, False)
    assert found.word == "not distinguishable"


def test_a_lead_that_exceeds_either_noise_but_not_both_together_is_not() -> None:
    first, second = (
        run(number, mean, mean - 0.003, mean + 0.003, mean - 0.003, mean + 0.003)
        for number, mean in ((1, 0.5), (2, 0.5038))
    )
    found = concluded(QUIET, first, second, spread=SPREAD)
    tie = next(one for one in found.comparisons if one.name == "run_0002")
    assert (tie.by_seeds, tie.by_rows, tie.told_apart) == (True, True, False)
    assert tie.margin == pytest.approx((tie.seeds_margin**2 + tie.rows_margin**2) ** 0.5)
    assert found.word == "not distinguishable"


def test_a_single_seed_that_was_lucky_is_untested() -> None:
    found = concluded(QUIET, run(1, 0.1), run(2, 0.5))
    assert (found.recommended, found.word, found.fresh) == ("run_0001", "untested", None)
    assert found.luck["run_0001"] < 0.01
    assert found.optimism is None


def test_a_lucky_single_seed_does_not_take_the_place_of_what_was_repeated() -> None:
    others = (QUIET, BEST, CLOSE, run(5, 0.4991, 0.503), run(4, 0.51))
    found = concluded(*others, LUCKY)
    assert found.recommended == "run_0001"
    assert found.luck == {"run_0003": probability_of_luck(LUCKY, BEST, SeedNoise.of(others))}
    assert 0.4 < found.luck["run_0003"] < 0.5
    assert "run_0003" in found.ties and found.word == "not distinguishable"


@pytest.mark.parametrize("missing", ["run_0001", "run_0002"])
def test_without_the_windows_of_a_run_nothing_is_confirmed(missing: str) -> None:
    candidates = (QUIET, BEST, SECOND)
    known = {name: one for name, one in errors_of(candidates).items() if name != missing}
    found = concluded(*candidates, errors=known)
    assert found.word == "untested"
    assert found.ties == ("run_0001",), "what was not tested is no tie"
    assert "errors on single validation windows are missing" in sentences(found, "val_mse")[0]


def test_windows_of_other_data_count_as_missing() -> None:
    candidates = (QUIET, BEST, SECOND)
    found = concluded(*candidates, errors=errors_of(candidates) | {"run_0002": np.ones(WINDOWS - 1)})
    assert found.word == "untested"


def test_too_few_independent_blocks_cannot_tell() -> None:
    found = concluded(QUIET, BEST, SECOND, blocks=WINDOWS // 4)
    assert (found.word, found.independent_blocks, found.resolution) == ("not distinguishable", 4, None)
    assert "its rows cannot tell models apart" in " ".join(sentences(found, "val_mse"))


def test_the_longer_look_back_of_two_runs_decides_about_their_blocks() -> None:
    found = concluded(QUIET, BEST, SECOND, blocks={"run_0001": 50, "run_0002": 500})
    blocks = {one.name: one.rows.independent_blocks for one in found.comparisons if one.rows is not None}
    assert blocks == {"run_0002": 4, "run_0000": 40}
    assert found.word == "not distinguishable"


def test_without_a_score_there_is_no_conclusion() -> None:
    assert conclude([], SeedNoise(), {}, {}, {}) is None


def test_a_lone_run_without_baselines_is_untested() -> None:
    found = concluded(BEST)
    assert found.word == "untested"
    assert "there is nothing to compare it with" in sentences(found, "val_mse")[0]


# -- baselines ---------------------------------------------------------------------------------------


def baseline(mean: float, spread: float = 0.01) -> dict[str, Any]:
    hard = errors_of((BEST,))["run_0001"]
    noise = spread * np.random.default_rng(7).standard_normal(WINDOWS)
    return {
        "baseline_errors": {"nlinear-336": with_mean(hard + noise, mean)},
        "baseline_scores": {"nlinear-336": mean},
    }


@pytest.mark.parametrize(
    ("mean", "word", "ties"),
    [
        (0.6, "confirmed", ()),
        (0.5001, "not distinguishable", ("nlinear-336",)),
        (0.4, "not distinguishable", ("nlinear-336",)),
    ],
)
def test_the_best_baseline_has_to_be_beaten_too(mean: float, word: str, ties: tuple[str, ...]) -> None:
    found = concluded(QUIET, BEST, SECOND, **baseline(mean))
    assert (found.word, found.baseline_ties) == (word, ties)


def test_a_baseline_scored_on_some_windows_is_compared_on_those() -> None:
    given = baseline(0.6)
    partly = given["baseline_errors"]["nlinear-336"].copy()
    partly[np.arange(WINDOWS) % 4 > 0] = np.nan
    given["baseline_errors"] = {"nlinear-336": partly}
    given["baseline_scores"] = {"nlinear-336": 99.0}
    found = concluded(QUIET, BEST, SECOND, **given)
    row = next(one for one in found.comparisons if one.is_baseline)
    assert row.lead == pytest.approx(
        np.nanmean(partly) - errors_of((BEST,))["run_0001"][::4].mean(), abs=2e-3
    )
    assert row.rows is not None and (row.rows.block, row.rows.independent_blocks) == (13, 38)
    assert found.word == "confirmed"


# -- figures -----------------------------------------------------------------------------------------


def test_the_fresh_seeds_alone_make_the_mean_and_its_interval() -> None:
    found = concluded(QUIET, BEST, SECOND)
    fresh = found.fresh
    assert fresh is not None
    error, degrees = SeedNoise.of([QUIET, BEST, SECOND]).of_mean(BEST) or (0.0, 0)
    assert (fresh.seeds, degrees) == (3, 6)
    half = 1.943180 * error  # the tabulated t with six degrees of freedom
    assert (fresh.mean, fresh.low, fresh.high) == pytest.approx((0.5, 0.5 - half, 0.5 + half))
    assert found.first == 0.498
    assert found.optimism == pytest.approx(0.002)


def test_one_fresh_seed_has_an_interval_from_the_noise_of_what_was_repeated() -> None:
    once = run(1, 0.499, 0.500)
    found = concluded(once, run(2, 0.6))
    assert found.fresh is not None and found.fresh.low is not None
    assert found.fresh.low < 0.5 < (found.fresh.high or 0)


def test_the_resolution_is_the_median_margin_of_the_rows() -> None:
    found = concluded(QUIET, BEST, SECOND)
    margins = [one.rows_margin for one in found.comparisons]
    assert found.resolution == pytest.approx(np.median(margins))
    assert 1.6 < found.resolution / found.comparisons[0].rows.standard_error < 1.8


def test_a_tie_set_has_one_of_every_family_first_and_at_most_eight() -> None:
    loud = Candidate("run_0000", "base", (0.5, 0.6, 0.7))
    grus = [run(number, 0.4 + number / 1000) for number in range(2, 14)]
    other = run(20, 0.45, family="tcn")
    grus[:2] = run(2, 0.402, 0.43), run(3, 0.403, 0.43)
    found = concluded(loud, run(1, 0.4, 0.41, 0.42), *grus, other)
    assert found.word == "not distinguishable"
    assert len(found.ties) == MOST_TIES
    assert found.ties == (*(f"run_{number:04d}" for number in (1, 4, 5, 6, 7, 8, 9, 20)),)
    assert found.ties_left_out == 6
    assert {one.name for one in found.comparisons} >= set(found.ties[1:])


def test_the_hold_out_score_has_an_interval_of_its_own() -> None:
    found = concluded(QUIET, BEST, SECOND)
    losses = errors_of((BEST,))["run_0001"] + 0.2
    held = found.with_hold_out(0.7, losses, BLOCK)
    assert held.hold_out is not None and held.hold_out.low < 0.7 < held.hold_out.high
    assert (
        "Its hold-out score, taken once, is 0.7 (90 % interval over its rows"
        in sentences(held, "val_mse")[-1]
    )
    plain = found.with_hold_out(0.7, None, BLOCK)
    assert sentences(plain, "val_mse")[-1] == "Its hold-out score, taken once, is 0.7."


def test_luck_is_the_probability_that_a_lead_is_none() -> None:
    noise = SeedNoise.of([QUIET])
    assert probability_of_luck(run(1, 0.5), run(2, 0.5), noise) == pytest.approx(0.5)
    one_error = run(1, 0.5), run(2, 0.5 + 0.002 * 2**0.5)
    assert probability_of_luck(*one_error, noise) == pytest.approx(0.1587, abs=1e-4)
    assert probability_of_luck(*reversed(one_error), noise) == pytest.approx(0.8413, abs=1e-4)
    assert probability_of_luck(*one_error, SeedNoise.of([])) is None


# -- no lucky seed is ever confirmed -----------------------------------------------------------------


def test_a_planted_lucky_seed_is_confirmed_in_none_of_a_hundred_searches() -> None:
    """Thirty equal configurations, one of which has a first score five standard deviations too good."""
    confirmed = 0
    for search in range(100):
        rng = np.random.default_rng(search)
        first = 0.5 + 0.002 * rng.standard_normal(30)
        first[17] = 0.49
        seeds = np.zeros(30, dtype=int)
        seeds[np.argsort(first)[:3]] = 3, 2, 1
        candidates = [
            run(1 + i, float(first[i]), *(0.5 + 0.002 * rng.standard_normal(seeds[i])).tolist())
            for i in range(30)
        ]
        candidates.append(
            Candidate("run_0000", "gru", tuple((0.5 + 0.002 * rng.standard_normal(3)).tolist()))
        )
        losses = errors_of(tuple(candidates), SPREAD)
        found = conclude(candidates, SeedNoise.of(candidates), losses, {}, {}, BLOCK)
        assert found is not None
        confirmed += found.word == "confirmed"
    assert confirmed == 0


# -- in words ----------------------------------------------------------------------------------------


def test_a_confirmed_run_is_told_in_a_few_lines() -> None:
    assert sentences(concluded(QUIET, BEST, SECOND, **baseline(0.7)), "val_mse") == [
        "run_0001 is confirmed as the best of 3 runs: over 3 fresh seeds its mean val_mse is lower than that "
        "of every other run and baseline, by more than chance in seeds and validation rows explains (each "
        "comparison at 90 %).",
        "run_0002 is higher by 0.11 (margin of error at 90 %: 0.0052 from seeds, 0.00058 from the validation "
        "rows, 0.0052 together); baseline nlinear-336 is higher by 0.2 (margin of error at 90 %: 0.0033 from "
        "seeds, 0.00061 from the validation rows, 0.0033 together).",
        "val_mse 0.5 is its mean over 3 fresh seeds (90 % interval over seeds 0.4968 to 0.5032); its first "
        "score, 0.498, was too good by 0.002.",
        "The validation rows resolve no differences below about 0.00056 (90 %).",
    ]


def test_of_a_maximised_metric_scores_are_told_as_they_are() -> None:
    def loss(candidate: Candidate) -> Candidate:
        return replace(
            candidate,
            scores=tuple(-score for score in candidate.scores),
            fresh=tuple(-score for score in candidate.fresh),
        )

    better, worse = run(1, 0.812, 0.80, 0.801, 0.799), run(2, 0.70, 0.69, 0.69)
    told = " ".join(
        sentences(concluded(loss(QUIET_AND_BAD), loss(better), loss(worse)), "val_accuracy", "maximize")
    )
    assert "its mean val_accuracy is higher than that of every other run" in told
    assert "run_0002 is lower by 0.11" in told
    assert (
        "val_accuracy 0.8 is its mean over 3 fresh seeds (90 % interval over seeds 0.7948 to 0.8052)" in told
    )
    assert "its first score, 0.812, was too good by 0.012" in told


QUIET_AND_BAD = replace(QUIET, scores=(0.5, 0.502, 0.504))


def test_ties_and_lucky_runs_are_named() -> None:
    others = (QUIET, BEST, CLOSE, run(5, 0.4991, 0.503))
    told = sentences(concluded(*others, LUCKY, **baseline(0.4)), "val_mse")
    assert told[0].startswith("run_0001 leads 5 runs, but is not distinguishable from run_0003, ")
    assert told[0].endswith("nlinear-336.")
    assert "baseline nlinear-336 is lower by 0.1 (margin" in told[1]
    assert any(
        line.startswith("A lead with one seed could be luck") and "run_0003 (" in line for line in told
    )
    assert 3 <= len(told) <= 6


@pytest.mark.parametrize(
    ("scale", "shown"), [(1e-3, "0.00011"), (1e-9, "1.1e-10"), (1e6, "110000"), (1e12, "1.1e+11")]
)
def test_figures_have_no_exponent_where_they_can_be_read_without(scale: float, shown: str) -> None:
    told = sentences(concluded(run(0, 0.61 * scale), run(1, 0.50 * scale), errors={}), "val_mse")
    assert f"run_0000 is higher by {shown}." in told


def test_without_repeats_it_says_what_is_missing() -> None:
    told = sentences(concluded(run(0, 0.9), run(1, 0.5), errors={}), "val_mse")
    assert told == [
        "run_0001 leads 2 runs, untested: it has no score from a fresh seed after it was chosen.",
        "run_0000 is higher by 0.4.",
        "val_mse 0.5 is the score of one training.",
        "What the validation rows can resolve is not known: errors on single windows were not kept.",
    ]


# -- on disk -----------------------------------------------------------------------------------------


def written(conclusion: Conclusion) -> dict[str, Any]:
    return json.loads(json.dumps(to_record(conclusion), allow_nan=False))


@pytest.mark.parametrize("spread", [0.01, SPREAD])
def test_a_conclusion_comes_back_from_its_record(spread: float) -> None:
    found = concluded(QUIET, BEST, CLOSE, run(3, 0.4995), spread=spread, **baseline(0.6))
    found = found.with_hold_out(0.7, errors_of((BEST,))["run_0001"], BLOCK)
    record = written(found)
    assert from_record(record) == found
    assert record["optimism"] == pytest.approx(0.002)
    assert {"by_seeds", "by_rows", "told_apart"} <= record["comparisons"][0].keys()


STRANGE: Mapping[str, Any] = {
    "recommended": "\x1b[31m",
    "word": "certain",
    "first": "0.5",
    "ties": ["run_0002"],
}


@pytest.mark.parametrize("field", STRANGE)
def test_a_record_without_the_essentials_holds_no_conclusion(field: str) -> None:
    record = written(concluded(QUIET, BEST, SECOND))
    assert from_record(record | {field: STRANGE[field]}) is None
    assert from_record({name: value for name, value in record.items() if name != field}) is None


@pytest.mark.parametrize(
    "value", [None, 7, "x" * 10_000, [[]] * 10_000, {"a": {}}, -1, 10**400, True, [None, {"name": 3}]]
)
def test_anything_else_may_stand_in_a_record(value: Any) -> None:
    record = written(concluded(QUIET, BEST, CLOSE, **baseline(0.6)))
    for field in record:
        found = from_record(record | {field: value})
        if found is not None:
            assert sentences(found, "val_mse")
            assert from_record(written(found)) == found
            assert len(json.dumps(to_record(found))) < 100_000

"""Closed form of what known columns do to the targets: the regression, and trainings that start from it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_system.data import WindowLoader, WindowSet
from nas_system.model import MODELS, build_model
from nas_system.sequential.layers.known_effects import MOST_INPUTS, MOST_LAGS, MOST_MOMENTS, EffectRegression
from nas_system.space import FAMILIES, RunConfig, SeriesShape
from nas_system.training.build import build_engine
from nas_system.training.engine import Callback, Engine, EpochRecord
from nas_system.training.objectives import Forecasting

torch.set_num_threads(1)

SEQ_LEN, PRED_LEN = 28, 4
Array = NDArray[np.float64]
SMALL = {
    "d_model": 8, "n_heads": 2, "d_ff": 8, "e_layers": 1, "hidden_size": 8, "channels": 4, "num_layers": 3,
    "patch_len": 7, "stride": 7, "label_len": 7, "factor": 1, "dropout": 0.0,
}  # fmt: skip


def weekly(rows: int, seed: int = 0) -> Array:
    """A day's share of the week, and noise that lasts for some days; of variance about 1."""
    steps, random = np.arange(rows), np.random.default_rng(seed)
    noise = np.zeros(rows)
    for row in range(1, rows):
        noise[row] = 0.7 * noise[row - 1] + 0.35 * random.standard_normal()
    return np.array([-0.8, -0.6, -0.7, -0.5, 1.2, 1.6, -0.2])[steps % 7] + noise


def promotions(rows: int) -> Array:
    """On the busiest days, half of the time; scaled."""
    on = (np.arange(rows) % 7 == 5) & (np.random.default_rng(1).random(rows) < 0.5)
    return (on - on.mean()) / on.std()


def windows_of(targets: Array, known: Array, clock: Array | None = None) -> WindowSet:
    """All windows over targets (rows, targets) and known columns (rows, known)."""
    marks = known if clock is None else np.concatenate([clock, known], axis=1)
    table = torch.from_numpy(targets).float()
    columns = range(table.shape[1])
    starts = range(len(table) - SEQ_LEN - PRED_LEN + 1)
    return WindowSet(table, torch.from_numpy(marks).float(), starts, SEQ_LEN, PRED_LEN, columns, columns)


def estimated(targets: Array, known: Array, batch_size: int = 50) -> Tensor:
    windows = windows_of(targets, known)
    regression = EffectRegression(len(windows), SEQ_LEN, targets.shape[1], known.shape[1])
    for batch in WindowLoader(windows, batch_size):
        x, x_mark, y_mark = batch.args
        assert x_mark is not None and y_mark is not None
        regression.add(x, x_mark, y_mark[:, 0], batch.target[:, 0])
    return regression.solution()


# --- the regression ------------------------------------------------------------------------------


def test_a_promotion_that_falls_on_the_busy_day_is_not_credited_with_the_day() -> None:
    known = promotions(600)
    targets = weekly(600) + 0.3 * known
    alone = np.polyfit(known, targets, 1)[0]
    assert alone > 0.6, "a plain regression takes the day's share for the promotion's"
    assert float(estimated(targets[:, None], known[:, None])) == pytest.approx(0.3, abs=0.06)


def test_every_target_has_effects_of_its_own() -> None:
    known = np.stack([promotions(600), np.random.default_rng(2).standard_normal(600)], axis=1)
    true = np.array([[0.5, 0.0], [-0.2, 0.4], [0.0, 0.0]])
    targets = np.stack([weekly(600, seed) for seed in (10, 11, 12)], axis=1)
    found = estimated(targets + known @ true.T, known)
    np.testing.assert_allclose(found.numpy(), true, atol=0.06)
    np.testing.assert_allclose(
        estimated(targets + known @ true.T, known, 17).numpy(), found.numpy(), atol=1e-6
    )


@pytest.mark.parametrize("constant", [0.0, 3.0])
def test_a_column_that_never_changes_has_no_effect(constant: float) -> None:
    known = np.stack([np.full(300, constant), promotions(300)], axis=1)
    found = estimated((weekly(300) + 0.5 * known[:, 1])[:, None], known)
    assert found[0, 0] == 0.0
    assert float(found[0, 1]) == pytest.approx(0.5, abs=0.1)


def test_of_noise_little_is_taken_for_an_effect() -> None:
    noise = np.random.default_rng(5).standard_normal((300, 20))
    found = estimated(weekly(300)[:, None], noise)[0]
    assert (found == 0).sum() > 8, "about two thirds of what chance makes"
    assert found.abs().max() < 0.12


def test_columns_that_say_the_same_share_the_effect() -> None:
    known = promotions(300)
    found = estimated((weekly(300) + 0.5 * known)[:, None], np.stack([known, known, -known], axis=1))
    assert float(found[0, 0] + found[0, 1] - found[0, 2]) == pytest.approx(0.5, abs=0.1)
    assert found.abs().max() < 0.3


@pytest.mark.parametrize("windows", [1, 2, 10])
def test_few_windows_give_small_numbers(windows: int) -> None:
    rows = SEQ_LEN + PRED_LEN + windows - 1
    found = estimated(weekly(rows)[:, None], np.random.default_rng(2).standard_normal((rows, 2)))
    assert found.isfinite().all() and found.abs().max() < 2


def test_a_constant_series_has_no_effects() -> None:
    assert estimated(np.full((200, 1), 2.0), promotions(200)[:, None]).abs().max() < 1e-6


@pytest.mark.parametrize(("n_targets", "n_known"), [(1, 1), (1, 5), (1, 40), (7, 20), (1000, 3), (1, 700)])
def test_many_columns_shorten_what_is_read_of_the_past(n_targets: int, n_known: int) -> None:
    lags = EffectRegression(1000, 96, n_targets, n_known).lags
    assert 1 <= lags <= MOST_LAGS
    inputs = lags * (1 + n_known) + n_known + 1
    assert lags == 1 or (inputs <= MOST_INPUTS and n_targets * inputs**2 <= MOST_MOMENTS)
    assert EffectRegression(1000, 5, 1, 1).lags == 5


# --- trainings -----------------------------------------------------------------------------------


class Problem:
    """A series whose effects are known, for a family: two targets, two known columns, four time features."""

    effects = np.array([[0.6, 0.0], [-0.3, 0.4]])
    objective = Forecasting()

    def __init__(self, family: str, **model: Any) -> None:
        rows = 500
        fields = FAMILIES[family].model_fields
        small = {name: value for name, value in SMALL.items() if name in fields}
        self.config = RunConfig.model_validate(
            {
                "task": {"dataset": "x.csv", "targets": ["a", "b"], "pred_len": PRED_LEN},
                "model": {"family": family, **small, **model},
                "data": {"seq_len": SEQ_LEN, "batch_size": 64},
                "training": {"max_steps": 20, "lr": 1e-3},
            }
        )
        clock = None
        if self.config.model.time_marks != "none":
            clock = np.random.default_rng(3).integers(1, 7, (rows, 4)) / (
                1 if self.config.model.time_marks == "calendar" else 7
            )
        self.shape = SeriesShape(SEQ_LEN, PRED_LEN, 2, (0, 1), n_marks=0 if clock is None else 4, n_known=2)
        known = np.stack([promotions(rows), np.random.default_rng(2).standard_normal(rows)], axis=1)
        targets = np.stack([weekly(rows, seed) for seed in (10, 11)], axis=1) + known @ self.effects.T
        self.windows = windows_of(targets, known, clock)

    def build_model(self) -> nn.Module:
        return build_model(self.config, self.shape)

    def training_batches(self, generator: torch.Generator) -> WindowLoader:
        return WindowLoader(self.windows, 64, generator=generator)

    def batches(self, part: str, batch_size: int) -> Iterable[Any]:
        return WindowLoader(self.windows, batch_size)

    def count(self, part: str) -> int:
        return len(self.windows)


def engine_of(problem: Problem) -> Engine:
    return build_engine(problem.config, problem, torch.device("cpu"))  # type: ignore[arg-type]


class StopAfter(Callback):
    """Ends a training after this epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def epoch_ended(self, engine: Engine, record: EpochRecord) -> str | None:
        return "enough" if record.epoch == self.epoch else None


def train(engine: Engine, problem: Problem, *callbacks: Callback) -> list[float]:
    assert engine.generator is not None
    engine.fit_planned(problem.training_batches(engine.generator), problem.batches("val", 64), callbacks)
    return [record.val["mse"] for record in engine.history]


def linear_effects(engine: Engine) -> Tensor:
    return engine.model.effects.linear.weight.detach().clone()  # type: ignore[union-attr]


@pytest.mark.parametrize("family", MODELS)
def test_every_family_starts_from_the_effects(family: str) -> None:
    if package := FAMILIES[family].needs_package:
        pytest.importorskip(package)
    problem = Problem(family)
    engine = engine_of(problem)
    assert engine.solve is not None
    score = engine.solve()["mse"]
    np.testing.assert_allclose(linear_effects(engine).numpy(), problem.effects, atol=0.06)
    with torch.no_grad():
        engine.model.effects.linear.weight.zero_()  # type: ignore[union-attr]
    assert engine.evaluate(problem.batches("train", 64))["mse"] > 1.2 * score


@pytest.mark.parametrize(
    ("family", "model"),
    [
        ("ridge", {"strength": 1e-4}),
        ("linear", {"linear_start": "ridge"}),
        ("tsmixer", {"linear_start": "ridge"}),
    ],
)
def test_what_else_has_a_closed_form_is_that_of_the_series_without_the_effects(
    family: str, model: dict[str, Any]
) -> None:
    problem = Problem(family, **model)
    engine = engine_of(problem)
    assert engine.solve is not None
    engine.solve()
    found = linear_effects(engine)
    own = problem.shape.n_marks
    # The same series with the estimated effects taken off by hand, for a model that knows no column.
    bare = Problem(family, **model)
    bare.shape = SeriesShape(SEQ_LEN, PRED_LEN, 2, (0, 1), n_marks=own)
    bare.windows = Cleaned(problem.windows, found, own)  # type: ignore[assignment]
    other = engine_of(bare)
    assert other.solve is not None
    other.solve()
    state = engine.model.state_dict()
    solved = [name for name in state if name.startswith(("map.", "linear_path."))]
    assert solved
    for name in solved:
        value = other.model.state_dict()[name]
        torch.testing.assert_close(state[name], value, atol=1e-4, rtol=1e-3)


class Cleaned(WindowSet):
    """Windows without linear effects of their known columns, and without those."""

    def __init__(self, windows: WindowSet, effects: Tensor, clock: int) -> None:
        self.__dict__ |= windows.__dict__
        self.effects, self.clock = effects, clock

    def batch(self, indices: Tensor) -> Any:
        (x, x_mark, y_mark), target, weight = super().batch(indices)
        assert x_mark is not None and y_mark is not None
        past, future = (mark[..., self.clock :] @ self.effects.T for mark in (x_mark, y_mark))
        clocks = (x_mark[..., : self.clock], y_mark[..., : self.clock]) if self.clock else (None, None)
        return type(super().batch(indices))((x - past, *clocks), target - future, weight)


@pytest.mark.parametrize("family", ["linear", "lstm", "tide"])
def test_a_network_is_trained_after_its_effects_are_known(family: str) -> None:
    problem = Problem(family)
    engine = engine_of(problem)
    scores = train(engine, problem)
    assert engine.plan is not None
    assert len(engine.history) == engine.planned_epochs == 1 + engine.plan.epochs
    assert engine.history[0].lr == 0.0 and engine.steps == engine.plan.steps
    assert scores[-1] < scores[0]
    assert engine.model.effects.curve.weight.any(), "what is not linear is learned by the steps"  # type: ignore[union-attr]


def test_a_resumed_training_does_not_begin_with_the_effects_again() -> None:
    problem = Problem("linear")
    whole, first = engine_of(problem), engine_of(problem)
    train(whole, problem)
    train(first, problem, StopAfter(1))
    resumed = engine_of(problem)
    resumed.load_state_dict(first.state_dict())
    train(resumed, problem)
    assert torch.equal(linear_effects(resumed), linear_effects(whole))
    assert len(resumed.history) == len(whole.history)


def test_without_known_columns_there_is_nothing_to_solve() -> None:
    model = build_model(Problem("lstm").config, SeriesShape(SEQ_LEN, PRED_LEN, 2, (0, 1), n_marks=4))
    assert not model.in_closed_form
    assert not any("effects" in name for name in model.state_dict())

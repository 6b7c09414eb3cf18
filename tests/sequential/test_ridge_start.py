"""Closed forms inside the models: the regression itself, and networks that start from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nas_system.data.loading import OpenTask
from nas_system.data.series import Series
from nas_system.sequential.layers.normalization import InstanceNormalization
from nas_system.sequential.layers.ridge_regression import RidgeRegression
from nas_system.space import FAMILIES, ForecastingTask, RunConfig
from nas_system.tasks.forecasting_data import ForecastingProblem
from nas_system.training.build import build_engine

torch.set_num_threads(1)

STARTING = [
    name for name, family in FAMILIES.items() if "linear_start" in family.model_fields and name != "tft"
]


def random_problem(n: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 6, 2, generator=generator, dtype=torch.float64)
    x[:, -1] = 1.0
    y = torch.einsum("oi,nic->noc", torch.randn(3, 6, generator=generator, dtype=torch.float64), x)
    return x, y + 0.1 * torch.randn(n, 3, 2, generator=generator, dtype=torch.float64)


def regressed(x: torch.Tensor, y: torch.Tensor, strength: float | None, **options: bool) -> torch.Tensor:
    regression = RidgeRegression(len(x), **options)
    for part in range(0, len(x), 30):
        regression.add(x[part : part + 30], y[part : part + 30])
    return regression.solution(strength)


@pytest.mark.parametrize("strength", [1e-4, 1.0])
def test_the_solution_is_that_of_the_normal_equations(strength):
    x, y = random_problem()
    rows, wanted = x.permute(0, 2, 1).reshape(-1, 6).numpy(), y.permute(0, 2, 1).reshape(-1, 3).numpy()
    penalty = np.diag([strength * len(rows)] * 5 + [0.0])
    expected = np.linalg.solve(rows.T @ rows + penalty, rows.T @ wanted).T
    np.testing.assert_allclose(regressed(x, y, strength)[0].numpy(), expected, atol=1e-6)


def test_every_channel_may_have_weights_of_its_own():
    x, y = random_problem()
    both = regressed(x, y, 0.1, individual=True)
    for channel in (0, 1):
        alone = regressed(x[..., channel : channel + 1], y[..., channel : channel + 1], 0.1)
        np.testing.assert_allclose(both[channel].numpy(), alone[0].numpy(), atol=1e-9)


def test_the_penalty_is_chosen_by_the_last_windows():
    x, y = random_problem(400)
    noise = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    free, strong = (regressed(x, target, None)[0, :, :-1].abs().mean() for target in (y, noise))
    assert strong < 0.05 < free, "of noise nothing is learned, of a map all of it"


def test_standard_errors_are_nearly_those_of_least_squares_where_the_penalty_is_small():
    x, y = random_problem(400)
    y = y[:, :1] + torch.randn(400, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    regression = RidgeRegression(len(x), individual=True)
    regression.add(x, y)
    weights, errors = regression.solution_with_errors()
    torch.testing.assert_close(weights, regression.solution()[:, 0])
    for channel in (0, 1):
        rows, wanted = x[..., channel].numpy(), y[:, 0, channel].numpy()
        fitted, squares, *_ = np.linalg.lstsq(rows, wanted, rcond=None)
        covariance = squares[0] / (400 - 6) * np.linalg.inv(rows.T @ rows)
        np.testing.assert_allclose(weights[channel].numpy(), fitted, atol=0.1)
        np.testing.assert_allclose(errors[channel].numpy(), np.sqrt(np.diag(covariance)), rtol=0.1)


def problem_of(family: str, **model: object) -> ForecastingProblem:
    noise = np.random.default_rng(0).standard_normal(240)
    values = (4 * np.sin(2 * np.pi * np.arange(240) / 12) + noise)[:, None]
    dates = np.datetime64("2019-01-01T00:00:00") + np.arange(240) * np.timedelta64(1, "h")
    task = ForecastingTask(dataset="x.csv", targets=("y",), pred_len=4)
    small = {name: 4 for name in ("segment_len", "pool") if name in FAMILIES[family].model_fields}
    if "patch_len" in FAMILIES[family].model_fields:
        small |= {"patch_len": 4, "stride": 4}
    if "label_len" in FAMILIES[family].model_fields:
        small |= {"label_len": 4}
    config = RunConfig.model_validate(
        {
            "task": task.model_dump(),
            "model": {"family": family, "linear_start": "ridge", **small, **model},
            "data": {"features": "S", "seq_len": 24, "batch_size": 32},
            "training": {"max_steps": 4, "lr": 1e-3},
        }
    )
    data = OpenTask.of_series(task, Series(values, ("y",), dates, "h"))
    return ForecastingProblem(config, data.source, data.series, torch.device("cpu"))  # type: ignore[arg-type]


def trained(problem: ForecastingProblem) -> list[float]:
    engine = build_engine(problem.config, problem, problem.device)
    assert engine.generator is not None
    engine.fit_planned(problem.training_batches(engine.generator), problem.batches("val", 64))
    assert engine.history[0].lr == 0.0, "no optimizer step in the first epoch"
    assert len(engine.history) == engine.planned_epochs == 1 + engine.plan.epochs  # type: ignore[union-attr]
    assert engine.steps == engine.plan.steps  # type: ignore[union-attr]
    return [record.val["mse"] for record in engine.history]


@pytest.mark.parametrize("family", STARTING)
def test_a_network_starts_at_the_ridge_regression_and_ends_no_worse(family):
    scores = trained(problem_of(family))
    linear = trained(problem_of("linear"))
    assert scores[0] == pytest.approx(linear[0], rel=1e-4), "whatever the network is, it adds nothing yet"
    assert min(scores) <= scores[0]
    assert len(set(scores)) > 1, "and then it learns"


@pytest.mark.parametrize("normalization", ["none", "last", "mean", "revin", "seasonal"])
@pytest.mark.parametrize("decomposition", [False, True])
def test_the_start_is_the_same_map_with_a_trend_of_its_own(normalization, decomposition):
    season = {"season": 12} if normalization == "seasonal" else {}
    chosen = {"normalization": normalization, **season}
    plain = trained(problem_of("linear", **chosen))[0]
    assert trained(problem_of("tsmixer", **chosen, decomposition=decomposition))[0] == pytest.approx(
        plain, rel=1e-3
    )


def test_seasonal_normalisation_alone_repeats_the_last_season():
    layer = InstanceNormalization("seasonal", 2, season=3)
    x = torch.randn(5, 8, 2)
    normal, statistics = layer.normalise(x)
    torch.testing.assert_close(normal[:, 3:], x[:, 3:] - x[:, :-3])
    assert not normal[:, :3].any()
    repeated = layer.restore(torch.zeros(5, 7, 1), statistics, torch.tensor([1]))
    torch.testing.assert_close(repeated[..., 0], x[:, [5, 6, 7, 5, 6, 7, 5], 1])


@pytest.mark.parametrize("size", [7, 128, 1000])
def test_the_size_of_a_batch_changes_nothing(size):
    x, y = random_problem(329)
    regression = RidgeRegression(len(x))
    for part in range(0, len(x), size):
        regression.add(x[part : part + size], y[part : part + size])
    np.testing.assert_allclose(regression.solution().numpy(), regressed(x, y, None).numpy(), atol=1e-9)


@pytest.mark.filterwarnings("error")
def test_ridge_regression_takes_no_optimizer_step_whatever_the_budget(tmp_path):
    from nas_system.config_io.config_file import write_config
    from nas_system.files import read_object
    from nas_system.processes.run_files import RunPaths
    from nas_system.training_job import JobOptions, run_training
    from tests.builders import write_hourly

    series = write_hourly(tmp_path / "own.csv", 200, load=lambda hour: hour % 24)
    config = RunConfig.model_validate(
        {
            "task": {"dataset": str(series), "targets": ["load"], "pred_len": 4},
            "model": {"family": "ridge", "normalization": "revin"},
            "data": {"features": "S", "seq_len": 24},
        }
    )
    paths = RunPaths(tmp_path / "run")
    paths.folder.mkdir()
    write_config(paths.config, config)
    options = JobOptions(
        tag="run", device="cpu", threads=1, time_limit_s=60.0, max_steps=500, resume=True, facts=None,
        data_dir=None, stop=lambda: None, pictures="none",
    )  # fmt: skip
    run_training(config, paths, options)
    metrics = read_object(paths.metrics)
    assert (metrics["epochs"], metrics["steps"], metrics["planned_steps"]) == (1, 0, 0)

"""Rolling origins: does the mean over several validation periods choose better, at equal compute?

    python benchmarks/rolling_origins.py --out origins.json [--half choose] [--jobs 2] [--steps 60]

On every series of `short_series_data.py` a pool of configurations (the families' defaults and variations of
them) is trained once at each of its last origins; each training's validation error and, of the last origin's
model, the test error are recorded. Searches are then simulated from that table: a search with one validation
period takes the lowest validation error of n configurations; one with K origins, at the same number of
trainings, the lowest mean over its origins of n/K of them. Reported is the ratio of the geometric means of
the test errors chosen, per series, over many draws: below 1 the origins choose better. Nothing is trained
twice: the same command continues. Settings may be chosen by `choose`; `report` is only ever reported.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a bare checkout, too

from short_series_data import SERIES, TARGET

from nas_system.data.splits import SHARES
from nas_system.errors import ConfigError, Diverged
from nas_system.files import read_object, write_json
from nas_system.space import ForecastingTask, RunConfig
from nas_system.space.sampling import draw_value, fitting_default, sampled_parameters
from nas_system.space.series_defaults import SeriesFit

FAMILIES = {"ridge": 8, "linear": 3, "tide": 1, "lstm": 1, "gru": 1, "nhits": 0, "tsmixer": 0, "informer": 0}
"""How many variations of each family's default there are; the fewer, the longer a step takes."""
CHANGED = 3
"""Parameters drawn again in a variation."""
DRAWS = 2_000
VAL_SHARE = SHARES[1]
TRAININGS = (12, 18)
"""In a simulated search."""


@dataclass(frozen=True)
class Trained:
    """A configuration: its validation errors, the earliest origin first, and the last model's test error."""

    val: tuple[float, ...]
    test: float

    def score(self, origins: int) -> float:
        return statistics.fmean(self.val[-origins:])


# --- training --------------------------------------------------------------------------------


def train_pool(name: str, origins: int, steps: int, blocks: int | None) -> dict[str, Any]:
    """Train the pool of the series of this name at its last origins; return a row per configuration.

    With `blocks` the horizon is at least so long that the validation part holds no more than as many of it.
    """
    import torch

    from nas_system.data.source import locate
    from nas_system.tasks.forecasting import describe_source

    torch.set_num_threads(1)
    series = next(series for series in SERIES if series.name == name)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{series.name}.csv"
        rows = series.write_csv(file)
        missing = "ffill" if "ffill" in series.flags else "refuse"
        long = 0 if blocks is None else math.ceil(int(VAL_SHARE * rows) / blocks)
        pred_len = max(series.pred_len, long)
        task = ForecastingTask(dataset=str(file), targets=(TARGET,), pred_len=pred_len, missing=missing)
        info = describe_source(task, locate(task))
        began = time.monotonic()
        found: list[dict[str, Any]] = []
        with_origins = task.model_copy(update={"origins": origins})
        for label, config in pool_of(with_origins, info):
            try:
                found.append({"name": label, **trained_at_every_origin(config, info.source, steps)})
            except (ConfigError, Diverged) as error:
                print(f"{name}, {label}: {error}", file=sys.stderr)
        val = info.sizes["val"]
    seconds = round(time.monotonic() - began, 1)
    baselines = [row.to_json() for row in info.baselines]
    return {
        "rows": rows,
        "horizons": round((val + pred_len - 1) / pred_len, 1),
        "seconds": seconds,
        "baselines": baselines,
        "pool": found,
    }


def pool_of(task: ForecastingTask, info: Any) -> list[tuple[str, RunConfig]]:
    """Return the configurations by name: every family's default and variations of it."""
    from nas_system.data.loading import open_task

    fit, longest = SeriesFit.of(info.measured), open_task(task, info.source).origins()[0].split.train_end
    longest = longest - task.pred_len - 1
    generator, pool = random.Random(0), []
    for family, variations in FAMILIES.items():
        default = fitting_default(family, task, 42, longest, fit)
        if default is None:
            continue
        pool.append((family, default))
        for number in range(variations):
            variation = _varied(default, longest, generator)
            if variation is not None:
                pool.append((f"{family}-{number + 1}", variation))
    return pool


def _varied(config: RunConfig, longest: int, generator: random.Random) -> RunConfig | None:
    """Return the configuration with a few parameters drawn again; None if no draw is valid."""
    known = sampled_parameters(config.model.family, max(longest // 2, 4))
    for _ in range(30):
        plain = config.model_dump()
        for parameter in generator.sample(known, min(CHANGED, len(known))):
            group, name = parameter.path.split(".")
            plain[group][name] = draw_value(parameter, generator)
        if plain["training"].get("compile") or plain["training"].get("precision") == "fp16":
            continue
        try:
            return RunConfig.model_validate(plain)
        except ValueError:
            continue
    return None


def trained_at_every_origin(config: RunConfig, source: Any, steps: int) -> dict[str, Any]:
    """Return the validation error at every origin, and the last one's test error."""
    import torch

    from nas_system.data.loading import load_series
    from nas_system.tasks.forecasting_data import ForecastingProblem

    problem = ForecastingProblem(config, source, load_series(source, config.forecasting), torch.device("cpu"))
    val, seconds, test = [], [], math.nan
    for origin in (*problem.earlier_origins(), problem):
        began = time.process_time()
        engine, best = trained(config, origin, steps)
        val.append(best)
        seconds.append(round(time.process_time() - began, 3))
        if origin is problem:
            test = engine.evaluate(origin.batches("test", 512))["mse"]
    return {"val": val, "test": test, "seconds": seconds}


def trained(config: RunConfig, problem: Any, steps: int) -> tuple[Any, float]:
    """Train at most `steps` steps; return the engine with its best weights, and their validation error."""
    from nas_system.training.build import build_engine, follow_plan
    from nas_system.training.callbacks import BestWeights
    from nas_system.training.preflight.plan import plan_training
    from nas_system.training.scheduler import optimizer_steps

    engine = build_engine(config, problem, problem.device)
    assert engine.generator is not None
    passes = problem.training_batches(engine.generator)
    if config.model.gradient_descent:
        per_pass = optimizer_steps(len(passes), config.training.accumulation_steps)
        follow_plan(engine, config.training, plan_training(config.training, per_pass, steps))
    engine.fit_planned(passes, problem.batches("val", 512), [BestWeights()])
    return engine, min(record.val["mse"] for record in engine.history)


# --- simulated searches ----------------------------------------------------------------------


def chosen_test_errors(
    pool: Sequence[Trained], origins: int, count: int, generator: random.Random
) -> list[float]:
    """Return the test error chosen in each of many searches of `count` configurations."""
    scores = [trained.score(origins) for trained in pool]
    errors = []
    for _ in range(DRAWS):
        drawn = generator.sample(range(len(pool)), min(count, len(pool)))
        errors.append(pool[min(drawn, key=scores.__getitem__)].test)
    return errors


def ratio(pool: Sequence[Trained], origins: int, trainings: int, *, equal_compute: bool = True) -> float:
    """Return the test error chosen with `origins` over that chosen with one validation period, as a ratio of
    geometric means over searches of `trainings` trainings each; or of as many configurations each."""
    count = max(trainings // origins, 1) if equal_compute else trainings
    one = chosen_test_errors(pool, 1, trainings, random.Random(1))
    several = chosen_test_errors(pool, origins, count, random.Random(2))
    return math.exp(statistics.fmean(map(math.log, several)) - statistics.fmean(map(math.log, one)))


def mean_ratio(ratios: Sequence[float]) -> tuple[float, float, float]:
    """Return the geometric mean, and its 90 % interval by drawing series again."""
    logs, generator = [math.log(value) for value in ratios], random.Random(0)
    means = sorted(statistics.fmean(generator.choices(logs, k=len(logs))) for _ in range(DRAWS))
    low, high = means[int(0.05 * DRAWS)], means[int(0.95 * DRAWS)]
    return math.exp(statistics.fmean(logs)), math.exp(low), math.exp(high)


def report(table: Mapping[str, Any], names: Sequence[str], trainings: Sequence[int], most: int) -> None:
    """Print the ratios of a half of the series, and how many of them are below 1."""
    arms = [(n, k, equal) for n in trainings for k in range(2, most + 1) for equal in (True, False)]
    heads = [f"{n}/{k if equal else 1}x{k}" for n, k, equal in arms]
    print(f"{'series':<20}{'rows':>6}{'hor.':>6}" + "".join(f"{head:>9}" for head in heads))
    columns: list[list[float]] = [[] for _ in arms]
    for name in names:
        pool = [Trained(tuple(row["val"]), row["test"]) for row in table[name]["pool"]]
        values = [ratio(pool, k, n, equal_compute=equal) for n, k, equal in arms]
        for column, value in zip(columns, values, strict=True):
            column.append(value)
        shown = "".join(f"{value:>9.3f}" for value in values)
        print(f"{name:<20}{table[name]['rows']:>6}{table[name]['horizons']:>6}{shown}")
    for head, column in zip(heads, columns, strict=True):
        mean, low, high = mean_ratio(column)
        lower = sum(value < 0.9995 for value in column)
        higher = sum(value > 1.0005 for value in column)
        print(f"{head}: {mean:.3f} ({low:.3f} to {high:.3f}); lower in {lower}, higher in {higher} series")


def main() -> int:
    options = _parser().parse_args()
    chosen = [series for series in SERIES if options.half in ("both", series.half)]
    stored = read_object(options.out) if options.out.exists() else {}
    missing = [series for series in chosen if series.name not in stored]
    with ProcessPoolExecutor(options.jobs) as executor:
        pools = {
            executor.submit(train_pool, s.name, options.origins, options.steps, options.blocks): s.name
            for s in missing
        }
        for pool in as_completed(pools):
            name = pools[pool]
            stored[name] = pool.result()
            write_json(options.out, stored)
            print(f"{name}: {len(stored[name]['pool'])} in {stored[name]['seconds']} s", file=sys.stderr)
    print("`12/2x2`: 12 trainings, so 6 configurations at 2 origins, against 12 at one; `12/1x2`: 12 at 2")
    for half in ("choose", "report"):
        names = [series.name for series in chosen if series.half == half]
        if names:
            print(f"\n{half}")
            report(stored, names, TRAININGS, options.origins)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="where the table goes; continued if there")
    parser.add_argument("--half", choices=("choose", "report", "both"), default="both")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--origins", type=int, default=3, help="origins that are trained (default: 3)")
    parser.add_argument("--blocks", type=int, help="lengthen horizons: at most so many in a validation part")
    parser.add_argument("--steps", type=int, default=60, help="steps of a training at most (default: 60)")
    return parser


if __name__ == "__main__":
    sys.exit(main())

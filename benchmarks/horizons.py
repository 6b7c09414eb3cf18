"""What the linear family reaches on ETTh1 at every horizon, and the published results.

    NAS_DATA_DIR=<folder of ETTh1.csv> python benchmarks/horizons.py --task S [--horizons 96,192]

Settings (last value or mean removed, learning rate .01 or .002, every look-back asked for; the
published results use 336), each trained from several seeds; the mean validation error chooses one, and
only its test error is shown, with the deviation over the seeds. S forecasts the oil temperature from
itself, M all seven columns from themselves with one shared map. Everything is trained by the engine
that trains a search's runs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a bare checkout, too

from nas_system.data.baselines import score_baselines
from nas_system.data.loading import OpenTask, open_task
from nas_system.errors import NasError
from nas_system.space import ForecastingTask, RunConfig, TaskConfig, family_default
from nas_system.tasks.forecasting_data import ForecastingProblem
from nas_system.training.build import build_engine
from nas_system.training.callbacks import BestWeights

COLUMNS = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
PUBLISHED = {
    # NLinear, Zeng et al. 2023 (arXiv:2205.13504), univariate ETTh1, test MSE.
    "S": {96: 0.053, 192: 0.069, 336: 0.081, 720: 0.080},
    # One shared linear map in closed form, window mean removed, look-back 336, test MSE.
    "M": {96: 0.370, 192: 0.403, 336: 0.428, 720: 0.434},
}


def train(config: RunConfig, data: OpenTask) -> tuple[float, float]:
    """Validation and test error of one training; the test part is read once, with the best weights."""
    problem = ForecastingProblem(config, data.source, data.series, torch.device("cpu"))
    engine = build_engine(config, problem, problem.device)
    assert engine.generator is not None
    training, val = problem.training_batches(engine.generator), problem.batches("val", 512)
    engine.fit_planned(training, val, [BestWeights()])
    val_mse = min(record.val["mse"] for record in engine.history)
    return val_mse, engine.evaluate(problem.batches("test", 512))["mse"]


def config_of(task: TaskConfig, setting: tuple[str, int, float], seed: int) -> RunConfig:
    normalization, seq_len, lr = setting
    plain = family_default("linear").model_dump() | {"task": task.model_dump(), "seed": seed}
    plain["model"]["normalization"] = normalization
    plain["data"]["seq_len"] = seq_len
    plain["training"]["lr"] = lr
    return RunConfig.model_validate(plain)


def main() -> int:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--task", choices=("S", "M"), required=True, help="S: OT alone; M: all columns")
    parser.add_argument("--look-backs", default="336", help="with commas (default 336)")
    parser.add_argument("--horizons", default="24,96,192,336,720", help="with commas")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 .. N-1 (default 3)")
    parser.add_argument("--data-dir", type=Path, help="folder with ETTh1.csv (default: NAS_DATA_DIR)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    look_backs = map(int, options.look_backs.split(","))
    settings = tuple(itertools.product(("last", "mean"), look_backs, (0.01, 0.002)))
    result = []
    header = f"{'H':>4}  {'chosen by validation':<24}{'val':>8}{'test':>9}{'± seeds':>9}"
    print(header + f"{'reference':>11}{'ratio':>7}{'last value':>12}{'ridge':>8}")
    for horizon in map(int, options.horizons.split(",")):
        targets = ("OT",) if options.task == "S" else COLUMNS
        task = ForecastingTask(targets=targets, pred_len=horizon)
        try:
            data = open_task(task, data_dir=options.data_dir)
        except NasError as error:
            print(error, file=sys.stderr)
            return error.exit_code
        if data.source.kind == "synthetic":
            print("this needs ETTh1.csv itself: name its folder by --data-dir", file=sys.stderr)
            return 2
        scores = {
            setting: [train(config_of(task, setting, seed), data) for seed in range(options.seeds)]
            for setting in settings
        }
        chosen = min(scores, key=lambda setting: statistics.mean(val for val, _ in scores[setting]))
        val = statistics.mean(val for val, _ in scores[chosen])
        tests = [test for _, test in scores[chosen]]
        test = statistics.mean(tests)
        spread = statistics.stdev(tests) if len(tests) > 1 else float("nan")
        rows = {row.name: row.scores for row in score_baselines(data)}
        ridge = next(scores["test_mse"] for name, scores in rows.items() if name.startswith("nlinear"))
        published = PUBLISHED[options.task].get(horizon)
        name = f"{chosen[0]}, L {chosen[1]}, lr {chosen[2]:g}"
        comparison = f"{published:>11.3f}{test / published:>7.3f}" if published else f"{'-':>11}{'-':>7}"
        print(
            f"{horizon:>4}  {name:<24}{val:>8.4f}{test:>9.4f}{spread:>9.4f}{comparison}"
            f"{rows['last-value']['test']:>12.4f}{ridge:>8.4f}",
            flush=True,
        )
        result.append({"horizon": horizon, "setting": name, "val": val, "test": test, "sd": spread})
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Score a finished run with its best weights: `python -m nas_system.score --run runs/run_0003`.

By default on the hold-out rows, at which no training, no selection and no early stopping has ever looked. A
search does this once, for its best run; the baselines are scored on them as well. Prints one JSON object and
writes it to `sealed.json` in the run's folder, and the score of every single window to `hold_out_errors.npy`.

With `--part val` it computes again what a training claims in its metrics.json, for one run or several, and
writes nothing. A search does this before a run may become its best one. With `--windows` it replaces the
training's `val_errors.npy` by what it computed, so that nothing rests on the training's own word.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from nas_system.command_line import Parser, add_data_dir, add_device, exit_code_of, positive, positive_int
from nas_system.errors import ConfigError, NasError, StateError, first_line, memory_that_ran_out

if TYPE_CHECKING:
    import torch

    from nas_system.space import RunConfig
    from nas_system.space.task_info import TaskInfo
    from nas_system.tasks.kind import Scoring
    from nas_system.training.acceleration.precision import Precision
    from nas_system.training.loops import Evaluation
    from nas_system.training.running_mean import Meter


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m nas_system.score") -> int:
    """Print the score and return 0; or 2 for what cannot be scored."""
    given = build_parser(prog).parse_args(argv)
    return exit_code_of(lambda: print(json.dumps(_score(given))))


def preload() -> None:
    """Import what scoring imports by and by; a fork server does so in advance. Computes nothing."""
    for module in (
        *("nas_system.config_io.config_file", "nas_system.nas_agent.logging_utils", "nas_system.tasks"),
        *("nas_system.training.checkpoint", "nas_system.training.loops"),
        *("nas_system.training.acceleration.precision", "nas_system.training.reproducibility"),
    ):
        importlib.import_module(module)


def _score(given: argparse.Namespace) -> dict[str, Any]:
    try:
        if given.part == "val":
            return score_again(given)
        if len(given.run) > 1:
            raise ConfigError("the hold-out set is for one run; give --run once, or --part val")
        if given.windows:
            raise ConfigError("--windows is for --part val; on the hold-out set they are always written")
        return score_hold_out(given.run[0], given.facts, given.data_dir, given.device, given.threads)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise ConfigError(f"{where}{error.strerror or error}; nothing could be scored here") from None


def score_hold_out(
    run_dir: Path,
    facts: Path | None = None,
    data_dir: Path | None = None,
    device_name: str = "auto",
    threads: int = 1,
) -> dict[str, Any]:
    """Return the metrics of the run's best weights on the hold-out set, next to those of the baselines."""
    from nas_system.config_io.config_file import read_config
    from nas_system.files import write_json
    from nas_system.nas_agent.logging_utils import load_metrics
    from nas_system.nas_agent.window_errors import write_errors
    from nas_system.processes.run_files import RunPaths
    from nas_system.tasks import kind_of
    from nas_system.training.acceleration.precision import Precision
    from nas_system.training.reproducibility import resolve_device, set_threads

    set_threads(threads)
    paths = RunPaths(run_dir)
    config = read_config(paths.config, follow_link=False)
    device = resolve_device(device_name)
    scoring = kind_of(config.task).scoring(config, _read_info(facts), data_dir, device, "hold_out")
    expected = load_metrics(run_dir).get("checkpoint_sha256")
    meter, precision = scoring.accuracy_meter(), Precision("fp32", device)
    metrics, errors = _evaluate(paths.best_model, scoring, precision, sha256=expected, meter=meter)
    accuracy = None if meter is None else meter.accuracy()
    if errors is not None:
        write_errors(paths.hold_out_errors, errors.float().cpu().numpy())
    score = {
        "run": run_dir.name,
        **{f"hold_out_{name}": value for name, value in metrics.items()},
        **({} if accuracy is None else {"accuracy": {"hold_out": accuracy.to_json()}}),
        scoring.samples: scoring.count,
        "baselines": [baseline.to_json() for baseline in scoring.baselines()],
    }
    write_json(paths.hold_out, score)
    return score


def score_again(given: argparse.Namespace) -> dict[str, Any]:
    """Return what the best weights of every run give on the validation part: `{"part", "runs"}`.

    Each of `runs` has the metrics and the number of samples, or a `problem` for which the run's own files are
    to blame. Raises ConfigError for what is no run's fault: the data, the device, the task info.
    """
    from nas_system.tasks import kind_of
    from nas_system.training.reproducibility import resolve_device, set_threads

    set_threads(given.threads)
    device, info = resolve_device(given.device), _read_info(given.facts)
    if given.memory_limit is not None and device.type == "cpu":
        _bound_memory(given.memory_limit)
    opened: dict[str, Scoring] = {}

    def scoring_of(config: RunConfig) -> Scoring:
        """Open the data once for runs that differ by their seeds."""
        key = config.model_copy(update={"seed": 0}).model_dump_json()
        if key not in opened:
            opened[key] = kind_of(config.task).scoring(config, info, given.data_dir, device, "val")
        return opened[key]

    return {
        "part": "val",
        "runs": [{"run": str(run), **_again(run, scoring_of, device, given.windows)} for run in given.run],
    }


def _again(
    run_dir: Path, scoring_of: Callable[[RunConfig], Scoring], device: torch.device, windows: bool
) -> dict[str, Any]:
    import numpy as np

    from nas_system.config_io.config_file import read_config
    from nas_system.nas_agent.logging_utils import load_metrics
    from nas_system.nas_agent.window_errors import write_errors
    from nas_system.processes.run_files import RunPaths
    from nas_system.training.acceleration.precision import Precision

    paths = RunPaths(run_dir)
    try:
        config = read_config(paths.config, follow_link=False)
        expected = load_metrics(run_dir).get("checkpoint_sha256")
    except (ConfigError, StateError) as error:
        return {"problem": str(error)}
    scoring = scoring_of(config)
    name = config.training.precision
    precision = Precision("fp32" if name == "fp16" and device.type != "cuda" else name, device)
    try:
        # A wrong checksum would keep the run from being scored on the hold-out set later.
        found = [_evaluate(paths.best_model, scoring, precision, sha256=expected)]
        for number, origin in enumerate(scoring.earlier, 1):
            found.insert(-1, _evaluate(paths.origin(number), origin, precision))
    except NasError as error:
        return {"problem": str(error).replace(f"{run_dir}/", "")}
    errors = [each.errors.float().cpu().numpy() for each in found if each.errors is not None]
    if windows and len(errors) == len(found):
        write_errors(paths.val_errors, np.concatenate(errors))
    means = {f"val_{name}": fmean(each.metrics[name] for each in found) for name in found[0].metrics}
    return {"samples": scoring.count * len(found), **means}


def _evaluate(
    weights: Path,
    scoring: Scoring,
    precision: Precision,
    *,
    sha256: str | None = None,
    meter: Meter | None = None,
) -> Evaluation:
    """Evaluate the weights in a file. Raises StateError for weights that give no metrics."""
    from nas_system.training.checkpoint import load_checkpoint, restore_model
    from nas_system.training.loops import evaluate_samples

    checkpoint = load_checkpoint(weights, sha256=sha256, follow_link=False)
    try:
        model = restore_model(scoring.build_model, checkpoint, weights).to(precision.device)
        found = evaluate_samples(
            model, scoring.batches, scoring.objective, precision.device, precision=precision, meter=meter
        )
    except (RuntimeError, MemoryError) as error:
        why = "there is not enough memory" if memory_that_ran_out(error) else "the model fails"
        raise StateError(f"{weights} cannot be evaluated, {why} ({first_line(error):.200})") from None
    for name, value in found.metrics.items():
        if not math.isfinite(value):
            raise StateError(f"{weights}: its weights give a {name} of {value}, no finite number")
    return found


def _read_info(path: Path | None) -> TaskInfo | None:
    """Return the task info of a search. Raises ConfigError for any other file."""
    from nas_system.files import read_object
    from nas_system.space.task_info import TaskInfo

    if path is None:
        return None
    try:
        return TaskInfo.from_json(read_object(path, follow_link=True))
    except ValueError as error:
        raise ConfigError(f"{path}: not the task info of a search ({error})") from None


def _bound_memory(mib: float) -> None:
    """Let this process allocate `mib` MiB more than it has; beyond that it gets a MemoryError."""
    statm = Path("/proc/self/statm")
    if not statm.exists():  # what is held, and so the limit, is known on Linux only
        return
    held = int(statm.read_text().split()[5]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = held + int(mib * 2**20)
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def build_parser(prog: str) -> Parser:
    """Return the parser of `nas score`."""
    parser = Parser(prog=prog, description="Score a finished run with its best weights.")
    parser.add_argument(
        "--run",
        type=Path,
        required=True,
        action="append",
        help="the run's folder, for example runs/run_0003; several with --part val",
    )
    parser.add_argument(
        "--part",
        choices=("hold-out", "val"),
        default="hold-out",
        help="hold-out (default), or val: compute the validation score again, write nothing",
    )
    parser.add_argument(
        "--windows",
        action="store_true",
        help="with --part val: write val_errors.npy, the score of every window",
    )
    parser.add_argument("--facts", type=Path, help="task_facts.json of the search: use exactly its data")
    add_data_dir(parser)
    add_device(parser)
    parser.add_argument("--threads", type=positive_int, default=1, help="CPU threads (default: 1)")
    parser.add_argument(
        "--memory-limit", type=positive, metavar="MIB", help="with --part val on the CPU: use no more"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

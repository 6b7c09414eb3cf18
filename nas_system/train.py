"""Train one configuration: `python -m nas_system.train --config config.py --tag run_0000`.

Writes everything a run directory holds: weights, history, metrics, pictures.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

if not __package__:
    # `cd nas_system && python train.py`: this folder's own names (data, files, ...) must not
    # be found as top-level modules; the package must.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from nas_system.command_line import Parser, add_data_dir, add_device, positive_int, share, threads
from nas_system.errors import (
    ConfigError,
    NasError,
    OutOfMemory,
    PreflightFailed,
    RunError,
    StoppedOnRequest,
    first_line,
    memory_that_ran_out,
)
from nas_system.files import is_disk_full, write_json
from nas_system.processes.run_files import RunPaths

KINDS = {2: "config", 3: "diverged", 5: "stopped"}
"""The kind of an error of ours in error.json, by its exit code."""

REFIT_PARTS = ("val", "test", "hold_out")
"""Through which a refit may learn."""

DEFAULT_THREADS = 1
"""Small steps gain nothing from a second thread, and lose much where cores are shared."""


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m nas_system.train") -> int:
    """Train and return 0, or 2 bad configuration, 3 diverged, 4 out of memory, 5 stopped on request, 1 a bug.

    A configuration that fails its pre-flight is a bad one; error.json says which kind.
    """
    arguments = build_parser(prog).parse_args(argv)
    run_dir: Path | None = None
    try:
        from nas_system.nas_agent.run_manager import get_run_dir

        run_dir = get_run_dir(arguments.tag, arguments.runs_dir)
        _train(arguments, run_dir)
    except Exception as error:
        # The program's border.
        return record_failure(arguments.output_dir or run_dir, error)
    return 0


def preload() -> None:
    """Import what a training imports by and by; a fork server does so in advance. Computes nothing."""
    for module in (
        *("nas_system.training_job", "nas_system.tasks.forecasting_data", "nas_system.visualization"),
        *("nas_system.config_io.config_file", "nas_system.nas_agent.run_manager"),
        *("numpy.ma", "numpy.random", "torch.utils.serialization.config", "encodings.utf_8_sig"),
    ):
        importlib.import_module(module)
    from nas_system.space import RunConfig
    from nas_system.space.tasks import task_adapter

    # Both build their validators when they are first used.
    RunConfig.model_rebuild(force=True)
    task_adapter.rebuild(force=True)


def record_failure(run_dir: Path | None, error: Exception) -> int:
    """Report what ended the training, in the log and in error.json; return the exit code for it.

    What is not ours is classified here, and only here.
    """
    if isinstance(error, PreflightFailed):
        if error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        kind = error.kind
    elif isinstance(error, NasError):
        kind = KINDS.get(error.exit_code, "crash")
    else:
        traceback.print_exception(error)
        error, kind = _classified(error)
    exit_code = error.exit_code if isinstance(error, NasError) else 1
    print(f"error: {error}", file=sys.stderr, flush=True)
    if run_dir is not None and run_dir.is_dir():
        numbers = error.numbers if isinstance(error, RunError) else {}
        record = {**numbers, "kind": kind, "message": str(error)[:2000], "exit_code": exit_code}
        if isinstance(error, OSError):
            record["errno"] = error.errno
        # On a full disk the record cannot be written either; the exit code still says what it can.
        with contextlib.suppress(OSError):
            write_json(RunPaths(run_dir).error, record)
    return exit_code


def _train(arguments: argparse.Namespace, run_dir: Path) -> None:
    if (arguments.through is None) != (arguments.epochs is None):
        raise ConfigError("--through and --epochs belong together: a refit has no rows left to stop by")
    from nas_system.config_io.config_file import read_config, write_config
    from nas_system.nas_agent.run_manager import snapshot_config

    run, paths = RunPaths(run_dir), RunPaths(arguments.output_dir or run_dir)
    _refuse_finished(paths.metrics, arguments)
    if arguments.output_dir is not None:
        paths.folder.mkdir(parents=True, exist_ok=True)
    paths.error.unlink(missing_ok=True)
    config = read_config(arguments.config)
    if arguments.seed is not None:
        config = config.model_copy(update={"seed": arguments.seed})
    if arguments.max_epochs is not None:
        training = config.training.model_copy(update={"max_epochs": arguments.max_epochs, "max_steps": None})
        config = config.model_copy(update={"training": training})
    if arguments.seed is not None or arguments.max_epochs is not None:
        # The folder must say what was trained, not what was asked for before the flags.
        write_config(paths.config, config)
    elif not (run.config.exists() and run.config.samefile(arguments.config)):
        snapshot_config(arguments.config, paths.folder)

    # Imports make many long-lived objects and no garbage: collecting meanwhile costs a tenth of the start.
    gc.disable()
    from nas_system.training_job import JobOptions, run_training

    gc.enable()
    options = JobOptions(
        tag=arguments.tag,
        device=arguments.device,
        threads=arguments.threads,
        time_limit_s=arguments.time_limit,
        memory_limit_mb=arguments.memory_limit,
        max_steps=arguments.max_steps,
        gpu_share=arguments.gpu_share,
        resume=arguments.resume,
        facts=arguments.facts,
        data_dir=arguments.data_dir,
        results=run_dir,
        stop=_stop_on_signals(),
        preflight_only=arguments.preflight_only,
        pictures=arguments.pictures,
    )
    if arguments.through is None or arguments.preflight_only:
        run_training(config, paths, options)
        return
    from nas_system.refit import Refit, run_refit

    run_refit(config, paths, options, Refit(arguments.through, arguments.epochs))


def _stop_on_signals() -> Callable[[], None]:
    """Return a function for the loop to call after every step: raises once SIGTERM or SIGINT has come."""
    received: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda n, _frame: received.append(n))

    def check() -> None:
        if received:
            raise StoppedOnRequest(f"stopped by {signal.Signals(received[0]).name} before the last epoch")

    return check


def _refuse_finished(metrics: Path, arguments: argparse.Namespace) -> None:
    from nas_system.nas_agent.logging_utils import load_metrics

    if metrics.exists() and not arguments.overwrite and not arguments.resume:
        reason = load_metrics(metrics.parent).get("reason", "ended")
        raise ConfigError(
            f"{metrics.parent} already holds a training ({reason}); choose another --tag, or add "
            + ("--resume to go on with it" if reason == "stopped" else "--overwrite to train again")
        )


def _classified(error: Exception) -> tuple[Exception, str]:
    """Return the error to report in place of somebody else's, and its kind in error.json."""
    if is_disk_full(error):
        return error, "disk_full"
    kind = memory_that_ran_out(error)
    if kind is None:
        return error, "crash"
    cause, numbers = first_line(error), {}
    if kind == "oom_gpu":
        numbers = _peak_of_gpu()
        peak = "".join(f", peak {mb:,.0f} MiB" for mb in numbers.values())
        message = f"out of GPU memory{peak}: halve data.batch_size, then the width or data.seq_len ({cause})"
    else:
        message = f"out of memory: reduce data.batch_size, the width or, for a series, data.seq_len ({cause})"
    return OutOfMemory(message, numbers), kind


def _peak_of_gpu() -> dict[str, float]:
    """Return the peak MiB that tensors held on the GPU; nothing where torch has none."""
    import torch

    if not torch.cuda.is_initialized():
        return {}
    return {"peak_gpu_mb": round(torch.cuda.max_memory_allocated() / 2**20, 1)}


def _refit_end(text: str) -> str | int:
    """Read a part, or a number of rows."""
    if text in REFIT_PARTS:
        return text
    if text.isdecimal() and 0 < int(text) < 10**9:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is neither {', '.join(REFIT_PARTS)} nor a number of rows")


def build_parser(prog: str) -> Parser:
    """Return the parser of `nas train`."""
    parser = Parser(prog=prog, description="Train one configuration.")
    parser.add_argument(
        "--config", type=Path, required=True, help="config.py (original format), .yaml or .json"
    )
    parser.add_argument("--tag", required=True, help="name of the run; its files go to RUNS_DIR/TAG")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="default: runs")
    parser.add_argument(
        "--output-dir", type=Path, metavar="DIR", help="write everything here (default: RUNS_DIR/TAG)"
    )
    add_device(parser)
    parser.add_argument(
        "--gpu-share", type=share, default=1.0, metavar="F", help="share of the GPU's memory (default: 1)"
    )
    add_data_dir(parser)
    parser.add_argument("--facts", type=Path, help="task_facts.json of a search: use exactly its data")
    parser.add_argument(
        "--threads",
        type=threads,
        default=DEFAULT_THREADS,
        metavar="N|auto",
        help=f"CPU threads; auto measures a few steps, takes the faster (default: {DEFAULT_THREADS})",
    )
    parser.add_argument("--max-epochs", type=int, help="train for N passes, to shorten a trial")
    parser.add_argument("--seed", type=int, help="overrides the seed of the configuration")
    parser.add_argument(
        "--time-limit",
        type=float,
        metavar="S",
        help="plan a training that costs S seconds of compute at most: the process's time on its cores over "
        "its threads, on CUDA the time of its steps; refused if a single step costs twice as much",
    )
    parser.add_argument(
        "--max-steps",
        type=positive_int,
        metavar="N",
        help="plan a training of N optimizer steps at most, the same on every machine",
    )
    parser.add_argument(
        "--through",
        type=_refit_end,
        metavar="PART|ROWS",
        help="refit: learn from all rows or graphs to the end of this part (val, test, or hold_out: from "
        "all), or from so many first rows",
    )
    parser.add_argument(
        "--epochs",
        type=positive_int,
        metavar="N",
        help="with --through: end after so many epochs of the plan",
    )
    parser.add_argument(
        "--memory-limit",
        type=float,
        metavar="MIB",
        help="on the CPU: refused at its first batch if it cannot fit into MIB of resident memory",
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue from RUNS_DIR/TAG/last.pth if it is there"
    )
    parser.add_argument(
        "--preflight-only",
        nargs="?",
        choices=("cost", "memory"),
        const="cost",
        metavar="cost|memory",
        help="look at the first batch, print what the training will cost as JSON, train nothing; memory: "
        "only that of it, from a few samples",
    )
    parser.add_argument(
        "--pictures",
        choices=("now", "later", "none"),
        default="now",
        help="draw curve, forecasts and attention; later: with python -m nas_system.draw_pictures RUNS_DIR",
    )
    parser.add_argument(
        "--no-pictures", action="store_const", dest="pictures", const="none", help="as --pictures none"
    )
    parser.add_argument("--overwrite", action="store_true", help="train again over a finished run")
    return parser


if __name__ == "__main__":
    sys.exit(main())

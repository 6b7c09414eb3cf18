"""Start or continue a search: `python -m nas_agent_graph.run --max-runs 100`."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from nas_agent_graph.host.privacy import refuse_inspection
from nas_agent_graph.host.signals import (
    SearchInterrupted,
    StopRequest,
    handle_signals,
    ignore_signals,
)
from nas_system.errors import NasError, SearchPaused

DEFAULT_MAX_RUNS = 100
LEAST_FREE_MB = 200


def main(argv: Sequence[str] | None = None, *, trainer: Sequence[str] | None = None) -> int:
    """Exit codes: 0 ended, 2 bad input, 3 workspace held by another, 4 paused, 128 + n on signal n.

    `trainer` is the command line that trains in the place of `python -m nas_system.train`.
    """
    arguments = _parser().parse_args(argv)
    refuse_inspection()
    stop = StopRequest()
    handle_signals(stop)
    try:
        # Heavy imports come after the arguments: --help and a typing error answer at once.
        with stop.held_back():
            if arguments.dry_run:
                from nas_agent_graph.dry_run import dry_run
            else:
                from nas_agent_graph.search import run_search
        code = dry_run(arguments) if arguments.dry_run else run_search(arguments, stop, trainer=trainer)
        stop.waiting = True
        return code
    except SearchInterrupted as error:
        name = signal.Signals(error.signal).name
        _complain(f"\nstopped by {name}; everything is on disk, the same command continues")
        return error.exit_code
    except NasError as error:
        _complain(f"error: {error}")
        return error.exit_code
    except OSError as error:
        # The machine's fault, not the search's: a disk that reports errors, no file descriptor left, ...
        where = f"{error.filename}: " if error.filename else ""
        _complain(
            f"error: {where}{error.strerror or error}; what was finished is on disk, mend the cause and "
            "give the same command again"
        )
        return SearchPaused.exit_code


def _complain(text: str) -> None:
    # SIGHUP comes when the terminal is gone, and stderr with it.
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see --help\n")


def _positive_int(text: str) -> int:
    value = int(text) if text.lstrip("+-").isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return value


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def _amount(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return value


def _parser() -> argparse.ArgumentParser:
    from nas_agent_graph.launchers import DEFAULT as DEFAULT_LAUNCHER
    from nas_agent_graph.launchers import LAUNCHERS
    from nas_agent_graph.proposers import PROPOSERS
    from nas_agent_graph.settings import add_llm_flags

    parser = _Parser(prog="python -m nas_agent_graph.run", description=(__doc__ or "").splitlines()[0])
    search = parser.add_argument_group("search")
    search.add_argument(
        "--max-runs",
        metavar="N",
        type=_positive_int,
        default=DEFAULT_MAX_RUNS,
        help=f"runs in total, base config and failures included (default: {DEFAULT_MAX_RUNS})",
    )
    search.add_argument(
        "--max-hours", metavar="X", type=_positive, help="start no further run after this long"
    )
    search.add_argument(
        "--max-tokens",
        metavar="N",
        type=_positive_int,
        help="propose no further run once the language model has used this many (whole search)",
    )
    search.add_argument(
        "--max-cost",
        metavar="USD",
        type=_positive,
        help="propose no further run once its answers have cost this many US dollars (whole search)",
    )
    search.add_argument(
        "--minutes-per-run",
        metavar="X",
        type=_positive,
        help="a training ends after the epoch that reaches this",
    )
    search.add_argument(
        "--max-silent-minutes",
        metavar="X",
        type=_amount,
        help="a training without a sign of life for this long is ended as hung (default: 60; 0: no limit)",
    )
    search.add_argument(
        "--memory-per-run",
        metavar="GIB",
        type=_amount,
        help="host memory that a training may hold (default: 80%% of the machine's or container's; "
        "0: no limit)",
    )
    search.add_argument(
        "--keep-free",
        metavar="MIB",
        type=_amount,
        default=LEAST_FREE_MB,
        help=f"start a training only with this much free disk; wait for it (default: {LEAST_FREE_MB})",
    )
    search.add_argument(
        "--wait-for-disk",
        metavar="MIN",
        type=_amount,
        help="on a full disk wait this long, then end with exit code 4 (default: until there is space)",
    )
    search.add_argument(
        "--proposer",
        metavar="NAME",
        help=f"{', '.join(PROPOSERS)} (default: llm if a model is named, else tpe)",
    )
    add_llm_flags(search)
    search.add_argument(
        "--seed",
        metavar="N",
        type=_count,
        help="of the sampler and the trainings (default: the base configuration's)",
    )
    search.add_argument("--base-config", metavar="FILE|NAME", help="what run_0000 trains (default: default)")
    search.add_argument(
        "--repeat-base",
        "--repeat-baseline",
        dest="repeat_base",
        type=_count,
        default=2,
        metavar="N",
        help="train the base config N more times with other seeds to measure the noise (default: 2)",
    )
    search.add_argument(
        "--workspace",
        metavar="DIR",
        type=Path,
        default=Path(),
        help="folder of agent_state.json and runs/ (default: .)",
    )
    search.add_argument(
        "--dry-run",
        action="store_true",
        help="show the next prompt and what the search may cost; ask, train and write nothing",
    )
    task = parser.add_argument_group("task (fixed for the life of a search)")
    task.add_argument(
        "--task",
        metavar="NAME",
        help="forecasting, or a data set of graphs: zinc_synth, zinc (default: forecasting)",
    )
    task.add_argument(
        "--dataset", metavar="NAME|CSV", help="etth1, synthetic or the path of a CSV file (default: etth1)"
    )
    task.add_argument(
        "--target", metavar="COL[,COL]|all", help="columns to forecast, or every one (default: OT)"
    )
    task.add_argument("--pred-len", metavar="N", type=_positive_int, help="steps to forecast (default: 24)")
    task.add_argument(
        "--freq",
        metavar="STEP",
        help="step that the time stamps have to have: 15min, h, D, MS, ... (default: whatever they have)",
    )
    task.add_argument(
        "--split",
        metavar="SHARES|DATES",
        help="train, val and test: 0.6,0.15,0.15 (what is left is hold-out), or the dates on which val, test "
        "and hold-out begin: 2017-07-01,2017-11-01,2018-03-01 (default: the data set's own)",
    )
    task.add_argument(
        "--missing",
        choices=("refuse", "ffill"),
        help="empty cells: refuse the file, or carry the last value forward (default: refuse)",
    )
    for part in ("train", "val", "test"):
        task.add_argument(
            f"--{part}-graphs",
            metavar="N",
            type=_positive_int,
            help=f"with graphs: the first N of the {part} part (default: all)",
        )
    machine = parser.add_argument_group("machine")
    machine.add_argument(
        "--data-dir",
        metavar="DIR",
        type=Path,
        help="folder with ETTh1.csv, or with the files of ZINC (default: $NAS_DATA_DIR, cache, download)",
    )
    machine.add_argument(
        "--device", metavar="auto|cpu|cuda:N", default="auto", help="auto, cpu or cuda:N (default: auto)"
    )
    machine.add_argument(
        "--launcher",
        metavar="NAME",
        default=DEFAULT_LAUNCHER,
        help=f"where trainings run: {', '.join(LAUNCHERS)} (default: {DEFAULT_LAUNCHER})",
    )
    machine.add_argument("--threads", metavar="N|auto", help="CPU threads of a training (default: 1)")
    return parser


def run_and_leave(trainer: Sequence[str] | None = None) -> NoReturn:
    """The whole program, from the command line to the exit code."""
    code = main(trainer=trainer)
    ignore_signals()
    sys.exit(code)


if __name__ == "__main__":
    run_and_leave()

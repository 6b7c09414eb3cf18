"""Trains many configurations one after the other in one process: `python -m nas_system.train_many`.

Reads JSON lines from standard input, each a training: {"arguments": [...], "limit_s": 8}. The
arguments are those of `nas_system.train`; the imports are paid for once. Every line is answered by one
on standard output, {"exit_code", "seconds", "timed_out"}; what a training prints goes to train.log in
its run directory. After a training that fails the next one begins.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nas_system import train
from nas_system.command_line import Parser, exit_code_of
from nas_system.errors import ConfigError, NasError, StoppedOnRequest
from nas_system.nas_agent.run_manager import get_run_dir
from nas_system.processes.run_files import RunPaths


@dataclass
class Deadline:
    """Asks a training to stop, as SIGTERM would, once its time is over."""

    passed: bool = False

    @contextlib.contextmanager
    def of(self, seconds: float | None) -> Iterator[None]:
        """Limit what runs inside to `seconds`; None sets no limit."""
        self.passed = False
        before = signal.signal(signal.SIGALRM, self._pass)
        signal.setitimer(signal.ITIMER_REAL, seconds or 0.0)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, before)

    def _pass(self, *_: Any) -> None:
        self.passed = True
        signal.raise_signal(signal.SIGTERM)


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 at the end of the input, 2 for a line that is no training, 5 if it was asked to stop."""
    Parser(prog="python -m nas_system.train_many", description=(__doc__ or "").splitlines()[0]).parse_args(
        argv
    )
    return exit_code_of(_train_all)


def _train_all() -> int:
    deadline = Deadline()
    for line in sys.stdin:
        arguments, limit_s = _training_of(line)
        # Before the first limit begins: the imports count against no training.
        import nas_system.training_job  # noqa: F401

        started = time.monotonic()
        with deadline.of(limit_s):
            code = _train(arguments)
        seconds = round(time.monotonic() - started, 3)
        answer = {"exit_code": code, "seconds": seconds, "timed_out": deadline.passed}
        try:
            print(json.dumps(answer), flush=True)
        except BrokenPipeError:
            # Nobody reads the answers any more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return StoppedOnRequest.exit_code
        if code == StoppedOnRequest.exit_code and not deadline.passed:
            return code
    return 0


def _training_of(line: str) -> tuple[list[str], float | None]:
    try:
        record = json.loads(line)
        arguments, limit_s = record["arguments"], record.get("limit_s")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(
            f'this line is no training ({{"arguments": [...]}}): {line.strip()!a:.200}'
        ) from None
    if not isinstance(arguments, list) or not all(isinstance(text, str) for text in arguments):
        raise ConfigError(f"the arguments of a training are a list of texts, not {arguments!a:.200}")
    if not (limit_s is None or (isinstance(limit_s, int | float) and limit_s > 0)):
        raise ConfigError(f"limit_s={limit_s!a:.40} is no number of seconds above 0")
    return arguments, limit_s


def _train(argv: list[str]) -> int:
    """Train once, with everything that is printed in the run directory; return the exit code."""
    try:
        arguments = train.build_parser("python -m nas_system.train").parse_args(argv)
        log = RunPaths(get_run_dir(arguments.tag, arguments.runs_dir)).log
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except NasError as error:
        return train.record_failure(None, error)
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open(log, "a", encoding="utf-8"))
        stack.enter_context(contextlib.redirect_stdout(file))
        stack.enter_context(contextlib.redirect_stderr(file))
        return train.main(argv)


if __name__ == "__main__":
    sys.exit(main())

"""The training of most tests: it tries one way out after the other, each in a process of its own."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from attacks.toolbox import WAYS, Target, Way

MARK = "attack-report: "
LONGEST_S = 10


def main(text: str, alone: bool = False) -> None:
    """Try the ways of a plan; print a line of JSON for each of them.

    `alone`: the plan has one way only, and this process itself tries it.
    """
    plan = json.loads(text)
    for number in (signal.SIGTERM, signal.SIGIO):
        signal.signal(number, signal.SIG_DFL)
    for name, about in plan.items():
        paths = {key: Path(about.pop(key)) for key in ("here", "run", "world", "folder", "outside")}
        target = Target(**paths, **about)
        if alone:
            attempt(WAYS[name], target)
        if os.fork() == 0:
            signal.alarm(LONGEST_S)
            attempt(WAYS[name], target)
        _, status = os.wait()
        if os.WIFSIGNALED(status):
            report(name, signal=os.WTERMSIG(status))


def attempt(way: Way, target: Target) -> None:
    """Try one way and end this process."""
    try:
        got = way.attack(target)
    except OSError as error:
        report(way.name, errno=error.errno, text=str(error)[:200])
    except BaseException as error:
        report(way.name, crashed=repr(error)[:500])
    else:
        report(
            way.name, got=True, errno=0, text=got.decode("latin-1") if isinstance(got, bytes) else str(got)
        )
    finally:
        os._exit(0)


def report(name: str, **result: Any) -> None:
    """Print the line that the test reads."""
    os.write(1, f"{MARK}{json.dumps({'way': name, **result})}\n".encode())

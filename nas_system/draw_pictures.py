"""Draw the pictures of finished trainings: `python -m nas_system.draw_pictures RUNS_DIR`.

In a search a training keeps in `pictures.json` what its pictures are drawn from. Drawing them takes longer
than a training on a short series, and keeps nobody waiting. That file is removed once they are there, so
what was interrupted is found again.

With `--watch` the program goes on: at every line of its input it looks for more, and it ends with its input.
What a training wrote may be anything, so each run is drawn by a process of its own, within limits.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nas_system.files import is_disk_full, read_object, write_atomic, write_json
from nas_system.nas_agent.logging_utils import load_history
from nas_system.processes.run_files import RunPaths, undrawn_runs
from nas_system.processes.work_folder import LARGEST_PICTURE_BYTES
from nas_system.visualization import learning_curve
from nas_system.visualization.drawings import Drawing

MOST_SECONDS, MOST_BYTES = 120, 4 * 2**30
"""Of the pictures of one run: seconds of a core, and bytes of memory."""
_UNDRAWABLE, _NO_SPACE = 1, 3
"""Exit codes of the process that draws one run."""
MOST_BASELINES, MOST_DRAWINGS = 50, 2
"""In one file: lines in a learning curve, and pictures besides it."""


def keep_for_later(
    paths: RunPaths, drawings: Sequence[Drawing], *, title: str, baselines: Sequence[Any]
) -> None:
    """Write down what a run's pictures are drawn from, besides its history. Raises OSError."""
    value = {
        "title": title,
        "baselines": list(baselines),
        "drawings": [drawing.to_json() for drawing in drawings],
    }
    write_json(paths.pictures, value, indent=None)


def draw_waiting(runs_dir: Path) -> bool:
    """Draw all that is there to be drawn, a process for each run; return whether nothing waits any more.

    What a full disk or a signal prevents still waits; what cannot be drawn, or takes too long, does not.
    """
    done, parent = True, os.getppid()
    for paths in list(undrawn_runs(runs_dir)):
        if os.getppid() != parent:  # the agent has died, and the next one has a process of its own
            return False
        # A later attempt may replace the file meanwhile.
        with contextlib.suppress(OSError):
            before = os.lstat(paths.pictures)
            child = os.fork()
            if child == 0:
                _draw_and_exit(paths)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if code not in (0, _UNDRAWABLE, -signal.SIGXCPU):
                done = False
                continue
            after = os.lstat(paths.pictures)
            if (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns):
                paths.pictures.unlink()
    return done


def draw(paths: RunPaths) -> None:
    """Draw one run's pictures from its files: first the learning curve, which needs only its history.

    Raises OSError or ValueError.
    """
    kept, damage = {}, None
    try:
        kept = read_object(paths.pictures, largest_bytes=LARGEST_PICTURE_BYTES)
    except ValueError as error:
        damage = error
    title, drawings, rows = str(kept.get("title", "")), kept.get("drawings"), kept.get("baselines")
    known = rows[:MOST_BASELINES] if isinstance(rows, list) else []
    baselines = [row for row in known if isinstance(row, dict)]
    with tempfile.TemporaryDirectory() as name:
        drawn = RunPaths(Path(name))
        history = load_history(paths.folder)
        learning_curve(history, drawn.learning_curve, title=title, baselines=baselines)
        _publish(drawn, paths)
        if damage is not None:
            raise damage
        for drawing in drawings[:MOST_DRAWINGS] if isinstance(drawings, list) else ():
            Drawing.from_json(drawing).draw(drawn.folder, title)
        _publish(drawn, paths)


def _publish(drawn: RunPaths, paths: RunPaths) -> None:
    for picture in drawn.folder.iterdir():
        write_atomic(paths.folder / picture.name, picture.read_bytes())
        picture.unlink()


def _give_way(niceness: int) -> None:
    """Lower the priority of this process, and that of its session where Linux compares sessions first."""
    os.nice(niceness)
    with contextlib.suppress(OSError):
        # man 7 sched, "The autogroup feature": a session's processes are nice to each other only.
        Path("/proc/self/autogroup").write_text(str(niceness))


def _draw_and_exit(paths: RunPaths) -> None:
    code = _UNDRAWABLE
    try:
        # The soft limit comes first, as a signal that tells it from any other end.
        resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS + 5))
        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_PICTURE_BYTES, LARGEST_PICTURE_BYTES))
        with contextlib.suppress(ValueError, OSError):  # less is allowed already
            resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
        draw(paths)
        code = 0
    except Exception as error:
        # Of any kind: a library meets what a training made up. The other runs are drawn all the same.
        traceback.print_exc()
        code = _NO_SPACE if is_disk_full(error) else _UNDRAWABLE
    finally:
        os._exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Draw what waits, again at every line of the input with --watch. Returns 1 if something still waits."""
    parser = argparse.ArgumentParser(prog="python -m nas_system.draw_pictures", description="Draw pictures.")
    parser.add_argument("runs_dir", type=Path, help="the folder of all runs of a search")
    parser.add_argument("--nice", type=int, default=0, metavar="N", help="leave the cores to others: 0 to 19")
    parser.add_argument("--watch", action="store_true", help="look again at every line of the input")
    arguments = parser.parse_args(argv)
    if arguments.nice:
        _give_way(arguments.nice)
    # Once for all runs: it takes longer than a picture.
    from nas_system.visualization.canvas import import_matplotlib

    import_matplotlib()
    done = draw_waiting(arguments.runs_dir)
    if arguments.watch:
        for _ in sys.stdin:
            done = draw_waiting(arguments.runs_dir)
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())

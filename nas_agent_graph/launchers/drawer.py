"""The process that draws the pictures of finished trainings while the search goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from nas_system.errors import RunError
from nas_system.processes.run_files import RunPaths, undrawn_runs

PATIENCE_S = 1.0
"""So long the end of a search waits for a process that leaves the cores to others; then it draws itself."""
DRAW_TIMEOUT_S = 600.0
_LOWEST_PRIORITY = 19


class Drawer:
    """One process of the lowest priority for a folder of runs, from the first finished training on."""

    def __init__(self, python: str, environment: Mapping[str, str], runs_dir: Path) -> None:
        """`environment` is that of trainings: what they wrote is looked at, and no secret is needed."""
        self._command = [python, "-m", "nas_system.draw_pictures", str(runs_dir)]
        self._runs_dir = runs_dir
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._told: set[tuple[Path, int]] = set()

    def tell(self, run_dir: Path) -> None:
        """Let the pictures of a finished training be drawn if they wait for it. Never fails, never waits."""
        try:
            known = (run_dir, RunPaths(run_dir).pictures.stat().st_ino)
        except OSError:
            return
        if known in self._told:
            return
        self._told.add(known)
        try:
            if self._process is None or self._process.poll() is not None:
                self._process = self._start("--watch", "--nice", str(_LOWEST_PRIORITY))
            assert self._process.stdin is not None
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
        except OSError:
            self.end()  # what waits is drawn at the end of the search

    def finish(self) -> None:
        """Return once no picture waits; what takes too long in the background is drawn in the foreground.

        Raises RunError if that fails; then some pictures are missing.
        """
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.communicate(timeout=PATIENCE_S)
        self.end()
        if not any(undrawn_runs(self._runs_dir)):
            return
        problem = "the disk is full, or something kills the process that draws"
        try:
            self._process = self._start()
            self._process.communicate(timeout=DRAW_TIMEOUT_S)
            drawn = self._process.returncode == 0
        except (OSError, subprocess.SubprocessError) as error:
            drawn, problem = False, str(error)
        finally:
            self.end()
        if not drawn:
            raise RunError(
                f"the pictures of some runs could not be drawn ({problem}); the same command tries again"
            )

    def end(self) -> None:
        """End the process now. What it was about to draw still waits."""
        if self._process is not None:
            if self._process.returncode is None:  # not collected, so the group's number is its own
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
            self._process = None

    def _start(self, *flags: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self._command, *flags],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

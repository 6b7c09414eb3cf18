"""The wall clock jumps by a day at every look: no limit fires early or late, no duration is off."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from chaos.bombardment import finish
from chaos.search import FOLDER, ROOT, Search

pytestmark = [
    pytest.mark.fault(28),
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
]


@pytest.fixture(scope="module")
def jumping(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process whose wall clock jumps."""
    library = tmp_path_factory.mktemp("clock") / "wall_clock.so"
    source = FOLDER / "wall_clock.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True, timeout=60)
    return {"LD_PRELOAD": str(library)}


def test_the_clock_does_jump(jumping: dict[str, str]) -> None:
    code = (
        "import time; wall, true = time.time(), time.monotonic()\n"
        "print(time.time() - wall, time.monotonic() - true)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | jumping, capture_output=True, check=True
    )
    wall_s, monotonic_s = map(float, printed.stdout.split())
    assert abs(wall_s) > 80_000
    assert 0 <= monotonic_s < 8_000, "a tenth of the jump"


@pytest.mark.parametrize(
    ("sleeps_s", "limit_s", "silence_s", "ended", "wall_s"),
    [(0.4, 20, 20, "exited", 0.4), (30, 0.5, 20, "time_limit", 0.5), (30, 20, 0.5, "silence_limit", 0.5)],
)
def test_a_supervisor_keeps_its_limits(
    tmp_path: Path,
    jumping: dict[str, str],
    sleeps_s: float,
    limit_s: float,
    silence_s: float,
    ended: str,
    wall_s: float,
) -> None:
    command = [sys.executable, "-m", "nas_system.processes.supervisor", str(tmp_path), "--attempt", "1"]
    command += ["--time-limit", str(limit_s), "--silence-limit", str(silence_s), "--", "sleep", str(sleeps_s)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | jumping
    subprocess.run(command, env=environment, check=True, timeout=30)
    record = json.loads((tmp_path / "exit.json").read_bytes())
    assert record["ended"] == ended
    assert wall_s <= record["wall_s"] < 8_000, "a tenth of the jump"


def test_a_search_ends_and_its_seconds_are_true(
    new_search: Callable[..., Search], jumping: dict[str, str]
) -> None:
    search = new_search("--max-runs", "2", "--repeat-baseline", "0", "--max-hours", "1", env=jumping)
    finish(search)
    assert [run.status for run in search.last.runs] == ["OK", "OK"]
    assert all(run.seconds is not None and 0 < run.seconds < 8_000 for run in search.last.runs)

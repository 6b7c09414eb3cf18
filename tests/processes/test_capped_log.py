"""The capped log against a plain reference: the whole text, kept in memory."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pytest

from nas_system.processes.capped_log import SMALLEST_CAP, CappedLog

NOTICE = re.compile(rb"\n\[\.\.\. +(\d+) bytes dropped here \.\.\.\]\n")


@pytest.mark.parametrize("seed", range(8))
def test_head_and_tail_are_kept_and_what_is_missing_is_told(tmp_path: Path, seed: int) -> None:
    generator = random.Random(seed)
    cap = generator.choice([SMALLEST_CAP, 5001, 20_000])
    log, whole = CappedLog(tmp_path / "log", cap), b""
    largest_chunk = generator.choice([10, 700, 3 * cap])
    while len(whole) < 4 * cap:
        chunk = generator.randbytes(generator.randint(1, largest_chunk)).replace(b"\n", b" ")
        log.write(chunk)
        whole += chunk
        content = (tmp_path / "log").read_bytes()
        assert len(content) <= cap
        if content == whole:
            continue
        head, told, tail = NOTICE.split(content)
        assert len(head) == cap // 4
        assert whole.startswith(head)
        assert whole.endswith(tail)
        assert len(tail) >= cap // 3
        assert int(told) == len(whole) - len(head) - len(tail)
    assert log.bytes_seen == len(whole)
    assert log.bytes_unwritable == 0
    log.close()


def test_a_short_log_is_kept_whole(tmp_path: Path) -> None:
    log = CappedLog(tmp_path / "log", SMALLEST_CAP)
    log.write(b"x" * SMALLEST_CAP)
    assert (tmp_path / "log").read_bytes() == b"x" * SMALLEST_CAP
    log.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("chunk", [100, 3 * SMALLEST_CAP])
def test_a_full_disk_costs_log_lines_and_raises_nothing(chunk: int, tmp_path: Path) -> None:
    log = CappedLog(tmp_path / "train.log", SMALLEST_CAP)
    os.dup2(os.open("/dev/full", os.O_RDWR), log.descriptor)
    for _ in range(100):
        log.write(b"x" * chunk)
    assert log.bytes_seen == 100 * chunk
    assert log.bytes_unwritable > 0
    log.close()

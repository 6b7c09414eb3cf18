"""Scores of single windows: what is read back, and that a forged file is none."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nas_system.nas_agent.window_errors import (
    read_baseline_errors,
    read_errors,
    write_baseline_errors,
    write_errors,
)
from nas_system.processes.run_files import LARGEST_ERRORS_BYTES
from nas_system.space.task_info import Baseline

ERRORS = np.array([0.5, 0.25, 1.5, 0.0], dtype=np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "val_errors.npy"


def saved(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def test_what_was_written_is_read(path: Path) -> None:
    write_errors(path, ERRORS)
    found = read_errors(path, count=4, score=0.5625)
    assert found is not None
    assert found.dtype == np.float32 and found.tolist() == ERRORS.tolist()
    assert np.load(path, allow_pickle=False).tolist() == ERRORS.tolist(), "anybody can read it"


def test_errors_of_something_else_are_none(path: Path) -> None:
    write_errors(path, ERRORS)
    assert read_errors(path, count=5) is None
    assert read_errors(path, score=0.5626) is None
    assert read_errors(path.with_name("missing.npy")) is None


def forge(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content)


def as_header(shape: str) -> bytes:
    """A header that claims a shape, with four numbers behind it."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (117 - len(text)) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + ERRORS.tobytes()


def links_elsewhere(path: Path) -> None:
    other = path.with_name("elsewhere.npy")
    write_errors(other, ERRORS)
    path.symlink_to(other)


def is_too_large(path: Path) -> None:
    write_errors(path, ERRORS)
    os.truncate(path, LARGEST_ERRORS_BYTES + 1)


FORGED = {
    "link": links_elsewhere,
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "fifo": lambda path: os.mkfifo(path),
    "folder": lambda path: path.mkdir(),
    "too large": is_too_large,
    "empty": forge(b""),
    "text": forge(b"0.1\n0.2\n"),
    "cut": forge(saved(ERRORS)[:-1]),
    "longer": forge(saved(ERRORS) + b"\0\0\0\0"),
    "no number": forge(saved(np.array([0.5, np.nan], dtype=np.float32))),
    "infinite": forge(saved(np.array([0.5, np.inf], dtype=np.float32))),
    "float64": forge(saved(ERRORS.astype(np.float64))),
    "big-endian": forge(saved(ERRORS.astype(">f4"))),
    "table": forge(saved(ERRORS.reshape(2, 2))),
    "scalar": forge(saved(np.float32(0.5).reshape(()))),
    "no windows": forge(saved(ERRORS[:0])),
    "pickle": forge(saved(np.array([{"a": 1}], dtype=object))),
    "terabytes": forge(as_header("(1000000000000,)")),
    "negative": forge(as_header("(-4,)")),
    "no shape": forge(as_header("'x'")),
    "nested": forge(as_header("((4,),)")),
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_file_holds_no_errors(kind: str, path: Path) -> None:
    FORGED[kind](path)
    assert read_errors(path) is None


def test_the_forged_header_is_one_that_is_read_when_it_is_true(path: Path) -> None:
    path.write_bytes(as_header("(4,)"))
    found = read_errors(path)
    assert found is not None and found.tolist() == ERRORS.tolist()


ROWS = (
    Baseline("seasonal-24", {"val_mse": 0.5625}, errors=ERRORS),
    Baseline("arima", {"val_mse": 1.0}, "2 of 4", errors=np.array([0.5, np.nan, 1.5, np.nan])),
    Baseline("from an old file", {"val_mse": 1.0}),
)
SCORES = {row.name: row.scores["val_mse"] for row in ROWS}


def test_baselines_are_read_by_name_with_what_was_not_scored_left_open(tmp_path: Path) -> None:
    path = tmp_path / "baseline_errors.npz"
    write_baseline_errors(path, ROWS)
    found = read_baseline_errors(path, SCORES)
    assert set(found) == {"seasonal-24", "arima"}
    assert found["seasonal-24"].tolist() == ERRORS.tolist()
    assert np.isnan(found["arima"]).tolist() == [False, True, False, True]
    with np.load(path, allow_pickle=False) as archive:
        assert set(archive) == {"seasonal-24", "arima"}


def test_baseline_errors_of_other_data_are_none(tmp_path: Path) -> None:
    path = tmp_path / "baseline_errors.npz"
    write_baseline_errors(path, ROWS)
    assert set(read_baseline_errors(path, SCORES | {"arima": 1.01})) == {"seasonal-24"}


@pytest.mark.parametrize("kind", ["missing", "no archive", "packed", "damaged", "link"])
def test_a_strange_file_of_baselines_holds_none(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "baseline_errors.npz"
    if kind == "no archive":
        path.write_bytes(b"PK" + bytes(1000))
    elif kind == "packed":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("seasonal-24.npy", saved(ERRORS))
    elif kind == "damaged":
        write_baseline_errors(path, ROWS[:1])
        content = bytearray(path.read_bytes())
        content[content.index(ERRORS.tobytes()) + 2] ^= 1
        path.write_bytes(content)
    elif kind == "link":
        write_baseline_errors(tmp_path / "other.npz", ROWS)
        path.symlink_to(tmp_path / "other.npz")
    assert read_baseline_errors(path, SCORES) == {}

"""The generated stand-in: the same numbers everywhere, and hard in the ways real data is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from nas_system.data.series import frequency_of
from nas_system.data.synthetic import COLUMNS, ROWS, checksum_of, synthetic_series

CHECKSUM = "47dd527d90602cc127675bd554c048f4b9eca9d26a65ad655809d0dcb17bd7b6"


def test_the_series_is_the_recorded_one() -> None:
    assert checksum_of(synthetic_series().values) == (CHECKSUM, ROWS * len(COLUMNS) * 8)


def test_another_process_makes_the_same_series(project_root: Path) -> None:
    code = (
        "from nas_system.data.synthetic import checksum_of, synthetic_series;"
        "print(checksum_of(synthetic_series(500).values)[0])"
    )
    command = [sys.executable, "-c", code]
    other = subprocess.run(command, cwd=project_root, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == checksum_of(synthetic_series(500).values)[0]


def test_it_has_the_columns_length_and_step_of_the_real_series() -> None:
    series = synthetic_series()
    assert series.columns == ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
    assert series.values.shape == (17_420, 7) and len(series.dates) == 17_420
    assert series.freq == frequency_of(series.dates) == "h"
    assert np.isfinite(series.values).all()


def test_every_column_has_a_daily_rhythm() -> None:
    values = synthetic_series().values[:8640]
    spectrum = np.abs(np.fft.rfft(values - values.mean(axis=0), axis=0)) ** 2
    day = 8640 // 24
    assert (spectrum[day] > 50 * np.median(spectrum, axis=0)).all()


def test_the_level_of_the_target_moves_between_the_parts() -> None:
    target = synthetic_series().values[:, -1]
    train, val, test = target[:8640], target[8640:11520], target[11520:14400]
    assert abs(val.mean() - train.mean()) > 0.5 * train.std()
    assert abs(test.mean() - train.mean()) > 1.0 * train.std()


def test_fewer_rows_and_another_seed_make_another_series() -> None:
    short = synthetic_series(200)
    assert len(short) == 200
    assert not np.array_equal(short.values, synthetic_series(200, seed=1).values)


def test_the_loads_grow_slowly() -> None:
    """Least squares over the training part: with all rhythms taken out, a rise of 5% of the level is left."""
    hours = np.arange(8_640)
    rhythms = [np.exp(2j * np.pi * hours / period) for period in (12, 24, 168, 8_766)]
    terms = [np.ones(8_640), hours / 8_640, *(part(r) for r in rhythms for part in (np.real, np.imag))]
    coefficients = np.linalg.lstsq(np.stack(terms, axis=1), synthetic_series().values[:8_640, 4], rcond=None)[
        0
    ]
    assert 0.2 < coefficients[1] < 0.7

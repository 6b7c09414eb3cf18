"""How long a million rows take to be read, and how much memory, by how their file is written.

    python benchmarks/reading.py
    python benchmarks/reading.py --rows 100000

Each file is read in a process of its own, three times; the median is reported. `seconds` is the time of the
clock, `cpu_seconds` that of the processor; `times_the_file` is the growth of the peak memory while the file
is read, over its size. Linux only.
"""

from __future__ import annotations

import argparse
import calendar
import json
import statistics
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path

import numpy as np

REPEATS = 3
SHOPS = 1000
"""Series in one file; `--rows` are those of all."""
READER = """
import json, sys, time
from pathlib import Path
from nas_system.data.reading import read_all

def peak():  # not ru_maxrss, which begins with that of the parent
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024

before, clock, cpu = peak(), time.perf_counter(), time.process_time()
series = read_all(Path(sys.argv[1]).read_bytes(), "series.csv", series_columns=sys.argv[2:])
print(json.dumps({
    "seconds": time.perf_counter() - clock,
    "cpu_seconds": time.process_time() - cpu,
    "bytes": peak() - before,
    "rows": sum(map(len, series)),
}))
"""


def write_files(folder: Path, rows: int) -> dict[str, Path]:
    """Write the same series in several ways: minutes from 2000 on, and one value. Some as 1,000 series."""
    minutes = np.datetime64("2000-01-01T00:00:00", "s") + np.arange(rows) * np.timedelta64(60, "s")
    values = np.random.default_rng(0).normal(50, 10, rows)
    stamps = [str(minute).replace("T", " ") for minute in minutes]
    day_first = [f"{stamp[8:10]}.{stamp[5:7]}.{stamp[:4]} {stamp[11:]}" for stamp in stamps]
    slashes = [f"{stamp[8:10]}/{stamp[5:7]}/{stamp[:4]} {stamp[11:16]}" for stamp in stamps]
    names = [
        f"{stamp[8:10]} {calendar.month_abbr[int(stamp[5:7])]} {stamp[:4]} {stamp[11:16]}" for stamp in stamps
    ]
    halves = [minute.strftime("%m/%d/%Y %I:%M %p") for minute in minutes.astype(datetime)]
    texts = [f"{value:.4f}" for value in values]
    written = {
        "ISO 8601": [f"{stamp},{text}" for stamp, text in zip(stamps, texts, strict=True)],
        "ISO 8601 in UTC": [f"{stamp}Z,{text}" for stamp, text in zip(stamps, texts, strict=True)],
        "day first": [f"{stamp},{text}" for stamp, text in zip(day_first, texts, strict=True)],
        "day first, with slashes": [f"{stamp},{text}" for stamp, text in zip(slashes, texts, strict=True)],
        "names of months": [f"{stamp},{text}" for stamp, text in zip(names, texts, strict=True)],
        "month first, am and pm": [f"{stamp},{text}" for stamp, text in zip(halves, texts, strict=True)],
        "semicolons and decimal commas": [
            f"{stamp};{text.replace('.', ',')}" for stamp, text in zip(stamps, texts, strict=True)
        ],
    }
    shops = max(1, rows // SHOPS)
    by_shop = [f"{row // shops},{stamps[row % shops]},{text}" for row, text in enumerate(texts)]
    written[f"{SHOPS:,} series one by one"] = by_shop
    by_time = [f"{row % SHOPS},{stamps[row // SHOPS]},{text}" for row, text in enumerate(texts)]
    written[f"{SHOPS:,} series side by side"] = by_time
    slashes_by_shop = [f"{row // shops},{slashes[row % shops]},{text}" for row, text in enumerate(texts)]
    written[f"{SHOPS:,} series one by one, day first"] = slashes_by_shop
    files = {}
    for number, (name, lines) in enumerate(written.items()):
        files[name] = folder / f"{number}.csv"
        header = "date;y" if ";" in lines[0] else "shop,date,y" if "series" in name else "date,y"
        files[name].write_text("\n".join([header, *lines]) + "\n")
    return files


def measure(path: Path, *series_columns: str) -> dict[str, float]:
    """Read a file in new processes; return the medians."""
    command = [sys.executable, "-c", READER, str(path), *series_columns]
    runs = [
        json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(REPEATS)
    ]
    medians = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    size = path.stat().st_size
    return {
        "rows": medians["rows"],
        "file_mb": round(size / 1e6, 1),
        "seconds": round(medians["seconds"], 2),
        "cpu_seconds": round(medians["cpu_seconds"], 2),
        "times_the_file": round(medians["bytes"] / size, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(Path(folder), rows)
        print(
            json.dumps({name: measure(path, *["shop"] * ("series" in name)) for name, path in files.items()})
        )


if __name__ == "__main__":
    main()

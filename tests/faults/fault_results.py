"""pytest plugin that writes down what was proved: `-p fault_results --fault-results FILE`.

Per row of the fault table: how many tests ran, how they ended, and what they measured
(`record_property("measured", ...)`). `make faults` uses it; docs/fault-tolerance.md is made from the file.
With `--fault-again` only the rows that these tests prove are written anew, each with its date: run all tests
of a row then.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fault_matrix import ROWS


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-results", metavar="FILE", type=Path, help="where the results are written")
    parser.addoption("--fault-again", action="store_true", help="leave the other rows of FILE as they are")


def pytest_configure(config: pytest.Config) -> None:
    file = config.getoption("--fault-results")
    if file is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Results(file, again=config.getoption("--fault-again")))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Give the report what it does not have by itself: which rows the test proves."""
    report: Any = yield
    report.user_properties = [*report.user_properties, ("fault_rows", rows_of(item))]
    return report


def rows_of(item: pytest.Item) -> list[int]:
    """The rows that the test's marks name."""
    return sorted({row for mark in item.iter_markers("fault") for row in mark.args})


class Results:
    """Collects the reports of one run of pytest."""

    def __init__(self, file: Path, *, again: bool = False) -> None:
        """`again` keeps what the file says of rows that this run does not prove."""
        self.file, self.again = file, again
        self.began = time.monotonic()
        self.tests: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test counts as passed when its body passed and nothing around it failed."""
        if report.when != "call" and report.passed:
            return
        found: dict[str, list[Any]] = {}
        for name, value in report.user_properties:
            found.setdefault(name, []).append(value)
        test = self.tests.setdefault(report.nodeid, {"rows": found["fault_rows"][0]})
        worst = "failed" if "failed" in (test.get("outcome"), report.outcome) else report.outcome
        test |= {"outcome": worst, "measured": found.get("measured", []), "seed": found.get("seed", [])}

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        record = {
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "python": platform.python_version(),
            "kernel": platform.release(),
            "seconds": round(time.monotonic() - self.began),
            "interrupted": exitstatus == pytest.ExitCode.INTERRUPTED,
            "rows": {str(number): self._row(number) for number in ROWS},
        }
        if self.again:
            proved = {
                number: row | {"date": record["date"]}
                for number, row in record["rows"].items()
                if row["tests"]
            }
            before = json.loads(self.file.read_text())
            record = {**before, "rows": {**record["rows"], **before["rows"], **proved}}
        self.file.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")

    def _row(self, number: int) -> dict[str, Any]:
        tests = {name: test for name, test in sorted(self.tests.items()) if number in test["rows"]}
        row: dict[str, Any] = {
            "fault": ROWS[number].fault,
            "promise": ROWS[number].promise,
            "tests": len(tests),
        }
        for outcome in ("passed", "failed", "skipped"):
            names = [name for name, test in tests.items() if test["outcome"] == outcome]
            row[outcome] = len(names) if outcome == "passed" else names
        for name in ("measured", "seed"):
            row[name] = sorted({value for test in tests.values() for value in test[name]})
        return row

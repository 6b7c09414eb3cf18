"""The fault table of the documentation is what was measured, and every promise in it has a test."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from fault_matrix import ROWS
from fault_table import PAGE, RESULTS, table, tried, with_table

PASSED = {"tests": 2, "passed": 2, "failed": [], "skipped": [], "measured": ["7 kills"], "seed": []}


def marked_rows(project_root: Path) -> set[int]:
    """The rows that the tests' marks name, the long ones' among them."""
    sources = [file.read_text() for file in (project_root / "tests").rglob("test_*.py")]
    marks = [mark for text in sources for mark in re.findall(r"mark\.fault\(([\d,\s]+)\)", text)]
    return {int(number) for mark in marks for number in mark.split(",") if number.strip()}


def test_the_page_has_the_table_that_the_results_give() -> None:
    page = PAGE.read_text()
    assert page == with_table(page, table(json.loads(RESULTS.read_text()))), (
        "make it again: python tests/faults/fault_table.py"
    )


def test_every_promise_in_the_table_has_a_test_and_every_marked_row_a_promise(project_root: Path) -> None:
    marked = marked_rows(project_root)
    assert marked <= set(ROWS), "a mark names a row that is not in fault_matrix.py"
    rows = json.loads(RESULTS.read_text())["rows"]
    assert {number: (row.fault, row.promise) for number, row in ROWS.items()} == {
        int(number): (row["fault"], row["promise"]) for number, row in rows.items()
    }, "fault_matrix.py has changed since: make faults"
    claimed = {int(number) for number, row in rows.items() if row["tests"]}
    assert claimed <= marked


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "2 passed; 7 kills"),
        ({"tests": 0, "passed": 0, "measured": []}, "**no test yet**"),
        ({"passed": 1, "failed": ["a"]}, "1 passed, **1 failed**; 7 kills"),
        ({"passed": 0, "skipped": ["a", "b"], "measured": []}, "2 skipped on this machine"),
    ],
)
def test_a_row_is_never_better_than_its_tests(change: dict[str, object], words: str) -> None:
    assert tried(PASSED | change) == words


def test_only_rows_whose_every_test_passed_count_as_kept() -> None:
    other = {"fault": "f", "promise": "p"}
    rows = {"1": other | PASSED, "2": other | PASSED | {"passed": 1, "failed": ["a"]}}
    rows["3"] = other | PASSED | {"tests": 0, "passed": 0}
    about = {"date": "2026-01-01", "python": "3.11", "kernel": "6", "seconds": 1, "interrupted": False}
    assert table(about | {"rows": rows}).startswith("1 of 3 promises kept")
    again = {**rows, "3": rows["1"] | {"date": "2026-02-02"}}
    assert "2 of 3 promises kept" in (line := table(about | {"rows": again}).splitlines()[0])
    assert line.endswith("1 s; rows 3: 2026-02-02).")
    interrupted = table(about | {"rows": rows, "interrupted": True})
    assert interrupted.startswith("Of a run that was interrupted: 1 of 3")

"""The table of attacks in the documentation is what was measured, and every attack of the suite is in it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attack_cases import CASES
from attack_runs import BATCHES
from attacks.toolbox import ROOT, USER, WAYS
from probe_table import GROUPS, IN, OFF, PAGE, RESULTS, cells, rows, table, with_table

OPEN = {"open": True, "by": None, "error": "overwritten"}
HELD = {"open": False, "by": "Landlock", "error": "EACCES"}
SILENT = {"open": False, "by": "our own care", "error": "no error"}


def test_the_page_has_the_table_that_the_results_give() -> None:
    page = PAGE.read_text()
    assert page == with_table(page, table(json.loads(RESULTS.read_text()))), (
        "make it again: python tests/sandbox/probe_table.py"
    )


def test_every_attack_is_in_the_table_and_was_tried_as_it_is_now() -> None:
    recorded = json.loads(RESULTS.read_text())["rows"]
    named = {name: {key: row[key] for key in row if key != "outcomes"} for name, row in recorded.items()}
    assert named == rows(), "try them again: python tests/sandbox/probe_table.py --measure"
    assert {name: row["group"] for name, row in recorded.items() if row["group"] not in GROUPS} == {}
    tried = {(name, who) for name, way in WAYS.items() for who in way.who}
    assert tried <= {(name, key.split()[1]) for name, row in recorded.items() for key in row["outcomes"]}


def test_every_attack_belongs_to_a_batch_or_is_evaluated_by_itself() -> None:
    batched = {way.name for ways in BATCHES.values() for way in ways}
    assert batched.isdisjoint(CASES)
    assert batched | set(CASES) == set(WAYS)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ({f"{OFF} {ROOT}": OPEN, f"{IN} {ROOT}": HELD}, ["open", "stopped", "", "Landlock (EACCES)"]),
        ({f"{OFF} {USER}": OPEN, f"{IN} {USER}": OPEN}, ["open", "", "**open**", ""]),
        (
            {f"{OFF} {ROOT}": OPEN, f"{OFF} {USER}": HELD, f"{IN} {ROOT}": HELD, f"{IN} {USER}": SILENT},
            ["open for root", "stopped", "stopped", "Landlock (EACCES); our own care"],
        ),
        (
            {f"{OFF} {USER}": HELD, f"{IN} {USER}": SILENT},
            ["stopped (EACCES)", "", "stopped", "our own care"],
        ),
        ({f"{IN} {ROOT}": {**HELD, "by": None}}, ["", "stopped", "", "by accident (EACCES)"]),
    ],
)
def test_a_row_is_never_better_than_what_was_measured(outcomes: dict[str, Any], expected: list[str]) -> None:
    assert cells({"tried": "Write", "outcomes": outcomes}) == ["Write", *expected]


def test_the_summary_counts_what_was_stopped_for_each_user() -> None:
    row = {"group": "files", "tried": "Write"}
    outcomes = {f"{IN} {ROOT}": HELD, f"{IN} {USER}": OPEN}
    about = {"date": "2026-01-01", "python": "3.11", "kernel": "6", "landlock": 7, "seconds": 1}
    text = table({**about, "rows": {"write": {**row, "outcomes": outcomes}}})
    assert "As root: 1 of 1 attacks stopped. As a normal user: 0 of 1 attacks stopped." in text

"""The fault table of the documentation, from the results: `python tests/faults/fault_table.py [--check]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER / "results.json"
PAGE = FOLDER.parents[1] / "docs" / "fault-tolerance.md"
BEGIN = "<!-- made by tests/faults/fault_table.py: begin -->"
END = "<!-- made by tests/faults/fault_table.py: end -->"


def table(results: dict[str, Any]) -> str:
    """A line above, and the rows in a block that opens on a click."""
    rows: dict[str, dict[str, Any]] = results["rows"]
    tests = sum(row["tests"] for row in rows.values())
    kept = [row for row in rows.values() if row["tests"] and row["passed"] == row["tests"]]
    partly = "Of a run that was interrupted: " if results["interrupted"] else ""
    dates: dict[str, list[str]] = {}
    for number, row in rows.items():
        dates.setdefault(row.get("date", results["date"]), []).append(number)
    later = "".join(
        f"; rows {', '.join(numbers)}: {date}" for date, numbers in dates.items() if date != results["date"]
    )
    lines = [
        f"{partly}{len(kept)} of {len(rows)} promises kept by every one of their tests ({tests} proofs; "
        f"{results['date']}, Python {results['python']}, Linux {results['kernel']}, "
        f"{results['seconds']} s{later}).",
        "",
        "<details>",
        "<summary>Every fault, what is promised, how it was tried</summary>",
        "",
        "| # | what happens | what is promised | tried |",
        "|---|---|---|---|",
        *(f"| {number} | {row['fault']} | {row['promise']} | {tried(row)} |" for number, row in rows.items()),
        "",
        "</details>",
    ]
    return "\n".join(lines)


def tried(row: dict[str, Any]) -> str:
    """How often, and how it went; a row without a test says so."""
    if not row["tests"]:
        return "**no test yet**"
    parts = []
    if row["passed"]:
        parts.append(f"{row['passed']} passed")
    if row["failed"]:
        parts.append(f"**{len(row['failed'])} failed**")
    if row["skipped"]:
        parts.append(f"{len(row['skipped'])} skipped on this machine")
    return "; ".join([", ".join(parts), *row["measured"]])


def with_table(page: str, text: str) -> str:
    """Return the page with `text` between the markers."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{PAGE} has no place for the table: a line {BEGIN!r} and a line {END!r}")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def main() -> int:
    page = PAGE.read_text()
    wanted = with_table(page, table(json.loads(RESULTS.read_text())))
    if "--check" in sys.argv[1:]:
        return int(page != wanted)
    PAGE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())

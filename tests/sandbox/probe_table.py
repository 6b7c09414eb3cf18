"""The table of attacks in the documentation, from the results of a real run.

python tests/sandbox/probe_table.py             the page again, from results.json
python tests/sandbox/probe_table.py --measure   try everything (as root also as a normal user), then the page
python tests/sandbox/probe_table.py --check     exit code 1 if the page is not what the results give
"""

from __future__ import annotations

import json
import platform
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attack_cases import CASES, measure_case
from attack_faults import FAULTS, measure_fault, title_of
from attack_runs import BATCHES, Outcome, identities, landlock_version, measure
from attacks.toolbox import CARE, ROOT, USER, WAYS

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER / "results.json"
PAGE = FOLDER.parents[1] / "docs" / "sandbox-probes.md"
BEGIN = "<!-- made by tests/sandbox/probe_table.py: begin -->"
END = "<!-- made by tests/sandbox/probe_table.py: end -->"
OFF, IN = "off", "in"
GROUPS = {
    "files": "Files",
    "processes": "Processes",
    "everybody": "All processes of the user",
    "network": "Network",
    "kernel": "Kernel",
    "supervisor": "Supervisor, results and limits",
    "environment": "An environment in which the sandbox could fail",
}


def rows() -> dict[str, dict[str, Any]]:
    """Return every attack of the suite: its group, what it tries, and what is to stop it."""
    listed = [(batch, way) for batch, ways in BATCHES.items() for way in ways]
    listed += [("supervisor", WAYS[name]) for name in CASES]
    found = {way.name: _row(group, way.title, [layer.name for layer in way.by]) for group, way in listed}
    return found | {name: _row("environment", title_of(name), [CARE.name]) for name in FAULTS}


def _row(group: str, title: str, by: list[str]) -> dict[str, Any]:
    return {"group": group, "tried": title, "stopped by": list(dict.fromkeys(by))}


def measure_all() -> dict[str, Any]:
    """Try every attack with and without the sandbox as everybody who can, and return what became of it."""
    began = time.monotonic()
    found = {name: {**row, "outcomes": {}} for name, row in rows().items()}

    def note(name: str, place: str, who: str, outcome: Outcome) -> None:
        found[name]["outcomes"][f"{place} {who}"] = asdict(outcome)

    for identity in identities():
        who = identity.name
        for place in (OFF, IN):
            for batch, ways in BATCHES.items():
                if any(who in way.who for way in ways):
                    for name, outcome in measure(batch, identity, sandboxed=place == IN).items():
                        note(name, place, who, outcome)
            for name in CASES:
                if who in WAYS[name].who:
                    note(name, place, who, measure_case(name, identity, sandboxed=place == IN))
        for name in FAULTS:
            note(name, IN, who, measure_fault(name, identity))
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "landlock": landlock_version(),
        "seconds": round(time.monotonic() - began),
        "rows": found,
    }


# -- the page --------------------------------------------------------------------------------------------


def table(results: dict[str, Any]) -> str:
    """Return a summary, and the rows of every group in a block that opens on a click."""
    listed: dict[str, dict[str, Any]] = results["rows"]
    lines = [
        f"Linux {results['kernel']}, Landlock {results['landlock']}, Python {results['python']}, "
        f"{results['date']}, {results['seconds']} s. {_summary(listed, ROOT)}. {_summary(listed, USER)}.",
        "",
    ]
    for group, title in GROUPS.items():
        of_group = [row for row in listed.values() if row["group"] == group]
        lines += [
            "<details>",
            f"<summary>{title}: {len(of_group)} attacks</summary>",
            "",
            "| what was tried | off | in the sandbox, as root | as a normal user | what stopped it |",
            "|---|---|---|---|---|",
            *(f"| {' | '.join(cells(row))} |" for row in of_group),
            "",
            "</details>",
            "",
        ]
    return "\n".join(lines).rstrip()


def _summary(listed: dict[str, dict[str, Any]], who: str) -> str:
    outcomes = [outcome for row in listed.values() if (outcome := row["outcomes"].get(f"{IN} {who}"))]
    held = sum(not outcome["open"] for outcome in outcomes)
    return f"As {_called(who)}: {held} of {len(outcomes)} attacks stopped"


def _called(who: str) -> str:
    return "root" if who == ROOT else "a normal user"


def cells(row: dict[str, Any]) -> list[str]:
    """Return the cells of one row."""
    outcomes: dict[str, Any] = row["outcomes"]
    inside = [outcomes.get(f"{IN} {who}") for who in (ROOT, USER)]
    stopped = list(dict.fromkeys(_by(outcome) for outcome in inside if outcome and not outcome["open"]))
    return [
        row["tried"].replace("|", "\\|"),
        _without(outcomes),
        *(_within(outcome) for outcome in inside),
        "; ".join(stopped),
    ]


def _without(outcomes: dict[str, Any]) -> str:
    tried = {who: outcome for who in (ROOT, USER) if (outcome := outcomes.get(f"{OFF} {who}"))}
    through = [who for who, outcome in tried.items() if outcome["open"]]
    if not tried:
        return ""
    if not through:
        errors = dict.fromkeys(outcome["error"] for outcome in tried.values())
        return f"stopped ({', '.join(errors)})"
    return "open" if len(through) == len(tried) else f"open for {_called(through[0])}"


def _within(outcome: dict[str, Any] | None) -> str:
    if outcome is None:
        return ""
    return "**open**" if outcome["open"] else "stopped"


def _by(outcome: dict[str, Any]) -> str:
    by, error = outcome["by"] or "by accident", outcome["error"]
    return by if error == "no error" else f"{by} ({error})"


def with_table(page: str, text: str) -> str:
    """Return the page with `text` between the markers."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{PAGE} has no place for the table: a line {BEGIN!r} and a line {END!r}")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def main() -> int:
    if "--measure" in sys.argv[1:]:
        RESULTS.write_text(json.dumps(measure_all(), indent=1, ensure_ascii=False) + "\n")
    page = PAGE.read_text()
    wanted = with_table(page, table(json.loads(RESULTS.read_text())))
    if "--check" in sys.argv[1:]:
        return int(page != wanted)
    PAGE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Find words that the project has replaced by the field's own: `python scripts/check_words.py [FOLDER]`.

Reads product code, prompts, scripts and Markdown; prints `file:line: word -> the word to write` and ends
with 1 if there is any. `ALLOWED` holds the places where a stored file still has the old word.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

PLACES = ("nas_agent_graph", "nas_system", "prompts", "scripts", "benchmarks", "example", "docs")
SUFFIXES = (".py", ".j2", ".js", ".yaml", ".md")
INSTEAD = {
    r"anew|afresh": "again",
    r"champions?": "best run",
    r"cages?|confine\w*": "sandbox",
    r"sealed": "hold-out",
    r"reference rows?": "baselines",
    r"in words(?!\.)|\w+_in_words": "as text, format_X",
    r"whatever": "any",
    r"torn|spoiled": "truncated, invalid",
    r"mend\w*": "fix",
    r"tally|tallies": "running mean",
    r"insist\w*": "retry, require",
    r"under way": "running, in progress",
    r"beside": "next to",
    r"judged?": "evaluate",
    r"betray\w*": "reveal",
    r"is told": "is passed",
    r"as problem:": "as error:",
}
STORED = r"[\"'`(|./_]sealed|sealed\.json|--sealed|\"confinement\"|NAS_CONFINEMENT|mended_answers|\.torn"
ALLOWED = {
    "": STORED,
    "scripts/check_words.py": ".+",
    "CHANGELOG.md": r"^\| .+",
    "nas_agent_graph/llm/recording.py": r"\btorn\b",
    "docs/fault-tolerance.md": "none torn or lost",
    "nas_agent_graph/replay/search.py": "Too short to judge",
}
"""What a line may hold: in the file of that name, or anywhere (`""`)."""


def findings(root: Path) -> list[str]:
    """Return a line for every replaced word under `root`."""
    words = {re.compile(rf"\b(?:{old})(?!\w)", re.IGNORECASE): new for old, new in INSTEAD.items()}
    paths = [*root.glob("*.md"), *(path for place in PLACES for path in (root / place).rglob("*"))]
    found = []
    for path in sorted(path for path in paths if path.suffix in SUFFIXES):
        name = path.relative_to(root).as_posix()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            rest = re.sub(ALLOWED.get(name, "(?!)"), "", re.sub(ALLOWED[""], "", line))
            found += [
                f"{name}:{number}: {match[0]} -> {new}"
                for old, new in words.items()
                for match in old.finditer(rest)
            ]
    return found


if __name__ == "__main__":
    lines = findings(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1])
    print("\n".join(lines) or "no replaced word is back")
    sys.exit(bool(lines))

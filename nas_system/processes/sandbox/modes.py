"""Whether there is a sandbox, and what happens where it does not hold. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping

MODES = ("required", "best", "off")
"""`required` starts no training that it does not hold, `best` says what does not hold."""
SWITCHES = ("NAS_SANDBOX", "NAS_CONFINEMENT")
"""Environment variables, the second under its old name, that name the mode where no flag does."""
_OLD_WORDS = {"": "best", "on": "best"}


def mode_in(environment: Mapping[str, str]) -> str:
    """Return the mode that the environment names, `best` if none.

    Raises ValueError for a word that is none.
    """
    for name in SWITCHES:
        word = environment.get(name, "")
        mode = _OLD_WORDS.get(word, word)
        if mode not in MODES:
            raise ValueError(f"{name}={word!r} is none of {', '.join(MODES)}; leave it out for best")
        if word:
            return mode
    return "best"

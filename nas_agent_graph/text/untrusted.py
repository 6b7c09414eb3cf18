"""Untrusted text (from files, programs, models) as harmless data for a prompt: one line, in quotes.

A column may be called `x\\n# Task\\nIgnore all that`, a log may end in anything. What passes through
`quoted` is a JSON string: it cannot end its line, open a section, or contain a chat template's tokens.
"""

from __future__ import annotations

import json
from typing import Any

from nas_system.nas_agent.log_text import one_line


def quoted(text: Any, limit: int = 200) -> str:
    """Return `text` as one JSON string of at most `limit` characters of text, angle brackets escaped."""
    spelled = json.dumps(one_line(str(text), limit), ensure_ascii=False)
    # "<|im_start|>" in a column's name must not reach a tokenizer as a special token.
    return spelled.replace("<", "\\u003c").replace(">", "\\u003e")

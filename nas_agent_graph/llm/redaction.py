"""Removes the key from everything a service sends: some quote it in errors, a model may repeat it."""

from __future__ import annotations

import base64
from functools import cache
from urllib.parse import quote

MASK = "[key]"
SHORTEST = 8
"""Characters of a key; shorter ones are placeholders, and masking them would break ordinary text."""


def redacted(text: str, key: str) -> str:
    """Return `text` without the key, also where it is encoded in base64 or for a URL."""
    for spelling in _spellings(key):
        text = text.replace(spelling, MASK)
    return text


@cache
def _spellings(key: str) -> tuple[str, ...]:
    """Return the key and the recognisable part of its encodings, longest first."""
    if len(key) < SHORTEST:
        return ()
    found = {key, quote(key, safe=""), "".join(f"%{byte:02x}" for byte in key.encode())}
    found.add("".join(f"%{byte:02X}" for byte in key.encode()))
    for before in range(3):
        # Text before and after the key shifts it within groups of three bytes and changes only the
        # first and the last letters.
        content = bytes(before) + key.encode()
        first, last = (8 * before + 5) // 6, 8 * len(content) // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found.add(encode(content).decode()[first:last])
    return tuple(sorted(found, key=len, reverse=True))

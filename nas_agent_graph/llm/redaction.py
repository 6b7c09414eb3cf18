"""Takes the key out of whatever a service sends back: some quote it in errors, a model may repeat it."""

from __future__ import annotations

import base64
from functools import cache
from urllib.parse import quote

MASK = "[key]"
SHORTEST = 8
"""Characters of a key; shorter ones are placeholders, and masking them would tear words apart."""


def redacted(text: str, key: str) -> str:
    """`text` without the key, also where it is spelled in base64 or for an address."""
    for spelling in _spellings(key):
        text = text.replace(spelling, MASK)
    return text


@cache
def _spellings(key: str) -> tuple[str, ...]:
    """The key, and what of it can be recognised in other spellings; longest first."""
    if len(key) < SHORTEST:
        return ()
    found = {key, quote(key, safe=""), "".join(f"%{byte:02x}" for byte in key.encode())}
    found.add("".join(f"%{byte:02X}" for byte in key.encode()))
    for before in range(3):
        # What stands before and after the key in the same text moves it within groups of three bytes
        # and changes only the first and the last letters.
        content = bytes(before) + key.encode()
        first, last = (8 * before + 5) // 6, 8 * len(content) // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found.add(encode(content).decode()[first:last])
    return tuple(sorted(found, key=len, reverse=True))

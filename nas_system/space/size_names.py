"""The two words that say how large any network is, and what each family calls them."""

from __future__ import annotations

from nas_system.space.families import FAMILIES

SIZE_NAMES = {
    "hidden_size": ("hidden_size", "d_model", "d_ff"),
    "num_layers": ("num_layers", "e_layers"),
}
"""Width and depth: the names they go by, the most usual one first."""


def size_field(family: str, word: str) -> str | None:
    """The field of `family` that `hidden_size` or `num_layers` is; None if it has nothing of the kind."""
    known = FAMILIES[family].model_fields
    return next((name for name in SIZE_NAMES[word] if name in known), None)

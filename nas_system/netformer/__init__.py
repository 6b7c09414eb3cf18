"""Netformer: learn to write networks, and describe data sets in numbers.

`specs` writes configurations of the search space that suit a data set, for `--proposer netformer`.
`weights` is an example package that no search uses: it makes a zoo of small trained networks and trains a
variational transformer that reads and writes them, weights included. `meta_features` describes data sets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas_system.netformer.meta_features import get_meta_features

__all__ = ["get_meta_features"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nas_system.netformer import meta_features

    return getattr(meta_features, name)

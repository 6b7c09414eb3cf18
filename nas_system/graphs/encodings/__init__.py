"""Positional and structural encodings: what message passing alone cannot know about a node or a pair.

An encoding is a frozen dataclass: its options are its fields, `size` is its width, and it is called with
`DenseGraphs`, a padded batch. Those of nodes answer (B, n, size), those of pairs (B, n, n, size); both
are zero in padding. `add_encodings` computes them once for a whole data set.
"""

from __future__ import annotations

from nas_system.graphs.encodings.attach import add_encodings, build_encoding, encoding_size
from nas_system.graphs.encodings.dense import DenseGraphs, dense_graphs
from nas_system.graphs.encodings.registry import NODE_ENCODINGS, PAIR_ENCODINGS, Encoding, attribute_of

__all__ = [
    "NODE_ENCODINGS",
    "PAIR_ENCODINGS",
    "DenseGraphs",
    "Encoding",
    "add_encodings",
    "attribute_of",
    "build_encoding",
    "dense_graphs",
    "encoding_size",
]

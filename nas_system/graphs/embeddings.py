"""What a batch of graphs brings, as vectors for the layers: node and bond types, encodings, biases.

Raises ConfigError, naming the attribute of the graphs, for what is missing or does not fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nas_system.errors import ConfigError
from nas_system.graphs.encodings import attribute_of, encoding_size
from nas_system.graphs.gps_layer import NodeBatchNorm
from nas_system.graphs.padding import PaddedLayout

Sizes = Mapping[str, int]
"""Numbers per node, or per pair of nodes, by encoding."""


FEATURES = ("types", "numbers")
"""What `x` and `edge_attr` may hold: whole numbers that stand for types, or real numbers."""
NUMBERS_OF = {"x": ("node_features", "num_features"), "edge_attr": ("edge_features", "num_edge_types")}
"""By attribute: the arguments of a model that make it read numbers, and how many columns of them."""


class TypeEmbedding(nn.Module):
    """Whole numbers, (M,) or (M, columns), as the sum of learned vectors: one table for each column."""

    def __init__(self, attribute: str, counts: Sequence[int], width: int) -> None:
        super().__init__()
        self.attribute = attribute
        self.tables = nn.ModuleList(nn.Embedding(count, width) for count in counts)

    def forward(self, batch: Any) -> Tensor:
        types = getattr(batch, self.attribute, None)
        if types is None:
            raise ConfigError(
                f"the graphs have no {self.attribute}, whose types the model embeds; for graphs whose bonds "
                "have no types build it with num_edge_types=0"
            )
        types = types.unsqueeze(-1) if types.ndim == 1 else types
        fits = types.shape[-1] == len(self.tables)
        if fits and types.is_floating_point() and bool((types == types.round()).all()):
            types = types.long()
        if types.is_floating_point() or not fits:
            kind, size = NUMBERS_OF[self.attribute]
            raise ConfigError(
                f"{self.attribute} is {types.dtype} with {types.shape[-1]} columns; the model embeds whole "
                f"numbers in {len(self.tables)}; for real numbers build it with {kind}='numbers' and "
                f"{size}={types.shape[-1]}"
            )
        try:
            return torch.stack(
                [table(column) for table, column in zip(self.tables, types.unbind(-1), strict=True)]
            ).sum(0)
        except IndexError:  # on a CPU; a CUDA device stops at an assertion of its own
            known = [table.num_embeddings for table in self.tables]
            raise ConfigError(
                f"{self.attribute} has types from {int(types.min())} to {int(types.max())}, but the model "
                f"was built for {', '.join(map(str, known))} types, counted from 0"
            ) from None


class NumberProjection(nn.Module):
    """Real numbers, (M,) or (M, columns), brought to one scale and projected, (M, width)."""

    def __init__(self, attribute: str, columns: int, width: int) -> None:
        super().__init__()
        self.attribute = attribute
        # Columns come in units of their own: a mass next to a charge would drown it.
        self.scale = NodeBatchNorm(columns)
        self.projection = nn.Linear(columns, width)

    def forward(self, batch: Any) -> Tensor:
        numbers = getattr(batch, self.attribute, None)
        if numbers is None:
            raise ConfigError(f"the graphs have no {self.attribute}, whose numbers the model reads")
        numbers = numbers.unsqueeze(-1) if numbers.ndim == 1 else numbers
        columns = self.projection.in_features
        if numbers.shape[-1] != columns:
            raise ConfigError(
                f"{self.attribute} has {numbers.shape[-1]} columns; the model was built for {columns}"
            )
        numbers = numbers.to(self.projection.weight.dtype)
        # A CUDA device would have to be waited for; there the loss tells.
        if numbers.device.type == "cpu" and not bool(numbers.isfinite().all()):
            row, column = numbers.isfinite().logical_not().nonzero()[0].tolist()
            raise ConfigError(
                f"{self.attribute} of the batch is {float(numbers[row, column])}, in single precision, in "
                f"row {row}, column {column}; correct it or leave its graph out"
            )
        return self.projection(self.scale(numbers))


def features_of(attribute: str, kind: str, counts: Sequence[int], width: int) -> nn.Module:
    """Return what makes vectors of an attribute. `kind` is "types", `counts` of each column, or "numbers".

    Raises ConfigError for numbers with more than one count, which is that of their columns.
    """
    if kind == "types":
        return TypeEmbedding(attribute, counts, width)
    if len(counts) != 1 or counts[0] < 1:
        _, size = NUMBERS_OF[attribute]
        raise ConfigError(f"{size}={list(counts)}: of numbers it is how many columns {attribute} has")
    return NumberProjection(attribute, counts[0], width)


class NodeInput(nn.Module):
    """Types of nodes, or their numbers, next to their encodings, projected to one width, (N, width)."""

    def __init__(
        self, kind: str, counts: Sequence[int], width: int, sizes: Sizes, generator: torch.Generator | None
    ) -> None:
        super().__init__()
        self.types = features_of("x", kind, counts, width)
        self.sizes = dict(sizes)
        self.generator = generator
        total = sum(sizes.values())
        # Return probabilities lie close together, and the difference between a ring of four and one of six
        # is small compared with their mean. As in the paper's code they are brought to one scale first.
        self.scale = NodeBatchNorm(total) if sizes else nn.Identity()
        self.projection = nn.Linear(width + total, width) if sizes else nn.Identity()

    def forward(self, batch: Any, layout: PaddedLayout) -> Tensor:
        types = self.types(batch)
        if not self.sizes:
            return types
        parts = []
        for name, size in self.sizes.items():
            values = encoding_of(batch, name, size, rows=len(layout.place))
            if name == "laplacian" and self.training:
                values = values * self._signs(layout, values)
            parts.append(values)
        return self.projection(torch.cat([types, self.scale(torch.cat(parts, dim=-1))], dim=-1))

    def _signs(self, layout: PaddedLayout, values: Tensor) -> Tensor:
        """Draw +1 or -1 for every eigenvector of every graph: an eigenvector has no sign of its own.

        Dwivedi et al. 2020, arXiv:2003.00982: seen with both signs, the model learns to ignore it.
        """
        shape = (layout.n_graphs, values.shape[1])
        signs = torch.randint(0, 2, shape, generator=self.generator, device=values.device) * 2 - 1
        return signs.to(values.dtype).index_select(0, layout.graph)


class PairBias(nn.Module):
    """Relative encodings of all pairs of nodes as a bias for each head, (B, heads, n, n)."""

    def __init__(self, sizes: Sizes, n_heads: int, hidden: int = 16) -> None:
        super().__init__()
        self.sizes = dict(sizes)
        width = sum(sizes.values())
        # Not linear: a head may then prefer a certain distance in an encoding that is one number.
        # The same for all keys drops out of the softmax: no bias at the end.
        self.network = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, n_heads, bias=False)
        )

    def forward(self, batch: Any, layout: PaddedLayout) -> Tensor:
        parts = [encoding_of(batch, name, size, layout.n_pairs) for name, size in self.sizes.items()]
        # Padded last: a third of the block is padding, which nothing has to be computed for.
        bias = layout.pad_pairs(self.network(torch.cat(parts, dim=-1)))
        return bias.permute(0, 3, 1, 2).contiguous()


def encoding_sizes(names: Sequence[str], options: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Return every encoding's width, in the order of `names`. Raises ConfigError for an unknown name."""
    return {name: encoding_size(name, options.get(name)) for name in names}


def encoding_of(batch: Any, name: str, size: int, rows: int) -> Tensor:
    """Return an encoding of a batch's nodes or pairs, (rows, size). Raises ConfigError if it does not fit."""
    attribute = attribute_of(name)
    values = getattr(batch, attribute, None)
    if values is None:
        raise ConfigError(
            f"the graphs have no {attribute}, which this model reads; compute it once for the data set: "
            f"graphs = add_encodings(graphs, [{name!r}]), from nas_system.graphs.encodings"
        )
    if len(values) != rows:
        raise ConfigError(
            f"{attribute} has {len(values)} rows, but the batch needs {rows}; compute encodings on the "
            "graphs as they are, after any change of their nodes"
        )
    if values.shape[1] != size:
        raise ConfigError(
            f"{attribute} has {values.shape[1]} columns, but the model was built for {size}; give the model "
            f"the same options of encoding {name!r} as add_encodings"
        )
    return values

"""Fields of the graph transformer: its layers, and the encodings that tell it where a node lies."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from nas_system.space.families.family import FamilyConfig
from nas_system.space.fields import Choice, Range, When


class GraphTransformerConfig(FamilyConfig):
    """Message passing in parallel with global attention (GPS, Rampasek et al. 2022, arXiv:2205.12454)."""

    tasks: ClassVar[tuple[str, ...]] = ("graph_regression", "graph_classification", "link_prediction")
    reads_covariates: ClassVar[bool] = False
    needs_package: ClassVar[str | None] = "torch_geometric"
    extra: ClassVar[str | None] = "graphs"

    family: Literal["graph_transformer"] = "graph_transformer"

    hidden_dim: Annotated[int, Range(8, 1024, multiple_of=8, grid=(32, 64, 96, 128))] = 64
    """Width of a node's vector."""

    num_layers: Annotated[int, Range(1, 16, grid=(2, 3, 4, 6))] = 3
    """GPS layers."""

    heads: Annotated[int, Range(1, 16, grid=(2, 4, 8))] = 4
    """Heads of the global attention; they divide hidden_dim."""

    dropout: Annotated[float, Range(0.0, 0.8, grid=(0.0, 0.1, 0.2))] = 0.0
    """Dropout in the layers and before the answer."""

    norm: Annotated[Literal["batch", "layer"], Choice()] = "batch"
    """Normalisation in the layers: over the nodes of a batch, or over each node's own vector."""

    pooling: Annotated[Literal["mean", "sum"], Choice(where="whole graphs")] = "mean"
    """How the vectors of a graph's nodes become one."""

    laplacian: Annotated[bool, Choice()] = False
    """Give nodes the smoothest eigenvectors of the graph Laplacian: where in its coarse shape they lie."""

    laplacian_k: Annotated[int, Range(1, 64, grid=(4, 8, 16), when=When("laplacian", (True,)))] = 16
    """Eigenvectors."""

    random_walk: Annotated[bool, Choice()] = False
    """Give nodes the chance that a random walk is back after 1, 2, 4, 8, 16 and 32 steps."""

    heat_kernel: Annotated[bool, Choice()] = False
    """Give nodes the heat that stays with them after times from 0.1 to 10."""

    role: Annotated[bool, Choice()] = False
    """Give nodes their degree, clustering coefficient and k-core."""

    shortest_path: Annotated[bool, Choice()] = False
    """Bias the attention between two nodes by the steps from one to the other."""

    diffusion: Annotated[bool, Choice()] = False
    """Bias the attention between two nodes by how much heat flows from one to the other."""

    resistance: Annotated[bool, Choice()] = False
    """Bias the attention between two nodes by the effective resistance between them."""

    def check(self) -> None:
        if self.hidden_dim % self.heads:
            raise ValueError(
                f"model.hidden_dim={self.hidden_dim} is not divisible by model.heads={self.heads}; "
                "change one of them"
            )

    @property
    def node_encodings(self) -> tuple[str, ...]:
        """The encodings of nodes that are on."""
        return tuple(
            name for name in ("laplacian", "random_walk", "heat_kernel", "role") if getattr(self, name)
        )

    @property
    def pair_encodings(self) -> tuple[str, ...]:
        """The encodings of pairs of nodes that are on."""
        return tuple(name for name in ("shortest_path", "diffusion", "resistance") if getattr(self, name))

    @property
    def encoding_options(self) -> dict[str, dict[str, int]]:
        """Options of the encodings that are on."""
        return {"laplacian": {"k": self.laplacian_k}} if self.laplacian else {}

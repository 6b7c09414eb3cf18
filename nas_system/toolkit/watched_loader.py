"""A loader that knows how far it was read, so that an error can say which one it was and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from nas_system.graphs.checks import check_graph, check_graphs, is_graph


class WatchedLoader:
    """The batches of `loader`, counted. `part` is what it is for: training, validation, prediction."""

    def __init__(self, loader: Iterable[Any], part: str) -> None:
        self.loader = loader
        self.part = part
        self.passes = 0
        self.batches = 0
        """Of this pass."""
        self._earlier = 0

    def __len__(self) -> int:
        return len(self.loader)  # pyright: ignore[reportArgumentType]

    def __iter__(self) -> Iterator[Any]:
        self.passes += 1
        self._earlier += self.batches
        self.batches = 0
        for batch in self.loader:
            self.batches += 1
            yield batch

    @property
    def source(self) -> Any:
        """The loader itself, or the one in it if it is wrapped to log."""
        return getattr(self.loader, "loader", self.loader)

    @property
    def reads_once(self) -> bool:
        """Whether it is an iterator, which cannot begin again."""
        return isinstance(self.loader, Iterator)

    @property
    def is_empty(self) -> bool:
        """Whether the last pass was begun and brought nothing."""
        return self.passes > 0 and not self.batches

    def why_empty(self) -> str:
        """Return what is wrong with a pass without a batch, and what to do."""
        text = f"the {self.part} loader returned no batch"
        if self._earlier or self.reads_once:
            again = f" in pass {self.passes}" if self._earlier else ""
            return (
                text + f"{again}: an iterator is read once; pass a list or a DataLoader, which begins again"
            )
        items, size = self._items(), getattr(self.source, "batch_size", None)
        if items and getattr(self.source, "drop_last", False):
            return text + (
                f": its {items} items fill no batch of {size}, and drop_last=True leaves out the rest; lower "
                "batch_size or set drop_last=False"
            )
        return text + ": it has no items"

    def check_edges(self) -> None:
        """Raise ConfigError for a graph of a list with edges that are none of its nodes'.

        PyTorch Geometric would join them to another graph's nodes without a word. Graphs that a data set
        reads from files are not looked through.
        """
        graphs = self._graphs()
        for number, graph in enumerate(graphs or ()):
            check_graph(graph, f"{self.part} graph {number}")

    def check_graphs(self) -> None:
        """Raise ConfigError for graphs of a list that do not fit together."""
        graphs = self._graphs()
        if graphs:
            check_graphs(graphs, f"{self.part} ")

    def _items(self) -> int | None:
        items = getattr(self.source, "sampler", None) or getattr(self.source, "dataset", None)
        return len(items) if items is not None and hasattr(items, "__len__") else None

    def _graphs(self) -> list[Any] | tuple[Any, ...] | None:
        graphs: Any = getattr(self.source, "dataset", None)
        is_list = isinstance(graphs, list | tuple) and bool(graphs)
        return graphs if is_list and is_graph(graphs[0]) else None

"""Who proposes what to train next. One file each; `PROPOSERS` is the registry.

A proposer is a function of the `SearchView` alone: rebuilt at every start, it continues
where it was, because all it knows is on disk.
"""

from __future__ import annotations

from collections.abc import Callable

from nas_agent_graph.context import Proposer


def _tpe() -> Proposer:
    from nas_agent_graph.proposers.tpe import TPEProposer

    return TPEProposer()


def _random_search() -> Proposer:
    from nas_agent_graph.proposers.random_search import RandomSearchProposer

    return RandomSearchProposer()


PROPOSERS: dict[str, Callable[[], Proposer]] = {"tpe": _tpe, "random_search": _random_search}
"""The classical samplers by name; `llm` is built from its settings, see `nas_agent_graph.llm`."""

"""Who proposes what to train next. One file each; `PROPOSERS` is the registry.

A proposer is a function of the `SearchView` alone: rebuilt at every start, it continues where it was,
because all it knows is on disk. Importing this module imports no proposer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas_system.errors import ConfigError

if TYPE_CHECKING:
    from nas_agent_graph.proposers.setup import ProposerSetup, ReadyProposer


@dataclass(frozen=True)
class ProposerEntry:
    """How a search uses a proposer. Each step imports what it needs when it is called."""

    prepare: Callable[[ProposerSetup], ReadyProposer]
    """Called once the search is open, before the first proposal."""
    check: Callable[[ProposerSetup], None] = lambda setup: None
    """Called before anything is written; raises ConfigError if this search cannot use the proposer."""
    after_search: Callable[[ProposerSetup, bool], None] = lambda setup, chosen: None
    """Called when any search has ended; `chosen` says whether the proposer was the search's own."""


def _tpe(setup: ProposerSetup) -> ReadyProposer:
    from nas_agent_graph.proposers.setup import ReadyProposer
    from nas_agent_graph.proposers.tpe import TPEProposer

    return ReadyProposer(TPEProposer(), TPEProposer(), "tpe")


def _random_search(setup: ProposerSetup) -> ReadyProposer:
    from nas_agent_graph.proposers.random_search import RandomSearchProposer
    from nas_agent_graph.proposers.setup import ReadyProposer

    return ReadyProposer(RandomSearchProposer(), RandomSearchProposer(), "random_search")


def _netformer(setup: ProposerSetup) -> ReadyProposer:
    from nas_agent_graph.proposers import netformer

    return netformer.prepare(setup, _tpe(setup).proposer)


def _check_netformer(setup: ProposerSetup) -> None:
    from nas_agent_graph.proposers import netformer

    netformer.check(setup)


def _add_to_archive(setup: ProposerSetup, chosen: bool) -> None:
    from nas_agent_graph.proposers import netformer

    netformer.after_search(setup, chosen)


def _llm(setup: ProposerSetup) -> ReadyProposer:
    from nas_agent_graph.proposers import llm

    return llm.prepare(setup, _tpe(setup).proposer)


def _check_llm(setup: ProposerSetup) -> None:
    from nas_agent_graph.proposers import llm

    llm.check(setup)


def _hybrid(setup: ProposerSetup) -> ReadyProposer:
    from nas_agent_graph.proposers.hybrid import HybridProposer
    from nas_agent_graph.proposers.model_turn import open_turn
    from nas_agent_graph.proposers.setup import ReadyProposer

    turn, sampler = open_turn(setup), _tpe(setup).proposer
    turn.say_if_unreachable(setup.disk.say)
    settings = turn.client.settings
    introduction = f"hybrid, {sampler.name}, and {settings.model} at {settings.endpoint} for structural ideas"
    return ReadyProposer(HybridProposer(turn, sampler, setup.disk.say), sampler, introduction)


PROPOSERS = {
    "tpe": ProposerEntry(_tpe),
    "random_search": ProposerEntry(_random_search),
    "netformer": ProposerEntry(_netformer, _check_netformer, _add_to_archive),
    "llm": ProposerEntry(_llm, _check_llm),
    "hybrid": ProposerEntry(_hybrid, _check_llm),
}
"""Proposers by the name that `--proposer` takes."""


def choose_proposer(name: str | None, setup: ProposerSetup) -> str:
    """Return `name`, or by default `hybrid` if a model is named, else `tpe`.

    Raises ConfigError for an unknown name, and for a proposer that this search cannot use.
    """
    if name is None:
        name = "tpe" if setup.model_settings(demanded=False) is None else "hybrid"
    if name not in PROPOSERS:
        raise ConfigError(f"--proposer {name!r} is not known; choose from: {', '.join(PROPOSERS)}")
    PROPOSERS[name].check(setup)
    return name

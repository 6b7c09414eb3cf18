"""What a proposer is passed to get ready for a search, and what it returns."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from nas_agent_graph.context import Launcher, Proposer
from nas_agent_graph.host.disk_space import DiskSpace
from nas_agent_graph.settings import LLMSettings, llm_settings
from nas_system.errors import ConfigError
from nas_system.nas_agent.ledger import Ledger
from nas_system.space import TaskConfig


@dataclass(frozen=True)
class ProposerSetup:
    """The search that a proposer is to serve. Once the search is open, its facts and seed are on disk."""

    ledger: Ledger
    task: TaskConfig
    launcher: Launcher
    disk: DiskSpace
    """Waits while the disk is full, and prints notes."""
    llm_flags: Mapping[str, str] = field(default_factory=dict)
    """Settings of the language model from the command line."""
    max_cost_usd: float | None = None

    def model_settings(self, *, demanded: bool) -> LLMSettings | None:
        """Return the language model's settings; None if no model is named and none is `demanded`.

        Raises ConfigError for settings that cannot be meant, and for a budget of money without a price.
        """
        folders = (self.ledger.workspace, Path.cwd())
        settings = llm_settings(os.environ, demanded=demanded, flags=self.llm_flags, folders=folders)
        if settings is not None and self.max_cost_usd is not None:
            from nas_agent_graph.llm.prices import how_to_know, price_of

            if price_of(settings) is None:
                raise ConfigError(f"--max-cost needs a price: {how_to_know(settings)}")
        return settings


class ReadyProposer(NamedTuple):
    """A proposer that can be asked."""

    proposer: Proposer
    fallback: Proposer
    """Steps in where the proposer fails."""
    introduction: str
    """Who proposes, in one line for people."""

"""The language model that a search names, ready to be asked, and the record of what is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas_agent_graph.llm.client import ChatClient
from nas_agent_graph.llm.recording import Transcript

if TYPE_CHECKING:
    from nas_agent_graph.proposers.setup import ProposerSetup


def transcript_of(setup: ProposerSetup, client: ChatClient) -> Transcript:
    """Return what records the conversation with this client."""
    return Transcript(
        setup.ledger.runs_dir,
        secret=client.settings.api_key,
        retry_until_space=setup.disk.retry_until_space,
        warn=setup.disk.say,
    )


def client_of(setup: ProposerSetup) -> ChatClient:
    """Return the client of the model that is named. Raises ConfigError for settings that cannot be meant."""
    settings = setup.model_settings(demanded=True)
    assert settings is not None, "a model that is demanded and not named is an error"
    return ChatClient(settings)

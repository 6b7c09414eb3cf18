"""Where settings come from: flags win over the environment, the environment over defaults.

An LLM is used if and only if a model is named; a key alone never spends money.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nas_system.errors import ConfigError


@dataclass(frozen=True)
class LLMSettings:
    """How to reach the language model. The key never shows in a repr, a log or a file."""

    model: str
    base_url: str | None
    api_key: str = field(repr=False)
    temperature: float | None = None
    """None sends none: reasoning models refuse the parameter."""
    timeout_s: float = 120.0
    max_retries: int = 4

    @property
    def endpoint(self) -> str:
        return self.base_url or "the provider's own address"


def llm_settings(environment: Mapping[str, str], *, demanded: bool) -> LLMSettings | None:
    """The LLM's settings, or None if no model is named.

    Raises ConfigError if the LLM was asked for by name (`demanded`) or by a model, and
    something needed is missing.
    """
    model = _first(environment, "NAS_LLM_MODEL", "OPENAI_MODEL")
    if model is None:
        if demanded:
            raise ConfigError("--proposer llm needs a model: set NAS_LLM_MODEL (or OPENAI_MODEL)")
        return None
    base_url = _first(environment, "NAS_LLM_BASE_URL", "OPENAI_BASE_URL")
    api_key = _first(environment, "NAS_LLM_API_KEY", "OPENAI_API_KEY")
    if api_key is None:
        if base_url is None:
            raise ConfigError(
                f"the model {model!r} is named but no key: set NAS_LLM_API_KEY (or OPENAI_API_KEY), "
                "or NAS_LLM_BASE_URL for a server that needs none"
            )
        # The client refuses to start without a key, even for a local server that wants none.
        api_key = "none"
    return LLMSettings(model, base_url, api_key, temperature=_temperature(environment))


def _first(environment: Mapping[str, str], *names: str) -> str | None:
    return next((environment[name] for name in names if environment.get(name)), None)


def _temperature(environment: Mapping[str, str]) -> float | None:
    text = environment.get("NAS_LLM_TEMPERATURE")
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"NAS_LLM_TEMPERATURE={text!r} is not a number") from None

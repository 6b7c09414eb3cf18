"""What a model's answer costs: from NAS_LLM_PRICE, else from the genai-prices package.

A price belongs to a model *at a service*: a local server may serve a model under a paid one's name, so
a name alone is never looked up. Without a price for cached tokens they cost the full one: an upper estimate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from nas_agent_graph.settings import PROVIDERS, LLMSettings

PER = 1_000_000
"""Tokens that prices are quoted for."""
_TYPICAL = (6_000, 200)
"""Tokens of a typical prompt and answer: some prices depend on the length."""


class Rate(Protocol):
    """US dollars for tokens of the prompt, of the answer with its reasoning, and from the service's cache:
    these are among those of the prompt."""

    def __call__(self, asked: int, answered: int, cached: int = 0) -> float: ...


@dataclass(frozen=True)
class Price:
    """What tokens cost, and who says so."""

    of: Rate
    source: str

    def __str__(self) -> str:
        asked, answered = _TYPICAL
        per_input, per_output = self.of(asked, 0) / asked * PER, self.of(0, answered) / answered * PER
        per_cached = self.of(asked, 0, asked) / asked * PER
        cached = f", ${per_cached:g} cached" if round(per_cached, 9) != round(per_input, 9) else ""
        return f"${per_input:g} in{cached}, ${per_output:g} out per million tokens ({self.source})"


def price_of(settings: LLMSettings) -> Price | None:
    """Return the price of the model at its service; None if it is not known."""
    if settings.price is not None:
        per_input, per_output, *rest = settings.price
        per_cached = rest[0] if rest else per_input
        source = settings.sources.get("price", "default")

        def given(asked: int, answered: int, cached: int = 0) -> float:
            return ((asked - cached) * per_input + cached * per_cached + answered * per_output) / PER

        return Price(given, source)
    return _listed(settings)


def _listed(settings: LLMSettings) -> Price | None:
    try:
        # An optional extra that contains a list of prices; it needs no network.
        import genai_prices
    except ImportError:
        return None
    url = settings.base_url or PROVIDERS[settings.provider].base_url

    def of(asked: int, answered: int, cached: int = 0) -> float:
        usage = genai_prices.Usage(input_tokens=asked, cache_read_tokens=cached, output_tokens=answered)
        return float(
            genai_prices.calc_price(usage, model_ref=settings.model, provider_api_url=url).total_price
        )

    try:
        of(*_TYPICAL)
    except LookupError:
        return None
    return Price(of, f"genai-prices {genai_prices.__version__}")


def how_to_know(settings: LLMSettings) -> str:
    """Say what to do about a price that is not known."""
    return (
        f"the price of {settings.model} at {settings.endpoint} is not known; set NAS_LLM_PRICE=IN,OUT "
        "(US dollars per million tokens of prompt and answer; 0,0 for a model of your own; a third number "
        "prices cached tokens of the prompt), or install "
        "the list of prices: pip install 'nas-agent[prices]'"
    )

"""What a model's answer costs: from NAS_LLM_PRICE, else from the genai-prices package.

A price belongs to a model *at a service*: a local server may serve a model under a paid one's name, so
a name alone is never looked up. Discounts for cached prompts are ignored: costs are upper estimates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nas_agent_graph.settings import PROVIDERS, LLMSettings

PER = 1_000_000
"""Tokens that prices are quoted for."""
_TYPICAL = (6_000, 200)
"""Tokens of a typical prompt and answer: some prices depend on the length."""


@dataclass(frozen=True)
class Price:
    """US dollars for tokens of the prompt and of the answer, reasoning included."""

    of: Callable[[int, int], float]
    source: str

    def __str__(self) -> str:
        asked, answered = _TYPICAL
        per_input, per_output = self.of(asked, 0) / asked * PER, self.of(0, answered) / answered * PER
        return f"${per_input:g} in, ${per_output:g} out per million tokens ({self.source})"


def price_of(settings: LLMSettings) -> Price | None:
    """Return the price of the model at its service; None if it is not known."""
    if settings.price is not None:
        per_input, per_output = settings.price
        source = settings.sources.get("price", "default")
        return Price(lambda asked, answered: (asked * per_input + answered * per_output) / PER, source)
    return _listed(settings)


def _listed(settings: LLMSettings) -> Price | None:
    try:
        # An optional extra that contains a list of prices; it needs no network.
        import genai_prices
    except ImportError:
        return None
    url = settings.base_url or PROVIDERS[settings.provider].base_url

    def of(asked: int, answered: int) -> float:
        usage = genai_prices.Usage(input_tokens=asked, output_tokens=answered)
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
        "(US dollars per million tokens of prompt and answer; 0,0 for a model of your own), or install "
        "the list of prices: pip install 'nas-agent[prices]'"
    )

"""What an answer costs: as a person says, else as the list of prices knows it, else unknown."""

from __future__ import annotations

import pytest

from nas_agent_graph.llm.client import ChatClient
from nas_agent_graph.llm.prices import how_to_know, price_of
from nas_agent_graph.llm.prompt_size import estimate_tokens, prompt_tokens
from nas_agent_graph.llm.scripted_server import Reply, ScriptedServer
from nas_agent_graph.settings import LLMSettings, llm_settings
from nas_system.errors import ConfigError

QUESTION = [{"role": "user", "content": "Propose one change, and say why you expect a gain from it."}]


def settings(model: str = "m", base_url: str | None = "http://127.0.0.1:9/v1", **more) -> LLMSettings:
    return LLMSettings(model, base_url, "key", **more)


def test_a_price_that_a_person_gives_counts_per_million_tokens() -> None:
    given = llm_settings(
        {"NAS_LLM_MODEL": "m", "NAS_LLM_BASE_URL": "http://x/v1", "NAS_LLM_PRICE": " 0.25, 2 "},
        demanded=False,
    )
    assert given is not None
    price = price_of(given)
    assert price is not None
    assert price.of(1_000_000, 0) == 0.25
    assert price.of(4_000, 500) == pytest.approx(0.001 + 0.001)
    assert str(price) == "$0.25 in, $2 out per million tokens (environment NAS_LLM_PRICE)"


def test_a_third_number_prices_what_the_service_took_from_its_cache() -> None:
    environment = {"NAS_LLM_MODEL": "m", "NAS_LLM_BASE_URL": "http://x/v1", "NAS_LLM_PRICE": "2,8,0.5"}
    given = llm_settings(environment, demanded=False)
    assert given is not None
    price = price_of(given)
    assert price is not None
    assert price.of(1_000_000, 0, 800_000) == pytest.approx(0.2 * 2 + 0.8 * 0.5)
    assert price.of(0, 1_000_000) == 8
    assert str(price) == "$2 in, $0.5 cached, $8 out per million tokens (environment NAS_LLM_PRICE)"
    full = price_of(settings(price=(2.0, 8.0)))
    assert full is not None and full.of(1_000_000, 0, 800_000) == 2, (
        "without a price of its own: the full one"
    )


def test_the_list_knows_what_cached_tokens_cost() -> None:
    pytest.importorskip("genai_prices")
    listed = price_of(settings("gpt-4o", None))
    assert listed is not None
    assert 0 < listed.of(1_000_000, 0, 1_000_000) < listed.of(1_000_000, 0)


@pytest.mark.parametrize("text", ["2", "1,2,3,4", "1,2,-3", "cheap,2", "-1,2", "nan,1", "inf,1", ","])
def test_what_is_no_price_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match=r"is no price; write IN,OUT"):
        llm_settings({"NAS_LLM_MODEL": "m", "OPENAI_API_KEY": "k", "NAS_LLM_PRICE": text}, demanded=False)


def test_a_listed_model_is_priced_at_its_own_service_only() -> None:
    pytest.importorskip("genai_prices")
    listed = price_of(settings("gpt-4o", None))
    assert listed is not None
    assert listed.of(1_000_000, 0) > 0
    assert listed.of(0, 1_000_000) > listed.of(1_000_000, 0), "answers cost more than prompts"
    assert "genai-prices" in str(listed)
    named = price_of(settings("claude-sonnet-4-5", None, provider="anthropic"))
    assert named is not None and named.of(1_000, 1_000) > 0
    # A server of one's own may call its model like a paid one.
    assert price_of(settings("gpt-4o")) is None
    assert price_of(settings("llama3.3", "http://localhost:11434/v1", provider="ollama")) is None
    assert price_of(settings("no-such-model", None)) is None


def test_an_unknown_price_comes_with_what_to_do() -> None:
    advice = how_to_know(settings("mine"))
    assert "the price of mine at http://127.0.0.1:9/v1 is not known" in advice
    assert "NAS_LLM_PRICE=IN,OUT" in advice and "nas-agent[prices]" in advice


def test_every_answer_carries_its_cost() -> None:
    with ScriptedServer([Reply("{}", prompt_tokens=900, completion_tokens=60)]) as server:
        answer = ChatClient(settings(base_url=server.url, price=(10.0, 20.0))).ask(QUESTION)
    assert answer.cost_usd == 0.0102
    assert answer.to_event()["cost_usd"] == 0.0102


def test_without_a_price_there_is_no_cost() -> None:
    with ScriptedServer(["{}"]) as server:
        answer = ChatClient(settings(base_url=server.url)).ask(QUESTION)
    assert answer.cost_usd is None
    assert "cost_usd" not in answer.to_event()


def test_a_service_that_does_not_count_is_counted_roughly_and_says_so() -> None:
    with ScriptedServer(
        [Reply("a long answer of some words", prompt_tokens=0, completion_tokens=0)]
    ) as server:
        answer = ChatClient(settings(base_url=server.url, price=(10.0, 20.0))).ask(QUESTION)
    assert answer.tokens_estimated
    assert answer.input_tokens == prompt_tokens(QUESTION) > 0
    assert answer.output_tokens == estimate_tokens("a long answer of some words") > 0
    assert answer.cost_usd == pytest.approx((10 * answer.input_tokens + 20 * answer.output_tokens) / 1e6)
    assert answer.to_event()["usage"]["tokens_estimated"] is True
    assert answer.warning is None

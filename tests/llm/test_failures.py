"""Every way in which a service can fail, played over real HTTP: each has one behaviour.

`pause` ends the search with its state kept (exit 4); `repair` sends the reason back to the model.
"""

import time

import pytest

from nas_agent_graph.llm.client import ChatClient, ServiceRefused
from nas_agent_graph.llm.parsing import read_answer
from nas_agent_graph.llm.scripted_server import FAULTS, Reply, ScriptedServer, error
from nas_agent_graph.settings import LLMSettings
from nas_system.errors import ProposalError

KEY = "sk-canary-0123456789abcdef-7f3a"
GOOD = (
    '{"parent": "run_0000", "changes": [{"parameter": "training.lr", "value": "0.003"}], '
    '"hypothesis": "h", "expected_val_mse": null}'
)
QUESTION = [{"role": "user", "content": "Propose."}]

PAUSES = {
    "bad_key": ("key", "check NAS_LLM_API_KEY"),
    "forbidden": ("forbidden", "what it may use"),
    "not_found": ("not_found", "ends in /v1"),
    "unknown_model": ("not_found", "knows no model 'scripted'"),
    "long_rate_limit": ("rate_limit", "asks to wait 3600 s"),
    "quota": ("quota", "used up"),
    "server_error": ("server", "an error 500"),
    "context": ("context", "longer than the model's context window"),
    "error_inside": ("server", "upstream provider failed"),
    "hang": ("timeout", "no answer within 0.4 s"),
    "drip": ("timeout", "no answer within 0.4 s"),
    "html": ("web_page", "web page: check that NAS_LLM_BASE_URL ends in /v1"),
    "html_error": ("server", "an error 502; it says: a web page"),
    "rate_limit": ("rate_limit", "asks to wait 1 s"),
}
REPAIRS = {
    "garbage": "no chat completion",
    "not_a_completion": "no chat completion",
    "empty": "the answer is empty",
    "refusal": "the model refused to answer: I cannot help with that.",
    "content_filter": "content filter",
    "truncated": "cut off after 4096 tokens",
    "only_thoughts": "900 of them thoughts",
    "cut_prompt": "does not fit",
}


def client(server, **changed):
    values = {"timeout_s": 5.0, "max_retries": 0, **changed}
    return ChatClient(LLMSettings("scripted", server.url, KEY, **values), warn=lambda _: None)


def test_every_fault_has_a_behaviour():
    assert set(PAUSES) | set(REPAIRS) == set(FAULTS)
    assert not set(PAUSES) & set(REPAIRS)


@pytest.mark.parametrize("fault", PAUSES)
@pytest.mark.fault(34)
def test_a_service_that_cannot_answer_pauses_and_says_what_to_do(fault):
    kind, advice = PAUSES[fault]
    with ScriptedServer(lambda _: FAULTS[fault]) as server, pytest.raises(ServiceRefused) as paused:
        client(server, timeout_s=0.4 if fault in ("hang", "drip") else 5.0).ask(QUESTION)
    assert paused.value.failure.kind == kind
    assert advice in str(paused.value)
    assert "run the same command to continue" in str(paused.value)
    assert paused.value.exit_code == 4


@pytest.mark.parametrize("fault", REPAIRS)
@pytest.mark.fault(30, 34)
def test_an_answer_that_cannot_be_used_goes_back_with_its_exact_reason(fault):
    with ScriptedServer([FAULTS[fault]]) as server:
        answer = client(server).ask(QUESTION)
    with pytest.raises(ProposalError, match=REPAIRS[fault]):
        read_answer(answer)


def test_a_short_wait_that_the_service_asks_for_is_waited_for():
    with ScriptedServer([FAULTS["rate_limit"], GOOD]) as server:
        started = time.monotonic()
        answer = client(server, max_retries=1).ask(QUESTION)
        assert time.monotonic() - started > 0.9
        assert len(server.requests) == 2
    assert answer.text == GOOD


@pytest.mark.parametrize("fault", ["server_error", "html_error", "hang"])
@pytest.mark.fault(34)
def test_what_may_pass_is_tried_again_by_the_sdk(fault):
    with ScriptedServer([FAULTS[fault], GOOD]) as server:
        assert client(server, max_retries=1, timeout_s=0.5).ask(QUESTION).text == GOOD
        assert len(server.requests) == 2


@pytest.mark.parametrize("fault", ["bad_key", "not_found", "quota", "long_rate_limit", "context"])
@pytest.mark.fault(34)
def test_what_does_not_pass_is_asked_once(fault):
    with ScriptedServer(lambda _: FAULTS[fault]) as server:
        with pytest.raises(ServiceRefused):
            client(server, max_retries=3).ask(QUESTION)
        assert len(server.requests) == 1


def test_a_server_that_quotes_the_key_does_not_get_it_shown():
    with (
        ScriptedServer([error(401, f"Incorrect API key provided: {KEY}\x1b[31m")]) as server,
        pytest.raises(ServiceRefused) as paused,
    ):
        client(server).ask(QUESTION)
    assert "[key]" in str(paused.value)
    assert KEY not in str(paused.value)
    assert "\x1b" not in str(paused.value)


def test_a_server_that_wants_a_key_where_none_was_set_says_so():
    with ScriptedServer([], key=KEY) as server:
        bare = LLMSettings("m", server.url, "none", max_retries=0, sources={"api_key": "default"})
        with pytest.raises(ServiceRefused, match="wants a key: set NAS_LLM_API_KEY"):
            ChatClient(bare).ask(QUESTION)


@pytest.mark.fault(30)
def test_an_answer_marked_as_cut_off_counts_if_its_object_is_whole():
    with ScriptedServer([Reply(GOOD, finish_reason="length")]) as server:
        assert read_answer(client(server).ask(QUESTION)).parent == "run_0000"

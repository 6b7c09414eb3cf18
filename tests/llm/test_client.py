"""The chat client over real HTTP: what it sends, what it keeps, how it steps down, how it is stopped."""

import json
import signal
from importlib.util import find_spec

import pytest

from nas_agent_graph.context import SearchInterrupted
from nas_agent_graph.llm.answer_formats import proposal_schema
from nas_agent_graph.llm.client import Answer, ChatClient, ServiceRefused
from nas_agent_graph.llm.prompt_size import cut_short, estimate_tokens
from nas_agent_graph.llm.scripted_server import FAULTS, Reply, ScriptedServer, error
from nas_agent_graph.settings import DEFAULT_MAX_TOKENS, LLMSettings
from nas_system.errors import ConfigError

QUESTION = [{"role": "user", "content": "Propose."}]


def client(server, warn=lambda _: None, **changed):
    values = {"timeout_s": 5.0, "max_retries": 0, **changed}
    return ChatClient(LLMSettings("scripted", server.url, "key", **values), warn=warn)


def formats(server):
    return [request.get("response_format", {}).get("type", "prompt") for request in server.requests]


def test_the_strictest_format_is_asked_for_first():
    with ScriptedServer(["{}"]) as server:
        answer = client(server).ask(QUESTION)
        wanted = server.requests[0]["response_format"]["json_schema"]
    assert wanted == {"name": "proposal", "strict": True, "schema": proposal_schema("val_mse")}
    assert answer.answer_format == "json_schema"


@pytest.mark.parametrize(
    ("understood", "asked", "used"),
    [
        (("json_schema", "json_object"), ["json_schema"] * 2, "json_schema"),
        (("json_object",), ["json_schema", "json_object", "json_object"], "json_object"),
        ((), ["json_schema", "json_object", "prompt", "prompt"], "prompt"),
    ],
)
def test_a_format_that_is_refused_is_stepped_down_from_and_remembered(understood, asked, used):
    with ScriptedServer(["{}", "{}"], formats=understood) as server:
        chat = client(server)
        assert [chat.ask(QUESTION).answer_format for _ in range(2)] == [used, used]
        assert formats(server) == asked


def test_a_bad_request_about_something_else_is_not_taken_for_the_format():
    about = json.dumps({"error": {"message": "must be 1", "param": "temperature", "code": None}})
    with ScriptedServer(lambda _: Reply(status=400, body=about)) as server:
        with pytest.raises(ServiceRefused, match="it says: must be 1"):
            client(server).ask(QUESTION)
        assert len(server.requests) == 1


def test_a_bad_request_that_says_nothing_is_tried_in_every_format_and_then_shown():
    with ScriptedServer(lambda _: error(400, "bad")) as server:
        chat = client(server)
        with pytest.raises(ServiceRefused, match="an error 400: it refused the request; it says: bad"):
            chat.ask(QUESTION)
        assert formats(server) == ["json_schema", "json_object", "prompt", "prompt"]
        assert ["max_tokens" in request for request in server.requests] == [True, True, True, False]
        assert chat.answer_format == "json_schema", "nothing was accepted, so nothing was learnt"


def test_free_text_is_asked_for_without_any_format():
    with ScriptedServer(["A note."]) as server:
        assert client(server).ask(QUESTION, structured=False).text == "A note."
        assert formats(server) == ["prompt"]


def test_nothing_is_sent_that_nobody_set_but_room_for_the_answer():
    with ScriptedServer(["{}", "{}"]) as server:
        client(server).ask(QUESTION)
        client(server, temperature=0.0).ask(QUESTION)
        plain, warm = server.requests
    assert set(plain) - {"stream"} == {"model", "messages", "response_format", "max_tokens"}
    assert plain["max_tokens"] == DEFAULT_MAX_TOKENS
    assert warm["temperature"] == 0.0


def test_all_that_came_back_is_kept():
    reply = Reply("<think>hm</think>{}", reasoning_tokens=7, completion_tokens=12, prompt_tokens=30)
    with ScriptedServer([reply, FAULTS["refusal"]]) as server:
        answer, refused = client(server).ask(QUESTION), client(server).ask(QUESTION)
    assert answer.text == "<think>hm</think>{}"
    assert (answer.finish_reason, answer.model) == ("stop", "scripted-1")
    assert (answer.input_tokens, answer.output_tokens, answer.reasoning_tokens) == (30, 12, 7)
    assert refused.refusal == "I cannot help with that."
    event = refused.to_event()
    assert json.loads(json.dumps(event)) == event
    usage = event.pop("usage")
    assert Answer(**event, **usage).refusal == refused.refusal


def test_a_prompt_that_was_cut_is_told_once_and_what_follows_from_it():
    notes = []
    long = [{"role": "user", "content": "training.lr 0.003 is a number\n" * 900}]
    with ScriptedServer(lambda _: "{}", window=4096) as server:
        chat = client(server, warn=notes.append)
        answers = [chat.ask(long), chat.ask(long), chat.ask(QUESTION)]
    read, consequence = notes
    assert "read 4096 prompt tokens" in read
    assert consequence.startswith("the server cuts prompts short: from now on")
    assert [answer.warning is not None for answer in answers] == [True, True, False]


@pytest.mark.parametrize(
    ("estimate", "reported", "cut"),
    [
        (8000, 4096, True),
        (4000, 4096, True),
        (3000, 4096, False),
        (4000, 4100, False),
        (8000, 7000, False),
        (20, 9, True),
        (8000, 0, False),
    ],
)
def test_too_few_prompt_tokens_give_a_cut_away(estimate, reported, cut):
    assert (cut_short(estimate, reported) is not None) == cut


def test_the_estimate_grows_with_the_text_and_is_not_above_one_token_per_two_characters():
    table = "| training.lr | 0.0001 to 0.1 | 0.001 | step of the optimizer |\n"
    assert len(table) / 5 < estimate_tokens(table) < len(table) / 2
    assert estimate_tokens(table * 10) == 10 * estimate_tokens(table)


def test_ctrl_c_does_not_wait_for_the_answer_and_nothing_is_asked_again():

    def stop(number, _frame):
        raise SearchInterrupted(number)

    def hang(_body):
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        return FAULTS["hang"]

    before = signal.signal(signal.SIGALRM, stop)
    try:
        with ScriptedServer(hang) as server:
            chat = client(server, timeout_s=3600.0, max_retries=2)
            with pytest.raises(SearchInterrupted):
                chat.ask(QUESTION)
            assert len(server.requests) == 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(find_spec("langchain_anthropic") is not None, reason="the package is installed")
def test_a_provider_whose_package_is_missing_names_the_extra():
    found = LLMSettings("claude-x", "http://127.0.0.1:9", "key", provider="anthropic")
    with pytest.raises(ConfigError, match=r"pip install 'nas-agent\[anthropic\]'"):
        ChatClient(found)


def schemas_in(schema):
    yield schema
    for value in schema.get("properties", {}).values():
        yield from schemas_in(value)
    if "items" in schema:
        yield from schemas_in(schema["items"])


def test_the_schema_keeps_to_what_strict_servers_take():
    for schema in schemas_in(proposal_schema("val_mse")):
        assert not {"default", "oneOf", "minimum", "maximum", "minItems", "maxLength"} & set(schema)
        if schema.get("type") == "object":
            assert schema["additionalProperties"] is False
            assert schema["required"] == list(schema["properties"])

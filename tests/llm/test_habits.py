"""Habits of servers and models, each played over HTTP on loopback: a row of the table in docs/llm.md.

Every habit is a function of that name; the table and the functions name each other.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from nas_agent_graph.llm.answer import Answer
from nas_agent_graph.llm.client import ChatClient, ServiceRefused
from nas_agent_graph.llm.parsing import ParsedAnswer, read_answer
from nas_agent_graph.llm.scripted_server import FAULTS, Reply, ScriptedServer, error
from nas_agent_graph.settings import DEFAULT_MAX_TOKENS, LLMSettings, llm_settings
from nas_system.errors import ConfigError, ProposalError

PROPOSAL = {
    "parent": "run_0000",
    "changes": [{"parameter": "training.lr", "value": "0.003"}],
    "hypothesis": "h",
    "expected_val_mse": 0.05,
}
GOOD = json.dumps(PROPOSAL)
DRAFT = json.dumps({**PROPOSAL, "parent": "run_0009"})
SYSTEM = "You search."
QUESTION = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "Propose."}]
USAGE = {"prompt_tokens": 900, "completion_tokens": 60}


@dataclass
class Folder:
    """What a habit may need besides a server."""

    path: Path
    run_cli: Callable[..., Any]


HABITS: dict[str, Callable[[Folder], None]] = {}


def habit(play: Callable[[Folder], None]) -> Callable[[Folder], None]:
    HABITS[play.__name__.replace("_", "-")] = play
    return play


def test_the_table_of_the_docs_has_a_row_for_every_habit_and_no_other(project_root: Path) -> None:
    text = (project_root / "docs" / "llm.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| [^|]+ \| [^|]+ \|$", text, re.MULTILINE)
    assert sorted(rows) == sorted(HABITS)
    assert len(rows) >= 40


# --- a question and what comes of it --------------------------------------------------------


def client(url: str, environment: Mapping[str, str] | None = None, **changed: Any) -> ChatClient:
    values: dict[str, Any] = {"timeout_s": 20.0, "max_retries": 0, **changed}
    settings = LLMSettings("scripted", url, "sk-canary-0123456789", **values)
    return ChatClient(settings, warn=lambda _: None, environment=environment or {})


def asked(*replies: Reply | str, **changed: Any) -> Answer:
    with ScriptedServer(replies) as server:
        return client(server.url, **changed).ask(QUESTION)


def completion(message: Any, finish_reason: str | None = "stop", **more: Any) -> Reply:
    choice = {"index": 0, "finish_reason": finish_reason, "message": message}
    return Reply(body=json.dumps({"model": "m", "choices": [choice], "usage": USAGE, **more}))


def is_read(answer: Answer, *, habit: str | None = None) -> ParsedAnswer:
    found = read_answer(answer)
    assert (found.parent, found.changes[0].parameter, found.changes[0].value) == (
        "run_0000",
        "training.lr",
        0.003,
    )
    assert (answer.habits or "") == (habit or "")
    return found


def is_refused(answer: Answer, reason: str) -> None:
    with pytest.raises(ProposalError, match=reason):
        read_answer(answer)


def pauses(kind: str, *said: str, url: str, environment: Mapping[str, str] | None = None) -> None:
    with pytest.raises(ServiceRefused) as paused:
        client(url, environment).ask(QUESTION)
    assert paused.value.failure.kind == kind, str(paused.value)
    assert all(part in str(paused.value) for part in said), str(paused.value)
    assert "run the same command to continue" in str(paused.value)


def demanding(refusal: Reply, is_met: Callable[[dict[str, Any]], bool], reply: Reply | str = GOOD):
    """Return a script that refuses every request but those that meet a demand."""
    return lambda body: reply if is_met(body) else refusal


def learns(
    script: Callable[[dict[str, Any]], Reply | str], *, habit: str | None, requests: int, **changed: Any
) -> list[dict[str, Any]]:
    """Assert that the first question is answered after some requests, and the second at once."""
    with ScriptedServer(script) as server:
        chat = client(server.url, **changed)
        is_read(chat.ask(QUESTION), habit=habit)
        assert len(server.requests) == requests
        is_read(chat.ask(QUESTION), habit=habit)
        assert len(server.requests) == requests + 1, "what was learnt is remembered"
        return server.requests


# --- where the answer stands ----------------------------------------------------------------


@habit
def reasoning_content(_: Folder) -> None:
    for content in ("", None, "\n"):
        answer = asked(completion({"content": content, "reasoning_content": f"So I take {GOOD}"}))
        is_read(answer, habit="answers only in reasoning_content, with no content")


@habit
def reasoning_field(_: Folder) -> None:
    answer = asked(completion({"content": None, "reasoning": f"<think>{DRAFT}</think>{GOOD}"}))
    is_read(answer, habit="answers only in reasoning, with no content")


@habit
def reasoning_details(_: Folder) -> None:
    details = [{"type": "reasoning.text", "text": GOOD[:20]}, {"text": GOOD[20:]}, {"type": "x"}, 5]
    answer = asked(completion({"content": "", "reasoning_details": details}))
    is_read(answer, habit="answers only in reasoning_details, with no content")


@habit
def reasoning_with_content(_: Folder) -> None:
    is_read(asked(completion({"content": GOOD, "reasoning_content": DRAFT})))
    is_refused(asked(completion({"content": "I am not sure.", "reasoning": GOOD})), "no JSON object")


@habit
def reasoning_cut_off(_: Folder) -> None:
    usage = {**USAGE, "completion_tokens_details": {"reasoning_tokens": 60}}
    cut = completion({"content": "", "reasoning_content": f"first {GOOD}"}, "length", usage=usage)
    is_refused(asked(cut), r"cut off after 60 tokens, 60 of them thoughts")


@habit
def tool_calls(_: Folder) -> None:
    for content in (None, "", "I call the tool."):
        call = {"type": "function", "function": {"name": "propose", "arguments": GOOD}}
        answer = asked(completion({"content": content, "tool_calls": [call]}, "tool_calls"))
        is_read(answer, habit="answers only in the arguments of tool calls")


@habit
def tool_calls_as_objects(_: Folder) -> None:
    call = {"function": {"name": "propose", "arguments": {"proposal": PROPOSAL}}}
    is_read(asked(completion({"tool_calls": [call]})), habit="answers only in the arguments of tool calls")
    legacy = completion({"content": None, "function_call": {"name": "f", "arguments": GOOD}})
    is_read(asked(legacy), habit="answers only in the arguments of tool calls")


@habit
def two_tool_calls(_: Folder) -> None:
    calls = [{"function": {"arguments": text}} for text in (GOOD, DRAFT)]
    is_refused(asked(completion({"tool_calls": calls})), "2 different proposals")


@habit
def content_in_parts(_: Folder) -> None:
    thoughts = {"type": "thinking", "thinking": [{"type": "text", "text": DRAFT}]}
    parts = [thoughts, {"type": "text", "text": GOOD[:30]}, {"type": "text", "text": GOOD[30:]}]
    is_read(asked(completion({"content": parts})))


@habit
def content_as_an_object(_: Folder) -> None:
    answer = asked(completion({"content": PROPOSAL}))
    is_read(answer, habit="sends its answer as an object in the place of a text")


@habit
def text_completion(_: Folder) -> None:
    body = {"object": "text_completion", "choices": [{"text": GOOD, "finish_reason": "stop"}]}
    is_read(asked(Reply(body=json.dumps(body))))


@habit
def ollama_format(_: Folder) -> None:
    body = {
        "message": {"role": "assistant", "content": GOOD},
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 700,
        "eval_count": 50,
    }
    answer = asked(Reply(body=json.dumps(body)))
    is_read(answer)
    assert (answer.input_tokens, answer.output_tokens, answer.tokens_estimated) == (700, 50, False)


@habit
def another_role(_: Folder) -> None:
    is_read(asked(completion({"role": "model", "content": GOOD})))


@habit
def another_finish_reason(_: Folder) -> None:
    is_read(asked(completion({"content": GOOD}, "eos_token")))
    is_refused(asked(completion({"content": '{"parent": '}, "MAX_TOKENS")), "cut off after 60 tokens")
    is_refused(asked(completion({"content": ""}, "SAFETY")), "content filter")


# --- thoughts in the answer -----------------------------------------------------------------


@habit
def think_tags(_: Folder) -> None:
    for tag in ("think", "thinking", "Think", 'think duration="3"'):
        is_read(asked(f"<{tag}>{DRAFT}</{tag.split()[0]}>\n{GOOD}"))


@habit
def think_opened_by_the_template(_: Folder) -> None:
    is_read(asked(f"perhaps {DRAFT}</think>{GOOD}"))


@habit
def think_without_end(_: Folder) -> None:
    is_read(asked(f"{GOOD}<think>or rather {DRAFT}"))
    is_refused(asked(f"<think>perhaps {GOOD}"), "no JSON object")


@habit
def thought_tags(_: Folder) -> None:
    for tag in ("thought", "thoughts", "reasoning", "reflection", "scratchpad"):
        is_read(asked(f"<{tag}>{DRAFT} a < b</think></{tag}>{GOOD}"))


@habit
def bracket_tags(_: Folder) -> None:
    is_read(asked(f"[THINK]{DRAFT}[/THINK]{GOOD}"))
    is_read(asked(f"◁think▷{DRAFT}◁/think▷{GOOD}"))


@habit
def seed_tags(_: Folder) -> None:
    is_read(
        asked(f"<seed:think>{DRAFT}<seed:cot_budget_reflect>few</seed:cot_budget_reflect></seed:think>{GOOD}")
    )


@habit
def special_tokens(_: Folder) -> None:
    is_read(asked(f"<|begin_of_thought|>{DRAFT}<|end_of_thought|>{GOOD}"))
    is_read(asked(f"<unused94>thought\n{DRAFT}<unused95>{GOOD}"))


@habit
def harmony_channels(_: Folder) -> None:
    thoughts = f"<|channel|>analysis<|message|>{DRAFT}<|end|><|start|>assistant"
    is_read(asked(f"{thoughts}<|channel|>final<|message|>{GOOD}<|return|>"))
    is_read(asked(f"{thoughts}<|channel|>final <|constrain|>json<|message|>{GOOD}"))
    is_read(asked(f"{thoughts}<|channel|>commentary to=functions.propose<|message|>{GOOD}<|call|>"))
    is_refused(asked(f"<|channel|>analysis<|message|>{GOOD}"), "no JSON object")


@habit
def harmony_without_its_tokens(_: Folder) -> None:
    is_read(asked(f"analysisWe try {DRAFT}assistantfinal{GOOD}"))


# --- streams --------------------------------------------------------------------------------


def events(*parts: str, ends: bool = True, field: str = "content", more: tuple[Any, ...] = ()) -> str:
    chunks: list[Any] = [{"model": "m", "choices": [{"index": 0, "delta": {"role": "assistant"}}]}]
    chunks += [{"choices": [{"index": 0, "delta": {field: part}}]} for part in parts]
    if ends:
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        chunks.append({"choices": [], "usage": USAGE})
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in (*chunks, *more)]
    return ": PROCESSING\n\n" + "".join(lines) + ("data: [DONE]\n\n" if ends else "")


def stream(*parts: str, content_type: str = "text/event-stream", **shape: Any) -> Reply:
    return Reply(body=events(*parts, **shape), content_type=content_type)


HALVES = (GOOD[:25], GOOD[25:])


@habit
def always_streams(_: Folder) -> None:
    answer = asked(stream(*HALVES))
    is_read(answer, habit="streams its answers")
    assert (answer.text, answer.finish_reason, answer.model) == (GOOD, "stop", "m")
    assert (answer.input_tokens, answer.output_tokens, answer.tokens_estimated) == (900, 60, False)
    thought = asked(stream(*HALVES, field="reasoning_content"))
    assert read_answer(thought).parent == "run_0000"


@habit
def streams_as_json(_: Folder) -> None:
    is_read(asked(stream(*HALVES, content_type="application/json")), habit="streams its answers")


@habit
def streams_tool_calls(_: Folder) -> None:
    deltas = [{"tool_calls": [{"index": 0, "function": {"arguments": half}}]} for half in HALVES]
    lines = [f"data: {json.dumps({'choices': [{'delta': delta}]})}\n" for delta in deltas]
    answer = asked(Reply(body="".join(lines) + "data: [DONE]\n", content_type="text/event-stream"))
    is_read(answer, habit="streams its answers; answers only in the arguments of tool calls")


@habit
def stream_only(_: Folder) -> None:
    for said in (
        "stream must be set to true",
        "This model only supports stream mode, please enable the stream parameter",
        "Non-streaming requests are not supported by this model",
    ):
        script = demanding(error(400, said), lambda body: body.get("stream") is True, stream(*HALVES))
        requests = learns(script, habit="streams its answers; answers only as a stream", requests=2)
        assert requests[-1]["stream_options"] == {"include_usage": True}


@habit
def stream_options_refused(_: Folder) -> None:
    def script(body: dict[str, Any]) -> Reply:
        if not body.get("stream"):
            return error(400, "stream must be true")
        return error(422, "unknown field stream_options") if "stream_options" in body else stream(*HALVES)

    learns(script, habit="streams its answers; answers only as a stream", requests=3)


@habit
def broken_stream(_: Folder) -> None:
    is_refused(asked(stream(GOOD[:60], ends=False)), "stream broke off")
    is_read(asked(stream(*HALVES, ends=False)), habit="streams its answers")


@habit
def error_in_a_stream(_: Folder) -> None:
    broken = events(GOOD[:40], ends=False, more=({"error": {"message": "provider overloaded", "code": 502}},))
    with ScriptedServer(lambda _: Reply(body=broken, content_type="text/event-stream")) as server:
        pauses("server", "an error 502", "provider overloaded", url=server.url)


# --- what a server demands ------------------------------------------------------------------


@habit
def thinking_must_be_off(_: Folder) -> None:
    said = "parameter.enable_thinking must be set to false for non-streaming calls"
    script = demanding(error(400, said), lambda body: body.get("enable_thinking") is False)
    learns(script, habit="answers only with enable_thinking false", requests=2)


@habit
def required_fields(folder: Folder) -> None:
    wanted = {"chat_template_kwargs": {"enable_thinking": False}, "safe_prompt": True}
    script = demanding(
        error(400, "safe_prompt is required"), lambda body: all(body.get(n) == v for n, v in wanted.items())
    )
    with ScriptedServer(script) as server:
        environment = {
            "NAS_LLM_MODEL": "m",
            "NAS_LLM_BASE_URL": server.url,
            "NAS_LLM_EXTRA_BODY": json.dumps(wanted),
        }
        settings = llm_settings(environment, demanded=True, folders=[folder.path])
        assert settings is not None
        is_read(ChatClient(settings, environment={}).ask(QUESTION))
    for text, problem in (
        ("{", "is not JSON"),
        ("[1]", "is a JSON list"),
        ("NaN", "is not JSON"),
        ('{"top_p": 1e999}', "is not JSON"),
        ('{"user": "\\ud800"}', "is not JSON"),
        ('{"model": "x", "sk-canary": 1}', "sets model"),
        ('{"messages": []}', "sets messages"),
    ):
        with pytest.raises(ConfigError, match=problem) as refused:
            llm_settings({**environment, "NAS_LLM_EXTRA_BODY": text}, demanded=True)
        assert "canary" not in str(refused.value)


def has_no_system(body: dict[str, Any]) -> bool:
    return [message["role"] for message in body["messages"]] == ["user"]


@habit
def no_system_role(_: Folder) -> None:
    for status, said in (
        (400, "System role not supported"),
        (400, "Only user and assistant roles are supported!"),
        (500, "Conversation roles must alternate user/assistant/user/assistant"),
        (400, "Developer instruction is not enabled for models/gemma"),
    ):
        requests = learns(
            demanding(error(status, said), has_no_system), habit="has no system role", requests=2
        )
        (message,) = requests[-1]["messages"]
        assert message["content"] == f"{SYSTEM}\n\nPropose."


def within(limit: int, name: str = "max_tokens") -> Callable[[dict[str, Any]], bool]:
    return lambda body: 0 < body.get(name, limit + 1) <= limit


@habit
def small_default_limit(_: Folder) -> None:
    cut = Reply(GOOD[:40], finish_reason="length", completion_tokens=100)

    def script(body: dict[str, Any]) -> Reply | str:
        return GOOD if body.get("max_tokens", 100) >= DEFAULT_MAX_TOKENS else cut

    learns(script, habit=None, requests=1)
    with ScriptedServer(script) as server:
        is_refused(client(server.url, max_tokens=None).ask(QUESTION), "cut off after 100 tokens")
    for text in ("many", "-1", "1.5", "99999999"):
        with pytest.raises(ConfigError, match="NAS_LLM_MAX_TOKENS"):
            llm_settings(
                {"NAS_LLM_MODEL": "m", "OPENAI_API_KEY": "k", "NAS_LLM_MAX_TOKENS": text}, demanded=True
            )


@habit
def limit_by_another_name(_: Folder) -> None:
    said = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
    script = demanding(error(400, said), within(DEFAULT_MAX_TOKENS, "max_completion_tokens"))
    learns(script, habit="wants the limit of an answer as max_completion_tokens", requests=2)


@habit
def limit_too_large(_: Folder) -> None:
    said = "max_tokens is too large: 16384. This model supports at most 4096 completion tokens."
    requests = learns(demanding(error(400, said), within(4096)), habit=None, requests=2)
    assert requests[-1]["max_tokens"] == 4096
    window = (
        "This model's maximum context length is 8192 tokens. However, you requested 16600 tokens "
        "(216 in the messages, 16384 in the completion)."
    )
    script = demanding(error(400, window), lambda body: "max_tokens" not in body)
    assert "max_tokens" not in learns(script, habit=None, requests=3)[-1]


@habit
def limit_unknown(_: Folder) -> None:
    body = {"detail": [{"type": "extra_forbidden", "loc": ["body", "max_tokens"], "msg": "not permitted"}]}
    refusal = Reply(status=422, body=json.dumps(body))
    learns(demanding(refusal, lambda asked: "max_tokens" not in asked), habit=None, requests=2)


@habit
def limit_beyond_the_credit(_: Folder) -> None:
    said = "This requires more credits, or fewer max_tokens. You requested 16384 but can only afford 900."
    requests = learns(demanding(error(402, said), within(900)), habit=None, requests=2)
    assert requests[-1]["max_tokens"] == 900
    with ScriptedServer(lambda _: error(402, "Insufficient Balance")) as server:
        pauses("quota", "used up", "Insufficient Balance", url=server.url)


@habit
def bad_request_without_a_reason(_: Folder) -> None:
    plain = demanding(
        error(400, "Bad Request"), lambda body: "max_tokens" not in body and "response_format" not in body
    )
    learns(plain, habit=None, requests=4)


@habit
def no_schema(_: Folder) -> None:
    for formats, requests in ((("json_object",), 2), ((), 3)):
        with ScriptedServer(lambda _: GOOD, formats=formats) as server:
            is_read(client(server.url).ask(QUESTION))
            assert len(server.requests) == requests


@habit
def wants_a_key(_: Folder) -> None:
    with ScriptedServer([], key="another") as server:
        pauses("key", "check NAS_LLM_API_KEY", url=server.url)


# --- errors with a good status --------------------------------------------------------------


def inside(body: Any) -> Reply:
    return Reply(body=json.dumps(body))


@habit
def quota_inside_a_good_status(_: Folder) -> None:
    for body in (
        {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}},
        {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}},
        {"error": "quota exhausted", "choices": []},
    ):
        with ScriptedServer(lambda _, body=body: inside(body)) as server:
            pauses("quota", "inside a reply with a good status", url=server.url)
            assert len(server.requests) == 1


@habit
def rate_limit_inside_a_good_status(_: Folder) -> None:
    limited = inside({"code": 1302, "message": "Rate limit reached for requests"})
    with ScriptedServer(lambda _: limited) as server:
        pauses("rate_limit", "Rate limit reached for requests", url=server.url)
    with ScriptedServer([limited, GOOD]) as server:
        is_read(client(server.url, max_retries=1).ask(QUESTION))


@habit
def error_inside_a_choice(_: Folder) -> None:
    choice = {
        "finish_reason": "error",
        "message": {"content": ""},
        "error": {"code": 429, "message": "Provider returned error"},
    }
    with ScriptedServer(lambda _: inside({"choices": [choice]})) as server:
        pauses("rate_limit", "Provider returned error", url=server.url)


@habit
def error_of_another_format(_: Folder) -> None:
    for body in (
        {"detail": "upstream failed"},
        {"success": False, "errors": [{"code": 7009, "message": "upstream failed"}]},
        {"error_code": 336100, "error_msg": "upstream failed"},
        {"object": "error", "message": "upstream failed", "code": 500},
    ):
        with ScriptedServer(lambda _, body=body: inside(body)) as server:
            pauses("server", "upstream failed", url=server.url)


@habit
def web_page(_: Folder) -> None:
    with ScriptedServer(lambda _: FAULTS["html"]) as server:
        pauses("web_page", "ends in /v1", url=server.url)


@habit
def no_completion(_: Folder) -> None:
    for body in ('{"choices": [{"mess', '{"hello": "world"}', "", "data: [DONE]\n\n"):
        is_refused(asked(Reply(body=body)), "no chat completion|is empty")


# --- objects that are nearly JSON -----------------------------------------------------------


@habit
def fences_and_prose(_: Folder) -> None:
    is_read(asked(f"Run 3 had {{'lr': 0.1}}.\n```json\n{GOOD}\n```\nGood luck {{}}."))


@habit
def trailing_commas(_: Folder) -> None:
    is_read(asked(GOOD.replace("}]", "},]").replace("0.05}", "0.05,}")))


@habit
def comments(_: Folder) -> None:
    text = GOOD.replace('"changes"', '// {"parent": 1}\n/* "x" */ "changes"').replace('"h"', '"h" # why\n')
    is_read(asked(text))


@habit
def python_literals(_: Folder) -> None:
    found = is_read(asked(repr({**PROPOSAL, "repeat": False, "hypothesis": 'it\'s "True" // None'})))
    assert found.hypothesis == 'it\'s "True" // None'
    is_read(asked(repr({**PROPOSAL, "expected_val_mse": None})))


@habit
def bare_decimals(_: Folder) -> None:
    for number in (".003", "+.003", "3.e-3", "+3e-3"):
        is_read(asked(GOOD.replace('"0.003"', number)))
        is_read(asked(GOOD.replace('"0.003"', f'"{number}"')))


@habit
def names_without_quotes(_: Folder) -> None:
    is_read(asked(re.sub(r'"(\w+)":', r"\1:", GOOD)))


@habit
def line_breaks_in_strings(_: Folder) -> None:
    assert is_read(asked(GOOD.replace('"h"', '"one\n\ttwo"'))).hypothesis == "one\n\ttwo"


@habit
def numbers_as_strings(_: Folder) -> None:
    found = is_read(asked(GOOD.replace("0.05", '" .05 "')))
    assert found.expected_score == 0.05
    is_refused(asked(GOOD.replace("0.05", '"low"')), "expected_val_mse")


@habit
def wrapper_key(_: Folder) -> None:
    is_read(asked(json.dumps({"answer": {"proposal": PROPOSAL}, "thought": "it may help"})))
    is_read(asked(f"<tool_call>{json.dumps({'name': 'f', 'arguments': PROPOSAL})}</tool_call>"))


@habit
def changes_as_an_object(_: Folder) -> None:
    for changes in (
        {"training.lr": 0.003},
        {"training": {"lr": "0.003"}},
        {"parameter": "training.lr", "value": 0.003},
        [{"training.lr": ".003"}],
    ):
        is_read(asked(json.dumps({**PROPOSAL, "changes": changes})))


@habit
def extra_keys(_: Folder) -> None:
    is_read(asked(json.dumps({**PROPOSAL, "confidence": 0.9, "risks": ["slow"]})))
    change = {"parameter": "training.lr", "value": "0.003", "reason": "faster"}
    is_read(asked(json.dumps({**PROPOSAL, "changes": [change]})))
    more = {**PROPOSAL, "also": {"training.optimizer": "sgd"}}
    is_refused(asked(json.dumps(more)), "also: Extra inputs")


# --- what is not clear is not guessed -------------------------------------------------------


@habit
def two_proposals(_: Folder) -> None:
    is_refused(asked(f"Either {GOOD} or {DRAFT}"), "2 different proposals")
    is_refused(
        asked(json.dumps({"first": PROPOSAL, "second": {**PROPOSAL, "parent": "run_0001"}})), "2 different"
    )


@habit
def object_that_breaks_off(_: Folder) -> None:
    for end in range(10, len(GOOD) - 1, 17):
        is_refused(asked(Reply(GOOD[:end], completion_tokens=9)), "no JSON object|does not fit")


@habit
def missing_comma(_: Folder) -> None:
    is_refused(asked(GOOD.replace('", ', '" ', 1)), "no JSON object|does not fit")


@habit
def name_twice(_: Folder) -> None:
    is_refused(asked(GOOD.replace('"parent"', '"parent": "run_0001", "parent"')), "'parent' occurs twice")


@habit
def refusal(_: Folder) -> None:
    is_refused(asked(FAULTS["refusal"]), "refused to answer: I cannot help")


@habit
def empty(_: Folder) -> None:
    is_refused(asked(""), "the answer is empty")


# --- counts ---------------------------------------------------------------------------------


@habit
def cached_tokens(_: Folder) -> None:
    cached: tuple[dict[str, Any], ...] = (
        {"usage": {**USAGE, "prompt_tokens_details": {"cached_tokens": 800}}},
        {"usage": {**USAGE, "prompt_cache_hit_tokens": 800, "prompt_cache_miss_tokens": 100}},
        {"usage": {**USAGE, "cached_tokens": 800}},
        {"timings": {"cache_n": 800, "prompt_n": 100}},
        {"usage": {"input_tokens": 100, "cache_read_input_tokens": 800, "output_tokens": 60}},
    )
    for more in cached:
        answer = asked(completion({"content": GOOD}, **more), price=(10.0, 20.0, 1.0))
        is_read(answer)
        assert (answer.input_tokens, answer.cached_tokens) == (900, 800)
        assert answer.to_event()["usage"]["cached_tokens"] == 800
        assert answer.cost_usd == round((100 * 10 + 800 * 1 + 60 * 20) / 1e6, 9)
    untrue = {**USAGE, "prompt_tokens_details": {"cached_tokens": 5000}}
    assert asked(completion({"content": GOOD}, usage=untrue)).cached_tokens == 900


@habit
def no_counts(_: Folder) -> None:
    answer = asked(completion({"content": GOOD}, usage=None))
    is_read(answer)
    assert answer.tokens_estimated
    assert answer.input_tokens > 0


@habit
def prompt_cut_short(_: Folder) -> None:
    long = [{"role": "user", "content": "training.lr 0.003 is a number\n" * 900}]
    with ScriptedServer(lambda _: GOOD, window=4096) as server:
        warning = client(server.url).ask(long).warning
    assert warning is not None and "read 4096 prompt tokens" in warning


# --- the way there --------------------------------------------------------------------------

FAR = "http://model.invalid/v1"


@habit
def unknown_proxy_scheme(_: Folder) -> None:
    pauses(
        "proxy",
        "ALL_PROXY names a proxy of the scheme socks://",
        "write socks5://",
        "NO_PROXY",
        url=FAR,
        environment={"ALL_PROXY": "socks://127.0.0.1:9/"},
    )


@habit
def socks_without_its_package(folder: Folder) -> None:
    done = folder.run_cli(
        "nas_agent_graph.doctor",
        cwd=folder.path,
        env={
            "NAS_LLM_MODEL": "m",
            "NAS_LLM_BASE_URL": FAR,
            "NO_PROXY": "",
            "no_proxy": "",
            "http_proxy": "socks5://127.0.0.1:9",
        },
    )
    assert done.returncode == 4
    assert "http_proxy" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@habit
def no_address_of_a_proxy(_: Folder) -> None:
    for text in ("http://", "http://[", "http://a:b"):
        pauses("proxy", "http_proxy is no address", url=FAR, environment={"http_proxy": text})


@habit
def proxy_refuses(_: Folder) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://user:secret@127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ServiceRefused) as paused:
            client(FAR, {"http_proxy": address}).ask(QUESTION)
    assert paused.value.failure.kind == "proxy"
    assert "of http_proxy refuses the connection" in str(paused.value)
    assert "secret" not in str(paused.value)


@habit
def proxy_wants_a_password(_: Folder) -> None:
    with ScriptedServer(lambda _: GOOD) as server:
        # A proxy gets the whole address; this one knows no such path, and says so.
        proxy = server.url.removesuffix("/v1")
        server.reply_to = lambda *_: error(407, "Proxy Authentication Required")  # type: ignore[method-assign]
        pauses(
            "proxy", "of http_proxy wants a user and a password", url=FAR, environment={"http_proxy": proxy}
        )


@habit
def proxy_and_loopback(_: Folder) -> None:
    dead = dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy"), "http://127.0.0.1:9")
    with ScriptedServer(lambda _: GOOD) as server:
        is_read(client(server.url, dead).ask(QUESTION))
        is_read(client(server.url.replace("127.0.0.1", "localhost"), dead).ask(QUESTION))


@habit
def proxy_exempts(_: Folder) -> None:
    from nas_agent_graph.llm.transport.proxies import proxy_for

    named = {"https_proxy": "proxy:3128", "no_proxy": "example.org, .inside"}
    assert proxy_for("https://api.example.org/v1", named) is None
    assert proxy_for("https://box.inside/v1", named) is None
    found = proxy_for("https://example.com/v1", named)
    assert found is not None
    assert (found.url, str(found)) == ("http://proxy:3128", "the proxy http://proxy:3128 of https_proxy")
    assert proxy_for("http://example.com/v1", named) is None


@habit
def unknown_name(folder: Folder) -> None:
    names = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
    env = {"NAS_LLM_MODEL": "m", "NAS_LLM_BASE_URL": FAR, **dict.fromkeys(names, "")}
    done = folder.run_cli("nas_agent_graph.doctor", cwd=folder.path, env=env)
    assert done.returncode == 4
    assert "'model.invalid' cannot be resolved (DNS)" in done.stdout


@habit
def refused_connection(_: Folder) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        said = f"nothing listens at 127.0.0.1:{port}: start the server"
        pauses("refused", said, url=f"http://127.0.0.1:{port}/v1")


@contextmanager
def tls_server(folder: Path, name: str) -> Iterator[tuple[str, Path]]:
    """Serve over TLS with a self-signed certificate for a name; yield the address and the certificate."""
    pem = folder / "server.pem"
    subprocess.run(
        ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName={name}",
         "-keyout", folder / "key.pem", "-out", pem),
        check=True, capture_output=True,
    )  # fmt: skip

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = completion({"content": GOOD}).body or ""
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: Any) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, folder / "key.pem")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        server.socket = context.wrap_socket(server.socket, server_side=True)
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"https://127.0.0.1:{server.server_port}/v1", pem
        server.shutdown()


@habit
def certificate_of_an_unknown_authority(folder: Folder) -> None:
    with tls_server(folder.path, "IP:127.0.0.1") as (url, pem):
        pauses("tls", "is not trusted here (TLS)", "SSL_CERT_FILE", url=url)
        is_read(client(url, {"SSL_CERT_FILE": str(pem)}).ask(QUESTION))


@habit
def certificate_of_another_name(folder: Folder) -> None:
    with tls_server(folder.path, "DNS:elsewhere.example") as (url, pem):
        pauses("tls", "belongs to another name (TLS)", url=url, environment={"SSL_CERT_FILE": str(pem)})


@habit
def certificates_that_cannot_be_read(folder: Folder) -> None:
    (folder.path / "empty.pem").write_text("none")
    for file in ("missing.pem", "empty.pem"):
        named = {"SSL_CERT_FILE": str(folder.path / file)}
        pauses(
            "tls",
            f"SSL_CERT_FILE='{folder.path / file}' cannot be read",
            url="https://127.0.0.1:9/v1",
            environment=named,
        )
        with ScriptedServer([GOOD]) as server:
            is_read(client(server.url, named).ask(QUESTION))


@habit
def https_where_there_is_none(_: Folder) -> None:
    with ScriptedServer(lambda _: GOOD) as server:
        pauses("tls", "does not speak TLS: write http://", url=server.url.replace("http:", "https:"))


@habit
def http_where_https_is_served(_: Folder) -> None:
    said = error(400, "Client sent an HTTP request to an HTTPS server.")
    with ScriptedServer(lambda _: said) as server:
        pauses("request", "write https:// in NAS_LLM_BASE_URL", url=server.url)


@pytest.mark.parametrize("name", HABITS)
@pytest.mark.fault(34)
def test_a_habit_has_the_behaviour_of_its_row(name: str, tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    HABITS[name](Folder(tmp_path, run_cli))

"""A model named `anthropic:NAME`, over real HTTP: a loopback server that speaks Anthropic's messages API."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from nas_agent_graph.llm.client import ChatClient, ServiceRefused
from nas_agent_graph.settings import DEFAULT_MAX_TOKENS, llm_settings

pytest.importorskip("langchain_anthropic")

KEY = "sk-ant-canary-7f3a"
QUESTION = [
    {"role": "system", "content": "Answer in JSON."},
    {"role": "user", "content": "Propose."},
]


class Server(ThreadingHTTPServer):
    """Answers every request with `reply`: a status and a body."""

    reply: tuple[int, dict[str, Any]]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str, dict[str, Any]]] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        # Its package has sent the key under either name.
        key = self.headers["x-api-key"] or self.headers["Authorization"]
        self.server.asked.append((self.path, key, body))
        status, answer = self.server.reply
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


def client(server: Server) -> ChatClient:
    environment = {
        "NAS_LLM_MODEL": "anthropic:claude-test",
        "NAS_LLM_BASE_URL": f"http://127.0.0.1:{server.server_port}",
        "ANTHROPIC_API_KEY": KEY,
        "NAS_LLM_PRICE": "3,15",
    }
    settings = llm_settings(environment, demanded=True)
    assert settings is not None
    return ChatClient(replace(settings, max_retries=0))


def said(text: str) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-test-20250929",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 900, "output_tokens": 60},
    }


def test_the_question_goes_out_in_its_own_format_and_the_answer_comes_back_whole(server: Server) -> None:
    server.reply = 200, said('{"parent": "run_0000"}')
    answer = client(server).ask(QUESTION)
    ((path, key, body),) = server.asked
    assert (path, key.removeprefix("Bearer ")) == ("/v1/messages", KEY)
    assert body["system"] == "Answer in JSON."
    assert [message["role"] for message in body["messages"]] == ["user"]
    assert "temperature" not in body or body["temperature"] is None
    assert body["max_tokens"] == DEFAULT_MAX_TOKENS, "its package asks for fewer"
    assert answer.text == '{"parent": "run_0000"}'
    assert (answer.answer_format, answer.finish_reason) == ("prompt", "end_turn")
    assert (answer.input_tokens, answer.output_tokens, answer.cost_usd) == (900, 60, 0.0036)
    assert answer.model is not None and answer.model.startswith("claude-test")


def test_the_long_part_that_never_changes_is_marked_to_be_kept_and_priced_as_such(server: Server) -> None:
    kept = {"input_tokens": 100, "output_tokens": 60, "cache_read_input_tokens": 900}
    server.reply = 200, {**said("{}"), "usage": kept}
    constant = "These are the rules. " * 300
    answer = client(server).ask([{"role": "system", "content": constant}, *QUESTION[1:]])
    ((_, _, body),) = server.asked
    (block,) = body["system"]
    assert (block["text"], block["cache_control"]) == (constant, {"type": "ephemeral"})
    assert (answer.input_tokens, answer.cached_tokens) == (1000, 900)


@pytest.mark.parametrize(
    ("status", "kind", "advice"),
    [
        (401, "authentication_error", "NAS_LLM_API_KEY"),
        (404, "not_found_error", "model"),
        (529, "overloaded_error", "error"),
    ],
)
def test_its_failures_pause_the_search_and_say_what_to_do(
    server: Server, status: int, kind: str, advice: str
) -> None:
    server.reply = status, {"type": "error", "error": {"type": kind, "message": "no"}}
    with pytest.raises(ServiceRefused, match=advice) as refused:
        client(server).ask(QUESTION)
    assert KEY not in str(refused.value)
    assert refused.value.exit_code == 4


def test_its_answers_are_bounded_and_counted_like_any_other(server: Server) -> None:
    server.reply = 200, said("x" * 5_000_000)
    long = client(server).ask(QUESTION)
    assert long.garbled is not None
    assert "longer than 4 MiB" in long.garbled
    server.reply = 200, said("{}") | {"role": "model", "usage": {"input_tokens": -1, "output_tokens": "60"}}
    answer = client(server).ask(QUESTION)
    assert (answer.text, answer.tokens_estimated, long.tokens_estimated) == ("{}", True, True)
    assert answer.input_tokens == long.input_tokens > 0

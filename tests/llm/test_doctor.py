"""The doctor, against a server on loopback that plays every state of health."""

import itertools
import json
from dataclasses import dataclass

import pytest

from nas_agent_graph.doctor import examine
from nas_agent_graph.llm.scripted_server import FAULTS, Reply, ScriptedServer, error

KEY = "sk-canary-0123456789abcdef-7f3a"
GOOD = (
    '{"parent": "run_0000", "changes": [{"parameter": "training.lr", "value": "0.003"}], '
    '"hypothesis": "h", "expected_val_mse": null}'
)


@dataclass
class Done:
    returncode: int
    stdout: str


def named(url, **changed):
    return {"NAS_LLM_MODEL": "scripted", "NAS_LLM_BASE_URL": url, "NAS_LLM_API_KEY": KEY, **changed}


@pytest.fixture
def doctor(tmp_path, capsys):
    """The whole examination but for the start of a process."""

    def run(url, **environment):
        code = examine(named(url, **environment), {}, [tmp_path])
        said = capsys.readouterr()
        assert KEY not in said.out + said.err
        return Done(code, said.out)

    return run


def test_a_healthy_service_is_described_with_every_source(run_cli, tmp_path):
    with ScriptedServer(lambda _: GOOD, key=KEY) as server:
        environment = named(server.url, NAS_LLM_TEMPERATURE="0.5")
        done = run_cli("nas_agent_graph.doctor", "--model", "openai:other", cwd=tmp_path, env=environment)
        assert KEY not in done.stdout + done.stderr
        assert [request["model"] for request in server.requests] == ["other"] * 5
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
    assert lines["model"].split()[1:] == ["openai:other", "flag", "--model"]
    assert "...7f3a (31 characters)" in lines["key"]
    assert lines["key"].endswith("environment NAS_LLM_API_KEY")
    assert lines["timeout"].split()[1:] == ["120", "default"]
    for name in ("json_schema", "json_object", "prompt"):
        assert "understood" in lines[name]
        assert "tokens" in lines[name]
    assert "read whole" in done.stdout
    assert "Searches will ask in the format json_schema." in done.stdout


def test_the_format_that_the_server_understands_is_found(doctor):
    with ScriptedServer(lambda _: GOOD, formats=("json_object",)) as server:
        done = doctor(server.url)
    assert done.returncode == 0
    assert "json_schema  refused" in done.stdout
    assert "Searches will ask in the format json_object." in done.stdout


def test_a_context_cut_short_is_seen(doctor):
    with ScriptedServer(lambda _: GOOD, window=4096) as server:
        done = doctor(server.url)
    assert done.returncode == 4
    assert "cut short: the server read 4096 prompt tokens" in done.stdout
    assert "To fix: the context window" in done.stdout


@pytest.mark.parametrize(
    ("fault", "advice"),
    [
        ("bad_key", "check NAS_LLM_API_KEY (it comes from environment NAS_LLM_API_KEY)"),
        ("not_found", "NAS_LLM_BASE_URL ends in /v1"),
        ("unknown_model", "knows no model 'scripted'"),
        ("html", "answers with a web page"),
        ("server_error", "an error 500"),
    ],
)
def test_what_to_fix_is_said(doctor, fault, advice):
    with ScriptedServer(lambda _: FAULTS[fault]) as server:
        done = doctor(server.url)
        assert len(server.requests) == 1, "the first failure is shown at once"
    assert done.returncode == 4
    assert advice in done.stdout


def test_an_address_without_v1_is_named(doctor):
    with ScriptedServer(lambda _: GOOD) as server:
        done = doctor(server.url.removesuffix("/v1"))
    assert done.returncode == 4
    assert "ends in /v1" in done.stdout


def test_a_model_that_follows_no_format_is_told(doctor):
    with ScriptedServer(lambda _: "I would lower the learning rate.") as server:
        done = doctor(server.url)
    assert done.returncode == 4
    assert "accepted, but not followed" in done.stdout
    assert "no answer held a proposal" in done.stdout


def test_a_service_without_token_counts_is_not_called_cut(doctor):
    with ScriptedServer(lambda _: Reply(GOOD, prompt_tokens=0)) as server:
        done = doctor(server.url)
    assert done.returncode == 0
    assert "cannot be checked" in done.stdout


def test_without_a_model_nothing_is_asked(run_cli, tmp_path):
    done = run_cli("nas_agent_graph.doctor", cwd=tmp_path, env={"OPENAI_API_KEY": KEY})
    assert done.returncode == 0
    assert "searches use TPE" in done.stdout


def test_bad_settings_are_refused_after_they_are_shown(run_cli, tmp_path):
    done = run_cli("nas_agent_graph.doctor", cwd=tmp_path, env=named("localhost:1234"))
    assert done.returncode == 2
    assert "environment NAS_LLM_BASE_URL" in done.stdout
    assert "is no address" in done.stderr


def test_the_shells_key_on_its_way_to_another_server_is_mentioned(doctor):
    with ScriptedServer(lambda _: GOOD) as server:
        done = doctor(server.url, NAS_LLM_API_KEY="", OPENAI_API_KEY=KEY)
    assert "OPENAI_API_KEY is sent to http://127.0.0.1" in done.stdout


def test_an_alternating_server_is_reported_as_it_answered(doctor):
    replies = itertools.cycle(["nonsense", GOOD])
    with ScriptedServer(replies) as server:
        done = doctor(server.url)
    assert "json_schema  accepted, but not followed" in done.stdout
    assert "json_object  understood" in done.stdout


def test_what_the_server_does_differently_is_named(doctor):
    def script(body):
        if any(message["role"] == "system" for message in body["messages"]):
            return error(400, "System role not supported")
        message = {"content": "", "reasoning_content": GOOD}
        choice = {"message": message, "finish_reason": "stop"}
        return Reply(
            body=json.dumps({"choices": [choice], "usage": {"prompt_tokens": 9000, "completion_tokens": 60}})
        )

    with ScriptedServer(script) as server:
        done = doctor(server.url)
        asked = len(server.requests)
    assert done.returncode == 0
    assert "  answers only in reasoning_content, with no content" in done.stdout
    assert "  has no system role" in done.stdout
    assert asked == 6, "what was learnt is not asked again"
    assert "6 questions were asked." in done.stdout


def test_a_server_that_cuts_answers_is_named_with_its_limit(doctor):
    cut = Reply(GOOD[:40], finish_reason="length", completion_tokens=100)
    with ScriptedServer(lambda _: cut) as server:
        done = doctor(server.url)
    assert done.returncode == 4
    assert "cuts answers at 100 tokens: raise NAS_LLM_MAX_TOKENS" in done.stdout


@pytest.mark.parametrize("cached", [0, 8000])
def test_a_cache_is_seen_by_asking_twice(doctor, cached):
    def script(body):
        is_long = len(str(body["messages"])) > 10_000
        counts = {"prompt_tokens": 9000 if is_long else 90, "completion_tokens": 60}
        again = sum(len(str(request["messages"])) > 10_000 for request in server.requests) == 2
        details = {"prompt_tokens_details": {"cached_tokens": cached if again else 0}}
        choice = {"message": {"content": GOOD}, "finish_reason": "stop"}
        return Reply(body=json.dumps({"choices": [choice], "usage": counts | details}))

    with ScriptedServer(script) as server:
        done = doctor(server.url)
    assert done.returncode == 0
    said = "asked twice, 8000 of 9000 tokens were cached" if cached else "asked twice, no token was cached"
    assert said in done.stdout
    assert "The server" not in done.stdout


def test_the_fields_of_a_request_are_shown_without_their_values(doctor):
    body = json.dumps({"enable_thinking": False, "secret": KEY})
    with ScriptedServer(lambda _: GOOD) as server:
        done = doctor(server.url, NAS_LLM_EXTRA_BODY=body, NAS_LLM_MAX_TOKENS="900")
        assert server.requests[0]["secret"] == KEY
        assert server.requests[0]["max_tokens"] == 900
    assert "enable_thinking, secret" in done.stdout
    assert KEY not in done.stdout

"""Answers of servers that are only nearly compatible: read all the same, and counted as far as can be."""

import json
import math

import pytest
from builders import write_wave

from nas_agent_graph.doctor import examine
from nas_agent_graph.llm.client import ChatClient
from nas_agent_graph.llm.parsing import MAX_ANSWER_CHARACTERS, read_answer
from nas_agent_graph.llm.prompt_size import estimate_tokens, prompt_tokens
from nas_agent_graph.llm.scripted_server import Reply, ScriptedServer
from nas_agent_graph.settings import LLMSettings
from nas_system.errors import ProposalError

GOOD = (
    '{"parent": "run_0000", "changes": [{"parameter": "training.lr", "value": "0.003"}], '
    '"hypothesis": "h", "expected_val_mse": null}'
)
QUESTION = [{"role": "user", "content": "Propose one change, and say what it is good for."}]
PROMPT = prompt_tokens(QUESTION)
USAGE = {"prompt_tokens": 900, "completion_tokens": 60, "total_tokens": 960}
MISSING = object()


def completion(*, usage=USAGE, role="assistant", finish_reason="stop", model="m", content=GOOD, **more):
    message = {"role": role, "content": content, **more}
    message = {name: value for name, value in message.items() if value is not MISSING}
    choice = {"index": 0, "finish_reason": finish_reason, "message": message}
    return {"id": "1", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage}


def ask(body, question=QUESTION):
    body = body if isinstance(body, str) else json.dumps(body)
    with ScriptedServer([Reply(body=body)]) as server:
        settings = LLMSettings("scripted", server.url, "key", timeout_s=20.0, max_retries=0, price=(1, 2))
        return ChatClient(settings, warn=lambda _: None).ask(question)


@pytest.mark.parametrize(
    "role",
    ["model", "Assistant", "ai", "", MISSING, None, 5, ["assistant"], "user", "system", "tool", "function"],
)
@pytest.mark.fault(34)
def test_a_reply_is_the_answer_under_any_role(role):
    answer = ask(completion(role=role))
    assert answer.text == GOOD
    assert (answer.input_tokens, answer.output_tokens, answer.tokens_estimated) == (900, 60, False)


@pytest.mark.parametrize(
    "more",
    [
        {"name": 5},
        {"tool_calls": "none"},
        {"function_call": 5},
        {"audio": [1]},
        {"refusal": {"no": 1}},
        {"reasoning": ["a"]},
    ],
)
def test_what_nobody_asked_for_does_not_spoil_an_answer(more):
    assert read_answer(ask(completion(**more))).parent == "run_0000"
    assert (
        read_answer(ask({**completion(), "service_tier": [1], "id": 7, "created": "now"})).parent
        == "run_0000"
    )


@pytest.mark.parametrize(
    "count", [math.nan, math.inf, -math.inf, -5, -0.5, "12", True, None, [1], {}, 10**9, 1e300]
)
@pytest.mark.fault(34)
def test_a_count_that_cannot_be_true_is_estimated(count):
    details = {"reasoning_tokens": count}
    usage = {"prompt_tokens": count, "completion_tokens": count, "completion_tokens_details": details}
    answer = ask(completion(usage=usage))
    assert answer.text == GOOD
    assert (answer.input_tokens, answer.output_tokens) == (PROMPT, estimate_tokens(GOOD))
    assert answer.reasoning_tokens == 0
    assert answer.tokens_estimated
    assert answer.cost_usd == round((PROMPT + 2 * estimate_tokens(GOOD)) / 1e6, 9)
    event = answer.to_event()
    assert json.loads(json.dumps(event, allow_nan=False)) == event


def test_a_count_of_five_thousand_digits_is_estimated():
    body = json.dumps(completion()).replace('"prompt_tokens": 900', f'"prompt_tokens": {"9" * 5000}')
    answer = ask(body)
    assert (answer.text, answer.input_tokens, answer.output_tokens) == (GOOD, PROMPT, 60)
    assert answer.tokens_estimated


@pytest.mark.parametrize("usage", [None, [], "none", 5, {}, {"completion_tokens_details": 3}])
def test_usage_that_is_no_object_of_counts_is_estimated(usage):
    answer = ask(completion(usage=usage))
    assert (answer.input_tokens, answer.tokens_estimated) == (PROMPT, True)


def test_a_fraction_of_a_token_is_counted_as_one():
    answer = ask(completion(usage={"prompt_tokens": 900.25, "completion_tokens": 60.0}))
    assert (answer.input_tokens, answer.output_tokens, answer.tokens_estimated) == (901, 60, False)
    assert all(isinstance(count, int) for count in (answer.input_tokens, answer.output_tokens))


@pytest.mark.parametrize("odd", [5, 1.5, True, [], {"a": 1}, None])
def test_a_name_or_a_finish_reason_of_another_type_is_unknown(odd):
    answer = ask(completion(model=odd, finish_reason=odd))
    assert (answer.model, answer.finish_reason, answer.text) == (None, None, GOOD)


def test_names_of_any_length_are_kept_in_part():
    answer = ask(completion(model="m" * 10**6, finish_reason="f" * 10**6))
    assert answer.model is not None
    assert len(json.dumps(answer.to_event())) < 10_000


@pytest.mark.parametrize("content", [[{"type": "text", "text": 5}], [5], 5, {"a": 1}])
def test_content_of_another_type_is_no_answer(content):
    answer = ask(completion(content=content))
    with pytest.raises(ProposalError, match=r"no chat completion|is empty"):
        read_answer(answer)


@pytest.mark.parametrize(
    ("body", "asked", "answered"),
    [
        ('{"choices": [{"mess', PROMPT, 0),
        ('{"hello": "world"}', PROMPT, 0),
        ("[1, 2]", PROMPT, 0),
        ('{"choices": null, "usage": {"prompt_tokens": 900, "completion_tokens": 60}}', 900, 60),
        ('{"choices": [], "usage": {"prompt_tokens": 900, "completion_tokens": NaN}}', 900, 0),
        ('{"choices": [5], "usage": {"prompt_tokens": -1, "completion_tokens": 60}}', PROMPT, 60),
    ],
)
@pytest.mark.fault(34, 35)
def test_a_garbled_reply_has_cost_what_it_reports_or_at_least_the_prompt(body, asked, answered):
    answer = ask(body)
    assert answer.garbled
    assert (answer.input_tokens, answer.output_tokens) == (asked, answered)
    assert answer.tokens_estimated == (asked == PROMPT)
    assert answer.cost_usd == round((asked + 2 * answered) / 1e6, 9)
    with pytest.raises(ProposalError, match="no chat completion"):
        read_answer(answer)


def test_a_long_answer_is_refused_and_kept_in_part():
    answer = ask(completion(content="\0" * 3 * MAX_ANSWER_CHARACTERS))
    with pytest.raises(ProposalError, match="has more than 100000 characters"):
        read_answer(answer)
    assert len(json.dumps(answer.to_event())) < 7 * MAX_ANSWER_CHARACTERS


def test_the_doctor_reads_such_answers_too(tmp_path, capsys):
    body = json.dumps(completion(role="model", usage={"prompt_tokens": math.nan, "completion_tokens": -1}))
    with ScriptedServer(lambda _: Reply(body=body)) as server:
        named = {"NAS_LLM_MODEL": "scripted", "NAS_LLM_BASE_URL": server.url, "NAS_LLM_API_KEY": "k"}
        assert examine(named, {}, [tmp_path]) == 0
    assert "Searches will ask in the format json_schema" in capsys.readouterr().out


SEARCH = (
    *("--dataset", "series.csv", "--target", "load", "--pred-len", "4", "--base-config", "base.yaml"),
    *("--split", "0.7,0.15,0.15", "--repeat-base", "0", "--proposer", "llm"),
)


@pytest.fixture
def search(tmp_path, run_search):
    """Runs a search on a small series with a server that sends what `body` returns."""
    write_wave(tmp_path / "series.csv", 700)
    (tmp_path / "base.yaml").write_text(
        "model: {family: linear}\ndata: {features: S, seq_len: 24}\ntraining: {max_epochs: 1}\n"
    )

    def run(body, *flags):
        with ScriptedServer(lambda _: Reply(body=body(len(server.requests)))) as server:
            named = {
                "NAS_LLM_MODEL": "scripted",
                "NAS_LLM_BASE_URL": server.url,
                "NAS_LLM_API_KEY": "no-secret",
            }
            done = run_search(*SEARCH, *flags, cwd=tmp_path, env=named)
        assert done.returncode == 0, done.stderr
        return done, json.loads((tmp_path / "agent_state.json").read_text())["runs"], len(server.requests)

    return run


@pytest.mark.fault(34)
def test_a_search_is_led_by_a_server_whose_role_is_model_and_whose_counts_are_nonsense(search):
    def body(number):
        usage = {"prompt_tokens": math.nan, "completion_tokens": -7}
        return json.dumps(
            completion(role="model", usage=usage, content=GOOD.replace("0.003", f"0.0{number}1"))
        )

    _, runs, asked = search(body, "--max-runs", "3")
    assert [(run["proposer"], run["status"]) for run in runs[1:]] == [("llm:scripted", "OK")] * 2
    assert asked == 2
    assert all(run["tokens"] > 1000 for run in runs[1:]), "every prompt is counted as what it is about"


@pytest.mark.fault(34, 35)
def test_a_search_whose_server_sends_garbage_ends_by_its_budget(search):
    done, runs, asked = search(lambda _: '{"choices": [{"mess', "--max-runs", "50", "--max-tokens", "30000")
    assert "the budget of 30,000 tokens is spent" in done.stdout
    assert 2 < asked < 30
    assert sum(run["tokens"] for run in runs) > 30_000
    assert {run["proposer"] for run in runs[1:]} == {"tpe"}

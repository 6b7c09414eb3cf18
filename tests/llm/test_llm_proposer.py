"""The language model over real HTTP: a server on loopback plays good answers, bad answers and failures."""

import json

import pytest
from builders import write_hourly

from nas_agent_graph.context import RunView, SearchPaused, SearchView
from nas_agent_graph.llm.client import ChatClient
from nas_agent_graph.llm.parsing import parse_answer
from nas_agent_graph.llm.recording import Transcript
from nas_agent_graph.llm.scripted_server import FAULTS, Reply, ScriptedServer, error
from nas_agent_graph.proposers.llm import LLMProposer
from nas_agent_graph.settings import LLMSettings, llm_settings
from nas_system.errors import ConfigError, ProposalError
from nas_system.space import ForecastingTask, RunConfig

KEY = "sk-canary-7f3a"
GOOD = {
    "parent": "run_0000",
    "changes": [
        {"parameter": "training.lr", "value": "0.003"},
        {"parameter": "training.optimizer", "value": "adamw"},
    ],
    "hypothesis": "a larger step",
    "expected_val_mse": 0.05,
}


@pytest.fixture
def server():
    """Answers with what stands in its queue; a text is a good answer of 960 tokens in all."""
    queue = []

    def next_reply(_):
        reply = queue.pop(0)
        return Reply(reply, prompt_tokens=900, completion_tokens=60) if isinstance(reply, str) else reply

    with ScriptedServer(next_reply) as server:
        server.queue = queue
        yield server


@pytest.fixture
def proposer(server, tmp_path):
    settings = LLMSettings("scripted", server.url, KEY, timeout_s=5, max_retries=0)
    (tmp_path / "run_0001").mkdir()
    return LLMProposer(ChatClient(settings), Transcript(tmp_path))


def view(refused=()):
    runs = (
        RunView(
            "run_0000", "OK", None, RunConfig(), "informer", "k", 0.0712345678901, True, None, "2 epochs."
        ),
    )
    return SearchView(
        "run_0001",
        ForecastingTask(),
        RunConfig(),
        ("HUFL", "OT"),
        (("last-value", 0.0696),),
        runs,
        runs[0],
        0.001,
        1,
        9,
        tuple(refused),
    )


def test_a_good_answer_becomes_a_proposal_and_every_word_is_recorded(server, proposer, tmp_path):
    server.queue.append("Sure!\n```json\n" + json.dumps(GOOD) + "\n```")
    proposal = proposer.propose(view())
    assert [(c.parameter, c.value) for c in proposal.changes] == [
        ("training.lr", 0.003),
        ("training.optimizer", "adamw"),
    ]
    assert (proposal.parent, proposal.expected_score, proposal.tokens) == ("run_0000", 0.05, 960)
    request, response = Transcript(tmp_path).events("run_0001")
    assert request["messages"] == server.requests[0]["messages"]
    assert response["text"].startswith("Sure!")
    assert KEY not in (tmp_path / "run_0001" / "transcript.jsonl").read_text()
    assert server.keys == [f"Bearer {KEY}"]


def test_no_temperature_is_sent_unless_one_is_set(server, proposer):
    server.queue.append(json.dumps(GOOD))
    proposer.propose(view())
    assert "temperature" not in server.requests[0]


def test_the_prompt_shows_scores_to_six_digits_and_no_test_figure(server, proposer):
    server.queue.append(json.dumps(GOOD))
    proposer.propose(view())
    system, question = (message["content"] for message in server.requests[0]["messages"])
    assert "0.0712346" in question and "0.07123456" not in question
    assert "model.normalization" in system
    assert "test_mse" not in system + question


@pytest.mark.fault(30, 31)
def test_a_refusal_goes_back_word_for_word_with_the_earlier_answer(server, proposer):
    server.queue += ["no idea", json.dumps(GOOD)]
    with pytest.raises(ProposalError, match="no JSON object") as refusal:
        proposer.propose(view())
    proposer.propose(view(refused=[str(refusal.value)]))
    messages = server.requests[1]["messages"]
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "user"]
    assert messages[2]["content"] == "no idea"
    assert str(refusal.value) in messages[3]["content"]


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (401, "NAS_LLM_API_KEY"),
        (404, "ends in /v1"),
        (429, "limit or quota"),
        (500, "answered with an error"),
    ],
)
def test_a_failing_service_pauses_the_search_and_says_what_to_do(server, proposer, status, advice):
    server.queue.append(error(status, "nope"))
    with pytest.raises(SearchPaused, match=advice) as paused:
        proposer.propose(view())
    assert KEY not in str(paused.value)
    assert paused.value.exit_code == 4


def test_a_server_that_is_not_there_pauses_the_search(tmp_path):
    settings = LLMSettings("scripted", "http://127.0.0.1:9/v1", KEY, timeout_s=2, max_retries=0)
    (tmp_path / "run_0001").mkdir()
    with pytest.raises(SearchPaused, match=r"nothing listens at 127\.0\.0\.1:9"):
        LLMProposer(ChatClient(settings), Transcript(tmp_path)).propose(view())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no JSON object"),
        ("I would raise the learning rate.", "no JSON object"),
        ('{"parent": "run_0000", "changes": [', "no JSON object"),
        (json.dumps({**GOOD, "changes": []}), "changes"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "parent"}), "parent"),
        ('{"parent": "run_0000", "changes": [{"parameter": "training.lr", "value": NaN}]}', "NaN"),
        ("x" * 200_000, "more than 100000 characters"),
        ("{" * 50_000, "no JSON object"),
    ],
)
@pytest.mark.fault(30)
def test_an_answer_that_cannot_be_read_is_refused_with_the_reason(text, problem):
    with pytest.raises(ProposalError, match=problem):
        parse_answer(text)


def test_thoughts_before_the_answer_are_not_the_answer():
    thought = '<think>maybe {"parent": "run_0009"}?</think>' + json.dumps(GOOD)
    assert parse_answer(thought).parent == "run_0000"


def test_a_damaged_line_in_a_transcript_is_skipped_and_the_rest_is_read(tmp_path):
    (tmp_path / "run_0001").mkdir()
    transcript = Transcript(tmp_path)
    transcript.append("run_0001", "response", text="first")
    path = tmp_path / "run_0001" / "transcript.jsonl"
    path.write_bytes(path.read_bytes() + b'{"kind": "resp')
    # Whoever finds a torn line is another process than the one that was killed while it wrote.
    transcript = Transcript(tmp_path)
    transcript.append("run_0001", "response", text="second")
    assert [event["text"] for event in transcript.events("run_0001")] == ["first", "second"]


class TestSettings:
    def test_a_key_alone_turns_nothing_on(self):
        assert llm_settings({"OPENAI_API_KEY": KEY}, demanded=False) is None

    def test_our_names_win_over_the_fallbacks(self):
        settings = llm_settings(
            {
                "NAS_LLM_MODEL": "a",
                "OPENAI_MODEL": "b",
                "NAS_LLM_BASE_URL": "http://x/v1",
                "OPENAI_API_KEY": KEY,
            },
            demanded=False,
        )
        assert (settings.model, settings.base_url, settings.api_key) == ("a", "http://x/v1", KEY)
        assert KEY not in repr(settings)

    def test_a_local_server_needs_no_key(self):
        settings = llm_settings({"NAS_LLM_MODEL": "a", "NAS_LLM_BASE_URL": "http://x/v1"}, demanded=False)
        assert settings.api_key

    @pytest.mark.parametrize(
        ("environment", "message"),
        [
            ({}, "set NAS_LLM_MODEL"),
            ({"NAS_LLM_MODEL": "a"}, "set NAS_LLM_API_KEY"),
            ({"NAS_LLM_MODEL": "a", "OPENAI_API_KEY": "k", "NAS_LLM_TEMPERATURE": "hot"}, "is not a number"),
        ],
    )
    def test_what_is_missing_is_named(self, environment, message):
        with pytest.raises(ConfigError, match=message):
            llm_settings(environment, demanded=True)


SEARCH = (
    *("--dataset", "series.csv", "--target", "load", "--pred-len", "4", "--base-config", "base.yaml"),
    # No rows are held out, so that no search has to end with scoring on them.
    *("--split", "0.7,0.15,0.15", "--proposer", "llm"),
)


@pytest.fixture
def workspace(tmp_path):
    """A small series and a small base configuration: a training takes two seconds."""
    write_hourly(tmp_path / "series.csv", 700, load=lambda hour: 10 + hour % 24 + hour % 7)
    (tmp_path / "base.yaml").write_text(
        "model: {family: linear}\ndata: {features: S, seq_len: 24}\ntraining: {max_epochs: 1}\n"
    )
    return tmp_path


def test_a_whole_search_is_driven_by_the_model_and_the_key_is_left_nowhere(server, run_cli, workspace):
    """Bad answers are mended or replaced, every run is real, and no file holds the key."""
    server.queue += [
        json.dumps({**GOOD, "changes": [{"parameter": "training.lr", "value": "0.02"}]}),
        "I am not sure.",
        json.dumps({**GOOD, "changes": [{"parameter": "training.lr", "value": "7"}]}),
        json.dumps({**GOOD, "changes": [{"parameter": "data.seq_len", "value": "48"}]}),
        *["no"] * 3,
    ]
    environment = {"NAS_LLM_MODEL": "scripted", "NAS_LLM_BASE_URL": server.url, "NAS_LLM_API_KEY": KEY}
    command = (*SEARCH, "--max-runs", "4", "--repeat-baseline", "0")
    done = run_cli("nas_agent_graph.run", *command, cwd=workspace, env=environment)
    assert done.returncode == 0, done.stderr
    assert "proposer: llm, scripted" in done.stdout
    state = json.loads((workspace / "agent_state.json").read_text())
    assert [run["status"] for run in state["runs"]] == ["OK"] * 4
    assert [run["proposer"] for run in state["runs"]] == [
        "base config",
        "llm:scripted",
        "llm:scripted",
        "tpe",
    ]
    assert state["runs"][1]["tokens"] == 960
    assert not server.queue
    assert "training.lr=7:" in server.requests[3]["messages"][-1]["content"]
    for path in workspace.rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path
    assert KEY not in done.stdout + done.stderr


@pytest.mark.fault(35)
def test_a_search_ends_when_its_tokens_are_spent_and_goes_on_when_there_are_more(
    server, run_search, workspace
):
    """Refused answers count, too: they are paid for."""
    lrs = ["0.02", "0.03", "0.04"]
    answers = [json.dumps({**GOOD, "changes": [{"parameter": "training.lr", "value": lr}]}) for lr in lrs]
    server.queue += ["I am not sure.", *answers]
    environment = {"NAS_LLM_MODEL": "scripted", "NAS_LLM_BASE_URL": server.url, "NAS_LLM_API_KEY": KEY}
    command = (*SEARCH, "--max-runs", "9", "--repeat-baseline", "0")

    def search(limit):
        return run_search(*command, "--max-tokens", limit, cwd=workspace, env=environment)

    done = search("3500")
    assert done.returncode == 0, done.stderr
    # run_0001 takes two answers of 960 tokens, run_0002 and run_0003 one each.
    assert "the budget of 3,500 tokens is spent (3,840)" in done.stdout
    assert "50% of the tokens spent" in done.stdout
    assert "80% of the tokens spent" in done.stdout
    state = json.loads((workspace / "agent_state.json").read_text())
    assert [run["tokens"] for run in state["runs"]] == [0, 1920, 960, 960]
    asked = len(server.requests)
    again = search("3500")
    assert again.returncode == 0
    assert len(server.requests) == asked
    server.queue += [json.dumps({**GOOD, "changes": [{"parameter": "training.lr", "value": "0.05"}]})]
    assert search("4000").returncode == 0
    state = json.loads((workspace / "agent_state.json").read_text())
    assert [run["tokens"] for run in state["runs"]] == [0, 1920, 960, 960, 960]


def test_money_ends_a_search_even_between_two_answers_about_one_run(server, run_cli, run_search, workspace):
    """The price is given, so every answer of 900 + 60 tokens costs $0.0102; the third is not asked for."""
    first = json.dumps({**GOOD, "changes": [{"parameter": "training.lr", "value": "0.02"}]})
    server.queue += [first, "I am not sure.", "never asked for"]
    environment = {
        "NAS_LLM_MODEL": "scripted",
        "NAS_LLM_BASE_URL": server.url,
        "NAS_LLM_API_KEY": KEY,
        "NAS_LLM_PRICE": "10,20",
    }
    command = (*SEARCH, "--max-runs", "9", "--repeat-baseline", "0", "--max-cost", "0.02")
    done = run_search(*command, cwd=workspace, env=environment)
    assert done.returncode == 0, done.stderr
    assert server.queue == ["never asked for"]
    assert "50% of the money spent" in done.stdout
    assert "run_0002: the budget of money is spent" in done.stdout
    assert "the budget of $0.02 is spent ($0.0204); raise --max-cost" in done.stdout
    assert "Language model: 1,920 tokens for 2 runs, $0.0204" in done.stdout
    runs = json.loads((workspace / "agent_state.json").read_text())["runs"]
    assert [(run["proposer"], run["cost_usd"]) for run in runs[1:]] == [
        ("llm:scripted", 0.0102),
        ("tpe", 0.0102),
    ]
    page = run_cli("nas_agent_graph.show", "run_0001", "--transcript", cwd=workspace).stdout
    assert "900 tokens in, 60 out, $0.0102" in page
    # What it spent, and where it stopped asking, is part of what is replayed.
    replayed = run_cli("nas_agent_graph.replay", workspace, cwd=workspace)
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr


def test_a_budget_of_money_needs_a_price(server, run_search, workspace):
    environment = {"NAS_LLM_MODEL": "scripted", "NAS_LLM_BASE_URL": server.url, "NAS_LLM_API_KEY": KEY}
    command = (*SEARCH, "--max-runs", "2", "--max-cost", "5")
    done = run_search(*command, cwd=workspace, env=environment)
    assert done.returncode == 2
    assert "the price of scripted at http://127.0.0.1" in done.stderr
    assert "set NAS_LLM_PRICE=IN,OUT" in done.stderr
    assert not (workspace / "agent_state.json").exists()


BAD = (
    "I would widen the model.",
    json.dumps({**GOOD, "changes": [{"parameter": "training.lr", "value": "70"}]}),
    json.dumps({**GOOD, "changes": [{"parameter": "model.no_such", "value": "1"}]}),
    FAULTS["refusal"],
    FAULTS["truncated"],
    FAULTS["content_filter"],
    FAULTS["only_thoughts"],
)
"""Answers that cannot be trained, of kinds that models give."""


def test_a_model_that_answers_badly_one_time_in_three_leads_twenty_runs_to_their_end(run_search, workspace):
    """Every run has its outcome, none is lost, and no bad answer is trained."""
    asked = []

    def reply(_):
        asked.append(len(asked))
        if len(asked) % 3 == 0:
            return BAD[len(asked) // 3 % len(BAD)]
        change = {"parameter": "training.lr", "value": str(round(0.0005 * 1.2 ** len(asked), 6))}
        return json.dumps({**GOOD, "parent": "run_0000", "changes": [change]})

    with ScriptedServer(reply) as server:
        environment = {"NAS_LLM_MODEL": "scripted", "NAS_LLM_BASE_URL": server.url, "NAS_LLM_API_KEY": KEY}
        command = (*SEARCH, "--max-runs", "20", "--repeat-baseline", "0")
        done = run_search(*command, cwd=workspace, env=environment)
    assert done.returncode == 0, done.stderr
    runs = json.loads((workspace / "agent_state.json").read_text())["runs"]
    assert [run["run_id"] for run in runs] == [f"run_{number:04d}" for number in range(20)]
    assert {run["status"] for run in runs} <= {"OK", "DIVERGED"}
    assert all((workspace / "runs" / run["run_id"] / "verdict.json").exists() for run in runs)
    refused = done.stdout.count("refused:")
    assert refused >= len(asked) // 3 >= 6
    assert {run["proposer"] for run in runs} >= {"base config", "llm:scripted"}


def test_two_servers_are_switched_by_the_environment_alone(run_search, workspace):
    command = (*SEARCH, "--repeat-baseline", "0", "--max-runs")

    def answer(lr):
        return json.dumps({**GOOD, "changes": [{"parameter": "training.lr", "value": str(lr)}]})

    with (
        ScriptedServer([answer(0.02)], model="north-7b", key=KEY) as north,
        ScriptedServer([answer(0.03)], model="south-70b", key="another-key", formats=()) as south,
    ):
        for number, (server, model, key) in enumerate(
            [(north, "north", KEY), (south, "south", "another-key")], start=2
        ):
            environment = {"NAS_LLM_MODEL": model, "NAS_LLM_BASE_URL": server.url, "NAS_LLM_API_KEY": key}
            done = run_search(*command, str(number), cwd=workspace, env=environment)
            assert done.returncode == 0, done.stderr
        assert [len(north.requests), len(south.requests)] == [1, 3], "south understands no answer format"
    runs = json.loads((workspace / "agent_state.json").read_text())["runs"]
    assert [run["proposer"] for run in runs] == ["base config", "llm:north", "llm:south"]


@pytest.mark.fault(34)
def test_a_search_whose_model_is_out_of_reach_pauses_with_its_state_kept(run_search, workspace):
    command = (*SEARCH, "--max-runs", "2", "--repeat-baseline", "0")
    away = {"NAS_LLM_MODEL": "m", "NAS_LLM_BASE_URL": "http://127.0.0.1:9/v1"}
    done = run_search(*command, cwd=workspace, env=away)
    assert done.returncode == 4
    assert "nothing listens at 127.0.0.1:9" in done.stderr
    assert "run the same command to continue" in done.stderr
    request, failed = Transcript(workspace / "runs").events("run_0001")
    assert (request["kind"], failed["kind"]) == ("request", "failed")
    assert "nothing listens at 127.0.0.1:9" in failed["reason"]
    done = run_search("--max-runs", "2", "--proposer", "tpe", cwd=workspace)
    assert done.returncode == 0, done.stderr
    runs = json.loads((workspace / "agent_state.json").read_text())["runs"]
    assert [run["run_id"] for run in runs] == ["run_0000", "run_0001"]


def test_an_answer_without_text_goes_back_as_one_and_a_very_long_one_is_cut(server, proposer):
    server.queue += ["", "x" * 50_000, json.dumps(GOOD)]
    for _ in range(2):
        with pytest.raises(ProposalError):
            proposer.propose(view(refused=["it could not be read"]))
    proposer.propose(view(refused=["it could not be read"]))
    assert server.requests[1]["messages"][2]["content"] == "(an empty answer)"
    assert len(server.requests[2]["messages"][2]["content"]) == 4000


def test_half_a_character_in_an_answer_can_be_sent_back(server, proposer):
    server.queue += ['{"parent": "\ud800"}', json.dumps(GOOD)]
    with pytest.raises(ProposalError):
        proposer.propose(view())
    proposer.propose(view(refused=["it could not be read"]))
    assert server.requests[1]["messages"][2]["content"] == '{"parent": "?"}'

"""Answers of several ranked proposals: asked for, read best first, and a bad one spoils no good one."""

import json

import pytest

from nas_agent_graph.llm.answer import Answer
from nas_agent_graph.llm.answer_formats import proposal_schema, request_fields
from nas_agent_graph.llm.client import ChatClient
from nas_agent_graph.llm.parsing import read_answer, read_candidates
from nas_agent_graph.llm.scripted_server import ScriptedServer
from nas_agent_graph.settings import LLMSettings
from nas_system.errors import ProposalError

QUESTION = [{"role": "user", "content": "Propose."}]


def proposal(lr, **changed):
    changes = [{"parameter": "training.lr", "value": lr}]
    return {
        "parent": "run_0000",
        "changes": changes,
        "hypothesis": "h",
        "expected_val_mse": None,
        **changed,
    }


def answer_of(*candidates):
    return Answer(json.dumps({"candidates": candidates}), "stop", "m", 1, 1, 0.1)


def rates(found):
    return [parsed.changes[0].value for parsed in found]


def test_candidates_are_read_in_their_order_and_the_first_is_the_answer():
    answer = answer_of(proposal(0.003), proposal("0.01", expected_val_mse=0.2), proposal(0.02))
    found = read_candidates(answer)
    assert rates(found) == [0.003, 0.01, 0.02]
    assert found[1].expected_score == 0.2
    assert found.dropped == ()
    assert read_answer(answer) == found[0]


def test_one_proposal_alone_is_one_candidate():
    answer = Answer(json.dumps(proposal(0.003)), "stop", "m", 1, 1, 0.1)
    assert rates(read_candidates(answer)) == [0.003]


def test_a_malformed_candidate_is_left_out_with_its_reason():
    bad = [{"parent": "run_0001"}, proposal(0.005, changes=[]), "lower the rate", proposal([1])]
    found = read_candidates(answer_of(bad[0], proposal(0.01), *bad[1:]))
    assert rates(found) == [0.01]
    assert found.places == (2,)
    assert [reason.split(":")[0] for reason in found.dropped] == [f"candidate {n}" for n in (1, 3, 4, 5)]
    assert "changes: Field required" in found.dropped[0]
    assert "no JSON object" in found.dropped[2]


def test_where_no_candidate_is_good_the_first_reason_is_the_refusal():
    with pytest.raises(ProposalError, match=r"^candidate 1: .*parent: Field required"):
        read_candidates(answer_of({"changes": []}, "x"))


@pytest.mark.parametrize("listed", [[], {}, "run_0000", None, 5])
def test_candidates_that_are_no_list_are_refused(listed):
    with pytest.raises(ProposalError, match="a list of one proposal or more"):
        read_candidates(Answer(json.dumps({"candidates": listed}), "stop", "m", 1, 1, 0.1))


def test_a_repeated_candidate_and_the_sixth_are_left_out():
    found = read_candidates(answer_of(proposal(0.1), proposal(0.1, hypothesis="again"), proposal(0.2)))
    assert rates(found) == [0.1, 0.2]
    assert found.dropped == ("candidate 2: it repeats one before it",)
    many = read_candidates(answer_of(*[proposal(n / 100) for n in range(1, 40)]))
    assert len(many) == 5
    assert many.dropped[0] == "candidate 6: only the first 5 are read"
    assert len(many.dropped) <= 20


def test_a_candidate_may_be_a_wish_for_a_repeat():
    wish = {"repeat": True, "parent": "run_0007", "hypothesis": "luck"}
    found = read_candidates(answer_of(proposal(0.1), wish))
    assert [parsed.repeat for parsed in found] == [False, True]


def test_two_different_lists_are_refused():
    text = json.dumps({"candidates": [proposal(0.1)]}) + json.dumps({"candidates": [proposal(0.2)]})
    with pytest.raises(ProposalError, match="2 different proposals"):
        read_candidates(Answer(text, "stop", "m", 1, 1, 0.1))


def test_a_bare_list_is_a_ranking_where_candidates_are_asked_for_and_nowhere_else():
    answer = Answer(json.dumps([proposal(0.1), proposal(0.2)]), "stop", "m", 1, 1, 0.1)
    assert rates(read_candidates(answer)) == [0.1, 0.2]
    with pytest.raises(ProposalError, match="2 different proposals"):
        read_answer(answer)


def test_the_client_asks_for_as_many_as_it_is_given():
    with ScriptedServer(lambda _: "{}") as server:
        chat = ChatClient(LLMSettings("scripted", server.url, "key", max_retries=0))
        chat.ask(QUESTION, metric="val_mae", candidates=3, may_repeat=True)
        chat.ask(QUESTION)
        several, one = (request["response_format"]["json_schema"] for request in server.requests)
    (listed,) = several["schema"]["properties"].values()
    assert listed["items"] == proposal_schema("val_mae", may_repeat=True)
    assert "one to 3" in listed["description"]
    assert several["schema"]["required"] == ["candidates"]
    assert several["schema"]["additionalProperties"] is False
    assert one == {"name": "proposal", "strict": True, "schema": proposal_schema("val_mse")}


@pytest.mark.parametrize("answer_format", ["json_object", "prompt"])
def test_looser_formats_say_nothing_about_the_number(answer_format):
    fields = request_fields(answer_format, "val_mse", candidates=5)
    assert fields == request_fields(answer_format, "val_mse")

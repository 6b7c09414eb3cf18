"""From a model's text to one proposal, whatever stands around it."""

import json

import pytest

from nas_agent_graph.llm.parsing import parse_answer
from nas_system.errors import ProposalError

GOOD = {
    "parent": "run_0000",
    "changes": [{"parameter": "training.lr", "value": "0.003"}],
    "hypothesis": "h",
    "expected_val_mse": None,
}
OTHER = {**GOOD, "parent": "run_0001"}


def text(value):
    return json.dumps(value)


@pytest.mark.parametrize(
    "answer",
    [
        text(GOOD),
        f"Sure.\n```json\n{text(GOOD)}\n```\nDone.",
        f"<think>{text(OTHER)}</think>{text(GOOD)}",
        f"the template opened the thought: {text(OTHER)}</think>{text(GOOD)}",
        f"<thinking>{text(OTHER)}</thinking>{text(GOOD)}",
        f"{text(GOOD)}\n<think>or rather {text(OTHER)}",
        f'The best had {{"lr": 0.01}} so: {text(GOOD)}',
        f"{text(GOOD)} I repeat: {text(GOOD)}",
        "\ufeff" + text(GOOD),
    ],
)
@pytest.mark.fault(30)
def test_the_proposal_is_found_in_what_stands_around_it(answer):
    assert parse_answer(answer).parent == "run_0000"


@pytest.mark.fault(30)
def test_two_different_proposals_are_refused_instead_of_one_being_picked():
    with pytest.raises(ProposalError, match="holds 2 different proposals"):
        parse_answer(text(GOOD) + text(OTHER))


def test_a_thought_that_never_ends_holds_no_answer():
    with pytest.raises(ProposalError, match="no JSON object"):
        parse_answer("<think>perhaps " + text(GOOD))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("128", 128),
        ("0.003", 0.003),
        ("true", True),
        ('"adamw"', "adamw"),
        ("adamw", "adamw"),
        ("null", None),
        (64, 64),
    ],
)
def test_a_value_is_the_json_literal_that_its_text_holds(value, expected):
    answer = {**GOOD, "changes": [{"parameter": "training.lr", "value": value}]}
    (change,) = parse_answer(text(answer)).changes
    assert change.value == expected
    assert type(change.value) is type(expected)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_json_number_is_refused_by_name(value):
    with pytest.raises(ProposalError, match=value):
        parse_answer(text({**GOOD, "changes": [{"parameter": "training.lr", "value": value}]}))

"""From a model's text to one proposal, whatever stands around it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_agent_graph.llm.parsing import MAX_ANSWER_CHARACTERS, parse_answer
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


WISH = {"repeat": True, "parent": "run_0007", "hypothesis": "luck"}


@pytest.mark.parametrize("more", [{}, {"changes": []}, {"changes": [], "expected_val_mse": None}])
def test_a_wish_for_a_repeat_changes_nothing(more):
    found = parse_answer(f"Sure: {text({**WISH, **more})}")
    assert (found.repeat, found.parent, found.changes) == (True, "run_0007", ())


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({**GOOD, "repeat": True}, "changes: List should have at most 0 items"),
        ({**WISH, "repeat": "yes"}, "repeat: Input should be False; changes: Field required"),
        ({**GOOD, "changes": []}, "changes: List should have at least 1 item"),
    ],
)
def test_what_is_both_a_wish_and_a_proposal_or_neither_is_refused(answer, problem):
    with pytest.raises(ProposalError) as refused:
        parse_answer(text(answer))
    assert all(part in str(refused.value) for part in problem.split("; "))


def test_a_proposal_may_say_that_it_is_no_wish():
    assert not parse_answer(text({**GOOD, "repeat": False})).repeat


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


def filled(part, length):
    return (part * (length // len(part) + 1))[:length]


ROOM = MAX_ANSWER_CHARACTERS - 1000
HOSTILE = {
    "objects that never end": filled('{"a":', ROOM),
    "objects and lists that never end": filled('{"a":[', ROOM),
    "braces": filled("{", ROOM),
    "braces and quotes": filled('{"', ROOM),
    "escaped quotes": filled('{"\\"', ROOM),
    "objects in strings": filled('{"a":"{', ROOM),
    "many levels before a long tail": filled('{"a":', ROOM // 2) + filled('"x":1,', ROOM // 2),
    "long lists between the levels": filled('{"a":' + "[" * 480, ROOM),
    "many different objects": "".join(f'{{"a":{number}}}' for number in range(8000)),
    "thoughts that never end": filled("<think>", ROOM),
    "thoughts that were never begun": filled("</think>", ROOM),
    "comments that never end": filled("{#", ROOM),
    "comments of one kind in another": filled("{//{/*", ROOM),
    "strings of either kind that never end": filled("{\"'", ROOM),
    "single quotes": filled("{'", ROOM),
    "numbers that never end": '{"a":' + filled("1", ROOM),
    "words": filled("{a:True,", ROOM),
    "lists of objects that never end": filled("[{", ROOM),
    "words like literals in strings": '{"a": "' + filled("True None ", ROOM) + '"',
    "channels": filled("<|channel|>final<|message|", ROOM),
    "tags": filled("<think><seed:think></reasoning>", ROOM),
    "a name that comes twice among many": "{" + "".join(f'"{n}":1,' for n in range(9000)) + '"8999":1}',
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.timeout(30)  # the greatest of them took minutes when its parts were read again and again
@pytest.mark.fault(30)
def test_no_text_that_is_short_enough_to_be_read_holds_the_search_up(name):
    with pytest.raises(ProposalError):
        parse_answer(HOSTILE[name])


@pytest.mark.parametrize("levels", [100, 2000, 10_000])
def test_a_proposal_is_found_behind_any_number_of_objects_that_never_end(levels):
    assert parse_answer('{"a":' * levels + text(GOOD)).parent == "run_0000"
    assert parse_answer('{"a": "{' * levels + '" ' + text(GOOD)).parent == "run_0000"


def objects_one_by_one(content):
    """Decode strict JSON from every brace that no object before it has taken: simple, and quadratic."""
    found, start = [], 0
    while (start := content.find("{", start)) >= 0:
        try:
            value, start = json.JSONDecoder().raw_decode(content, start)
            found.append(value)
        except ValueError:
            start += 1
    return found


def parents_in(value, wrappers=3):
    """Return the parents of the proposals in a value, which objects may wrap."""
    if isinstance(value, list):
        return [parent for item in value for parent in parents_in(item, wrappers)]
    if not isinstance(value, dict):
        return []
    if "changes" in value:
        return [value["parent"]]
    inner = value.values() if wrappers else ()
    return [parent for item in inner for parent in parents_in(item, wrappers - 1)]


def outcome_of(content):
    try:
        return parse_answer(content).parent
    except ProposalError as refusal:
        return str(refusal)


PIECES = [*'{}[]":,\\1 \n\x01', "null", '"a":', text(GOOD), text(OTHER)]


@settings(deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_what_is_found_is_what_decoding_from_every_brace_finds(content):
    objects = objects_one_by_one(content)
    wanted = {parent for value in objects for parent in parents_in(value)}
    outcome = outcome_of(content)
    if len(wanted) == 1:
        assert outcome in wanted or "occurs twice" in outcome
    elif wanted:
        assert "2 different proposals" in outcome or "occurs twice" in outcome
    elif objects:
        assert "does not fit" in outcome or "occurs twice" in outcome
    else:
        # Objects that are only nearly JSON are read as well.
        assert any(said in outcome for said in ("no JSON object", "does not fit", "occurs twice"))

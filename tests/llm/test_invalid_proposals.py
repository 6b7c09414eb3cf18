"""What a language model may never make us train: every answer here is refused, by name, with nothing run.

The answers go the product's own way: from the model's text through the parser to the validating node,
in a search whose launcher would write down whatever is started.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from builders import SHORT_SERIES, drive, search_context

from nas_agent_graph.context import Context, Proposal, SearchView
from nas_agent_graph.launchers.scripted import ScriptedLauncher
from nas_agent_graph.llm.parsing import parse_answer
from nas_agent_graph.proposers.random_search import RandomSearchProposer
from nas_system.errors import ProposalError

CANARY = "canary"
CODE = f"__import__('pathlib').Path('{CANARY}').touch()"


def answer(*changes: tuple[str, Any], **other: Any) -> str:
    """As a model writes it: values are strings that hold a JSON literal, or the literal itself."""
    wire = [{"parameter": parameter, "value": value} for parameter, value in changes]
    plain = {"parent": "run_0000", "changes": wire, "hypothesis": "h", "expected_val_mse": None, **other}
    return json.dumps(plain)


def raw(value: str, parameter: str = "training.lr") -> str:
    """A value that json.dumps would not write."""
    return answer((parameter, "@")).replace('"@"', value)


# The answer, and the words that tell its author what to mend.
REFUSED: dict[str, tuple[str, str]] = {
    "unknown parameter": (answer(("model.width", "64")), "model.width"),
    "a near miss": (answer(("training.lerning_rate", "0.01")), "training.lerning_rate"),
    "no group": (answer(("lr", "0.01")), "'lr'"),
    "an empty name": (answer(("", "1")), "'' is not a parameter"),
    "a name of another family": (answer(("model.hidden_size", "64")), "model.hidden_size"),
    "unknown family": (answer(("model.family", '"mamba"')), "model.family"),
    "a family that is a number": (answer(("model.family", "7")), "model.family=7"),
    "a family that is null": (answer(("model.family", "null")), "model.family=None"),
    "the task": (answer(("task.pred_len", "1")), "task.pred_len' is fixed"),
    "the metric": (answer(("task.metric", '"mae"')), "task.metric' is fixed"),
    "the seed": (answer(("seed", "7")), "'seed' is fixed"),
    "a dunder": (answer(("model.__class__", "1")), "model.__class__"),
    "words for a number": (answer(("training.lr", '"fast"')), "training.lr='fast'"),
    "a number in quotes": (answer(("training.lr", '"0.01"')), "training.lr='0.01'"),
    "a fraction for an integer": (answer(("model.d_model", "64.5")), "model.d_model=64.5"),
    "a whole float for an integer": (answer(("model.d_model", "64.0")), "model.d_model=64.0"),
    "true for an integer": (answer(("model.d_model", "true")), "model.d_model=True"),
    "false for a float": (answer(("training.lr", "false")), "training.lr=False"),
    "true for zero": (answer(("training.weight_decay", True)), "training.weight_decay=True"),
    "an integer for a bool": (answer(("training.compile", "1")), "training.compile=1"),
    "words for a bool": (answer(("training.compile", '"true"')), "training.compile='true'"),
    "null for a number": (answer(("training.lr", "null")), "training.lr=None"),
    "null for a choice": (answer(("training.loss", None)), "training.loss=None"),
    "nothing": (answer(("training.lr", "")), "training.lr=''"),
    "a number for a choice": (answer(("training.optimizer", "3")), "training.optimizer=3"),
    "an unknown choice": (answer(("training.optimizer", '"lion"')), "training.optimizer='lion'"),
    "another case": (answer(("training.optimizer", '"Adam"')), "training.optimizer='Adam'"),
    "too large": (answer(("training.lr", "5")), "training.lr=5"),
    "too small": (answer(("training.lr", "1e-9")), "training.lr=1e-09"),
    "below zero": (answer(("model.dropout", "-0.1")), "model.dropout=-0.1"),
    "zero layers": (answer(("model.e_layers", "0")), "model.e_layers=0"),
    "a batch of a million": (answer(("data.batch_size", "1000000")), "data.batch_size=1000000"),
    "no multiple": (answer(("model.d_model", "63")), "model.d_model=63"),
    "heads that do not fit": (answer(("model.d_model", "32"), ("model.n_heads", "7")), "n_heads"),
    "a horizon too long to look back": (answer(("data.seq_len", "2048")), "data.seq_len=2048"),
    "NaN": (raw("NaN"), "'training.lr' is NaN"),
    "NaN in quotes": (answer(("training.lr", "NaN")), "'training.lr' is NaN"),
    "infinity": (raw("-Infinity"), "'training.lr' is -Infinity"),
    "1e999": (raw("1e999"), "'training.lr' is Infinity"),
    "1e999 in quotes": (answer(("training.lr", "1e999")), "'training.lr' is 1e999"),
    "300 digits": (answer(("model.d_model", 10**299)), "model.d_model=1000"),
    "400 digits": (answer(("model.d_model", "1" * 400)), "'model.d_model' is 1111"),
    "5,000 digits": (raw("1" * 5000, "model.d_model"), "'model.d_model' is Infinity"),
    "5,000 digits in quotes": (answer(("model.d_model", "1" * 5000)), "'model.d_model' is 1111"),
    "a list": (answer(("training.lr", "[0.01]")), "'training.lr' is a list"),
    "an object": (answer(("training.lr", {"a": 1})), "'training.lr' is a dict"),
    "a deep list": (answer(("training.lr", "[" * 800 + "]" * 800)), "'training.lr' is a list"),
    "a bottomless list": (answer(("training.lr", "[" * 90_000)), "training.lr='[[["),
    "a parameter twice": (
        answer(("training.lr", "0.01"), ("training.lr", "0.02")),
        "training.lr' is changed twice",
    ),
    "a key twice": (raw('"0.01", "value": "0.02"'), "'value' occurs twice"),
    "an inactive parameter": (answer(("training.momentum", "0.5")), "training.momentum has no effect"),
    "code as a value": (answer(("training.optimizer", CODE)), "training.optimizer="),
    "code as a name": (answer((CODE, "1")), "is not a parameter"),
    "a line break as a value": (answer(("training.loss", "mse\nlr = 1")), "training.loss='mse\\nlr = 1'"),
    "half a character": (answer(("training.loss", '"\ud800"')), "training.loss='\\ud800'"),
    "a name without end": (answer(("training." + "l" * 200, "1")), "changes.0.parameter"),
    "no changes": (answer(), "changes"),
    "changes that are none": (answer(changes=7), "changes"),
    "a change without a value": (answer(changes=[{"parameter": "training.lr"}]), "changes.0.value"),
    "more than a change has": (
        answer(changes=[{"parameter": "training.lr", "value": "0.01", "run": {"now": True}}]),
        "changes.0.run",
    ),
    "a parent that is no run": (answer(("training.lr", "0.01"), parent="run_0042"), "parent 'run_0042'"),
    "a parent that is a path": (answer(("training.lr", "0.01"), parent="../../etc"), "parent '../../etc'"),
    "a parent that is a number": (answer(("training.lr", "0.01"), parent=0), "parent: "),
    "an expectation without bound": (
        answer(("training.lr", "0.01")).replace('"expected_val_mse": null', '"expected_val_mse": 1e999'),
        "expected_val_mse",
    ),
    "an expectation in words": (answer(("training.lr", "0.01"), expected_val_mse="low"), "expected_val_mse"),
    "an unknown key": (answer(("training.lr", "0.01"), val_mse={"seed": 0.0}), "val_mse"),
}


class Answering:
    """A language model's way without the network: a queue of texts, parsed as those of a model are."""

    name = "llm"

    def __init__(self, text: str) -> None:
        self.text = text
        self.refusals: list[str] = []

    def propose(self, view: SearchView) -> Proposal:
        if view.refused:
            self.refusals.append(view.refused[-1])
            return RandomSearchProposer().propose(view)
        parsed = parse_answer(self.text)
        return Proposal("llm", parsed.parent, parsed.changes, parsed.hypothesis, parsed.expected_score)


def searched(workspace: Path, proposer: Answering) -> tuple[Context, ScriptedLauncher]:
    """A search of a base config and one proposal, with a short series."""
    launcher = ScriptedLauncher(lambda config: 0.05)
    context = search_context(workspace, max_runs=2, facts=SHORT_SERIES, proposer=proposer, launcher=launcher)
    drive(context)
    return context, launcher


@pytest.mark.fault(31, 33)
@pytest.mark.parametrize("name", REFUSED)
def test_an_invalid_proposal_is_refused_by_name_and_nothing_of_it_is_run(tmp_path: Path, name: str) -> None:
    text, words = REFUSED[name]
    proposer = Answering(text)
    with contextlib.chdir(tmp_path):
        context, launcher = searched(tmp_path, proposer)
    assert len(proposer.refusals) == 1, "an answer that can be trained"
    assert words in proposer.refusals[0]
    assert len(proposer.refusals[0]) < 2000
    # What was trained instead came from somebody else, and each run once.
    assert launcher.submitted == [("run_0000", 1), ("run_0001", 1)]
    assert context.ledger.state.runs[1].proposer == "random_search"
    assert not (tmp_path / CANARY).exists()


@pytest.mark.fault(31)
def test_the_table_is_long_enough_to_mean_something(record_property: Any) -> None:
    assert len(REFUSED) >= 40
    record_property("measured", f"{len(REFUSED)} invalid proposals, all refused by name")


@pytest.mark.fault(31)
def test_a_valid_answer_is_trained(tmp_path: Path) -> None:
    proposer = Answering(answer(("training.lr", "0.01"), ("training.optimizer", "adamw")))
    context, _ = searched(tmp_path, proposer)
    assert proposer.refusals == []
    assert context.ledger.state.runs[1].proposer == "llm"
    config = context.ledger.config("run_0001")
    assert config is not None
    assert (config.training.lr, config.training.optimizer) == (0.01, "adamw")


@pytest.mark.fault(30)
def test_prose_around_an_answer_is_no_reason_to_refuse_it() -> None:
    text = f"Sure:\n```json\n{answer(('training.lr', '0.01'))}\n```\nGood luck!"
    assert parse_answer(text).changes[0].value == 0.01
    with pytest.raises(ProposalError, match="no JSON object"):
        parse_answer(text[: len(text) // 2])

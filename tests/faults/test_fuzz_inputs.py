"""Text from outside, damaged in every way: it is read or refused, and nothing in it is ever executed."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from fuzzing import CANARY, amount, bytes_damage, damaged, damaged_file, hold, json_damage, truncated
from hypothesis import strategies as st

from nas_agent_graph.context import Proposal
from nas_agent_graph.llm.answer import Answer
from nas_agent_graph.llm.parsing import parse_answer, read_answer
from nas_system.config_io.config_file import available_configs, parse_config, render_config
from nas_system.errors import ConfigError, ProposalError
from nas_system.files import read_record, write_json
from nas_system.space import RunConfig, apply_changes, canonical_key

pytestmark = pytest.mark.fault(33)
ANSWER = {
    "parent": "run_0000",
    "changes": [
        {"parameter": "training.lr", "value": "0.003"},
        {"parameter": "model.d_model", "value": "64"},
        {"parameter": "training.optimizer", "value": "adamw"},
    ],
    "hypothesis": "a wider model",
    "expected_val_mse": 0.05,
}
SETTINGS = {
    "task": {"dataset": "ETTh1", "targets": ["OT"], "pred_len": 24},
    "model": {"family": "informer", "d_model": 64, "dropout": 0.1},
    "data": {"features": "S", "seq_len": 96, "batch_size": 32},
    "training": {"optimizer": "adamw", "lr": 0.001, "scheduler": "cosine", "t_max": None, "compile": False},
    "seed": 7,
}
AS_YAML = """\
model: {family: lstm, hidden_size: 64, dropout: 0.1}
data:
  features: MS
  seq_len: 96   # steps
training: {lr: 1e-3, max_epochs: 5, patience: 2, optimizer: "adam"}
seed: 3
"""
TOKENS = [
    *(
        '{"parent": "run_0000", "changes": [',
        '{"parameter": "training.lr", "value": ',
        '"0.01"}',
        "]}",
        "```",
    ),
    *(
        "```json\n",
        "<think>",
        "</think>",
        "{",
        "}",
        "[",
        "]",
        '"',
        ",",
        ":",
        "\\u",
        "\\",
        "NaN",
        "1e999",
        "\ud800",
    ),
    *("Sure! ", "\n", "\0", '"changes"', "null", "9" * 5000, "[" * 3000, "{" * 300, '{"a":' * 300),
]


@pytest.fixture(autouse=True)
def _nothing_is_executed(tmp_path: Path) -> Any:
    with contextlib.chdir(tmp_path):
        yield
    assert not (tmp_path / CANARY).exists()


def _read_or_refuse(content: bytes, name: str) -> None:
    """A RunConfig that can be written and read back, or a ConfigError of readable length."""
    try:
        config = parse_config(content, Path(name))
    except ConfigError as refusal:
        said = str(refusal)
        assert said.replace("\n", "").isprintable(), said
        return
    assert canonical_key(parse_config(render_config(config).encode(), Path("config.py"))) == canonical_key(
        config
    )


@amount(quick=60, long=2000)
def test_a_damaged_configuration_of_any_format_is_read_or_refused(examples: int) -> None:
    whole = [
        ("config.py", available_configs()["default"].read_bytes()),
        ("config.yaml", AS_YAML.encode()),
        ("config.json", json.dumps(SETTINGS).encode()),
    ]

    def check(which: int, damage: tuple[float, int, bytes]) -> None:
        name, content = whole[which]
        _read_or_refuse(truncated(content, damage), name)

    hold(check, examples, st.integers(0, 2), bytes_damage())


@amount(quick=100, long=3000)
def test_a_configuration_of_wrong_values_is_read_or_refused_in_json_and_in_yaml(examples: int) -> None:
    def check(damage: list[tuple[int, int, str]]) -> None:
        content = json.dumps(damaged(SETTINGS, damage)).encode()
        for name in ("config.json", "config.yaml"):  # JSON is YAML
            _read_or_refuse(content, name)

    hold(check, examples, json_damage())


@amount(quick=60, long=2000)
def test_arbitrary_bytes_are_no_configuration_and_no_crash(examples: int) -> None:
    def check(content: bytes, name: str) -> None:
        _read_or_refuse(content, name)

    hold(check, examples, st.binary(max_size=300), st.sampled_from(["a.py", "a.yaml", "a.json"]))


def _proposed_or_refused(text: str, folder: Path) -> None:
    """A proposal that can be kept on disk and evaluated, or a ProposalError."""
    with contextlib.suppress(ProposalError):
        parsed = parse_answer(text)
        proposal = Proposal("llm", parsed.parent, parsed.changes, parsed.hypothesis, parsed.expected_score)
        write_json(folder / "proposal.json", proposal.to_file("val_mse"))
        again = Proposal.from_file(read_record(folder / "proposal.json") or {}, "val_mse")
        assert (again.changes, again.expected_score) == (proposal.changes, proposal.expected_score)
        config = apply_changes(RunConfig(), again.changes)
        assert canonical_key(parse_config(render_config(config).encode(), Path("c.py"))) == canonical_key(
            config
        )


@pytest.mark.fault(30, 31)
@amount(quick=80, long=3000)
def test_a_damaged_answer_is_a_proposal_or_refused(examples: int, tmp_path: Path) -> None:
    def check(content: bytes) -> None:
        _proposed_or_refused(content.decode("utf-8", "replace"), tmp_path)

    hold(check, examples, damaged_file(ANSWER))


@pytest.mark.fault(30)
@amount(quick=50, long=3000)
def test_any_text_is_a_proposal_or_refused(examples: int, tmp_path: Path) -> None:
    def check(pieces: list[str], reason: str | None) -> None:
        text = "".join(pieces)
        _proposed_or_refused(text, tmp_path)
        with contextlib.suppress(ProposalError):
            read_answer(Answer(text, reason, "m", 1, 1, 0.1))

    reasons = st.sampled_from(["stop", "length", "content_filter", "refusal", None])
    hold(check, examples, st.lists(st.sampled_from(TOKENS), max_size=12), reasons)

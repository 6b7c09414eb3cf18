"""A search with a canary for a key, and a service that knows it and says it again and again."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from chaos.series import TASK, write_series

from nas_agent_graph.llm.redaction import redacted
from nas_agent_graph.llm.scripted_server import Reply, ScriptedServer, error

# Characters that base64 and addresses spell in ways of their own.
KEY = "sk-canary/7f3a+Zq~9==x?_key"


def spellings() -> dict[str, bytes]:
    forms = {"plain": KEY, "percent": quote(KEY, safe=""), "hex": "".join(f"%{b:02x}" for b in KEY.encode())}
    # Where in a group of three bytes the key begins, and how many letters what stands before it changes.
    for before, first in {"": 0, "u": 2, "us": 3}.items():
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode((before + KEY).encode()).decode().rstrip("=")
            forms[f"{encode.__name__} after {len(before)}"] = text[first:-2]
    return {name: text.encode() for name, text in forms.items()}


def echo() -> str:
    whole = f"{KEY} {quote(KEY, safe='')} "
    return whole + " ".join(base64.b64encode((before + KEY).encode()).decode() for before in ("", "u", "us"))


def good(lr: str, **other: Any) -> str:
    changes = [{"parameter": "training.lr", "value": lr}]
    return json.dumps(
        {"parent": "run_0000", "changes": changes, "hypothesis": "h", "expected_val_mse": None, **other}
    )


@pytest.mark.fault(37)
def test_the_key_occurs_nowhere_after_a_search(
    tmp_path: Path, run_cli: Callable[..., Any], record_property: Callable[[str, object], None]
) -> None:
    """Echoed in a reason, a name, a value, a refusal, an answer that is none, the model's name, an error."""
    write_series(tmp_path)
    (tmp_path / "base.yaml").write_text(
        "model: {family: linear}\ndata: {features: S, seq_len: 24}\ntraining: {max_epochs: 1}\n"
    )
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in KEY)
    replies: list[Reply | str] = [
        good("0.011", hypothesis=echo()),
        good("0.012", changes=[{"parameter": echo(), "value": "1"}]),
        good(echo()),
        good("0.013", hypothesis="@").replace("@", escaped),  # JSON's own spelling
        good("0.014"),
        echo(),
        Reply(refusal=f"I cannot: {echo()}"),
        good("0.015", parent=KEY),
        error(401, f"Incorrect API key provided: {echo()}"),
    ]
    flags = (
        *TASK,
        "--base-config",
        "base.yaml",
        "--repeat-baseline",
        "0",
        "--proposer",
        "llm",
        "--max-runs",
        "6",
        "--device",
        "cpu",
        "--workspace",
        str(tmp_path),
    )
    printed = ""
    with ScriptedServer(replies, model=f"scripted-{KEY}") as server:
        variables = {"NAS_LLM_MODEL": "scripted", "NAS_LLM_BASE_URL": server.url, "OPENAI_API_KEY": KEY}
        done = run_cli("nas_agent_graph.run", *flags, cwd=tmp_path, env=variables)
        assert done.returncode == 4, done.stdout + done.stderr
        assert server.keys[-1] == f"Bearer {KEY}", "the service was really told the key"
        assert len(server.keys) == len(replies)
        printed += done.stdout + done.stderr
        programs = [("show",), ("show", "run_0001"), ("show", "run_0001", "--transcript"), ("report",)]
        programs += [("doctor",)]
        for program, *arguments in programs:
            workspace = ("--workspace", str(tmp_path))
            done = run_cli(
                f"nas_agent_graph.{program}",
                *arguments,
                *workspace,
                cwd=tmp_path,
                env=variables,
            )
            assert done.returncode in (0, 4), (program, done.stderr)
            printed += done.stdout + done.stderr
    assert (tmp_path / "runs/run_0002").is_dir()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".html" for path in files), "the report is among the files"
    for name, spelled in spellings().items():
        for path in files:
            assert spelled not in path.read_bytes(), (name, path)
        assert spelled.decode() not in printed, name
    assert "[key]" in printed + "".join(path.read_text() for path in tmp_path.rglob("transcript.jsonl"))
    record_property("measured", f"{len(spellings())} spellings of the key in none of {len(files)} files")


@pytest.mark.fault(37)
def test_every_spelling_of_a_key_is_taken_out() -> None:
    text, cleaned = echo(), redacted(echo(), KEY)
    for name, spelled in spellings().items():
        assert spelled.decode() not in cleaned, name
    assert sum(spelled.decode() in text for spelled in spellings().values()) >= 5
    assert redacted("none of these", "none") == "none of these", "a placeholder is no key"

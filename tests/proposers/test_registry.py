"""One contract suite over every proposer of the registry, prepared as a search prepares it."""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nas_agent_graph.context import Proposal, RunView, SearchView, StopRequest, SystemClock
from nas_agent_graph.host.disk_space import DiskSpace
from nas_agent_graph.launchers.scripted import ScriptedLauncher
from nas_agent_graph.llm.scripted_server import ScriptedServer
from nas_agent_graph.proposers import PROPOSERS, choose_proposer
from nas_agent_graph.proposers.setup import ProposerSetup, ReadyProposer
from nas_system.errors import ConfigError
from nas_system.files import write_json
from nas_system.nas_agent.agent_state import AgentState
from nas_system.nas_agent.ledger import Ledger
from nas_system.space import (
    GraphRegressionTask,
    RunConfig,
    TaskConfig,
    apply_changes,
    canonical_key,
    family_default,
)

BASE = RunConfig()
AGENT = Path(__file__).parents[2] / "nas_agent_graph"
Prepare = Callable[[str], ReadyProposer]


def answer_of_a_model(body: dict[str, Any]) -> str:
    """A learning rate that is a function of the question."""
    digest = hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()
    changes = [{"parameter": "training.lr", "value": f"{1e-4 + int(digest[:6], 16) / 1e9:.6g}"}]
    return json.dumps({"parent": "run_0000", "changes": changes, "hypothesis": "h", "expected_val_mse": 0.05})


def ranked_list(flags: Any) -> dict[str, Any]:
    families = ("gru", "linear", "tcn", "lstm", "patchtst", "informer")
    configs = [family_default(name).model_dump(mode="json", exclude={"task", "seed"}) for name in families]
    proposals = [{"rank": i + 1, "expected_val_mse": 0.1, "config": c} for i, c in enumerate(configs)]
    return {"model": "m", "learned_from": {}, "proposals": proposals}


def setup_in(workspace: Path, task: TaskConfig = BASE.task, **flags: str) -> ProposerSetup:
    (workspace / "runs").mkdir(exist_ok=True)
    facts = {"task": task.model_dump(mode="json"), "source": {"sha256": "ab"}}
    write_json(workspace / "runs" / "task_facts.json", facts)
    return ProposerSetup(
        ledger=Ledger(workspace, AgentState(task=task, seed=1)),
        task=task,
        launcher=ScriptedLauncher(lambda config: 0.0, {"nas_system.netformer": ranked_list}),
        disk=DiskSpace(workspace, SystemClock(), StopRequest(), print),
        llm_flags=flags,
    )


@pytest.fixture
def prepare(tmp_path: Path) -> Iterator[Prepare]:
    with ScriptedServer(answer_of_a_model) as server:
        setup = setup_in(tmp_path, model="scripted", base_url=server.url)

        def ready(name: str) -> ReadyProposer:
            PROPOSERS[name].check(setup)
            return PROPOSERS[name].prepare(setup)

        yield ready


def view_of(configs: list[RunConfig], **fields: Any) -> SearchView:
    runs = tuple(
        RunView(f"run_{i:04d}", "OK", None, c, c.model.family, canonical_key(c), 1 / (i + 1), not i, None, "")
        for i, c in enumerate(configs)
    )
    view = SearchView(f"run_{len(runs):04d}", BASE.task, BASE, ("OT",), (), runs, runs[0], None, 1, 50)
    return replace(view, **fields)


def idea_of(proposal: Proposal) -> tuple[Any, ...]:
    """What a proposal is about; tokens grow with every question to a model."""
    return proposal.proposer, proposal.parent, proposal.changes, proposal.rank


@pytest.mark.parametrize("name", PROPOSERS)
def test_every_proposal_names_a_known_parent_and_is_valid_and_new(
    name: str, prepare: Prepare, tmp_path: Path
) -> None:
    proposer = prepare(name).proposer
    configs = [BASE]
    for number in range(1, 11):
        (tmp_path / "runs" / f"run_{number:04d}").mkdir()
        proposal = proposer.propose(view_of(configs))
        # Of a hybrid it is the arm that signs.
        assert proposal.proposer.partition(":")[0] in {"hybrid": ("tpe", "llm")}.get(name, (name,))
        assert proposal.parent == "run_0000"
        configs.append(apply_changes(BASE, proposal.changes))
    assert len({canonical_key(config) for config in configs}) == 11
    assert {config.task for config in configs} == {BASE.task}


@pytest.mark.parametrize("name", PROPOSERS)
def test_a_proposer_that_is_prepared_again_proposes_the_same_for_the_same_view(
    name: str, prepare: Prepare, tmp_path: Path
) -> None:
    (tmp_path / "runs/run_0002").mkdir()
    view = view_of([BASE, family_default("gru")])
    first, again = prepare(name).proposer.propose(view), prepare(name).proposer.propose(view)
    assert idea_of(first) == idea_of(again)
    refused = prepare(name).proposer.propose(replace(view, refused=("no room",), attempt=1))
    defaults_first = ("tpe", "random_search", "hybrid")
    assert refused.changes != first.changes or name in defaults_first, "a tried default comes again"


@pytest.mark.parametrize("name", PROPOSERS)
def test_a_proposal_is_read_back_from_its_file_as_it_was(name: str, prepare: Prepare, tmp_path: Path) -> None:
    (tmp_path / "runs/run_0001").mkdir()
    ready = prepare(name)
    for proposer in (ready.proposer, ready.fallback):
        proposal = proposer.propose(view_of([BASE]))
        stored = json.loads(json.dumps(proposal.to_file("val_mse")))
        assert "expected_val_mse" in stored and "expected_score" not in stored
        assert Proposal.from_file(stored, "val_mse") == proposal
        assert Proposal.from_record(json.loads(json.dumps(proposal.to_record()))) == proposal


@pytest.mark.parametrize("name", PROPOSERS)
def test_every_proposer_introduces_itself_by_its_name(name: str, prepare: Prepare) -> None:
    introduction = prepare(name).introduction
    assert introduction.startswith(name) and "\n" not in introduction


def test_by_default_the_model_proposes_if_one_is_named_and_tpe_if_none_is(tmp_path: Path) -> None:
    assert choose_proposer(None, setup_in(tmp_path)) == "tpe"
    named = setup_in(tmp_path, model="m", base_url="http://127.0.0.1:9/v1")
    assert choose_proposer(None, named) == "hybrid"
    assert choose_proposer("random_search", named) == "random_search"


def test_what_cannot_propose_for_a_search_is_refused_before_it_is_prepared(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="choose from: tpe, random_search, netformer, llm, hybrid"):
        choose_proposer("oracle", setup_in(tmp_path))
    with pytest.raises(ConfigError, match="NAS_LLM_MODEL"):
        choose_proposer("llm", setup_in(tmp_path))
    with pytest.raises(ConfigError, match="the task zinc_synth is none"):
        choose_proposer("netformer", setup_in(tmp_path, GraphRegressionTask()))
    priced = replace(setup_in(tmp_path, model="m", base_url="http://127.0.0.1:9/v1"), max_cost_usd=1.0)
    with pytest.raises(ConfigError, match="--max-cost needs a price"):
        choose_proposer(None, priced)


def test_the_registries_import_nothing_that_is_heavy() -> None:
    code = (
        "import sys, nas_agent_graph.proposers, nas_agent_graph.launchers\n"
        "heavy = ('optuna', 'langchain', 'langchain_core', 'langgraph', 'openai', 'torch', 'pydantic')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_no_other_part_of_the_agent_knows_a_proposer_by_the_name_netformer() -> None:
    outside = [path for path in AGENT.rglob("*.py") if path.parent.name != "proposers"]
    assert len(outside) > 50
    trees = {path.name: ast.parse(path.read_text()) for path in outside}
    assert [name for name, tree in trees.items() if any(map(names_it, ast.walk(tree)))] == []


def names_it(node: ast.AST) -> bool:
    words = [getattr(node, field, None) for field in ("id", "attr", "module", "name", "arg", "value")]
    return any("netformer" in word.lower() for word in words if isinstance(word, str))

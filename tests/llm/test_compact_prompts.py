"""Prompts become compact where the server shows that it wastes the whole space: over HTTP on loopback."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from builders import write_hourly

from nas_agent_graph.context import RunView, SearchView
from nas_agent_graph.llm.client import ChatClient, ServiceRefused
from nas_agent_graph.llm.prompt_size import LEAST_CACHED, estimate_tokens
from nas_agent_graph.llm.recording import Transcript, read_events
from nas_agent_graph.llm.scripted_server import FAULTS, Reply, ScriptedServer
from nas_agent_graph.proposers.llm import LLMProposer
from nas_agent_graph.settings import LLMSettings
from nas_system.space import ForecastingTask, RunConfig

WINDOW = 6000
"""Tokens of a context that a compact prompt fits into, and a whole one does not."""


def good(number: int = 1) -> str:
    changes = [{"parameter": "training.lr", "value": str(0.00137 * number)}]
    proposal = {"parent": "run_0000", "changes": changes, "hypothesis": "h", "expected_val_mse": None}
    return json.dumps(proposal)


class Search:
    """A proposer of one search, whose server answers with what stands in `replies`, the last one for good."""

    def __init__(self, folder: Path, server: ScriptedServer, compact: bool | None) -> None:
        self.folder, self.server, self.notes = folder, server, list[str]()
        settings = LLMSettings("m", server.url, "k", timeout_s=5, max_retries=0, compact_prompt=compact)
        self.proposer = LLMProposer(ChatClient(settings, warn=self.notes.append), Transcript(folder))
        self.asked = 0

    def ask(self) -> None:
        self.asked += 1
        run_id = f"run_{self.asked:04d}"
        (self.folder / run_id).mkdir()
        first = RunView("run_0000", "OK", None, RunConfig(), "informer", "k", 0.07, True, None, "2 epochs.")
        view = SearchView(
            run_id,
            ForecastingTask(),
            RunConfig(),
            ("HUFL", "OT"),
            (("last-value", 0.0696),),
            (first,),
            first,
            0.001,
            self.asked,
            9,
        )
        self.proposer.propose(view)

    @property
    def is_compact(self) -> list[bool]:
        """Of each question so far, whether it had less than the longest."""
        lengths = [len(request["messages"][0]["content"]) for request in self.server.requests]
        return [length < 0.9 * max(lengths) for length in lengths]


@pytest.fixture
def searching(tmp_path: Path) -> Iterator[Callable[..., Search]]:
    servers = []

    def make(replies: Sequence[Reply | str], compact: bool | None = None, **options: Any) -> Search:
        left = list(replies)
        server = ScriptedServer(lambda _: left.pop(0) if len(left) > 1 else left[0], **options)
        servers.append(server)
        return Search(tmp_path, server, compact)

    yield make
    for server in servers:
        server.close()


def test_a_service_that_counts_cached_tokens_and_caches_none_is_asked_briefly_from_the_fifth_prompt_on(
    searching: Callable[..., Search],
) -> None:
    search = searching([Reply(good(), cached_tokens=0)])
    for _ in range(6):
        search.ask()
    assert search.is_compact == [False] * 4 + [True] * 2
    (note,) = search.notes
    assert note.startswith(
        "the service has cached nothing of the last 4 prompts: from now on prompts spell out"
    )
    request = read_events(search.folder / "run_0005" / "transcript.jsonl")[0]
    assert request["circumstances"]["compact"] is True, "a replay asks the same"


@pytest.mark.parametrize(
    ("replies", "compact"),
    [
        ([Reply(good())], None),
        ([Reply(good(), cached_tokens=0), *[Reply(good(), cached_tokens=4000)] * 9], None),
        ([Reply(good(), cached_tokens=count) for count in (0, 0, 0, 4000, 0, 0, 0)], None),
        ([Reply(good(), cached_tokens=0)], False),
    ],
    ids=["does not count", "caches", "caches now and then", "a person wants all"],
)
def test_otherwise_the_whole_space_stands_in_every_prompt(
    searching: Callable[..., Search], replies: list[Reply], compact: bool | None
) -> None:
    search = searching(replies, compact)
    for _ in range(7):
        search.ask()
    assert not any(search.is_compact) and not search.notes


def test_short_prompts_that_no_service_caches_prove_nothing() -> None:
    with ScriptedServer(lambda _: Reply(good(), cached_tokens=0)) as server:
        client = ChatClient(LLMSettings("m", server.url, "k", max_retries=0))
        text = "Say what you think of learning rates. " * 30
        assert estimate_tokens(text) < LEAST_CACHED
        for _ in range(6):
            client.ask([{"role": "user", "content": text}])
        assert not client.prompt_form.compact


@pytest.mark.parametrize("compact", [None, False])
def test_a_prompt_that_is_cut_short_is_the_last_long_one(
    searching: Callable[..., Search], compact: bool | None
) -> None:
    search = searching([Reply(good())], compact, window=4096)
    search.ask()
    search.ask()
    assert search.is_compact == [False, compact is None]
    assert "the server read 4096 prompt tokens of about" in search.notes[0]
    said = [note for note in search.notes if note.startswith("the server cuts prompts short: from now on")]
    assert len(said) == (compact is None)


def test_a_prompt_that_does_not_fit_is_asked_again_at_once_in_the_compact_form(
    searching: Callable[..., Search],
) -> None:
    search = searching([FAULTS["context"], good(), FAULTS["context"]])
    search.ask()
    assert search.is_compact == [False, True]
    kinds = [event["kind"] for event in read_events(search.folder / "run_0001" / "transcript.jsonl")]
    assert kinds == ["request", "failed", "request", "response"]
    (note,) = search.notes
    assert note.startswith("the prompt does not fit into the model's context window: from now on")
    with pytest.raises(ServiceRefused, match="longer than the model's context window"):
        search.ask()
    assert len(search.server.requests) == 3, "what is compact cannot be made shorter"


def test_one_that_a_person_wants_whole_pauses_the_search(searching: Callable[..., Search]) -> None:
    search = searching([FAULTS["context"]], False)
    with pytest.raises(ServiceRefused, match="longer than the model's context window"):
        search.ask()
    assert len(search.server.requests) == 1


@pytest.mark.timeout(240)
def test_a_search_with_a_model_of_a_small_context_goes_to_its_end_and_replays(
    tmp_path: Path, run_cli: Callable[..., Any]
) -> None:
    answered: list[int] = []

    def model(request: dict[str, Any]) -> Reply | str:
        texts = [cast(str, message["content"]) for message in request["messages"]]
        if sum(map(estimate_tokens, texts)) > WINDOW:
            return FAULTS["context"]
        answered.append(1)
        return good(len(answered))

    write_hourly(tmp_path / "series.csv", 400, load=lambda hour: 10 + hour % 24 + hour % 7)
    (tmp_path / "base.yaml").write_text(
        "model: {family: linear}\ndata: {features: S, seq_len: 24}\ntraining: {max_epochs: 1}\n"
    )
    command = ["--dataset", "series.csv", "--target", "load", "--pred-len", "4", "--base-config", "base.yaml"]
    command += ["--split", "0.7,0.15,0.15", "--repeat-base", "0", "--repeats", "0", "--steps-per-run", "3"]
    command += ["--threads", "1", "--no-refit", "--proposer", "llm", "--max-runs", "3"]
    with ScriptedServer(model) as server:
        named = {"NAS_LLM_MODEL": "m", "NAS_LLM_BASE_URL": server.url, "NAS_LLM_API_KEY": "k"}
        done = run_cli("nas_agent_graph.run", *command, cwd=tmp_path, env=named)
        asked = len(server.requests)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (len(answered), asked) == (2, 3), "one prompt was too long, and only once"
    assert "does not fit into the model's context window: from now on" in done.stderr
    replayed = run_cli("nas_agent_graph.replay", ".", cwd=tmp_path)
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr

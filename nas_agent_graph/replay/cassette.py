"""Recorded answers in the place of a model: the transcripts of a search, played back.

A question is looked up by (run, node, attempt), and its hash is compared: a prompt that differs from the
recorded one is drift, and is reported with a diff.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from nas_agent_graph.llm.answer import Answer, Message
from nas_agent_graph.llm.prompt_size import PromptForm
from nas_agent_graph.llm.recording import Transcript, counted, read_events, request_hash
from nas_agent_graph.replay.drift import (
    AnswerMissing,
    Drift,
    RecordingEnds,
    SearchRestarted,
    diff_of_messages,
    place,
)
from nas_agent_graph.settings import LLMSettings
from nas_system.errors import StateError
from nas_system.files import finite
from nas_system.processes.run_files import RunPaths
from nas_system.space import FAMILIES


@dataclass(frozen=True)
class Exchange:
    """One recorded question and what came back; None if nothing did."""

    run_id: str
    node: str
    attempt: int
    request: Mapping[str, Any]
    response: Mapping[str, Any] | None

    @property
    def key(self) -> tuple[str, str, int]:
        return self.run_id, self.node, self.attempt

    @property
    def circumstances(self) -> Mapping[str, Any]:
        found = self.request.get("circumstances")
        return found if isinstance(found, dict) else {}

    @property
    def is_turn(self) -> bool:
        """Return whether it was the model's turn in a hybrid search: asked once, for several candidates."""
        settings = self.request.get("settings")
        return isinstance(settings, dict) and "candidates" in settings


class Cassette:
    """The exchanges of every run in the order in which they took place, each played once."""

    def __init__(self, exchanges: Mapping[str, list[Exchange]], *, ends_in: Collection[str] = ()) -> None:
        """`ends_in` are the runs that had not ended when the recording was copied."""
        self._exchanges = exchanges
        self._position = dict.fromkeys(exchanges, 0)
        self._restarted_at: tuple[str, int] | None = None
        self.ends_in = ends_in

    @classmethod
    def load(cls, runs_dir: Path, run_ids: Iterable[str], *, ends_in: Collection[str] = ()) -> Cassette:
        """Read the transcripts. Raises StateError for one that is not a transcript of these runs."""
        found = {run_id: exchanges_in(RunPaths(runs_dir / run_id).transcript, run_id) for run_id in run_ids}
        return cls(found, ends_in=ends_in)

    def next_of(self, run_id: str) -> Exchange | None:
        """Return the next exchange of a run that has not been played."""
        exchanges, position = self._exchanges.get(run_id, []), self._position.get(run_id, 0)
        return exchanges[position] if position < len(exchanges) else None

    def last_of(self, run_id: str) -> Exchange | None:
        """Return the latest exchange of a run that has been played."""
        position = self._position.get(run_id, 0)
        return self._exchanges[run_id][position - 1] if position else None

    @property
    def holds_answers(self) -> bool:
        """Return whether a model was ever asked."""
        return any(self._exchanges.values())

    def unplayed(self) -> list[Exchange]:
        """Return what was recorded and never asked for."""
        return [
            exchange
            for run_id, exchanges in self._exchanges.items()
            for exchange in exchanges[self._position[run_id] :]
        ]

    def play(self, key: tuple[str, str, int]) -> Exchange:
        """Return the exchange of this key, which has an answer.

        Raises AnswerMissing if there is none, SearchRestarted where the recorded search was started
        again, RecordingEnds where it stood when it was copied.
        """
        run_id, node, attempt = key
        exchange = self.next_of(run_id)
        if exchange is None:
            if run_id in self.ends_in:
                raise RecordingEnds(f"the recording ends at {place(*key)}")
            raise AnswerMissing(f"the recording holds no answer for {place(*key)}")
        if exchange.key != key:
            # A search that is started again begins the run's round again, so the attempts count back.
            if exchange.node == node and exchange.attempt < attempt:
                self.restart(run_id)
            raise AnswerMissing(
                f"the recording holds no answer for {place(*key)}; the next one there is for "
                f"{place(*exchange.key)}"
            )
        self._position[run_id] += 1
        if exchange.response is None:
            self.restart(run_id)
        return exchange

    def play_turn(self, run_id: str) -> Exchange:
        """Return the next exchange of a run, whether it has an answer or not: in a hybrid search others go on
        where none comes."""
        exchange = self.next_of(run_id)
        assert exchange is not None, "a turn is played where there is one"
        self._position[run_id] += 1
        return exchange

    def was_lost(self, exchange: Exchange) -> bool:
        """Return whether the answer of the exchange that was played last had no effect: whoever has acted on
        an answer does not ask the same question next."""
        following, asked = self.next_of(exchange.run_id), exchange.request.get("request_hash")
        return (
            following is not None
            and asked is not None
            and (following.key, following.request.get("request_hash")) == (exchange.key, asked)
        )

    def restart(self, run_id: str) -> None:
        """Raise SearchRestarted, or an error if starting again leads nowhere."""
        position = self._position[run_id]
        following = self.next_of(run_id)
        if following is None and run_id in self.ends_in:
            raise RecordingEnds(f"the recording ends within {run_id}, at a question without an answer")
        if self._restarted_at == (run_id, position):
            where = place(*following.key) if following else run_id
            raise AnswerMissing(
                f"the recording cannot be followed beyond {where}: an answer before it is gone"
            )
        self._restarted_at = (run_id, position)
        raise SearchRestarted(run_id, following.attempt if following else None)


class CassetteClient:
    """Stands where `ChatClient` stands, and answers from a cassette."""

    def __init__(self, cassette: Cassette, transcript: Transcript, *, lenient: bool = False) -> None:
        """`transcript` is the replay's own: the question it noted last is the one that is asked.
        `lenient` answers by key alone and does not compare the messages."""
        self.cassette = cassette
        self.transcript = transcript
        self.lenient = lenient
        self.prompt_form = PromptForm(wanted=False)
        """Which prompts were compact stands in the circumstances of each."""
        self._model = ""

    @property
    def settings(self) -> LLMSettings:
        """Return the settings of the recorded requests; there is no address and no key."""
        return LLMSettings(model=self._model, base_url=None, api_key="")

    def turn_to(self, exchange: Exchange) -> None:
        """Take the name of the model that was asked then."""
        self._model = str(exchange.request.get("model"))

    def ask(self, messages: Sequence[Message], *_: Any, **__: Any) -> Answer:
        """Return the recorded answer. Raises Drift if the question differs from the recorded one."""
        asked = self.transcript.last_request
        assert asked is not None, "a question is written down before it is asked"
        key = (asked["run"], asked["node"], asked["attempt"])
        exchange = self.cassette.play(key)
        self.compare(exchange, messages)
        assert exchange.response is not None
        answer = _answer(exchange.response, place(*key))
        if self.cassette.was_lost(exchange):
            self.transcript.append(exchange.run_id, "response", **answer.to_event())
            self.cassette.restart(exchange.run_id)
        return answer

    def compare(self, exchange: Exchange, messages: Sequence[Message]) -> None:
        """Raise Drift if the question differs from the recorded one."""
        request = exchange.request
        if self.lenient:
            return
        found = request_hash(messages, request.get("model"), request.get("settings"))
        if found != request.get("request_hash"):
            raise Drift(
                place(*exchange.key),
                "the messages are not the recorded ones",
                diff_of_messages(request["messages"], messages),
            )


def answer_of(exchange: Exchange) -> Answer | None:
    """Return the recorded answer; None if none came."""
    return None if exchange.response is None else _answer(exchange.response, place(*exchange.key))


def exchanges_in(path: Path, run_id: str) -> list[Exchange]:
    """Return requests and their responses. Raises StateError for events of another run or without a key."""
    exchanges: list[Exchange] = []
    for event in read_events(path):
        if event["kind"] == "request":
            exchanges.append(_exchange(event, path, run_id))
        elif event["kind"] == "response" and exchanges and exchanges[-1].response is None:
            last = exchanges[-1]
            exchanges[-1] = Exchange(last.run_id, last.node, last.attempt, last.request, event)
    return exchanges


def _exchange(event: Mapping[str, Any], path: Path, run_id: str) -> Exchange:
    node, attempt, messages = event.get("node"), event.get("attempt"), event.get("messages")
    where = f"{path}, event {event.get('seq')}"
    if event.get("run") != run_id:
        raise StateError(f"{where}: belongs to {event.get('run')!r:.80}, not to {run_id}")
    if not isinstance(node, str) or type(attempt) is not int:
        raise StateError(f"{where}: has no node or no attempt, so that no answer can be found by them")
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise StateError(f"{where}: its messages are not a list of messages")
    exchange = Exchange(run_id, node, attempt, event, None)
    families = exchange.circumstances.get("families")
    named = families if isinstance(families, list) else []
    unknown = [name for name in named if not isinstance(name, str) or name not in FAMILIES]
    if unknown:
        raise StateError(f"{where}: {unknown[0]!r:.80} is no family that this program knows")
    return exchange


_FITS: Mapping[str, Callable[[Any], bool]] = {
    "str": lambda value: isinstance(value, str),
    "str | None": lambda value: value is None or isinstance(value, str),
    "int": lambda value: counted(value) is not None,
    "float": lambda value: finite(value) is not None,
    "float | None": lambda value: value is None or finite(value) is not None,
    "bool": lambda value: isinstance(value, bool),
}
"""Whether a recorded value can be that of a field of Answer, by the field's type."""


def _answer(response: Mapping[str, Any], where: str) -> Answer:
    """Build the answer: every field under its own name, tokens from `usage`."""
    usage = response.get("usage")
    known = {**(usage if isinstance(usage, dict) else {}), **response}
    values = {field.name: known[field.name] for field in fields(Answer) if field.name in known}
    lacking = [
        field.name
        for field in fields(Answer)
        if field.name not in values and field.default is MISSING and field.default_factory is MISSING
    ]
    if lacking:
        raise StateError(f"the recorded response for {where} lacks {', '.join(lacking)}")
    wrong = [f.name for f in fields(Answer) if f.name in values and not _FITS[str(f.type)](values[f.name])]
    if wrong:
        raise StateError(f"the recorded response for {where} has a {wrong[0]} that cannot be one")
    return Answer(**values)

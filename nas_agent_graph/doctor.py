"""Checks the language model's settings with real calls: `nas doctor`.

Three small calls try the answer formats. A long prompt, sent twice, shows whether it is read whole and
whether its beginning is cached.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nas_agent_graph.cli import run_as_module
from nas_agent_graph.host.privacy import refuse_inspection
from nas_agent_graph.launchers import DEFAULT, build_launcher, launcher_options
from nas_agent_graph.settings import DEFAULT_MAX_TOKENS, llm_flags, llm_settings, resolve

if TYPE_CHECKING:
    from nas_agent_graph.llm.answer import Answer, Message
    from nas_agent_graph.llm.client import ChatClient
    from nas_agent_graph.settings import LLMSettings, Setting

LONG_PROMPT_TOKENS = 8_000
"""About twice the window to which local servers truncate by default, and more than a search's prompt."""

_ROLE = "You search for good settings of a forecasting model."
_TASK = (
    "This tests a connection. Propose one change to the run run_0000: the parameter training.lr becomes "
    "0.003. Answer with one JSON object."
)
# As a search on a series asks; a test of the connection belongs to no search.
_FORMAT = (
    ' It looks like this: {"parent": "run_0000", "changes": [{"parameter": "training.lr", '
    '"value": "0.003"}], "hypothesis": "a test", "expected_val_mse": null}'
)


def check(arguments: argparse.Namespace) -> int:
    """Examine the settings that the arguments, the environment and `.env` name.

    With a cluster's launcher, examine that cluster instead. Returns 0 if all is fine or no model is named, 4
    if the service cannot be used as it is. Raises ConfigError for bad settings.
    """
    refuse_inspection()
    if arguments.launcher != DEFAULT:
        return _check_cluster(arguments)
    # Tracing would upload the calls; only a person may turn it on, by name.
    if not os.environ.get("NAS_TRACING"):
        os.environ["LANGSMITH_TRACING"] = os.environ["LANGCHAIN_TRACING_V2"] = "false"
    folders = (arguments.workspace.expanduser().absolute(), Path.cwd())
    return examine(os.environ, llm_flags(arguments), folders)


def _check_cluster(arguments: argparse.Namespace) -> int:
    from nas_agent_graph.launchers.cluster_check import check_cluster

    options = launcher_options(arguments)
    with contextlib.closing(build_launcher(arguments.launcher, options)) as launcher:
        return check_cluster(arguments.launcher, launcher, options.workspace, arguments.device)


def examine(environment: Mapping[str, str], flags: Mapping[str, str], folders: Sequence[Path]) -> int:
    """Print the settings and how the service responds. Returns the exit code; raises ConfigError."""
    _print_settings(resolve(environment, flags, folders))
    settings = llm_settings(environment, demanded=False, flags=flags, folders=folders)
    if settings is None:
        print("\nNo language model is named, so searches use TPE; NAS_LLM_MODEL turns a model on.")
        return 0
    elsewhere = settings.source("base_url") and "OPENAI_BASE_URL" not in settings.source("base_url")
    if elsewhere and "OPENAI_API_KEY" in settings.source("api_key"):
        print(f"\nnote: OPENAI_API_KEY is sent to {settings.endpoint}; NAS_LLM_API_KEY takes its place")
    return _examine_service(settings)


def _examine_service(settings: LLMSettings) -> int:
    from nas_agent_graph.llm.client import ChatClient, ServiceRefused
    from nas_agent_graph.llm.prices import how_to_know

    # No retries: a failure is to be seen at once.
    client = ChatClient(replace(settings, max_retries=0), warn=lambda _text: None)
    print(f"\nPrice\n  {client.price or how_to_know(settings)}")
    try:
        used, answers = _try_formats(client)
        whole, long_answers = _try_long_prompt(client)
    except ServiceRefused as refused:
        print(f"\nTo fix: {settings.model} at {settings.endpoint}: {refused.failure.advice}.")
        return 4
    _print_habits(client, answers + long_answers)
    if used is None:
        print(
            "\nTo fix: the service answers, but no answer held a proposal. Take a model that follows "
            "instructions; with this one searches would fall back to TPE."
        )
        return 4
    print(f"\nSearches will ask in the format {used}." + ("" if whole else " To fix: the context window."))
    return 0 if whole else 4


def _try_formats(client: ChatClient) -> tuple[str | None, list[Answer]]:
    """Print a line per answer format; return the one that a search will use, None if no answer is valid, and
    the answers."""
    from nas_agent_graph.llm.answer_formats import FORMATS
    from nas_agent_graph.llm.client import FormatRefused

    print("\nAnswer formats")
    accepted: list[tuple[str, bool]] = []
    answers: list[Answer] = []
    last = FORMATS[FORMATS.index(client.answer_format) :]
    for name in FORMATS:
        if name not in last:
            print(f"  {name:<12} not offered by this provider's package")
            continue
        try:
            answer = client.ask_in(_small_prompt(name), name)
        except FormatRefused as refused:
            print(f"  {name:<12} refused: {refused}")
            continue
        answers.append(answer)
        problem = _problem(answer)
        accepted.append((name, problem is None))
        verdict = "understood" if problem is None else f"accepted, but not followed: {problem}"
        print(f"  {name:<12} {verdict} ({_cost(answer)})")
    # A search takes the first format that is not refused, and repairs the answers.
    name, good = accepted[0]
    return (name if good or any(fine for _, fine in accepted) else None), answers


def _small_prompt(answer_format: str) -> list[Message]:
    """Build a small prompt; where the server enforces the schema, the prompt does not reveal it."""
    task = _TASK if answer_format == "json_schema" else _TASK + _FORMAT
    return [{"role": "system", "content": _ROLE}, {"role": "user", "content": task}]


def _problem(answer: Answer) -> str | None:
    from nas_agent_graph.llm.parsing import read_answer
    from nas_system.errors import ProposalError

    try:
        read_answer(answer)
    except ProposalError as error:
        return str(error)
    return None


def _try_long_prompt(client: ChatClient) -> tuple[bool, list[Answer]]:
    """Print and return whether a prompt longer than a search's is read whole; ask it twice, for the cache."""
    from nas_agent_graph.llm.prompt_size import prompt_tokens

    line = "- run_0042 [tcn] OK val_mse 0.0532 ; changes: training.lr 0.0031, model.dropout 0.15\n"
    messages = _small_prompt("prompt")
    messages[1]["content"] += "\n\nEarlier runs, which are of no importance here:\n"
    per_line = prompt_tokens([{"role": "user", "content": line}])
    messages[1]["content"] += line * (LONG_PROMPT_TOKENS // per_line)
    print("\nLong prompts")
    answer = client.ask_in(messages, "prompt")
    if answer.tokens_estimated:
        print("  cannot be checked: the service reports no token counts")
        return True, [answer]
    if answer.warning:
        print(f"  cut short: {answer.warning}")
        return False, [answer]
    print(f"  read whole: about {prompt_tokens(messages)} tokens or more sent, {_cost(answer)}")
    again = client.ask_in(messages, "prompt")
    if again.cached_tokens:
        print(
            f"  prefixes are cached: asked twice, {again.cached_tokens} of {again.input_tokens} "
            "tokens were cached"
        )
    else:
        print("  the service does not cache prompts, or does not report it: asked twice, no token was cached")
        print("  (NAS_LLM_COMPACT_PROMPT=1 makes them a quarter shorter; where a service counts what it")
        print("  cached, and that is nothing, a search does so by itself)")
    return True, [answer, again]


def _print_habits(client: ChatClient, answers: Sequence[Answer]) -> None:
    """Print what the server does differently from others, and how many questions were asked."""
    from nas_agent_graph.llm.parsing import CUT_OFF

    found = dict.fromkeys(habit for answer in answers for habit in (answer.habits or "").split("; ") if habit)
    shortest = min((a.output_tokens for a in answers if a.finish_reason in CUT_OFF), default=None)
    if shortest is not None:
        found[f"cuts answers at {shortest} tokens: raise NAS_LLM_MAX_TOKENS, or its own limit"] = None
    if client.dialect.max_tokens is None and client.settings.max_tokens is not None:
        found[f"refuses a limit of {client.settings.max_tokens} tokens for answers"] = None
    if found:
        print("\nThe server")
        print("\n".join(f"  {habit}" for habit in found))
    print(f"\n{client.questions} questions were asked.")


def _cost(answer: Answer) -> str:
    from nas_agent_graph.text.terminal import dollars

    thoughts = f", {answer.reasoning_tokens} of them thoughts" if answer.reasoning_tokens else ""
    about = "about " if answer.tokens_estimated else ""
    money = f", {dollars(answer.cost_usd)}" if answer.cost_usd is not None else ""
    tokens = f"{answer.input_tokens} + {answer.output_tokens} tokens{thoughts}{money}"
    return f"{answer.latency_s:.2f} s, {about}{tokens}"


def _print_settings(found: Mapping[str, Setting]) -> None:
    names = {
        "model": "model",
        "base_url": "base URL",
        "api_key": "key",
        "temperature": "temperature",
        "timeout_s": "timeout",
        "price": "price",
        "max_tokens": "max tokens",
        "extra_body": "extra body",
    }
    defaults = {
        "temperature": "not sent",
        "timeout_s": "120",
        "price": "looked up",
        "max_tokens": str(DEFAULT_MAX_TOKENS),
        "extra_body": "none",
    }
    values = {name: defaults.get(name) if found[name].text is None else None for name in names}
    shown = {name: values[name] or _shown(found[name]) for name in names}
    width = max(map(len, shown.values()))
    print("Settings")
    for name, label in names.items():
        print(f"  {label:<12} {shown[name]:<{width}}  {found[name].source}")


def _shown(setting: Setting) -> str:
    """Format in one line of printable characters; a URL that may hold a password is hidden."""
    text = "".join(letter if letter.isprintable() else "?" for letter in str(setting))
    return text if setting.name != "base_url" or "@" not in text else "(holds a user or password)"


if __name__ == "__main__":
    sys.exit(run_as_module("doctor"))

"""Where settings come from: flags win over the environment, the environment over `.env`, that over defaults.

An LLM is used if and only if a model is named; a key alone never spends money. `.env` is read
from the workspace and the current folder, and nothing in it is added to the environment of this
process or of a training.

`NAS_LLM_*` is looked up everywhere before `OPENAI_*` is looked up anywhere: a key that the shell
exports for another purpose never goes to a server whose own key stands in `.env`.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nas_system.errors import ConfigError

DEFAULT_TIMEOUT_S = 120.0
DEFAULT_RETRIES = 4
DEFAULT_MAX_TOKENS = 16_384
"""Many servers stop at 100 to 4,096 by default, in the middle of a reasoning model's thoughts."""
OURS = ("messages", "model", "response_format", "n")
"""Fields of a request that NAS_LLM_EXTRA_BODY may not set."""


@dataclass(frozen=True)
class Provider:
    """A service with a name of its own."""

    fallbacks: Mapping[str, tuple[str, ...]]
    """Variables read where NAS_LLM_* is not set. One provider's key is never sent to another."""
    base_url: str
    """Its address. Always given: a provider's package would read another from the environment."""
    needs_key: bool = True
    extra: str | None = None
    """The optional extra of this project that installs its package; None: nothing is missing."""


PROVIDERS = {
    "openai": Provider(
        {"model": ("OPENAI_MODEL",), "base_url": ("OPENAI_BASE_URL",), "api_key": ("OPENAI_API_KEY",)},
        base_url="https://api.openai.com/v1",
    ),
    "anthropic": Provider(
        {"api_key": ("ANTHROPIC_API_KEY",)}, base_url="https://api.anthropic.com", extra="anthropic"
    ),
    "ollama": Provider({}, base_url="http://localhost:11434/v1", needs_key=False),
}
"""What may precede the colon in `provider:name`. Every other colon belongs to the model's name."""
ELSEWHERE = ("google_genai", "google_vertexai", "mistralai", "groq", "bedrock", "azure_openai", "cohere")
"""Providers that are no prefix of a model's name; they have OpenAI-compatible addresses of their own."""

_VARIABLES = {
    "model": "NAS_LLM_MODEL",
    "base_url": "NAS_LLM_BASE_URL",
    "api_key": "NAS_LLM_API_KEY",
    "temperature": "NAS_LLM_TEMPERATURE",
    "timeout_s": "NAS_LLM_TIMEOUT",
    "price": "NAS_LLM_PRICE",
    "max_tokens": "NAS_LLM_MAX_TOKENS",
    "extra_body": "NAS_LLM_EXTRA_BODY",
    "compact_prompt": "NAS_LLM_COMPACT_PROMPT",
}
_FLAGS = {"model": "--model", "base_url": "--base-url"}


@dataclass(frozen=True)
class Setting:
    """One resolved value and its source. The text is not in the repr: it may be a key."""

    name: str
    text: str | None = field(repr=False)
    source: str = "default"

    def __str__(self) -> str:
        if self.text is None:
            return "not set"
        if self.name == "extra_body":
            return _names_in(self.text)
        return masked(self.text) if self.name == "api_key" else self.text


@dataclass(frozen=True)
class LLMSettings:
    """How to reach the language model. The key never shows in a repr, a log or a file."""

    model: str
    base_url: str | None
    api_key: str = field(repr=False)
    temperature: float | None = None
    """None sends none: reasoning models refuse the parameter."""
    timeout_s: float = DEFAULT_TIMEOUT_S
    max_retries: int = DEFAULT_RETRIES
    provider: str = "openai"
    price: tuple[float, ...] | None = None
    """US dollars per million tokens of prompt and answer, and of cached tokens of the prompt if these are
    cheaper; None looks them up."""
    max_tokens: int | None = DEFAULT_MAX_TOKENS
    """Tokens that an answer may have, thoughts included; None leaves it to the server."""
    extra_body: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)
    """Further fields of a request's body, where a server needs them."""
    compact_prompt: bool | None = None
    """Whether prompts spell out only the families that still matter; None: if the server needs it."""
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Where each value came from."""

    @property
    def endpoint(self) -> str:
        return self.base_url or "the provider's own address"

    def source(self, name: str) -> str:
        """Return a value's source as a remark for a message; empty for a default."""
        source = self.sources.get(name, "default")
        return "" if source == "default" else f" (it comes from {source})"


def _names_in(text: str) -> str:
    """Return the fields of an extra body without their values, which may be secrets."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = None
    return ", ".join(map(str, body)) if isinstance(body, dict) else "(no JSON object)"


def masked(key: str) -> str:
    """Return enough of a key to recognise it; nothing of a short one."""
    return f"...{key[-4:]} ({len(key)} characters)" if len(key) >= 20 else f"({len(key)} characters)"


def add_llm_flags(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add the settings that may be flags. A key may not: other users see command lines."""
    parser.add_argument("--model", metavar="NAME", help="language model: NAME or PROVIDER:NAME")
    parser.add_argument("--base-url", metavar="URL", help="its OpenAI-compatible server, ends in /v1")


def llm_flags(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the flags of `add_llm_flags` that were set."""
    return {name: value for name in _FLAGS if (value := getattr(arguments, name, None))}


def llm_settings(
    environment: Mapping[str, str],
    *,
    demanded: bool,
    flags: Mapping[str, str] | None = None,
    folders: Sequence[Path] = (),
) -> LLMSettings | None:
    """Return the LLM's settings, or None if no model is named. `folders` are those whose `.env` is read.

    Raises ConfigError if the LLM was requested by name (`demanded`) or by a model, and a needed
    setting is missing or invalid.
    """
    found = resolve(environment, flags or {}, folders)
    name = found["model"].text
    if name is None:
        if demanded:
            raise ConfigError("--proposer llm and hybrid need a model: set NAS_LLM_MODEL (or OPENAI_MODEL)")
        return None
    provider, model = split_model(name)
    base_url = _checked_url(found["base_url"])
    key = _checked_key(found["api_key"])
    if key is None:
        if PROVIDERS[provider].needs_key and found["base_url"].source == "default":
            names = " or ".join(PROVIDERS[provider].fallbacks["api_key"])
            raise ConfigError(
                f"the model {name!r} is named but no key: set NAS_LLM_API_KEY (or {names}), "
                "or NAS_LLM_BASE_URL for a server that needs none"
            )
        # The client refuses to start without a key, even for a local server that needs none.
        key = "none"
    return LLMSettings(
        model=model,
        base_url=base_url,
        api_key=key,
        temperature=_number(found["temperature"], least=0.0),
        timeout_s=_number(found["timeout_s"], above=0.0) or DEFAULT_TIMEOUT_S,
        provider=provider,
        price=_price(found["price"]),
        max_tokens=_max_tokens(found["max_tokens"]),
        extra_body=_extra_body(found["extra_body"]),
        compact_prompt=_switch(found["compact_prompt"]),
        sources={setting.name: setting.source for setting in found.values()},
    )


def resolve(
    environment: Mapping[str, str], flags: Mapping[str, str], folders: Sequence[Path]
) -> dict[str, Setting]:
    """Return every setting by name, with its source: unchecked, so that it can be shown before errors."""
    layers: list[tuple[str, Mapping[str, str]]] = [("environment", environment)]
    files = dict.fromkeys((folder / ".env").absolute() for folder in folders)
    layers += [(str(file), _dotenv(file)) for file in files]
    model = _look_up("model", PROVIDERS["openai"].fallbacks["model"], flags, layers)
    provider = split_model(model.text)[0] if model.text else "openai"
    fallbacks = PROVIDERS[provider].fallbacks
    found = {"model": model}
    for name in list(_VARIABLES)[1:]:
        found[name] = _look_up(name, fallbacks.get(name, ()), flags, layers)
    if found["base_url"].text is None:
        found["base_url"] = Setting("base_url", PROVIDERS[provider].base_url)
    return found


def split_model(name: str) -> tuple[str, str]:
    """Split `provider:name`. Models have colons too: `qwen3:14b` is a name."""
    provider, colon, model = name.partition(":")
    if colon and provider in PROVIDERS:
        if not model:
            raise ConfigError(f"{name!r} names a provider but no model; write {provider}:NAME")
        return provider, model
    if colon and provider in ELSEWHERE:
        raise ConfigError(
            f"{name!r}: {provider} is not supported by name ({', '.join(PROVIDERS)} are). Use its "
            "OpenAI-compatible address: NAS_LLM_BASE_URL, and the bare name in NAS_LLM_MODEL"
        )
    return "openai", name


def _look_up(
    name: str,
    fallbacks: tuple[str, ...],
    flags: Mapping[str, str],
    layers: Sequence[tuple[str, Mapping[str, str]]],
) -> Setting:
    if flags.get(name):
        return Setting(name, flags[name].strip(), f"flag {_FLAGS[name]}")
    for variable in (_VARIABLES[name], *fallbacks):
        for source, values in layers:
            # An empty value counts as none: that is how a variable is switched off for one command.
            if text := (values.get(variable) or "").strip():
                return Setting(name, text, f"{source} {variable}")
    return Setting(name, None)


def _dotenv(file: Path) -> dict[str, str]:
    if not file.is_file():
        return {}
    import dotenv

    try:
        # Taken as written: a `$` in a key is a `$`.
        values = dotenv.dotenv_values(file, interpolate=False, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        # The text of a decoding error contains bytes of the file.
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{file} cannot be read: {reason}") from None
    return {name: value for name, value in values.items() if value is not None}


def _checked_url(setting: Setting) -> str | None:
    if setting.text is None:
        return None
    url = setting.text.rstrip("/")
    where = f"base URL from {setting.source}"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.username or parts.password:
        raise ConfigError(f"{where}: holds a user or password; put the key into NAS_LLM_API_KEY")
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(f"{where}: {url!r} is no address; it looks like http://localhost:11434/v1")
    if url.endswith("/chat/completions"):
        raise ConfigError(
            f"{where}: {url!r} goes one step too far; write {url.removesuffix('/chat/completions')}"
        )
    return url


def _checked_key(setting: Setting) -> str | None:
    """Return the key if an HTTP header can carry it. Its text is in no message."""
    key = setting.text
    if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
        raise ConfigError(
            f"the key from {setting.source} holds a blank or a character that no key has; copy it again"
        )
    return key


def _price(setting: Setting) -> tuple[float, ...] | None:
    if setting.text is None:
        return None
    try:
        price = tuple(map(float, setting.text.split(",")))
    except ValueError:
        price = ()
    if len(price) not in (2, 3) or not all(0 <= part < math.inf for part in price):
        raise ConfigError(
            f"NAS_LLM_PRICE={setting.text!r} is no price; write IN,OUT or IN,OUT,CACHED in US dollars per "
            "million tokens of prompt, answer and cached prompt, for instance 0.25,2"
        )
    return price


def _max_tokens(setting: Setting) -> int | None:
    """Return the limit of an answer; 0 leaves it to the server."""
    if setting.text is None:
        return DEFAULT_MAX_TOKENS
    if not re.fullmatch(r"\d{1,7}", setting.text):
        raise ConfigError(
            f"NAS_LLM_MAX_TOKENS={setting.text!r} is no number of tokens; write one like "
            f"{DEFAULT_MAX_TOKENS}, or 0 to leave it to the server"
        )
    return int(setting.text) or None


def _extra_body(setting: Setting) -> dict[str, Any]:
    """Return further fields of a request. The text is in no message: it may hold a key."""
    if setting.text is None:
        return {}
    advice = 'write a JSON object, for instance {"enable_thinking": false}'
    try:
        body = json.loads(setting.text, parse_constant=_refused)
        # What JSON can spell and no request can carry: 1e999, half a character.
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        place = f" (column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise ConfigError(f"NAS_LLM_EXTRA_BODY is not JSON{place}; {advice}") from None
    if not isinstance(body, dict):
        raise ConfigError(f"NAS_LLM_EXTRA_BODY is a JSON {type(body).__name__}; {advice}")
    if taken := [name for name in OURS if name in body]:
        raise ConfigError(
            f"NAS_LLM_EXTRA_BODY sets {', '.join(taken)}, which a search sets itself; leave it out"
        )
    return body


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _switch(setting: Setting) -> bool | None:
    if setting.text not in (None, "0", "1"):
        raise ConfigError(f"{_VARIABLES[setting.name]}={setting.text!r:.40} is neither 0 nor 1")
    return None if setting.text is None else setting.text == "1"


def _number(setting: Setting, *, least: float | None = None, above: float | None = None) -> float | None:
    if setting.text is None:
        return None
    variable = _VARIABLES[setting.name]
    try:
        value = float(setting.text)
    except ValueError:
        raise ConfigError(f"{variable}={setting.text!r} is not a number") from None
    if not math.isfinite(value) or (least is not None and value < least):
        raise ConfigError(f"{variable}={setting.text} is not a finite number of {least or 0:g} or more")
    if above is not None and value <= above:
        raise ConfigError(f"{variable}={setting.text} is not a number above {above:g}")
    return value

"""Damage for the readers of our files: bytes that anybody may have written, and JSON that almost fits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

CANARY = "canary"
CODE = f"__import__('pathlib').Path('{CANARY}').touch()"
HOSTILE: list[Any] = [
    *(None, True, False, 0, -1, 7, 0.5, -0.0, 1e308, 10**18, -(10**30), 10**400),
    *(float("inf"), float("-inf"), float("nan")),
    *(
        "",
        " ",
        "x",
        "OK",
        "run_0000",
        "../../x",
        "/",
        "\0",
        "\x1b[31m",
        "a\nb",
        "\u2028",
        "\ud800",
        "y" * 3000,
    ),
    *("1", "NaN", "null", "{", CODE, "{{ 7 * 7 }}", "<script>", "%s %n"),
    *([], {}, [[]], [{}], {"": None}, [1, "a", None], {"kind": "x"}, ["run_0000"] * 50),
]
LARGEST = 2000
"""Bytes of arbitrary content."""


def json_damage() -> st.SearchStrategy[list[tuple[int, int, str]]]:
    """Where, with what and how a JSON value is to be damaged, for `damaged`."""
    how = st.sampled_from(["replace", "replace", "replace", "delete", "add"])
    step = st.tuples(st.integers(0, 999), st.integers(0, len(HOSTILE) - 1), how)
    return st.lists(step, min_size=1, max_size=4)


def damaged(value: Any, damage: list[tuple[int, int, str]]) -> Any:
    """A copy of a JSON value with some of its parts replaced, taken away or joined by others."""
    for place, hostile, how in damage:
        holder: dict[str, Any] = {"": json.loads(json.dumps(value))}
        places = list(_places(holder))
        container, key = places[place % len(places)]
        if how == "delete":
            del container[key]
        elif how == "add" and isinstance(container[key], dict):
            container[key]["unforeseen"] = HOSTILE[hostile]
        else:
            container[key] = HOSTILE[hostile]
        value = holder.get("")
    return value


def _places(container: Any) -> Iterator[tuple[Any, Any]]:
    """Every part of a JSON value, as the container that holds it and its key."""
    items = container.items() if isinstance(container, dict) else enumerate(container)
    for key, value in list(items):
        yield container, key
        if isinstance(value, dict | list):
            yield from _places(value)


def bytes_damage() -> st.SearchStrategy[tuple[float, int, bytes]]:
    """Where a file is to be cut, how much is lost there, and what stands there instead, for `truncated`."""
    inserted = st.sampled_from([b"", b"\0\0", b"\xff", b"{", b'"', b"[" * 5000, b"1e999", b"9" * 5000])
    return st.tuples(st.floats(0, 1), st.sampled_from([0, 1, 3, 10**6]), inserted)


def truncated(content: bytes, damage: tuple[float, int, bytes]) -> bytes:
    share, length, inserted = damage
    start = int(share * len(content))
    return content[:start] + inserted + content[start + length :]


def damaged_file(value: Any) -> st.SearchStrategy[bytes]:
    """The bytes of a JSON file that has been damaged, truncated, or never was one."""
    content = json.dumps(value).encode()
    return st.one_of(
        json_damage().map(lambda damage: json.dumps(damaged(value, damage)).encode()),
        bytes_damage().map(lambda damage: truncated(content, damage)),
        st.binary(max_size=LARGEST),
    )


def write_all(folder: Path, files: dict[str, bytes | None]) -> None:
    """Write every file; None takes it away."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if content is None:
            (folder / name).unlink(missing_ok=True)
        else:
            (folder / name).write_bytes(content)


def amount(quick: int, long: int) -> pytest.MarkDecorator:
    """How many examples a test tries: a few each time, many when the long set is asked for."""
    many = pytest.param(long, marks=[pytest.mark.faults_long, pytest.mark.timeout(1200)], id="long")
    return pytest.mark.parametrize("examples", [pytest.param(quick, id="quick"), many])


def hold(check: Callable[..., None], examples: int, *strategies: st.SearchStrategy[Any]) -> None:
    """Try `check` on as many examples: always the same ones, each in bounded time."""
    profile = settings(
        max_examples=examples,
        deadline=timedelta(seconds=10),
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    profile(given(*strategies)(check))()

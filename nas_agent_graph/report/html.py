"""Writes a search into one HTML file, as `nas report` does.

The file needs nothing else: no server, no network, no other file. It can be opened from a disk, sent
by mail and printed. Reads the workspace only, at any time while a search runs.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

from nas_agent_graph.report.data import report_record
from nas_agent_graph.report.pictures import embed_pictures
from nas_agent_graph.show.leaderboard import leaderboard
from nas_agent_graph.show.pages import conclusion_of, read_info, read_state
from nas_system.errors import ConfigError
from nas_system.files import write_atomic
from nas_system.nas_agent.agent_state import STATE_FILE
from nas_system.nas_agent.log_text import one_line
from nas_system.nas_agent.workspace_lock import is_held
from nas_system.processes.run_files import RunPaths, run_ids

PAGE = Path(__file__).with_name("assets")
SCRIPTS = (
    "elements.js",
    "charts.js",
    "conclusion.js",
    "accuracy.js",
    "timeline.js",
    "table.js",
    "run.js",
    "page.js",
)
"""Joined into one script, in this order."""
FILE_NAME = "report.html"
_FRESH_S = 60.0
"""A watched page is written this often even when nothing has changed: its age says that it is alive."""


def report(arguments: argparse.Namespace) -> None:
    """Write the page; with `watch`, write it again until the search ends. Raises ConfigError."""
    workspace, out, watch_s = arguments.workspace.absolute(), arguments.out, arguments.watch
    out = (workspace / FILE_NAME if out is None else out).absolute()
    if watch_s is not None:
        _wait_for_search(workspace, watch_s)
    written = _write(workspace, out)
    print(written, flush=True)
    seen, since = _fingerprint(workspace), time.monotonic()
    while watch_s is not None and is_held(workspace):
        time.sleep(watch_s)
        found = _fingerprint(workspace)
        if found != seen or time.monotonic() - since >= _FRESH_S:
            written, seen, since = _write(workspace, out), found, time.monotonic()
    if watch_s is not None:
        # Once more: the search may have ended between the last look and the last page.
        print(_write(workspace, out), flush=True)


def _wait_for_search(workspace: Path, look_s: float) -> None:
    """Return once there is a search in the workspace, or what is left of one."""
    told = False
    while not (workspace / STATE_FILE).exists() and not run_ids(workspace / "runs"):
        if not told:
            print(f"there is no search in {one_line(str(workspace), 300)} yet; waiting for one", flush=True)
            told = True
        time.sleep(look_s)


def _write(workspace: Path, out: Path) -> str:
    """Write the page; return a line about what was written."""
    state = read_state(workspace)
    info = read_info(workspace, state)
    conclusion = conclusion_of(workspace, state)
    record = report_record(workspace, state, info, now=datetime.now(UTC), conclusion=conclusion)
    record["left_out"] |= embed_pictures(record["runs"], workspace / "runs", state.direction)
    record["folder"] = quote(os.path.relpath(workspace / "runs", out.parent))
    plain = leaderboard(state, info, width=110, limit=len(state.runs) or 1, conclusion=conclusion)
    page = render(record, plain).encode()
    try:
        write_atomic(out, page)
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error.strerror or error}") from None
    return f"wrote {one_line(str(out), 300)} ({len(page) / 1e6:.1f} MB, {len(record['runs'])} runs)"


def render(record: Mapping[str, Any], plain: str) -> str:
    """Return the page as text. `plain` is what a reader without JavaScript sees.

    The policy in the page names its one script and its one style by their hashes, and allows nothing
    else but pictures that are in the page: nothing that a record holds can run or load anything.
    """
    style = (PAGE / "style.css").read_text(encoding="utf-8")
    script = "\n".join((PAGE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    script = f'"use strict";\n(() => {{\n{script}}})();\n'
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string((PAGE / "template.html.j2").read_text(encoding="utf-8"))
    return template.render(
        title=f"{record['name']}: search report",
        plain=plain,
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        data=embedded_json(record),
    )


def embedded_json(value: Any) -> str:
    """Return strict JSON that an HTML parser sees no markup in, for any content of the strings."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    # Outside of strings JSON has none of these characters, so only strings are changed.
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _fingerprint(workspace: Path) -> tuple[Any, ...]:
    """What changes whenever there is something new to show: the state, and files of runs in progress."""
    paths = [workspace / STATE_FILE]
    for current in read_state(workspace).in_progress:
        run = RunPaths(workspace / "runs" / current.run_id)
        paths += [run.proposal, run.transcript, run.config, run.history, run.metrics]
    return (is_held(workspace), *map(_stamp, paths))


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size

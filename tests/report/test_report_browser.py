"""The report in a real browser, which is driven through its debugging pipe and never leaves the machine."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from builders import task_info
from concluded import write_ended_search

from nas_agent_graph.report.data import report_record
from nas_agent_graph.report.html import render
from nas_agent_graph.report.pictures import embed_pictures
from nas_agent_graph.show.leaderboard import leaderboard
from nas_system.config_io.config_file import write_config
from nas_system.files import write_json
from nas_system.nas_agent.agent_state import AgentState, RunInfo, add_run, load_agent_state, save_agent_state
from nas_system.nas_agent.run_manager import RunPaths
from nas_system.nas_agent.workspace_lock import WorkspaceLock
from nas_system.space import (
    Change,
    ForecastingTask,
    GraphRegressionTask,
    RunConfig,
    apply_changes,
    family_default,
)

EVIL = (
    "</script><script>window.evil=1</script><img src=x onerror='window.evil=1'>"
    "<a href='javascript:window.evil=1'>go</a> {{ 7*7 }} \u202eturned <!--<script>"
)
SCORES = (0.060, 0.055, None, 0.048, 0.066, 0.0475)
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Browser:
    """One tab of a headless Chromium. `trouble` collects console errors, exceptions and refusals of its
    policy, `requests` every address it asked for."""

    def __init__(self, program: str, profile: Path) -> None:
        commands, self._out = os.pipe()
        self._in, answers = os.pipe()
        arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--no-first-run",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
            "about:blank",
        ]
        # Chromium reads commands from descriptor 3 and answers on 4.
        shell = f'exec "$0" "$@" 3<&{commands} 4>&{answers}'
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", shell, program, *arguments],
            pass_fds=(commands, answers),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._buffer, self._next = b"", 0
        self._tab: str | None = None
        self.trouble: list[str] = []
        self.requests: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._tab = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._next += 1
        message: dict[str, Any] = {"id": self._next, "method": method, "params": params}
        if self._tab is not None:
            message["sessionId"] = self._tab
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._next:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def _receive(self, timeout_s: float = 120.0) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], timeout_s)
            chunk = os.read(self._in, 1 << 16) if ready else b""
            assert chunk, "the browser does not answer"
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        event = json.loads(message)
        self._note(event.get("method"), event.get("params", {}))
        return event

    def _note(self, method: str | None, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.trouble.append(json.dumps(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.trouble.append(json.dumps(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.trouble.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    def open(self, address: str) -> None:
        """Load a page from the start, also if only the fragment differs."""
        self.call("Page.navigate", url="about:blank")
        self.trouble, self.requests = [], []
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete' && location.protocol === 'file:'")

    def js(self, expression: str) -> Any:
        """The value of an expression; the debugger is not bound by the page's policy."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, expression: str, timeout_s: float = 120.0) -> None:
        end = time.monotonic() + timeout_s
        while not self.js(expression):
            assert time.monotonic() < end, f"never came true: {expression}"
            time.sleep(0.02)

    def press(self, key: str) -> None:
        text = {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)
        # Addresses change in a task of their own.
        self.js("new Promise(done => setTimeout(done, 30))")

    def click(self, selector: str) -> None:
        self.js(f"document.querySelector({json.dumps(selector)}).click()")
        self.js("new Promise(done => setTimeout(done, 30))")

    def text(self, selector: str) -> str:
        return self.js(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")

    def rows(self) -> list[str]:
        return self.js("[...document.querySelectorAll('tbody tr[data-run]')].map(r => r.dataset.run)")

    def shot(self, path: Path, *, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        """A picture of the page, for people."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.js("new Promise(done => setTimeout(done, 400))")
        picture = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=False)
        path.write_bytes(base64.b64decode(picture["data"]))


# --- a search with everything in it ---------------------------------------------------------


def accuracy(mae: float) -> dict[str, Any]:
    """Errors over a horizon of three steps."""
    steps = [0.5 * mae, mae, 1.5 * mae]
    totals = {"mase": mae / 4, "smape": 12.5, "rmse": 2 * mae, "mae": mae}
    return {**totals, "per_step": {"mae": steps, "rmse": steps}}


def add(workspace: Path, state: AgentState, number: int, score: float | None) -> AgentState:
    """A finished run with a conversation, in which the first answer was refused."""
    run_id, parent = f"run_{number:04d}", "run_0000" if number else None
    base = RunConfig()
    changes = [
        Change(parameter="model.d_model", value=64),
        Change(parameter="training.lr", value=0.01 / (number + 1)),
    ]
    paths = RunPaths(workspace / "runs" / run_id)
    paths.folder.mkdir(parents=True)
    best = min((run.val_mse for run in state.runs if run.val_mse is not None), default=1.0)
    run = RunInfo(
        run_id=run_id,
        val_mse=score,
        test_mse=None if score is None else score / 2,
        status="OK" if score is not None else "DIVERGED",
        cause=None if score is not None else f"the loss became NaN {EVIL}"[:200],
        accepted=score is not None and score < best,
        family=f"informer{EVIL if number == 4 else ''}",
        proposer="llm:scripted" if number else "baseline",
        parent=parent,
        seconds=10.0 * number + 3,
        history_summary="4 epochs, best_epoch=2.",
    )
    write_config(paths.config, apply_changes(base, changes) if number else base)
    proposal = {
        "proposer": run.proposer,
        "parent": parent,
        "hypothesis": f"Width helps. {EVIL}",
        "attempt": 1,
    }
    stated = [change.model_dump() for change in changes] if number else []
    write_json(paths.proposal, proposal | {"expected_val_mse": 0.05, "changes": stated})
    write_json(paths.verdict, {"accepted": run.accepted, "reason": f"judged {EVIL}", "against": parent})
    epochs = [
        {"epoch": n, "train_mse": 0.08 - n / 100, "val_mse": (score or 0.07) + abs(n - 2) / 200}
        for n in range(4)
    ]
    write_json(paths.history, {"best_epoch": 2, "epochs": epochs})
    if score is not None:
        parts = {"val": accuracy(100 * score), "test": accuracy(50 * score)}
        write_json(paths.metrics, {"val_mse": score, "accuracy": parts})
    paths.log.write_text(f"epoch 1/4\n{EVIL}\nneedle-{number}\n")
    paths.predictions.write_bytes(PIXEL)
    if number:
        system, asked = ({"role": r, "content": f"{r} prompt {EVIL}"} for r in ("system", "user"))
        answer = {"role": "assistant", "content": "no JSON here"}
        repair = {"role": "user", "content": f"the answer has no JSON object {EVIL}"}
        events = [
            {"kind": "request", "messages": [system, asked]},
            {"kind": "response", "text": "no JSON here", "usage": {"input_tokens": 900, "output_tokens": 30}},
            {"kind": "request", "messages": [system, asked, answer, repair]},
            {
                "kind": "response",
                "text": json.dumps({"hypothesis": EVIL}),
                "finish_reason": "stop",
                "latency_s": 1.5,
            },
        ]
        stamp = {"ts": "2026-01-02T03:04:05.000+00:00"}
        paths.transcript.write_text("".join(json.dumps(event | stamp) + "\n" for event in events))
    return add_run(state, run)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    source = {
        "name": EVIL,
        "kind": "file",
        "path": None,
        "sha256": "f18de3ad269cef59",
        "bytes": 1,
        "notice": EVIL,
    }
    state = AgentState(max_runs=6, task=ForecastingTask(), data=source, leads_by="margin")
    state = state.replace(noise=0.001, noise_runs=3)
    for number, score in enumerate(SCORES):
        state = add(folder, state, number, score)
    baselines = [
        {"name": "nlinear-336", "val_mse": 0.049, "test_mse": 0.026},
        {"name": EVIL, "val_mse": 0.07, "accuracy": {"val": accuracy(8.0)}},
    ]
    task = ForecastingTask().model_dump(mode="json")
    write_json(folder / "runs/task_facts.json", {"task": task, "source": source, "references": baselines})
    save_agent_state(state, folder / "agent_state.json")
    return folder


@pytest.fixture(scope="module")
def page(workspace: Path, run_cli: Callable[..., subprocess.CompletedProcess[str]]) -> str:
    written = run_cli("nas_agent_graph.report", "--workspace", workspace, cwd=workspace)
    assert written.returncode == 0, written.stderr
    return (workspace / "report.html").as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("needs a browser: apt-get install chromium")
    profile = tempfile.mkdtemp(prefix="report-browser-")
    opened = Browser(program, Path(profile))
    yield opened
    opened.close()
    shutil.rmtree(profile, ignore_errors=True)


# --- tests ----------------------------------------------------------------------------------


def assert_calm(browser: Browser) -> None:
    """Nothing went wrong in the page, nothing was asked for outside of it, and no planted script ran."""
    assert browser.trouble == []
    assert [url for url in browser.requests if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in browser.requests if url.startswith("file:")]) == 1
    assert browser.js("typeof window.evil") == "undefined"


def test_the_page_shows_the_search_without_trouble_and_without_the_network(
    browser: Browser, page: str
) -> None:
    browser.open(page)
    assert "Best: run_0005" in browser.text(".lead")
    assert "6 of 6" in browser.text(".overview dl")
    assert len(browser.rows()) == 6
    assert browser.js("document.querySelectorAll('.chart .mark.best-run, .chart .mark.accepted').length") >= 4
    assert "not used by the search" in browser.text("table.runs th.test")
    assert_calm(browser)


def test_errors_in_the_units_of_the_data_are_drawn_by_step_and_listed(browser: Browser, page: str) -> None:
    browser.open(page)
    assert browser.js("document.querySelectorAll('#accuracy .per-step svg').length") == 2
    lines = "[...document.querySelectorAll('#accuracy .per-step:first-of-type .curve')]"
    classes = browser.js(f"{lines}.map(path => path.getAttribute('class'))")
    assert classes == ["curve simple simple-0", "curve run"]
    rows = "[...document.querySelectorAll('#accuracy tbody tr')]"
    table = browser.js(f"{rows}.map(row => [...row.cells].map(cell => cell.textContent))")
    assert [row[0] for row in table[:5]] == ["run_0005", "run_0003", "run_0001", "run_0000", "run_0004"]
    assert table[0][2:] == ["1.188", "12.50", "9.500", "4.750", "0.5938", "12.50", "4.750", "2.375"]
    assert table[5][1:6] == ["baseline", "2.000", "12.50", "16.00", "8.000"]
    browser.open(f"{page}#run_0003")
    assert "MASE\n1.200\ntest 0.6000" in browser.text("dl.figures")
    assert_calm(browser)


@pytest.mark.parametrize("fragment", ["", "#run_0002", "#run_0004", "#run_0005/conversation"])
def test_what_a_model_wrote_stays_text(browser: Browser, page: str, fragment: str) -> None:
    browser.open(page + fragment)
    browser.js("document.querySelectorAll('details').forEach(folded => { folded.open = true })")
    shown = browser.text("body")
    assert "<img src=x onerror=" in shown
    assert "{{ 7*7 }}" in shown
    assert "\u202e" not in shown
    assert (
        browser.js("document.querySelectorAll('#app img:not([src^=\"data:image/png\"]), #app script').length")
        == 0
    )
    assert browser.js("document.querySelectorAll('a[href^=\"javascript\"]').length") == 0
    assert_calm(browser)


def test_the_page_of_a_search_on_graphs_speaks_of_its_own_error(
    browser: Browser, tmp_path: Path, run_cli: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    base, source = family_default("graph_transformer"), {"name": "zinc_synth", "kind": "synthetic"}
    state = AgentState(max_runs=2, task=GraphRegressionTask(), data=source, noise=0.01, noise_runs=2)
    for number, score in enumerate((0.6, 0.5)):
        paths = RunPaths(tmp_path / "runs" / f"run_{number:04d}")
        paths.folder.mkdir(parents=True)
        run = RunInfo(run_id=paths.folder.name, val_mae=score, test_mae=2 * score, accepted=True, seconds=1.0)
        state = add_run(state, run)
        write_config(paths.config, base)
        write_json(paths.proposal, {"proposer": "llm:m", "changes": [], "expected_val_mae": 0.55})
        epochs = [
            {"epoch": n, "train_mae": score + 0.3 - n / 10, "val_mae": score + 0.1 - n / 20} for n in range(3)
        ]
        write_json(paths.history, {"best_epoch": 2, "epochs": epochs})
    baselines = [{"name": "mean", "val_mae": 0.7, "test_mae": 0.71}]
    write_json(tmp_path / "runs/task_facts.json", task_info(baselines).to_json())
    save_agent_state(state, tmp_path / "agent_state.json")
    written = run_cli("nas_agent_graph.report", "--workspace", tmp_path, cwd=tmp_path)
    assert written.returncode == 0, written.stderr
    address = (tmp_path / "report.html").as_uri()
    browser.open(address)
    shown = browser.text("body")
    assert "with val_mae 0.50000." in shown
    assert "Task: zinc_synth, one number for every graph; the lowest val_mae wins." in shown
    labels = "[...document.querySelectorAll('.chart text')].map(text => text.textContent)"
    assert {"val_mae", "mean 0.70000", "best run 0.50000"} <= set(browser.js(labels))
    browser.click("th[data-key=test_score] button")
    order = "[...document.querySelectorAll('tbody tr')].map(row => row.cells[0].innerText)"
    assert browser.js(order) == ["mean", "run_0001", "run_0000"]
    assert "mse" not in shown.lower()
    browser.open(address + "#run_0001")
    page = browser.text("body")
    assert "test mae" in page.lower() and "0.05000 better than that" in page
    assert "mae" in browser.js(labels)
    configuration = browser.text("#configuration")
    assert "mse" not in page.replace(configuration, "").lower()
    assert_calm(browser)


class R2(ForecastingTask):
    """A task whose metric is maximized."""

    metric_name = "r2"
    direction = "maximize"


def test_a_maximized_metric_has_its_best_runs_on_top(browser: Browser, tmp_path: Path) -> None:
    scores = (80.0, 91.5, -3000.0, 91.8, 70.0)
    runs = tuple(
        RunInfo(run_id=f"run_{number:04d}", val_mse=score, accepted=score in (80.0, 91.5))
        for number, score in enumerate(scores)
    )
    source = {"name": "ETTh1", "kind": "file", "sha256": "f18de3ad269cef59"}
    state = AgentState(max_runs=5, task=R2(), data=source, noise=0.5, runs=runs, best_run_id="run_0001")
    baselines = [{"name": "majority", "val_r2": 92.1}, {"name": "mean", "val_r2": 60.0}]
    info = task_info(baselines)
    record = report_record(tmp_path, state, info, now=datetime.now(UTC))
    record["left_out"] |= embed_pictures(record["runs"], tmp_path / "runs", state.direction)
    (tmp_path / "report.html").write_text(render({**record, "folder": "runs"}, leaderboard(state, info)))
    browser.open((tmp_path / "report.html").as_uri())
    rows = "[...document.querySelectorAll('tbody tr')].map(row => row.cells[0].innerText)"
    ranked = ["majority", "run_0003", "run_0001", "run_0000", "run_0004", "mean", "run_0002"]
    assert browser.js(rows) == ranked
    sorting = "document.querySelector('th[data-key=val_score]').getAttribute('aria-sort')"
    assert browser.js(sorting) == "descending"
    browser.click("th[data-key=val_score] button")
    assert (browser.js(rows), browser.js(sorting)) == (ranked[::-1], "ascending")
    assert "the highest val_r2 on scaled data wins." in browser.text("body")
    assert "val_r2: higher is better" in browser.text(".legend")
    labels = "[...document.querySelectorAll('.chart text')].map(text => text.textContent)"
    assert "best run 91.80000" in browser.js(labels)
    height = "+document.querySelector('.chart .mark.%s').getAttribute('cy')"
    assert browser.js(height % "best-run") < browser.js(height % "accepted")
    assert_calm(browser)


def test_the_policy_stops_a_script_that_got_into_the_page(browser: Browser, page: str) -> None:
    browser.open(page)
    plant = "{ const it = document.createElement('%s'); it.%s = '%s'; document.body.append(it) }"
    browser.js(plant % ("script", "textContent", "window.evil = 1"))
    browser.js(plant % ("img", "src", "https://127.0.0.1:9/x.png"))
    assert browser.js("typeof window.evil") == "undefined"
    browser.js("new Promise(done => setTimeout(done, 100))")
    assert any("Content Security Policy" in text for text in browser.trouble)


def test_the_table_sorts_both_ways_with_unknown_values_last(browser: Browser, page: str) -> None:
    browser.open(page)
    assert browser.rows() == ["run_0005", "run_0003", "run_0001", "run_0000", "run_0004", "run_0002"]
    browser.click("th[data-key=val_score] button")
    assert browser.rows() == ["run_0004", "run_0000", "run_0001", "run_0003", "run_0005", "run_0002"]
    assert browser.js("document.querySelector('th[data-key=val_score]').ariaSort") == "descending"
    browser.click("th[data-key=run] button")
    assert browser.rows() == [f"run_{number:04d}" for number in range(6)]
    assert_calm(browser)


def test_baseline_rows_stand_where_their_score_puts_them(browser: Browser, page: str) -> None:
    browser.open(page)
    names = browser.js(
        "[...document.querySelectorAll('.runs tbody tr')].map(row => row.cells[0].innerText.slice(0, 11))"
    )
    assert names.index("nlinear-336") == names.index("run_0003") + 1


def test_filters_and_words_narrow_the_table(browser: Browser, page: str) -> None:
    browser.open(page)
    choose = (
        "{ const menu = document.querySelector('[data-filter=status]'); menu.value = '%s';"
        " menu.dispatchEvent(new Event('change')) }"
    )
    browser.js(choose % "no score")
    assert browser.rows() == ["run_0002"]
    browser.js(choose % "")
    browser.js("document.getElementById('find').focus()")
    browser.call("Input.insertText", text="NEEDLE-3")
    assert browser.rows() == ["run_0003"]
    assert "needle-3" in browser.text("tbody mark")
    assert "1 of 6" in browser.text(".found")
    browser.press("Enter")
    assert browser.js("location.hash") == "#run_0003"
    assert browser.js("CSS.highlights.get('found').size") == 1


def test_a_link_opens_its_run_with_all_that_is_known(browser: Browser, page: str) -> None:
    browser.open(page + "#run_0003")
    assert browser.text("h1").startswith("run_0003")
    shown = browser.text("article")
    for words in ("Width helps.", "0.00200 better than that, 2.0 times the noise", "training.lr", "needle-3"):
        assert words in shown, words
    assert "the answer has no JSON object" in browser.text("#refused")
    roles = browser.js("[...document.querySelectorAll('.message b')].map(role => role.innerText)")
    assert roles == ["instructions", "question", "answer", "refused", "answer"]
    assert "The same as in run_0001." in browser.text(".message.system")
    assert browser.js("document.querySelector('#pictures img').naturalWidth") == 1
    assert browser.js("document.querySelectorAll('#curve path.curve').length") == 3
    assert_calm(browser)


def test_a_link_to_nowhere_shows_the_overview(browser: Browser, page: str) -> None:
    browser.open(page + "#run_9999%E0%A4%A")
    assert len(browser.rows()) == 6
    assert_calm(browser)


def test_the_keyboard_goes_through_the_runs_and_back(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.press("j")
    browser.press("j")
    assert browser.js("document.querySelector('tr.selected').dataset.run") == "run_0003"
    browser.press("Enter")
    assert browser.text("h1").startswith("run_0003")
    browser.press("j")
    assert browser.text("h1").startswith("run_0001")
    browser.press("ArrowLeft")
    browser.press("k")
    assert browser.text("h1").startswith("run_0005")
    browser.press("Escape")
    assert browser.js("document.querySelector('tr.selected').dataset.run") == "run_0005"
    browser.press("/")
    assert browser.js("document.activeElement.id") == "find"
    assert_calm(browser)


def test_pointing_at_a_mark_names_its_run(browser: Browser, page: str) -> None:
    browser.open(page)
    x, y = browser.js(
        "(() => { const mark = document.querySelector('.chart .mark.best-run');"
        " mark.scrollIntoView({ block: 'center' });"
        " const b = mark.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2] })()"
    )
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    browser.wait("!document.querySelector('.tip').hidden")
    assert browser.text(".tip").startswith("run_0005")


def test_the_page_looks_again_while_the_search_runs_and_keeps_its_place(
    browser: Browser, page: str, workspace: Path, run_cli: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    live = workspace / "live.html"
    with WorkspaceLock(workspace):
        written = run_cli("nas_agent_graph.report", "--workspace", workspace, "--out", live, cwd=workspace)
        assert written.returncode == 0, written.stderr
    browser.open(live.as_uri() + "#run_0001")
    browser.js("window.mark = 1; history.replaceState({ view: { sort: 'run', down: true } }, '')")
    browser.wait("typeof window.mark === 'undefined'", timeout_s=12)
    browser.wait("document.readyState === 'complete'")
    assert browser.text("h1").startswith("run_0001")
    browser.press("Escape")
    assert "running" in browser.text(".live")
    assert browser.rows()[0] == "run_0005"
    # A page of a search that is not running stays as it is.
    browser.open(page)
    browser.js("window.mark = 1; new Promise(done => setTimeout(done, 6000))")
    assert browser.js("window.mark") == 1


def side_by_side(workspace: Path, tmp_path: Path, ends: list[tuple[float, float]]) -> Path:
    """A copy of the search whose trainings began and ended at these seconds; the base config with repeats."""
    copy = tmp_path / "copy"
    shutil.copytree(workspace, copy, ignore=shutil.ignore_patterns("report.html"))
    folders = sorted((copy / "runs").glob("run_*"))
    folders += [folders[0] / "repeats" / f"seed_{seed}" for seed in (43, 44)]
    for folder, (start, end) in zip(folders, ends, strict=True):
        folder.mkdir(parents=True, exist_ok=True)
        stamps = [f"2026-01-02T03:{int(s) // 60:02d}:{s % 60:06.3f}+00:00" for s in (start, end)]
        times = {"started_at": stamps[0], "ended_at": stamps[1], "wall_s": end - start}
        write_json(folder / "exit.json", {"schema": 1, "attempt": 1, "ended": "exited", **times})
    return copy


def test_the_timeline_shows_which_slot_trained_what(
    browser: Browser,
    workspace: Path,
    tmp_path: Path,
    run_cli: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    ends = [(0, 10), (30, 60), (31, 50), (50, 70), (61, 70), (71, 80), (10, 29), (10, 28)]
    copy = side_by_side(workspace, tmp_path, [(float(start), float(end)) for start, end in ends])
    written = run_cli("nas_agent_graph.report", "--workspace", copy, cwd=copy)
    assert written.returncode == 0, written.stderr
    browser.open((copy / "report.html").as_uri())
    assert "training 84 % of 2 slots, over 80 s" in browser.text("#timeline .legend")
    labels = browser.js("[...document.querySelectorAll('#timeline a')].map(a => a.ariaLabel)")
    assert len(labels) == 8
    assert labels[0] == "run_0000, informer, accepted, val_mse 0.06000, 10 s, slot 1"
    assert sorted(labels[1:3]) == [
        "run_0000, informer, repeat with seed 43, 19 s, slot 2",
        "run_0000, informer, repeat with seed 44, 18 s, slot 1",
    ]
    assert [label.split(", ")[-1] for label in labels[3:]] == [
        "slot 1",
        "slot 2",
        "slot 2",
        "slot 1",
        "slot 1",
    ]
    # Gaps are as long as they were.
    boxes = browser.js("[...document.querySelectorAll('#timeline a rect')].map(r => r.x.baseVal.value)")
    assert boxes[3] - boxes[0] == pytest.approx(3 * (boxes[1] - boxes[0]), rel=0.01)
    browser.js("document.querySelector('#timeline a[tabindex=\"0\"]').focus()")
    for _ in range(3):
        browser.press("ArrowRight")
    assert browser.text("#timeline .tip").splitlines()[0] == "run_0001 informer"
    assert browser.text("#timeline .tip").splitlines()[1] == "0.05500"
    assert browser.js("document.querySelectorAll('#timeline a[tabindex=\"0\"]').length") == 1
    browser.press("Enter")
    browser.wait("location.hash === '#run_0001'")
    assert_calm(browser)


def test_a_search_of_one_training_at_a_time_has_no_timeline(browser: Browser, page: str) -> None:
    browser.open(page)
    assert browser.js("document.getElementById('timeline')") is None


def test_the_timeline_of_a_thousand_runs_is_drawn(browser: Browser, workspace: Path, tmp_path: Path) -> None:
    state, now = load_agent_state(workspace / "agent_state.json"), datetime.now(UTC)
    record = report_record(workspace, state, None, now=now)
    record["left_out"] |= embed_pictures(record["runs"], workspace / "runs", "minimize")
    record["folder"] = "runs"
    runs = [{**record["runs"][n % 6], "run_id": f"run_{n:04d}", "conversation": []} for n in range(1000)]
    bars = [
        {
            "run": run["run_id"],
            "repeat": None,
            "row": n % 20,
            "start": n // 20 * 9.0,
            "end": n // 20 * 9.0 + 8,
        }
        | {"seconds": 8.0, "running": False}
        for n, run in enumerate(runs)
    ]
    pauses = [{"at": 99.0, "seconds": 3600.0}]
    timeline = {"began": "2026-01-02T03:04:05+00:00", "rows": 20, "seconds": 450.0, "share": 0.889}
    record |= {"runs": runs, "timeline": {**timeline, "bars": bars, "pauses": pauses, "left_out": 2}}
    target = tmp_path / "large.html"
    target.write_text(render(record, ""), encoding="utf-8")
    browser.open(target.as_uri())
    assert browser.js("document.querySelectorAll('#timeline a').length") == 1000
    legend = browser.text("#timeline .legend")
    assert "training 89 % of 20 slots" in legend
    assert "1 pause left out (60.0 min)" in legend
    assert "2 trainings next to so many others not drawn" in legend
    assert browser.js("document.querySelector('#timeline svg').getBoundingClientRect().height") < 500
    assert_calm(browser)


EVIL_NAME = "</script><img src=x onerror='window.evil=1'>"


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, run_cli: Callable[..., Any]) -> str:
    """The page of a search that has said at its end what it knows; a name in it is hostile."""
    folder = tmp_path_factory.mktemp("ended")
    write_ended_search(folder)
    path = folder / "runs/conclusion.json"
    record = json.loads(path.read_text())
    (baseline,) = [one for one in record["comparisons"] if one["name"] == "last-value"]
    baseline["name"] = EVIL_NAME
    path.write_text(json.dumps(record))
    written = run_cli("nas_agent_graph.report", "--workspace", folder, cwd=folder)
    assert written.returncode == 0, written.stderr
    return (folder / "report.html").as_uri()


def test_the_page_tells_what_the_search_says_at_its_end(browser: Browser, ended: str) -> None:
    browser.open(ended)
    assert browser.text(".lead").startswith("Recommended: run_0002 (gru) with val_mse 0.05000, the mean over")
    assert "run_0002 leads 6 runs, but is not distinguishable" in browser.text(".said .verdict")
    titles = browser.js("[...document.querySelectorAll('#conclusion svg title')].map(t => t.textContent)")
    assert titles[0].startswith("run_0002 (gru): 0.05000, 90 % 0.04908 to 0.05092, seeds 0.04910")
    assert [title.partition(" ")[0].strip(":") for title in titles if "cannot be told apart" in title] == [
        "run_0002",
        "nlinear-336",
        "run_0001",
        "run_0003",
    ]
    # Those that tie are shaded, once more in the legend; the recommended run has a mark here and below.
    counts = {".tied": 4 + 1, ".mark.best-run": 2, "g .seed.fresh": 2 + 2 + 1}
    for selector, number in counts.items():
        assert browser.js(f"document.querySelectorAll('#conclusion {selector}').length") == number, selector
    cells = browser.js(
        "[...document.querySelectorAll('#conclusion tbody tr')].map(r => [...r.cells].map(c => c.innerText))"
    )
    assert cells[2] == ["run_0003", "0.05085", "+0.00085", "±0.00127", "±0.00015", "±0.00128", "no"]
    assert [row[-1] for row in cells] == ["no", "no", "no", "yes", "yes", "yes", "yes"]
    assert "90 % interval over its rows" in browser.text(".hold-out")
    assert EVIL_NAME in cells[-1][0]
    assert_calm(browser)


def test_the_table_and_a_run_show_means_over_seeds(browser: Browser, ended: str) -> None:
    browser.open(ended)
    assert browser.rows()[:4] == ["run_0002", "run_0003", "run_0001", "run_0004"]
    row = "[...document.querySelector('tr[data-run=run_0002]').cells].slice(0, 5).map(c => c.innerText)"
    assert browser.js(row) == ["= run_0002", "gru", "best run", "0.04985", "0.00053 (4)"]
    browser.open(ended + "#run_0003")
    shown = browser.text("article")
    assert "val_mse, mean of 3 seeds" in shown and "0.05043" in shown
    assert "Cannot be told apart from run_0002: 0.00085 worse (margin of error at 90 %:" in shown
    rows = "[...document.querySelectorAll('#seeds tbody tr')].map(r => [...r.cells].map(c => c.innerText))"
    assert [cells[:3] for cells in browser.js(rows)] == [
        ["its own", "", "0.04960"],
        ["seed 43", "final", "0.05120"],
        ["seed 44", "final", "0.05050"],
    ]
    assert_calm(browser)


def test_what_the_search_says_fits_a_narrow_window(browser: Browser, ended: str) -> None:
    size = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.call("Emulation.setDeviceMetricsOverride", **size)
    for fragment in ("", "#run_0003"):
        browser.open(ended + fragment)
        assert browser.js("document.documentElement.scrollWidth") <= 400
    browser.call("Emulation.clearDeviceMetricsOverride")


def test_a_search_that_goes_on_says_nothing_of_its_end(browser: Browser, page: str) -> None:
    browser.open(page)
    assert browser.js("document.getElementById('conclusion')") is None
    assert "Best: run_0005" in browser.text(".lead")


def test_a_narrow_window_needs_no_sideways_scrolling(browser: Browser, page: str) -> None:
    size = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.call("Emulation.setDeviceMetricsOverride", **size)
    for fragment in ("", "#run_0003"):
        browser.open(page + fragment)
        assert browser.js("document.documentElement.scrollWidth") <= 400
    browser.call("Emulation.clearDeviceMetricsOverride")


def test_it_prints(browser: Browser, page: str) -> None:
    browser.open(page + "#run_0003")
    printed = base64.b64decode(browser.call("Page.printToPDF")["data"])
    assert printed.startswith(b"%PDF")
    assert len(printed) > 10_000
    assert_calm(browser)

"""The test house: no network, no keys, one thread, no cache left over from elsewhere.

Everything is set before the first test module is imported, and children inherit it.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from python_server import run_python

PROJECT_ROOT = Path(__file__).resolve().parents[1]
# Nothing listens on the discard port: a child that tries to leave by HTTP is refused at once.
DEAD_PROXY = "http://127.0.0.1:9"
# What a user's shell may hold and a test must not see. NAS_DATA_DIR alone is meant for the tests.
PRIVATE_PREFIXES = ("NAS_", "OPENAI_", "ANTHROPIC_", "LANGSMITH_", "LANGCHAIN_", "WANDB_", "HF_")
PRIVATE_SUFFIXES = ("_API_KEY", "_TOKEN")


class ForeignConnection(RuntimeError):
    """A test tried to leave this machine. Not an OSError, so that no code mistakes it for bad weather."""


def pytest_configure(config: pytest.Config) -> None:
    data = _data_folder()
    for name in list(os.environ):
        if name.startswith(PRIVATE_PREFIXES) or name.endswith(PRIVATE_SUFFIXES):
            del os.environ[name]
    if data is not None:
        os.environ["NAS_DATA_DIR"] = str(data)
    # Every search would begin by importing statsforecast; the tests that are about it say so.
    os.environ["NAS_STATS_SECONDS"] = "0"

    cache = tempfile.mkdtemp(prefix="nas-test-cache-")
    config.add_cleanup(lambda: shutil.rmtree(cache, ignore_errors=True))
    os.environ["XDG_CACHE_HOME"] = os.environ["XDG_DATA_HOME"] = cache
    os.environ["MPLBACKEND"] = "Agg"
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        os.environ[name] = os.environ[name.upper()] = DEAD_PROXY
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1,localhost,::1"
    # `nohup` and background jobs ignore signals, and children inherit that. A handler that does nothing keeps
    # this process as deaf as it was asked to be, and is not inherited: what tests start has the defaults.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    # An audit hook sees every connection of this process and patches nothing. It stays for good.
    sys.addaudithook(_refuse_foreign_hosts)


def _data_folder() -> Path | None:
    """Where the real data lies: NAS_DATA_DIR, made absolute because tests change their folder."""
    named = os.environ.get("NAS_DATA_DIR")
    if not named:
        shared = PROJECT_ROOT.parent / "shared" / "data"
        return shared if shared.is_dir() else None
    folder = Path(named).resolve()
    if not folder.is_dir():
        raise pytest.UsageError(f"NAS_DATA_DIR names no folder: {folder}. Unset it or correct it.")
    return folder


def _refuse_foreign_hosts(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        connection, address = arguments[:2]
        if connection.family in (socket.AF_INET, socket.AF_INET6) and address is not None:
            _demand_loopback(address[0])
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        _demand_loopback(arguments[0])


def _demand_loopback(host: str | bytes | None) -> None:
    name = host.decode() if isinstance(host, bytes) else host
    if name in (None, "", "localhost"):
        return
    try:
        allowed = ipaddress.ip_address(name).is_loopback or name in ("0.0.0.0", "::")
    except ValueError:
        allowed = name == socket.gethostname()
    if not allowed:
        raise ForeignConnection(f"a test tried to reach {name}; serve what it needs on 127.0.0.1")


@pytest.fixture(autouse=True)
def _one_torch_thread() -> None:
    """Undo what an earlier test set. Does not import torch for tests that do without it."""
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "set_num_threads"):
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The top of the checkout."""
    return PROJECT_ROOT


@pytest.fixture(scope="session")
def ett_dir() -> Path:
    """The folder that holds the real ETTh1.csv."""
    folder = os.environ.get("NAS_DATA_DIR")
    if folder is None or not (Path(folder) / "ETTh1.csv").is_file():
        pytest.skip("needs the real ETTh1.csv: NAS_DATA_DIR=<its folder>")
    return Path(folder)


@pytest.fixture
def run_search() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a search as `run_cli("nas_agent_graph.run", ...)` does, with trainings that take a moment.

    Their scores depend on the configuration alone (`chaos.training`). They leave no weights, so the
    split has to keep no rows back, as `--split 0.7,0.15,0.15` does.
    """
    folder = PROJECT_ROOT / "tests" / "faults" / "chaos"
    # A training may write nowhere else; `seen_from_outside` makes an exception of the cache.
    caches = Path(os.environ["XDG_CACHE_HOME"]) / "nas_system"
    caches.mkdir(exist_ok=True)
    trainer = [sys.executable, "-S", str(folder / "training.py"), tempfile.mkdtemp(dir=caches)]

    def run(
        *flags: str | Path, cwd: Path, timeout_s: float = 240.0, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        command = [str(folder / "agent.py"), *trainer, "--", *map(str, flags)]
        opened = {"PYTHONPATH": f"{folder / 'seen_from_outside'}:{PROJECT_ROOT}", **(env or {})}
        return run_python(command, cwd=cwd, env=_environment(opened), timeout_s=timeout_s)

    return run


@pytest.fixture(scope="session")
def run_cli() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `python -m module arguments...` as a process of its own; `env` is added to the environment.

    Our programs are forks that have the large packages (`python_server`), unless `fresh`.
    """

    def run(
        module: str,
        *arguments: str | Path,
        cwd: Path,
        timeout_s: float = 240.0,
        env: Mapping[str, str] | None = None,
        fresh: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        command = ["-m", module, *map(str, arguments)]
        if module.startswith("nas_") and not fresh:
            return run_python(command, cwd=cwd, env=_environment(env), timeout_s=timeout_s)
        return subprocess.run(
            [sys.executable, *command],
            cwd=cwd,
            env=_environment(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    return run


def _environment(added: Mapping[str, str] | None) -> dict[str, str]:
    """Ours with `added`; the project is found from any folder, also where it is not installed."""
    return {**os.environ, "PYTHONPATH": str(PROJECT_ROOT), **(added or {})}

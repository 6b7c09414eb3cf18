"""Runs Python programs in forks of one process that has imported the large packages.

Importing torch costs seconds of processor time, the agent's packages half a second, and many tests
start a program that needs them. A fork has its own modules, folder, environment and exit code, like a
process of its own; it cannot show what a program imports, nor what an interpreter does before its
first line.

As a program this file is the server: a request per line of stdin, an exit code per line of stdout.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LARGE = ("torch", "pydantic", "yaml", "jinja2", "langgraph.graph", "openai", "optuna", "matplotlib.figure")
"""What programs of ours import and tests wait for."""


class PythonServer:
    """The client's side. Started by the first call; ends with this process."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float = 240.0,
    ) -> subprocess.CompletedProcess[str]:
        """Do what `python arguments...` does, for `-c code`, `-m module` or a file, with captured output.

        The folder and the environment are this process's by default.
        """
        server = self._process = self._process or self._start()
        assert server.stdin is not None and server.stdout is not None
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            request = {
                "arguments": list(arguments),
                "cwd": str(cwd or Path.cwd()),
                "env": dict(os.environ if env is None else env),
                "streams": [f"/proc/{os.getpid()}/fd/{stream.fileno()}" for stream in (out, err)],
            }
            server.stdin.write(json.dumps(request) + "\n")
            server.stdin.flush()
            child = int(server.stdout.readline())
            if not select.select([server.stdout], [], [], timeout_s)[0]:
                os.kill(child, signal.SIGKILL)
                server.stdout.readline()
                raise subprocess.TimeoutExpired(list(arguments), timeout_s)
            code = int(server.stdout.readline())
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(list(arguments), code, out.read(), err.read())

    def _start(self) -> subprocess.Popen[str]:
        server = subprocess.Popen(
            [sys.executable, __file__],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        atexit.register(server.communicate)
        return server


run_python = PythonServer().run


def serve() -> list[str]:
    """Answer requests until stdin ends, and exit; return in each fork, with the program to run there."""
    # Not the folder of this file: the programs have their own.
    del sys.path[0]
    for name in LARGE:
        importlib.import_module(name)
    for line in iter(sys.stdin.readline, ""):
        child = os.fork()
        if child == 0:
            return become(**json.loads(line))
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    sys.exit()


def become(arguments: list[str], cwd: str, env: dict[str, str], streams: list[str]) -> list[str]:
    """Take folder, environment, arguments, path and streams of the program that is asked for."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for target, name in enumerate([os.devnull, *streams]):
        opened = os.open(name, os.O_RDWR)
        os.dup2(opened, target)
        os.close(opened)
    script = arguments[0] not in ("-c", "-m")
    first = str(Path(arguments[0]).resolve().parent) if script else cwd
    sys.path[:0] = [first, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv[:] = arguments if script else [arguments[0], *arguments[2:]]
    return arguments


if __name__ == "__main__":
    kind, *rest = serve()
    if kind == "-c":
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    elif kind == "-m":
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(kind, run_name="__main__")

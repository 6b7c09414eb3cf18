"""A Python program that starts in a forked interpreter, which has imported it already, instead of a new one.

What it finds is what a new interpreter would have: environment, arguments, module path, signal handlers,
random states. Standard library only.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, NoReturn

from nas_system.processes.process_tree import COOKIE_NAME

COOKIE_BYTES = 192
"""Room for the value of `COOKIE_NAME`; a shorter one is followed by zeros."""
_ENV_START, _ENV_END = 50, 51
"""Fields of /proc/PID/stat (man 5 proc)."""
_FAILED = 1


class CookieSlot(NamedTuple):
    """Where the kernel finds the value of `COOKIE_NAME` when somebody reads /proc/PID/environ.

    That file shows the memory in which the interpreter was given its environment, and setenv(3) does not
    write there. A forked process has its own copy of it.
    """

    address: int

    @classmethod
    def find(cls) -> CookieSlot:
        """Find the slot in this process, which was started with `placeholder`. Raises OSError without one."""
        with open("/proc/self/stat", "rb") as file:
            content = file.read()
        fields = content[content.rfind(b")") + 2 :].split()
        start, end = (int(fields[number - 3]) for number in (_ENV_START, _ENV_END))
        wanted = f"{COOKIE_NAME}={placeholder()}\0".encode()
        position = ctypes.string_at(start, end - start).find(wanted) if 0 < start < end else -1
        if position < 0:
            raise OSError(f"this process was not started with a placeholder of {COOKIE_NAME}")
        return cls(start + position + len(COOKIE_NAME) + 1)

    def write(self, cookie: str) -> None:
        """Mark the calling process, and all that it forks. Raises ValueError for too long a cookie."""
        value = cookie.encode()
        if len(value) > COOKIE_BYTES:
            raise ValueError(f"{cookie!r} is too long for a cookie")
        ctypes.memmove(self.address, value.ljust(COOKIE_BYTES, b"\0"), COOKIE_BYTES)


def placeholder() -> str:
    """Return the value of `COOKIE_NAME` with which an interpreter that is to be forked is started."""
    return "." * COOKIE_BYTES


class ForkedProgram:
    """The program `python -m MODULE`, whose module this interpreter has imported."""

    def __init__(self, module: str, slot: CookieSlot) -> None:
        """Import `module`, which has `main(arguments) -> exit code`, and let it `preload()` what it needs."""
        imported = importlib.import_module(module)
        imported.preload()
        self._main: Callable[[Sequence[str]], int] = imported.main
        self._file = imported.__file__ or module
        self._module, self._slot = module, slot

    def is_named_by(self, command: Sequence[str]) -> bool:
        """Return whether `command` starts this program with this interpreter."""
        return list(command[:3]) == self.command

    @property
    def command(self) -> list[str]:
        """Return how a command line of this program begins."""
        return [sys.executable, "-m", self._module]

    def mark(self, cookie: str) -> None:
        """Let the calling process be found by its cookie. Raises ValueError."""
        self._slot.write(cookie)

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
        """Run the program to its end in the calling process, as a new interpreter would."""
        code = _FAILED
        try:
            _reset_signals()
            os.environ.clear()
            os.environ.update(environment)
            _extend_path(environment.get("PYTHONPATH", ""))
            if "numpy.random" in sys.modules:  # Python's own generator is seeded again by each fork
                sys.modules["numpy.random"].seed()
            sys.argv = [self._file, *command[3:]]
            gc.enable()
            code = exit_code_of(lambda: self._main(command[3:]))
        finally:
            _exit(code)


def _reset_signals() -> None:
    """Install the handlers of a new interpreter; those of faulthandler stay."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)


def _extend_path(python_path: str) -> None:
    """Look for modules in the folders of PYTHONPATH, too, where a new interpreter has them."""
    added = [folder for folder in python_path.split(os.pathsep) if folder and folder not in sys.path]
    sys.path[1:1] = added
    importlib.invalidate_caches()


def exit_code_of(main: Callable[[], int]) -> int:
    """Run a program in a forked interpreter and return its exit code, whichever way it ends."""
    try:
        return main()
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        print(ended.code, file=sys.stderr)
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        # The program's border: a new interpreter prints it, too, of any kind.
        traceback.print_exc()
    return _FAILED


def _exit(code: int) -> NoReturn:
    """End the process as an interpreter does, without the frames of the one that was forked."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # as multiprocessing does it
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    finally:
        os._exit(code & 0xFF)

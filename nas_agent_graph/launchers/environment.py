"""Which environment variables a training may see: a list of what it needs, and never a secret.

A list of what to remove would have to know the name of every provider's key.
"""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

from nas_system.errors import ConfigError
from nas_system.processes.sandbox.modes import SWITCHES, mode_in

NAMES = frozenset(
    {
        "PATH",
        "HOME",
        "LANG",
        "TMPDIR",
        "PYTHONPATH",
        "VIRTUAL_ENV",
        "LD_LIBRARY_PATH",
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "XDG_CACHE_HOME",
        "XDG_DATA_HOME",
        "NAS_DATA_DIR",
        "NAS_ARCHIVE_DIR",
        "NAS_STATS_SECONDS",
        "INFORMER2020_PATH",
        *SWITCHES,
    }
)
PROXIES = frozenset(
    {
        *("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"),
        *("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY"),
    }
)
PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "TORCH_")
SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)

FIXED = {
    # numpy's library starts its threads as soon as it is loaded, with any --threads; a process with
    # threads cannot be forked.
    "OPENBLAS_NUM_THREADS": "1",
    # pyarrow, which pandas imports, starts one to give memory back.
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "PYTHONUNBUFFERED": "1",  # what was printed before a crash is in the log
    "PYTHONFAULTHANDLER": "1",  # a crash in native code, or a hang, leaves the stack in the log
}
ROOT = Path(__file__).resolve().parents[2]


def training_environment(environment: Mapping[str, str], extra_names: Sequence[str] = ()) -> dict[str, str]:
    """Return the part of `environment` that a training gets.

    Raises ConfigError for an extra name of a secret, and for a NAS_SANDBOX that is no mode.
    """
    try:
        mode_in(environment)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    for name in extra_names:
        if SECRET.search(name):
            raise ConfigError(f"{name} looks like a secret, and trainings get none; leave it out")
    allowed = NAMES.union(extra_names)
    passed = {
        name: value
        for name, value in environment.items()
        if (name in allowed or name.startswith(PREFIXES)) and not SECRET.search(name)
    }
    # A proxy's address may hold a user and a password.
    passed |= {name: value for name, value in proxy_settings(environment).items() if "@" not in value}
    return {**passed, **FIXED, **_source_tree(passed.get("PYTHONPATH"))}


def proxy_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return how to reach the web from here: for our own programs, passwords of proxies included."""
    return {name: value for name, value in environment.items() if name in PROXIES}


def _source_tree(python_path: str | None) -> dict[str, str]:
    """Let `python -m nas_system.train` work from any folder when we run from a checkout."""
    # An installed package is found without help, and its folder in PYTHONPATH would come before
    # the standard library.
    if str(ROOT) in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        return {}
    return {"PYTHONPATH": f"{ROOT}:{python_path}" if python_path else str(ROOT)}

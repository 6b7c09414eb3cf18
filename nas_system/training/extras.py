"""Optional packages: imported where they are used, with an error that names the pip extra."""

from __future__ import annotations

import importlib
from types import ModuleType

from nas_system.errors import ConfigError


def import_extra(module: str, extra: str) -> ModuleType:
    """Import the module. Raises ConfigError, naming the pip extra that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{module} cannot be imported ({error}); install it with: pip install 'nas-agent[{extra}]'"
        ) from None

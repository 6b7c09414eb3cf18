"""Optional packages: imported where they are used, with an error that says how to get them."""

from __future__ import annotations

import importlib
from types import ModuleType

from nas_system.errors import ConfigError


def import_extra(module: str, extra: str) -> ModuleType:
    """The module, or a ConfigError that names the extra which brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{module} cannot be imported ({error}); install it with: pip install 'nas-agent[{extra}]'"
        ) from None

"""The import path that seed 004 shows for `LSTMModel` and its like; the code is in `nas_system.toolkit`."""

import importlib
import sys

sys.modules[__name__] = importlib.import_module("nas_system.toolkit.models")

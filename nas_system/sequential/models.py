"""An older import path of `LSTMModel` and its like, kept; the code is in `nas_system.toolkit`."""

import importlib
import sys

sys.modules[__name__] = importlib.import_module("nas_system.toolkit.models")

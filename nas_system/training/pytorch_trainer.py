"""The import path that seed 003 shows for `PytorchTrainer`; the code is in `nas_system.toolkit`."""

import importlib
import sys

sys.modules[__name__] = importlib.import_module("nas_system.toolkit.pytorch_trainer")

"""An older import path of `PytorchTrainer`, kept; the code is in `nas_system.toolkit`."""

import importlib
import sys

sys.modules[__name__] = importlib.import_module("nas_system.toolkit.pytorch_trainer")

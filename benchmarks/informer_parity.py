"""Does our Informer compute what the published one computes? Recorded cases, replayed.

    python benchmarks/informer_parity.py CASE.npz [CASE.npz ...]

A case holds `config_json` (arguments of the published model), `state_dict/<parameter>`, the inputs
`x_enc`, `x_mark_enc`, `x_dec`, `x_mark_dec`, `index_sample/<i>` (the keys sampled by every ProbSparse
attention, in the order of the calls) and `output`, in evaluation mode. Exits 1 when an output
differs by more than 1e-4, 2 when a file is no such case.
"""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a bare checkout, too

from nas_system.errors import ConfigError
from nas_system.sequential.informer import InformerCore, load_reference_state

LARGEST_DIFFERENCE = 1e-4
INPUTS = ("x_enc", "x_mark_enc", "x_dec", "x_mark_dec")


def read_case(path: Path) -> dict[str, Any]:
    """Every array of the file. Raises ConfigError when it is not a recorded case."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ConfigError(f"{path} is a single array, not an .npz archive")
            case = {name: file[name] for name in file.files}
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, EOFError, zipfile.BadZipFile):
        raise ConfigError(f"{path} is not an .npz archive of plain arrays, or it is damaged") from None
    missing = [name for name in ("config_json", *INPUTS, "output") if name not in case]
    if missing:
        raise ConfigError(f"{path} is not a recorded case: it lacks {', '.join(missing)}")
    return case


def build_core(path: Path, case: dict[str, Any]) -> InformerCore:
    """Our model with the recorded configuration and weights."""
    try:
        config = json.loads(str(case["config_json"]))
        if not config.pop("eval_mode", True):
            raise ConfigError(f"{path} was recorded in training mode; its dropout cannot be replayed")
        core = InformerCore(**config)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{path}: config_json describes no Informer: {error}") from None
    prefix = "state_dict/"
    weights = {k.removeprefix(prefix): torch.from_numpy(v) for k, v in case.items() if k.startswith(prefix)}
    try:
        load_reference_state(core, weights)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return core.eval()


def difference(path: Path) -> float:
    """The largest absolute difference between our output and the recorded one."""
    case = read_case(path)
    core = build_core(path, case)
    n_samples = sum(name.startswith("index_sample/") for name in case)
    try:
        samples = [torch.from_numpy(case[f"index_sample/{i}"]) for i in range(n_samples)]
        with torch.inference_mode():
            output = core(*(torch.from_numpy(case[name]) for name in INPUTS), key_samples=samples or None)
    except (KeyError, ValueError, RuntimeError, IndexError) as error:
        raise ConfigError(f"{path}: the recorded inputs do not fit its configuration: {error}") from None
    if output.shape != case["output"].shape:
        raise ConfigError(f"{path}: output {case['output'].shape} recorded, {tuple(output.shape)} computed")
    return float(np.abs(output.numpy() - case["output"]).max())


def main(arguments: Sequence[str] | None = None) -> int:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("cases", nargs="+", type=Path, metavar="CASE.npz")
    paths = parser.parse_args(arguments).cases
    try:
        found = {str(path): difference(path) for path in paths}
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    # Written so that NaN fails.
    equal = {name: value <= LARGEST_DIFFERENCE for name, value in found.items()}
    width = max(len(name) for name in found)
    print(f"{'case':{width}}  largest difference")
    for name, value in found.items():
        print(f"{name:{width}}  {value:18.2e}{'' if equal[name] else '  DIFFERENT'}")
    # JSON has no NaN.
    differences = {name: value if np.isfinite(value) else None for name, value in found.items()}
    print(json.dumps({"limit": LARGEST_DIFFERENCE, "equal": all(equal.values()), "differences": differences}))
    return 0 if all(equal.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

"""Evaluate what a search hands over: `python -m nas_system.evaluate --workspace DIR --part val`.

With `--part val` it prints the score of `ensemble.json` on the validation part, the mean over its rolling
origins, and writes the error on every window, by which the search decides whether to recommend it. Without,
it scores what `runs/recommended.json` recommends on the parts that no choice has looked at: the members as
searched, and the refits, which learned from all rows before the part. With `--backtest` it scores what
`runs/backtest.json` would have forecast at earlier dates. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_system.command_line import Parser, add_device, exit_code_of, positive_int
from nas_system.errors import ConfigError
from nas_system.nas_agent.recommended import ENSEMBLE_FILE
from nas_system.processes.run_files import ENSEMBLE_ERRORS_FILE

if TYPE_CHECKING:
    from nas_system.space.task_info import TaskInfo
    from nas_system.tasks.kind import ScoredPart


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m nas_system.evaluate") -> int:
    """Print the scores and return 0; or 2 for what cannot be evaluated."""
    given = build_parser(prog).parse_args(argv)
    return exit_code_of(lambda: print(json.dumps(_evaluate(given))))


def preload() -> None:
    """Import what an evaluation imports by and by; a fork server does so in advance. Computes nothing."""
    for module in (
        *("nas_system.ensembles.scores", "nas_system.nas_agent.recommended"),
        *("nas_system.nas_agent.window_errors", "nas_system.training.reproducibility"),
    ):
        importlib.import_module(module)


def _evaluate(given: argparse.Namespace) -> dict[str, Any]:
    from nas_system.ensembles.scores import final_scores
    from nas_system.nas_agent.recommended import read_recommended
    from nas_system.training.reproducibility import set_threads

    set_threads(given.threads)
    info = _read_info(given.workspace)
    if not info.task.is_series:
        return _on_graphs(info, given)
    if given.backtest:
        return _at_earlier_dates(info, given)
    if given.part == "val":
        return _on_validation(info, given)
    return final_scores(read_recommended(given.workspace), info, given.workspace, given.device)


def _at_earlier_dates(info: TaskInfo, given: argparse.Namespace) -> dict[str, Any]:
    from nas_system.ensembles.backtest import backtest_scores
    from nas_system.nas_agent.backtest import read_backtest

    return backtest_scores(read_backtest(given.workspace / "runs"), info, given.workspace, given.device)


def _on_graphs(info: TaskInfo, given: argparse.Namespace) -> dict[str, Any]:
    from nas_system.ensembles.graph_scores import scores_on
    from nas_system.nas_agent.recommended import PARTS, read_ensemble, read_recommended
    from nas_system.nas_agent.window_errors import write_errors

    workspace, device = given.workspace, given.device
    if given.part == "val":
        scores, errors = scores_on("val", read_ensemble(workspace, given.ensemble), info, workspace, device)
        if errors is not None:
            write_errors(workspace / "runs" / given.errors, errors.numpy())
        return scores
    recommended = read_recommended(workspace)
    parts: list[ScoredPart] = ["val", "test", *(["hold_out"] if info.sizes.get("hold_out") else [])]
    found = {part: scores_on(part, recommended, info, workspace, device)[0] for part in parts}
    refitted: dict[ScoredPart, dict[str, Any]] = {}
    for before, part in pairwise(PARTS):
        if part in parts and (refit := recommended.refitted(before)) is not None:
            refitted[part] = scores_on(part, refit, info, workspace, device)[0]
    return {"as_searched": found, "refitted": refitted}


def _on_validation(info: TaskInfo, given: argparse.Namespace) -> dict[str, Any]:
    import numpy as np

    from nas_system.ensembles.scores import validation_errors
    from nas_system.nas_agent.recommended import read_ensemble
    from nas_system.nas_agent.window_errors import write_errors

    ensemble = read_ensemble(given.workspace, given.ensemble)
    found = validation_errors(ensemble, info, given.workspace, given.device).first(given.first)
    equal = np.array([member.weight for member in ensemble.members])
    weights = found.greedy_weights() if given.greedy else equal / equal.sum()
    errors = found.of(list(weights))
    write_errors(given.workspace / "runs" / given.errors, errors.astype(np.float32))
    return {
        "mse": float(errors.mean()),
        "windows": len(errors),
        "weights": dict(zip(ensemble.names, weights.tolist(), strict=True)),
    }


def _read_info(workspace: Path) -> TaskInfo:
    from nas_system.files import read_object
    from nas_system.processes.run_files import FACTS_FILE
    from nas_system.space.task_info import TaskInfo

    facts = workspace / "runs" / FACTS_FILE
    try:
        return TaskInfo.from_json(read_object(facts))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{facts}: not the task info of a search ({error})") from None


def build_parser(prog: str) -> Parser:
    """Return the parser of the program."""
    parser = Parser(prog=prog, description="Evaluate what a search hands over.")
    parser.add_argument("--workspace", type=Path, default=Path(), help="folder of the search")
    parser.add_argument(
        "--part",
        choices=("val",),
        help="score ensemble.json on the validation part (default: the final scores)",
    )
    parser.add_argument("--ensemble", default=ENSEMBLE_FILE, metavar="NAME", help="another file than that")
    parser.add_argument(
        "--errors",
        default=ENSEMBLE_ERRORS_FILE,
        metavar="NAME",
        help="file in runs/ that gets the errors on single windows",
    )
    parser.add_argument(
        "--first", type=positive_int, metavar="N", help="with --part val: on the first N windows of a series"
    )
    parser.add_argument(
        "--backtest", action="store_true", help="score what runs/backtest.json has at earlier dates"
    )
    parser.add_argument(
        "--greedy", action="store_true", help="with --part val: choose the weights that fit it best"
    )
    add_device(parser)
    parser.add_argument("--threads", type=positive_int, default=1, help="CPU threads (default: 1)")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""Score a finished run on the hold-out rows: `python -m nas_system.score --run runs/run_0003`.

No training, no selection and no early stopping has ever looked at these rows. A search does
this once, for its best run; the baselines are scored on them as well. Prints one JSON object
and writes it to `sealed.json` in the run's folder.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nas_system.command_line import Parser, add_data_dir, add_device, exit_code_of
from nas_system.errors import StateError


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m nas_system.score") -> int:
    """Print the score and return 0; or 2 for a run that cannot be scored."""
    given = build_parser(prog).parse_args(argv)

    def score() -> None:
        print(json.dumps(score_hold_out(given.run, given.facts, given.data_dir, given.device)))

    return exit_code_of(score)


def score_hold_out(
    run_dir: Path, facts: Path | None = None, data_dir: Path | None = None, device_name: str = "auto"
) -> dict[str, Any]:
    """Return the metrics of the run's best weights on the hold-out set, next to those of the baselines."""
    from nas_system.config_io.config_file import read_config
    from nas_system.files import read_object, write_json
    from nas_system.nas_agent.logging_utils import load_metrics
    from nas_system.processes.run_files import RunPaths
    from nas_system.space.task_info import TaskInfo
    from nas_system.tasks import kind_of
    from nas_system.training.checkpoint import load_checkpoint
    from nas_system.training.loops import evaluate
    from nas_system.training.reproducibility import resolve_device, set_threads

    set_threads(1)
    info = None if facts is None else TaskInfo.from_json(read_object(facts, follow_link=True))
    paths = RunPaths(run_dir)
    config = read_config(paths.config)
    device = resolve_device(device_name)
    hold_out = kind_of(config.task).hold_out(config, info, data_dir, device)
    model = hold_out.model.to(device)
    checkpoint = load_checkpoint(
        paths.best_model, device, sha256=load_metrics(run_dir).get("checkpoint_sha256")
    )
    try:
        model.load_state_dict(checkpoint["model"])
    except (KeyError, TypeError, RuntimeError):
        raise StateError(
            f"{paths.best_model}: the weights are not those of {paths.config.name} next to them; "
            "train the run again"
        ) from None
    metrics = evaluate(model, hold_out.batches, hold_out.objective, device)
    score = {
        "run": run_dir.name,
        **{f"hold_out_{name}": value for name, value in metrics.items()},
        hold_out.samples: hold_out.count,
        "baselines": [baseline.to_json() for baseline in hold_out.baselines()],
    }
    write_json(paths.hold_out, score)
    return score


def build_parser(prog: str) -> Parser:
    """Return the parser of `nas score`."""
    parser = Parser(prog=prog, description="Score a finished run on the hold-out set.")
    parser.add_argument("--run", type=Path, required=True, help="the run's folder, for example runs/run_0003")
    parser.add_argument("--facts", type=Path, help="task_facts.json of the search: use exactly its data")
    add_data_dir(parser)
    add_device(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""`python -m nas_system.netformer propose`: print configurations for a task, best first, as JSON."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nas_system.command_line import exit_code_of, positive_int
from nas_system.errors import ConfigError, StateError
from nas_system.netformer.command_line import command_parser

if TYPE_CHECKING:
    from nas_system.data.open_task import OpenTask
    from nas_system.netformer.specs.model.proposer_model import ProposerModel


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    return exit_code_of(lambda: print(json.dumps(_propose(arguments), indent=1)))


def _propose(arguments: argparse.Namespace) -> dict[str, object]:
    """Return what the command prints."""
    if arguments.facts is None and not arguments.check:
        raise ConfigError("propose needs --facts FILE (python -m nas_system.describe --out FILE makes it)")
    # Before torch is imported, so that a wrong file is reported at once.
    opened = None if arguments.facts is None else _task_of(arguments.facts, arguments.data_dir)
    from nas_system.netformer.specs.archive.library import Library
    from nas_system.netformer.specs.model.proposer_model import load_model
    from nas_system.training.reproducibility import set_threads

    set_threads(1)
    started = time.monotonic()
    library = Library.here()
    model = load_model(arguments.model or library.model)
    if arguments.model is None and library.stale(model.archive):
        print(
            "note: the archive has rows that this model was not fitted to; "
            "to use them: python -m nas_system.netformer fit",
            file=sys.stderr,
        )
    answer = {
        "model": model.fingerprint,
        "learned_from": {"tasks": model.n_tasks, "rows": model.n_rows},
    }
    if opened is None or arguments.check:
        return answer
    ranked = _ranked(model, *opened, arguments)
    return answer | {"proposals": ranked, "seconds": round(time.monotonic() - started, 3)}


def _ranked(
    model: ProposerModel, data: OpenTask, last_value: float, arguments: argparse.Namespace
) -> list[dict[str, object]]:
    import torch

    from nas_system.netformer.specs.model import writing
    from nas_system.netformer.specs.model.config_grammar import ConfigGrammar
    from nas_system.netformer.specs.task_features import task_features

    features = model.scaling(list(task_features(data).values()))
    grammar = ConfigGrammar(model.vocabulary, data.task, data.split.train_end - data.task.pred_len)
    if grammar.unknown_families:
        print(
            f"note: not proposed, since the model does not know them: {', '.join(grammar.unknown_families)}",
            file=sys.stderr,
        )
    if not grammar.families:
        raise StateError(
            f"no family that the model knows ({', '.join(model.vocabulary.families)}) fits this task in this "
            "search space; learn again with: python -m nas_system.netformer fit"
        )
    generator = torch.Generator().manual_seed(arguments.seed)
    candidates = writing.candidates_for(
        model, grammar, features, max(writing.CANDIDATES, 2 * arguments.count), generator
    )
    return [
        {
            "rank": number,
            "expected_val_mse": float(f"{model.level.expected(one.relative, features, last_value):.6g}"),
            "relative": round(one.relative, 4),
            "spread": round(one.spread, 4),
            "config": one.candidate.config.model_dump(mode="json", exclude={"task", "seed"}),
        }
        for number, one in enumerate(writing.rank(model, candidates, features, arguments.count), start=1)
    ]


def _task_of(path: Path, data_dir: Path | None) -> tuple[OpenTask, float]:
    """Return the task's data, and the validation error of repeating the last value."""
    from pydantic import ValidationError

    from nas_system.data.loading import open_data
    from nas_system.data.source import DataSource, locate
    from nas_system.files import read_object
    from nas_system.netformer.specs.archive.archive_file import LAST_VALUE
    from nas_system.space import ForecastingTask
    from nas_system.space.task_info import baselines_from

    try:
        facts = read_object(path, follow_link=True)
        task = ForecastingTask.model_validate(facts["task"])
        baselines = {row.name: row.scores["val_mse"] for row in baselines_from(facts)}
        source = DataSource.from_json(facts["source"])
        last_value = baselines[LAST_VALUE]
    except ValidationError:
        raise ConfigError(f"{path}: netformer proposes for forecasting tasks; this is another one") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not the facts of a task ({error!r:.200})") from None
    data = open_data(task, source if data_dir is None else locate(task, data_dir))
    return data.members[0], last_value


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("propose", __doc__)
    parser.add_argument("--facts", type=Path, help="task_facts.json of the task")
    parser.add_argument("--count", type=positive_int, default=20, help="how many (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of what is written (default: 0)")
    parser.add_argument("--data-dir", type=Path, help="folder with ETTh1.csv (default: what the facts say)")
    parser.add_argument("--model", type=Path, help="a model of `fit` (default: one's own, else the shipped)")
    parser.add_argument("--check", action="store_true", help="only say whether the model can be used")
    return parser

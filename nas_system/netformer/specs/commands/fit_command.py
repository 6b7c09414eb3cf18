"""`python -m nas_system.netformer fit`: learns from the archive which configurations suit which data."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from nas_system.command_line import exit_code_of, positive_int
from nas_system.errors import ConfigError
from nas_system.netformer.command_line import command_parser


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        return exit_code_of(lambda: _fit(arguments))
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return ConfigError.exit_code


def _fit(arguments: argparse.Namespace) -> None:
    from nas_system.netformer.specs.archive.archive_file import TRAIN, read_archive
    from nas_system.netformer.specs.archive.library import Library
    from nas_system.netformer.specs.model.learning import Hyperparameters
    from nas_system.netformer.specs.model.proposer_model import ProposerModel, save_model
    from nas_system.training.reproducibility import set_threads

    set_threads(arguments.threads)
    library = Library.here()
    if arguments.archive is None:
        archive = library.archive_to_learn_from()
    else:
        archive = read_archive(arguments.archive).of(TRAIN)
    out = arguments.out
    if out is None:
        library.make_own()
        out = library.own_model
    chosen = Hyperparameters(**({} if arguments.members is None else {"members": arguments.members}))
    started = time.monotonic()
    model = ProposerModel.fit(archive, chosen, seed=arguments.seed)
    save_model(out, model, chosen)
    seconds = time.monotonic() - started
    print(
        f"learned from {model.n_rows} trainings on {model.n_tasks} tasks in {seconds:.0f} s: {out} "
        f"({out.stat().st_size:,} bytes)"
    )


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("fit", __doc__)
    parser.add_argument("--archive", type=Path, help="learn from this one (default: shipped and own rows)")
    parser.add_argument("--out", type=Path, help="the model to write (default: one's own, then used)")
    parser.add_argument("--members", type=positive_int, help="predictors in the ensemble")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=positive_int, default=1)
    return parser


if __name__ == "__main__":
    sys.exit(main())

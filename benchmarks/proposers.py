"""How good proposers are on data they have never seen, over recorded tables of real trainings.

    python -m benchmarks.proposers [--seeds 10] [--picture regret.png] [--choose]

The tables are the held-out tasks of the shipped archive; half of them have ingredients (shapes of
season, bursts of noise) that no task has from which netformer learned. Printed is the mean regret of the
best run so far after the base config and 1, 3, 5, 10, 20 further runs: 0 is the table's best row, 1 its
median. The rule that all proposers play by stands in `benchmarks/recorded_tables.py`.

Below that, where the gain comes from: the same ranking without the data set's features, without the
learning rate, and with nothing but the family. `--choose` prints what netformer's hyper-parameters were
chosen by: the archive's own tasks, a quarter of them left out in turn, never the held-out ones.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

# Runs from a bare checkout, as a script and as a module.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from recorded_tables import (
    Picker,
    Table,
    by_proposer,
    curve,
    global_portfolio,
    in_order,
    listed,
    nearest_neighbours,
    random_rows,
    tables_of,
    then,
)

from nas_agent_graph.proposers.netformer import OPENING
from nas_agent_graph.proposers.tpe import TPEProposer
from nas_system.files import ARCHIVE_FILE
from nas_system.netformer.specs.archive.archive_file import HELD_OUT, TRAIN, Archive, read_archive
from nas_system.netformer.specs.archive.library import MODEL_FILE, SHIPPED
from nas_system.netformer.specs.model import writing
from nas_system.netformer.specs.model.config_grammar import Grammar
from nas_system.netformer.specs.model.learning import Hyperparameters
from nas_system.netformer.specs.model.proposer_model import ProposerModel, load_model, predict
from nas_system.space import active_values, family_default

Array = NDArray[np.float64]

RUNS = 20
SHOWN = (0, 1, 3, 5, 10, 20)
LEARNING_RATE = "training.lr"
FOLDS = 4


def opinions(model: ProposerModel, table: Table, blind: str = "") -> Array:
    """The predictors' relative scores of a table's rows, (members, rows); `blind` hides something."""
    features = model.scaling(table.task.features)
    if blind == "data set":
        features = np.zeros_like(features)
    tokens = [model.vocabulary.encode(_seen(row.values, blind)) for row in table.rows]
    return predict(model, writing.padded(tokens), features)


def _seen(values: dict, blind: str) -> dict:
    """A row's values, with the family's default in the place of what is hidden."""
    default = active_values(family_default(values["model.family"]))
    if blind == "learning rate":
        return values | {LEARNING_RATE: default[LEARNING_RATE]}
    if blind == "all but the family":
        return default
    return values


def ranking(model: ProposerModel, blind: str = "") -> Picker:
    """Netformer's predictors choose among the rows."""

    @functools.cache
    def order(name: str) -> list[int]:
        return writing.chosen_order(opinions(model, by_name[name], blind), len(by_name[name].rows))

    by_name: dict[str, Table] = {}

    def of(table: Table) -> list[int]:
        by_name[table.task.name] = table
        return order(table.task.name)

    return in_order(of)


def own_list(model: ProposerModel, *, ranked: bool) -> Picker:
    """What netformer writes itself; each configuration goes to the nearest row."""

    @functools.cache
    def grammar_of(name: str) -> Grammar:
        return Grammar(model.vocabulary, by_name[name].task.task, by_name[name].task.max_seq_len)

    by_name: dict[str, Table] = {}

    def values_of(table: Table, seed: int) -> list[dict]:
        by_name[table.task.name] = table
        grammar, features = grammar_of(table.task.name), model.scaling(table.task.features)
        generator = torch.Generator().manual_seed(seed)
        if ranked:
            candidates = writing.candidates_for(model, grammar, features, writing.CANDIDATES, generator)
            chosen = [one.candidate for one in writing.rank(model, candidates, features, 2 * RUNS)]
        else:
            chosen = writing.write_candidates(model.writer, grammar, features, 2 * RUNS, generator)
        return [active_values(one.config) for one in chosen]

    return listed(values_of)


def pickers(model: ProposerModel, train: Sequence[Table], opening: int = OPENING) -> dict[str, Picker]:
    portfolio = global_portfolio(train)
    return {
        "random": random_rows,
        "tpe": by_proposer(TPEProposer),
        "global portfolio": listed(lambda table, seed: portfolio),
        "nearest neighbours": nearest_neighbours(train, model.scaling),
        "netformer": then(ranking(model), opening, TPEProposer),
        "netformer, own list": then(own_list(model, ranked=True), opening, TPEProposer),
        "netformer, no predictor": then(own_list(model, ranked=False), opening, TPEProposer),
    }


def blindfolded(model: ProposerModel) -> dict[str, Picker]:
    hidden = ("data set", "learning rate", "all but the family")
    return {"ranking only": ranking(model)} | {f"without {name}": ranking(model, name) for name in hidden}


def curves(tables: Sequence[Table], picker: Picker, seeds: int) -> Array:
    """(tables, runs + 1): means over the seeds."""
    return np.array(
        [np.mean([curve(table, picker, seed, RUNS) for seed in range(seeds)], axis=0) for table in tables]
    )


def show(name: str, found: Array) -> None:
    error = found[:, 3].std(ddof=1) / len(found) ** 0.5
    print(
        f"{name:<28}" + "".join(f"{found[:, n].mean():>8.3f}" for n in SHOWN) + f"   ±{error:.3f}", flush=True
    )


def compare(model: ProposerModel, archive: Archive, seeds: int, picture: Path | None) -> None:
    train, held_out = tables_of(archive.of(TRAIN)), tables_of(archive.of(HELD_OUT))
    novel = [table.task.recipe.get("shape") != "sine" for table in held_out]
    print(f"{len(held_out)} held-out tasks, {sum(len(t.rows) for t in held_out)} trainings, {seeds} seeds")
    print(f"{'mean regret after further runs':<28}" + "".join(f"{n:>8}" for n in SHOWN) + "   (after 3)")
    found = {name: curves(held_out, picker, seeds) for name, picker in pickers(model, train).items()}
    for name, values in found.items():
        show(name, values)
    for label, chosen in (("tasks like those learned from", False), ("tasks with novel ingredients", True)):
        print(f"\n{label}")
        for name, values in found.items():
            show(name, values[[is_novel is chosen for is_novel in novel]])
    print("\nwhere it comes from: the predictors alone, blindfolded")
    for name, picker in blindfolded(model).items():
        show(name, curves(held_out, picker, 1))
    tpe, netformer = found["tpe"], found["netformer"]
    wins = (netformer[:, 3] < tpe[:, 3]).sum(), (netformer[:, 3] > tpe[:, 3]).sum()
    print(f"\nafter 3 netformer is better than tpe on {wins[0]} tasks, worse on {wins[1]}")
    if picture is not None:
        draw(found, picture)
    means = {name: [round(float(v), 4) for v in values.mean(axis=0)] for name, values in found.items()}
    print(json.dumps({"after": list(range(RUNS + 1)), "mean_regret": means}))


def draw(found: dict[str, Array], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.6), layout="constrained")
    axes = figure.subplots()
    for name, values in found.items():
        width = 2.4 if name == "netformer" else 1.3
        axes.plot(np.arange(RUNS + 1), values.mean(axis=0), label=name, linewidth=width)
    axes.axvline(OPENING, color="0.8", linewidth=1, zorder=0)
    axes.set(xlabel="runs after the base config", ylabel="regret (0: best of the table, 1: its median)")
    axes.set_ylim(bottom=0)
    axes.set_xticks(range(0, RUNS + 1, 2))
    axes.set_title("Held-out tasks: regret of the best run so far", loc="left")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    print(f"wrote {path}")


def choose(archive: Archive, settings: dict[str, Hyperparameters], seeds: int) -> None:
    """Leave a quarter of the archive's tasks out in turn: hyper-parameters and the length of the opening."""
    tables = tables_of(archive.of(TRAIN))
    order = np.random.default_rng(0).permutation(len(tables))
    for label, chosen in settings.items():
        found: dict[str, list[Array]] = {}
        started = time.monotonic()
        for fold in range(FOLDS):
            out = [tables[i] for i in order[fold::FOLDS]]
            names = {table.task.name for table in out}
            rest = {name: task for name, task in archive.of(TRAIN).tasks.items() if name not in names}
            part = Archive(rest, tuple(row for row in archive.rows if row.task in rest))
            model = ProposerModel.fit(part, chosen)
            for name, picker in _to_choose_from(model, label).items():
                found.setdefault(name, []).append(curves(out, picker, seeds))
        print(f"{label} ({time.monotonic() - started:.0f} s)")
        for name, values in found.items():
            show(f"  {name}", np.concatenate(values))


def _to_choose_from(model: ProposerModel, label: str) -> dict[str, Picker]:
    lists: dict[str, Picker] = {"ranking": ranking(model)}
    if label == "as shipped":
        for opening in (3, 5, 6, 8, 10, 15):
            lists[f"opening of {opening}"] = then(ranking(model), opening, TPEProposer)
        lists["tpe"] = by_proposer(TPEProposer)
        lists["own list"] = own_list(model, ranked=True)
        lists["no predictor"] = own_list(model, ranked=False)
    return lists


def variants() -> dict[str, Hyperparameters]:
    base = Hyperparameters()
    small: Callable[..., Hyperparameters] = functools.partial(replace, base, members=3, writer_epochs=1)
    return {
        "as shipped": base,
        "3 members": small(),
        "1 layer": small(predictor_layers=1),
        "dropout .1": small(predictor_dropout=0.1),
        "dropout .4": small(predictor_dropout=0.4),
        "half the epochs": small(predictor_epochs=base.predictor_epochs // 2),
        "width 64": small(predictor_width=64),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.proposers", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--seeds", type=int, default=10, help="of what is drawn at random (default: 10)")
    parser.add_argument(
        "--archive", type=Path, default=SHIPPED / ARCHIVE_FILE, help="default: the shipped one"
    )
    parser.add_argument("--model", type=Path, default=SHIPPED / MODEL_FILE, help="default: the shipped")
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="draw the curves, too")
    parser.add_argument("--choose", action="store_true", help="compare settings on the archive's own tasks")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    archive = read_archive(arguments.archive)
    if arguments.choose:
        choose(archive, variants(), arguments.seeds)
    else:
        compare(load_model(arguments.model), archive, arguments.seeds, arguments.picture)
    print(f"{time.monotonic() - started:.0f} s in all", file=sys.stderr)


if __name__ == "__main__":
    main()

"""What encodings are for: molecules whose score depends on their rings cannot be learnt without them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from python_server import run_python

pytest.importorskip("torch_geometric", reason="needs the extra graphs")

from nas_system.graphs import get_dataset, get_model
from nas_system.graphs.pyg import import_pyg
from nas_system.training import Trainer, get_loss_fn, get_optimizer, get_scheduler, set_seed


def mean_absolute_error(
    encodings: tuple[str, ...], *, epochs: int, seed: int = 1, sizes: dict[str, int], width: int, layers: int
) -> float:
    """On the validation part, after the last epoch."""
    dataset = get_dataset("zinc_synth", **sizes).with_encodings(encodings)
    loader: Any = import_pyg("torch_geometric.loader").DataLoader
    set_seed(seed)
    model = get_model(
        "graph_transformer", dataset.num_features, dataset.num_classes, width, layers, encodings=encodings
    )
    optimizer = get_optimizer(model, "adamw", lr=1e-3)
    # At a constant rate the batch norms make single epochs jump by a factor of two.
    trainer = Trainer(
        model,
        optimizer,
        get_scheduler(optimizer, "cosine_warmup", epochs),
        loss_fn=get_loss_fn("regression", loss_type="mae"),
        task_type="regression",
        device="cpu",
    )
    train, val, _ = dataset.get_splits()
    history = trainer.fit(loader(train, 32, shuffle=True), loader(val, 256), epochs=epochs)
    return history["val_mae"][-1]


def test_random_walks_help_already_in_a_short_training() -> None:
    short: dict[str, Any] = {
        "epochs": 14,
        "sizes": {"train": 600, "val": 200, "test": 2},
        "width": 32,
        "layers": 2,
    }
    assert mean_absolute_error(("random_walk",), **short) < 0.7 * mean_absolute_error((), **short)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_random_walks_halve_the_error_in_twelve_epochs() -> None:
    whole: dict[str, Any] = {
        "epochs": 12,
        "sizes": {"train": 2_000, "val": 400, "test": 2},
        "width": 64,
        "layers": 3,
    }
    found = {
        names: [mean_absolute_error(names, seed=seed, **whole) for seed in (1, 2, 3)]
        for names in ((), ("laplacian",), ("random_walk",))
    }
    for names, errors in found.items():
        print(names or "no encodings", [round(error, 3) for error in errors])
    assert max(found["random_walk",]) <= 0.5 * min(found[()])


def test_the_example_of_the_documentation_runs(project_root: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (project_root / "docs/library.md").read_text(), re.DOTALL)
    (example,) = (block for block in blocks if "nas_system.graphs" in block)
    # Fewer molecules: what is tried is that it runs.
    example = example.replace(
        'get_dataset("zinc_synth")', 'get_dataset("zinc_synth", train=64, val=16, test=2)'
    )
    done = run_python(["-c", f"{example}print(len(history['val_loss']))"], cwd=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["2"]), done.stderr

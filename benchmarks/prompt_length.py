"""How long the prompt is after 0 to 1,000 runs, how much of it a server's prefix cache holds, and what the
rest costs: neither the prompt nor what is paid in full may grow with the search.

A made-up search (nothing is trained), the same every time: half of the runs are random draws of any family,
half change one parameter of the best run, one in six fails, a limit shortens some. Tokens are a low estimate;
the true number is the model's own and stands in each run's transcript.

`constant` is the beginning that the prompt has in common with the one before: what a server's cache holds.
`varying` is the rest, which is paid in full every time. With a price the last column is the cost of one
proposal with that cache: a tenth of the price for the constant part (as cached input usually costs), and an
answer of 200 tokens, which is what a JSON object with two sentences takes.

    python benchmarks/prompt_length.py [--runs 0 10 50 100 1000] [--compact] [--price 0.25,2] [--print 12]
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import replace
from typing import Any

from nas_agent_graph.analysis.training_facts import TrainingFacts, facts_in
from nas_agent_graph.budget import Left
from nas_agent_graph.context import RunView, SearchView
from nas_agent_graph.dry_run import ANSWER_TOKENS
from nas_agent_graph.llm.briefing import opening_messages
from nas_agent_graph.llm.prices import price_of
from nas_agent_graph.llm.prompt_size import estimate_tokens
from nas_agent_graph.search_view import run_in_progress
from nas_agent_graph.settings import llm_settings
from nas_agent_graph.text.terminal import dollars
from nas_system.errors import ProposalError
from nas_system.nas_agent.history_summary import build_history_summary
from nas_system.space import (
    Change,
    ForecastingTask,
    RunConfig,
    apply_changes,
    canonical_key,
    parameters,
    value_at,
)

HERE = {"NAS_LLM_MODEL": "made-up", "NAS_LLM_BASE_URL": "http://127.0.0.1/v1"}
CACHED_PRICE = 0.1
"""Share of the price that a service takes for a token that its cache holds."""
NOISE = 0.0009
COLUMNS = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
BASELINES = (("last-value", 0.0696), ("seasonal-naive-24", 0.0905), ("nlinear-336", 0.0491))
CARD = {
    "rows": 17_420,
    "step": "h",
    "targets": [
        {"name": "OT", "seasons": [[24, 0.34], [168, 0.09]], "trend": -0.41, "val_shift": -0.81},
    ],
    "warnings": ["the mean of OT in the validation rows is 0.81 training standard deviations lower"],
}
LEVELS = {"linear": 0.0489, "patchtst": 0.0486, "tsmixer": 0.0484, "itransformer": 0.0487, "gru": 0.052}
"""Where the scores of a family lie; of any other at 0.055."""
CAUSES = {
    "OOM_HOST": "its processes held 16,204 MiB, more than the limit; reduce batch_size, the model's width "
    "or, for a series, seq_len",
    "DIVERGED": "the loss became NaN at epoch 3, step 712; lower training.lr or set training.grad_clip",
    "TIMEOUT": "ended by the hard time limit after 960 s",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, nargs="+", default=[0, 10, 50, 100, 1000])
    parser.add_argument("--compact", action="store_true", help="measure the compact form")
    parser.add_argument("--price", metavar="IN,OUT", help="US dollars per million tokens")
    parser.add_argument("--print", type=int, metavar="N", help="print the prompt after N runs instead")
    arguments = parser.parse_args()
    search = MadeUpSearch()
    if arguments.print is not None:
        for message in opening_messages(search.after(arguments.print), compact=arguments.compact):
            print(f"--- {message['role']}\n{message['content']}")
        return
    settings = llm_settings({**HERE, "NAS_LLM_PRICE": arguments.price or ""}, demanded=True)
    assert settings is not None, "a model is named"
    price = price_of(settings)
    head = f"{'runs':>6} {'constant':>9} {'varying':>8} {'cached':>7} {'tokens':>7} {'in full':>8}"
    print(f"{head} {'to make':>9}" + (f" {'cost':>9}" if price else ""))
    for count in sorted(arguments.runs):
        view, before = search.after(count), search.after(max(count - 1, 0))
        began = time.perf_counter()
        text = prompt(view, arguments.compact)
        seconds = time.perf_counter() - began
        constant = (
            text[: common_length(text, prompt(before, arguments.compact))]
            if count
            else system(view, arguments.compact)
        )
        cached = estimate_tokens(constant)
        paid = estimate_tokens(text[len(constant) :])
        print(
            f"{count:>6} {len(constant):>9} {len(text) - len(constant):>8} {cached / (cached + paid):>7.1%} "
            f"{cached + paid:>7} {paid:>8} {seconds * 1000:>6.0f} ms"
            + (
                f" {dollars(price.of(paid + round(CACHED_PRICE * cached), ANSWER_TOKENS)):>9}"
                if price
                else ""
            )
        )


def common_length(text: str, other: str) -> int:
    """How many characters both begin with."""
    pairs = enumerate(zip(text, other, strict=False))
    return next((at for at, (ours, theirs) in pairs if ours != theirs), min(len(text), len(other)))


def system(view: SearchView, compact: bool) -> str:
    """The first message, which a server knows from an earlier search of the same task at best."""
    return opening_messages(view, compact=compact)[0]["content"]


def prompt(view: SearchView, compact: bool = False) -> str:
    """All that is sent, as one text in the order in which a server reads it."""
    return "\n".join(message["content"] for message in opening_messages(view, compact=compact))


class MadeUpSearch:
    """Runs as a search would leave them behind; the same ones every time."""

    def __init__(self) -> None:
        self.generator = random.Random(0)
        base = RunConfig()
        first = self._run("run_0000", base, 0.0712, None)
        self.views = [
            SearchView(
                "run_0000",
                ForecastingTask(),
                base,
                COLUMNS,
                BASELINES,
                (),
                None,
                None,
                seed=1,
                max_runs=2000,
                max_seq_len=8592,
                left=Left(seconds=36_000.0),
                run_seconds=120.0,
                sizes={"train": 8449, "val": 2857},
                measured={"card": CARD},
                leads_by="mean",
                final=4,
                repeats_left=1,
            )
        ]
        self._add(first)

    def after(self, count: int) -> SearchView:
        """The view when `count` runs are done."""
        while len(self.views) <= count:
            self._add(self._next_run(self.views[-1]))
        return self.views[count]

    def _add(self, run: RunView) -> None:
        view = self.views[-1]
        leader = view.best_run.val_score if view.best_run else None
        leads = run.val_score is not None and (leader is None or run.val_score < leader)
        runs = (*view.runs, replace(run, accepted=leads))
        scored = [one for one in runs if one.val_score is not None]
        best = min(scored, key=lambda one: one.val_score or 1.0)
        number = len(runs) + 2
        self.views.append(
            replace(
                view,
                runs=runs,
                run_id=f"run_{number:04d}",
                best_run=best,
                noise=NOISE,
                noise_runs=3,
                luck={best.run_id: 0.43} if len(best.scores) == 1 else {},
                resolution=0.0008 if len(scored) > 1 else None,
                running=tuple(self._running(len(runs) + ahead, runs[0]) for ahead in range(2)),
            )
        )

    def _running(self, number: int, parent: RunView) -> RunView:
        rate = round(random.Random(number).uniform(1e-4, 1e-2), 6)
        config = apply_changes(RunConfig(), [Change(parameter="training.lr", value=rate)])
        return run_in_progress(
            f"run_{number:04d}", config, HISTORY, parent=parent.run_id, proposer="llm:made-up"
        )

    def _next_run(self, view: SearchView) -> RunView:
        best_run = view.best_run
        assert best_run is not None and best_run.config is not None
        parent = best_run if self.generator.random() < 0.5 else view.runs[0]
        config = self._neighbour(best_run.config) if parent is best_run else None
        if config is None or canonical_key(config) in {run.key for run in view.runs}:
            parent = view.runs[0]
            config = self._draw(view)
        run_id = f"run_{len(view.runs):04d}"
        status = self.generator.choice([*CAUSES, *["OK"] * 15])
        level = LEVELS.get(config.model.family, 0.055) * (
            1.0 if value_at(config, "model.normalization") != "none" else 1.1
        )
        score = level * (1 + abs(self.generator.gauss(0, 0.05))) if status == "OK" else None
        return self._run(run_id, config, score, parent.run_id, status)

    def _draw(self, view: SearchView) -> RunConfig:
        """A random family at its default, with one or two changes."""
        while True:
            family = self.generator.choice(view.families)
            changes = [Change(parameter="model.family", value=family)]
            chosen = self.generator.sample([p for p in parameters(family) if p.sampled], k=2)
            for parameter in chosen:
                values = parameter.choices or (round(self.generator.uniform(1e-4, 1e-2), 6),)
                changes.append(Change(parameter=parameter.path, value=self.generator.choice(values)))
            try:
                return apply_changes(view.base, changes)
            except ProposalError:
                continue

    def _neighbour(self, config: RunConfig) -> RunConfig | None:
        """The best run with another value for one parameter; None if the draw is no valid one."""
        parameter = self.generator.choice([p for p in parameters(config.model.family) if p.sampled])
        values = parameter.choices or (round(self.generator.uniform(1e-4, 1e-2), 6),)
        change = Change(parameter=parameter.path, value=self.generator.choice(values))
        try:
            return apply_changes(config, [change])
        except ProposalError:
            return None

    def _run(
        self, run_id: str, config: RunConfig, score: float | None, parent: str | None, status: str = "OK"
    ) -> RunView:
        scores = () if score is None else (score,)
        if score is not None and self.generator.random() < 0.2:
            scores = (score, score + self.generator.gauss(0, NOISE))
        mean = sum(scores) / len(scores) if scores else None
        return RunView(
            run_id=run_id,
            status=status,
            cause=CAUSES.get(status),
            config=config,
            family=config.model.family,
            key=canonical_key(config),
            val_score=mean,
            accepted=False,
            parent=parent,
            summary=_summary(score),
            proposer="llm:made-up",
            hypothesis="The validation error was still falling at the end, so a larger rate may get further "
            "within the epochs that there are.",
            expected_score=None if score is None else round(score * 0.99, 6),
            scores=scores,
            training=None if score is None else self._facts(score),
        )

    def _facts(self, score: float) -> TrainingFacts:
        """What a training of seven epochs leaves; a limit cuts one in three."""
        wanted = self.generator.choice((520, 801, 1600))
        planned = 384 if self.generator.random() < 1 / 3 else wanted
        metrics = {
            "val_mse": score,
            "train_mse": score * 1.3,
            "best_epoch": 3,
            "reason": self.generator.choice(("completed", "early_stopping")),
            "epochs": 7,
            "planned_epochs": 8,
            "planned_steps": planned,
            "wanted_steps": wanted,
            "steps": 7 * planned // 8,
            "compute_sec": round(self.generator.uniform(4, 120), 3),
            "train_time_sec": round(self.generator.uniform(5, 200), 3),
            "n_params": self.generator.randrange(200, 200_000),
        }
        return facts_in(metrics, HISTORY, "val_mse")


HISTORY: dict[str, Any] = {
    "epochs": [
        {"epoch": n, "train_mse": 0.09 - n / 500, "val_mse": 0.07 * f}
        for n, f in enumerate((1.4, 1.2, 1.1, 1.0, 1.02, 1.04, 1.06))
    ],
    "best_epoch": 3,
}


def _summary(score: float | None) -> str:
    if score is None:
        return "no epoch was completed"
    epochs = [
        {**epoch, "val_mse": epoch["val_mse"] * score / 0.07, "train_mse": score * 1.3}
        for epoch in HISTORY["epochs"]
    ]
    return build_history_summary({**HISTORY, "epochs": epochs})


if __name__ == "__main__":
    main()

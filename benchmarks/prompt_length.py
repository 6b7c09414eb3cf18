"""How long the prompt is after 0, 10, 100 and 1,000 runs, and what a proposal costs: neither may grow on.

A made-up search (nothing is trained): half of the runs are random draws, half change one parameter of
the best run, one in six fails. Tokens are a low estimate; the true number is the model's own and stands in
each run's transcript. `history` is what the search adds to the prompt: everything but the task and the
search space. With a price the last column is the cost of one proposal: this prompt and an answer of 200
tokens, which is what a JSON object with two sentences takes.

    python benchmarks/prompt_length.py [--runs 0 10 50 100 1000] [--price 0.25,2]
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import replace

from nas_agent_graph.acceptance import evaluate
from nas_agent_graph.context import RunView, SearchView
from nas_agent_graph.dry_run import ANSWER_TOKENS
from nas_agent_graph.llm.briefing import opening_messages
from nas_agent_graph.llm.prices import price_of
from nas_agent_graph.llm.prompt_size import prompt_tokens
from nas_agent_graph.proposers.random_search import RandomSearchProposer
from nas_agent_graph.settings import llm_settings
from nas_agent_graph.text.terminal import dollars
from nas_system.errors import ProposalError
from nas_system.nas_agent.agent_state import RunInfo
from nas_system.nas_agent.history_summary import build_history_summary
from nas_system.space import Change, ForecastingTask, RunConfig, apply_changes, canonical_key, parameters

HERE = {"NAS_LLM_MODEL": "made-up", "NAS_LLM_BASE_URL": "http://127.0.0.1/v1"}
NOISE = 0.0009
COLUMNS = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
REFERENCES = (("last-value", 0.0696), ("seasonal-naive-24", 0.0905), ("nlinear-336", 0.0491))
CAUSES = {
    "OOM_HOST": "its processes held 16,204 MiB, more than the limit; reduce batch_size, seq_len or the "
    "model's width",
    "DIVERGED": "the loss became NaN at epoch 3, step 712; lower training.lr or set training.grad_clip",
    "TIMEOUT": "ended by the hard time limit after 960 s",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, nargs="+", default=[0, 10, 50, 100, 1000])
    parser.add_argument("--price", metavar="IN,OUT", help="US dollars per million tokens")
    arguments = parser.parse_args()
    price = price_of(llm_settings({**HERE, "NAS_LLM_PRICE": arguments.price or ""}, demanded=True))
    columns = f"{'runs':>6} {'system':>8} {'question':>9} {'history':>8} {'tokens':>8} {'to make':>9}"
    print(columns + (f" {'cost':>9}" if price else ""))
    search = MadeUpSearch()
    for count in sorted(arguments.runs):
        view = search.after(count)
        began = time.perf_counter()
        messages = opening_messages(view)
        seconds = time.perf_counter() - began
        system, text = (message["content"] for message in messages)
        space = text[text.index("# Search space") :]
        task = text[: text.index("# Where the search stands")]
        history, tokens = len(text) - len(space) - len(task), prompt_tokens(messages)
        print(
            f"{count:>6} {len(system):>8} {len(text):>9} {history:>8} {tokens:>8} {seconds * 1000:>6.0f} ms"
            + (f" {dollars(price.of(tokens, ANSWER_TOKENS)):>9}" if price else "")
        )


class MadeUpSearch:
    """Runs as a search would leave them behind; the same ones every time."""

    def __init__(self) -> None:
        self.generator = random.Random(0)
        self.proposer = RandomSearchProposer()
        base = RunConfig()
        first = RunView("run_0000", "OK", None, base, "informer", canonical_key(base), 0.0712, True, None, "")
        self.view = SearchView(
            "run_0001",
            ForecastingTask(),
            base,
            COLUMNS,
            REFERENCES,
            (first,),
            first,
            NOISE,
            seed=1,
            max_runs=1000,
        )

    def after(self, count: int) -> SearchView:
        """The view when `count` runs are done."""
        if count == 0:
            return replace(self.view, runs=(), best_run=None)
        while len(self.view.runs) < count:
            run = self._next_run()
            best_run = run if run.accepted else self.view.best_run
            runs = (*self.view.runs, run)
            self.view = replace(self.view, runs=runs, best_run=best_run, run_id=f"run_{len(runs):04d}")
        return self.view

    def _next_run(self) -> RunView:
        view, best_run = self.view, self.view.best_run
        assert best_run is not None and best_run.config is not None and best_run.val_score is not None
        parent = best_run if self.generator.random() < 0.5 else view.runs[0]
        config = self._neighbour(best_run.config) if parent is best_run else None
        if config is None:
            parent = view.runs[0]
            config = apply_changes(view.base, self.proposer.propose(view).changes)
        status = self.generator.choice([*CAUSES, *["OK"] * 15])
        start = best_run.val_score if parent is best_run else 0.075
        score = round(start * self.generator.lognormvariate(0.02, 0.03), 12) if status == "OK" else None
        best = RunInfo(run_id=best_run.run_id, val_score=best_run.val_score)
        verdict = evaluate(status, score, best, NOISE, "minimize")
        return RunView(
            run_id=view.run_id,
            status=status,
            cause=CAUSES.get(status),
            config=config,
            family=config.model.family,
            key=canonical_key(config),
            val_score=score,
            accepted=verdict.accepted,
            parent=parent.run_id,
            summary=_summary(score),
            proposer="llm:made-up",
            hypothesis="The validation error was still falling at the end, so a larger rate may get further "
            "within the epochs that there are.",
            expected_score=round(start * 0.99, 6),
        )

    def _neighbour(self, config: RunConfig) -> RunConfig | None:
        """The best run with another value for one parameter; None if the draw is no valid one."""
        parameter = self.generator.choice([p for p in parameters(config.model.family) if p.sampled])
        values = parameter.choices or (round(self.generator.uniform(1e-4, 1e-2), 6),)
        change = Change(parameter=parameter.path, value=self.generator.choice(values))
        try:
            return apply_changes(config, [change])
        except ProposalError:
            return None


def _summary(score: float | None) -> str:
    if score is None:
        return "no epoch was completed"
    curve = [score * factor for factor in (1.4, 1.2, 1.1, 1.0, 1.02, 1.04, 1.06)]
    epochs = [{"epoch": n, "train_mse": score * (1.3 - n / 10), "val_mse": v} for n, v in enumerate(curve)]
    return build_history_summary({"epochs": epochs, "best_epoch": 3})


if __name__ == "__main__":
    main()

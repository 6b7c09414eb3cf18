"""`nas compare`: the same task searched by several proposers with several seeds, and one table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

from nas_agent_graph.host.program import as_program
from nas_agent_graph.host.signals import StopRequest


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m nas_agent_graph.compare") -> int:
    """Compare proposers and return the exit code: those of `nas run`."""

    def work(stop: StopRequest) -> int:
        from nas_agent_graph.cli import COMMANDS

        # Heavy imports come after the arguments, as for a search.
        with stop.held_back():
            arguments = COMMANDS["compare"].parser(prog).parse_args(argv)
            import nas_agent_graph.search  # noqa: F401
        return compare_proposers(arguments, stop)

    return as_program(work)


def compare_proposers(arguments: argparse.Namespace, stop: StopRequest) -> int:
    """Do the searches that have not ended yet, then print, draw and write the comparison."""
    from nas_agent_graph.compare.pages import lines_of
    from nas_agent_graph.compare.picture import draw_comparison
    from nas_agent_graph.compare.plan import RECORD_FILE, cells_of, open_record, settings_of
    from nas_agent_graph.compare.results import compare, found_in
    from nas_agent_graph.search import run_search
    from nas_agent_graph.text.terminal import width_of, write_lines
    from nas_system.nas_agent.workspace_lock import WorkspaceLock

    folder = arguments.workspace = arguments.workspace.expanduser().absolute()
    first_seed = arguments.seed
    cells = cells_of(arguments.proposers, first_seed, arguments.seeds)
    with WorkspaceLock(folder):
        record = open_record(folder, settings_of(arguments))
        _check(arguments)
        for number, cell in enumerate(cells, 1):
            if cell.name in record.ended:
                continue
            print(f"\n--- search {number} of {len(cells)}: {cell.proposer}, seed {cell.seed}", flush=True)
            run_search(cell.arguments(arguments), stop)
            record = replace(record, ended=(*record.ended, cell.name))
            record.write(folder)
        found = [found_in(folder / cell.name, cell) for cell in cells]
        compared = compare(found, arguments.proposers, arguments.runs)
        assert compared is not None, "every search has ended"
        replace(record, result=compared.to_json()).write(folder)
        picture = draw_comparison(compared, folder)
    print()
    write_lines(lines_of(compared, width_of(sys.stdout)), sys.stdout)
    print(f"\nwrote {folder / RECORD_FILE} and {picture}")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Raise ConfigError for a proposer that is not known or cannot be used, before anything is trained."""
    from nas_agent_graph.compare.plan import Cell
    from nas_agent_graph.host.clock import SystemClock
    from nas_agent_graph.host.disk_space import DiskSpace
    from nas_agent_graph.launchers import build_launcher, launcher_options
    from nas_agent_graph.proposers import choose_proposer
    from nas_agent_graph.proposers.setup import ProposerSetup
    from nas_agent_graph.search_setup import task_of
    from nas_agent_graph.settings import llm_flags
    from nas_system.nas_agent.agent_state import AgentState
    from nas_system.nas_agent.ledger import Ledger

    launcher = build_launcher(arguments.launcher, launcher_options(arguments))
    for proposer in arguments.proposers:
        workspace = arguments.workspace / Cell(proposer, arguments.seed).name
        setup = ProposerSetup(
            ledger=Ledger(workspace, AgentState()),
            task=task_of(arguments, None),
            launcher=launcher,
            disk=DiskSpace(workspace, SystemClock(), StopRequest(), print),
            llm_flags=llm_flags(arguments),
            max_cost_usd=arguments.max_cost,
        )
        choose_proposer(proposer, setup)

"""Real clusters for the tests of this folder, each started once, and searches on them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chaos.search import Search
from chaos.series import CHEAP, TASK, write_series

from clusters import ray_cluster, slurm_cluster
from clusters.ray_cluster import RayCluster
from clusters.slurm_cluster import SlurmCluster


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    reason = slurm_cluster.missing()
    if reason is not None:
        pytest.skip(reason)
    cluster = SlurmCluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    reason = ray_cluster.missing()
    if reason is not None:
        pytest.skip(reason)
    cluster = RayCluster(tmp_path_factory.mktemp("ray"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def new_search(tmp_path: Path) -> Iterator[Callable[..., Search]]:
    """Makes searches in new workspaces; what they leave running is ended."""
    made: list[Search] = []
    numbers = itertools.count()

    def make(*flags: str, **options: object) -> Search:
        workspace = tmp_path / f"search_{next(numbers)}"
        workspace.mkdir()
        write_series(workspace)
        search = Search(workspace, *TASK, *CHEAP, "--repeat-base", "0", "--repeats", "0", *flags, **options)
        made.append(search)
        return search

    yield make
    for search in made:
        search.clean_up()

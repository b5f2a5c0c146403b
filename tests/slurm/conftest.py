"""The cluster that the tests here share; it is gone with them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from slurm_cluster import PROGRAMS, Cluster, find


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of one node; tests skip where SLURM is not installed or cannot be started."""
    missing = [program for program in PROGRAMS if find(program) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not found: needs the packages slurm-wlm and munge")
    cluster = Cluster(tmp_path_factory.mktemp("slurm"), array_size=2)  # three jobs take two arrays
    try:
        try:
            cluster.start()
        except AssertionError as error:
            pytest.skip(f"SLURM does not start here: {error}\n{cluster.logs()}")
        yield cluster
    finally:
        cluster.stop()

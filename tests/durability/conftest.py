"""What undisturbed runs find, each done once."""

from collections.abc import Callable
from pathlib import Path

import pytest

from forked_runs import SMALL, findings, finish

Findings = Callable[..., dict[str, object]]


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """The findings of a small run that nothing disturbs, by its overrides."""
    known: dict[tuple[str, ...], dict[str, object]] = {}

    def find(*overrides: str) -> dict[str, object]:
        if overrides not in known:
            folder: Path = tmp_path_factory.mktemp("undisturbed")
            assert finish(folder, *SMALL, *overrides) == 0, (folder / "said.txt").read_text()
            known[overrides] = findings(folder)
        return known[overrides]

    return find

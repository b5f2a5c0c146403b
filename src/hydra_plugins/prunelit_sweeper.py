"""Hydra's own sweeper, which also checks every run of a sweep before the first one starts.

Hydra finds sweepers in this namespace only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

from prunelit.study.checks import check
from prunelit.study.sweep.failures import failures


class CheckedSweeper(BasicSweeper):
    """Refuses a sweep with a wrong run in it before any work, and gathers what runs raised."""

    config: Any
    hydra_context: Any

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Compose and check the config of each run."""
        loader = self.hydra_context.config_loader
        for overrides in batch:
            check(loader.load_sweep_config(self.config, list(overrides)))

    def sweep(self, arguments: list[str]) -> Any:
        """Run the sweep; failures of runs in other processes come back as their return values."""
        results = super().sweep(arguments)
        returned = [job.return_value for batch in results for job in batch]
        for value in returned:
            if isinstance(value, Exception) and value not in failures:
                failures.append(value)
        return results

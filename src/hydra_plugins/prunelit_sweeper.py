"""Hydra's sweeper, extended to plan a sweep before it starts, and to report the result of each run.

Hydra only finds sweepers in this namespace.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from prunelit.study.sweep.composer import Run
from prunelit.study.sweep.hydra_job import Compose, do_in_this_process
from prunelit.study.sweep.leader import lead
from prunelit.study.sweep.state import Sweep


class CheckedSweeper(BasicSweeper):
    """Refuses a sweep that contains a wrong run before any work, and executes each run once."""

    hydra_context: Any
    task_function: TaskFunction

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store what the launcher needs."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> list[Sequence[Any]]:
        """Run the sweep; return what the jobs returned, batch by batch."""
        assert self.config is not None
        loader = self.hydra_context.config_loader
        overrides = OverridesParser.create(config_loader=loader).parse_overrides(
            [*self._parse_config(), *arguments]
        )
        (requests,) = self.split_arguments(overrides, None)

        def job(compose: Compose, run: Run, number: int) -> Any:
            return do_in_this_process(
                self.hydra_context, self.task_function, config_of_sweep, compose, run, number
            )

        def launch(config: DictConfig, sweep: Sweep, runs: Sequence[Run], first: int) -> Sequence[Any]:
            launcher = Plugins.instance().instantiate_launcher(
                hydra_context=self.hydra_context, task_function=self.task_function, config=config
            )
            if hasattr(launcher, "launch_runs"):  # ours, for SLURM
                jobs: Sequence[Any] = launcher.launch_runs(sweep, runs, first)
            else:
                jobs = launcher.launch([list(run.overrides) for run in runs], initial_job_idx=first)
            return jobs

        config_of_sweep = self.config
        return lead(config_of_sweep, loader, requests, job, launch, self.max_batch_size)

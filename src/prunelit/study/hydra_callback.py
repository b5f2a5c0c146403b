"""The callback that Hydra calls before and after each run."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from prunelit.study.refused import note_new_folders


class RunCallback(Callback):
    """Removes a job's config from Hydra's memory after the job, so that memory does not grow with the runs.

    Before a single run, it records which folders Hydra is about to create, in case the run is refused.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Record the folders that do not exist yet."""
        note_new_folders(Path(str(config.hydra.run.dir)))

    def on_job_end(self, config: DictConfig, job_return: Any, **kwargs: Any) -> None:
        """Remove the configs that Hydra would keep until the sweep ends."""
        job_return.cfg = job_return.hydra_cfg = None
        gc.collect()  # configs contain many reference cycles

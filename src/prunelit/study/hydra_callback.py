"""What Hydra calls before and after each run."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from prunelit.study.refused import note_new_folders


class RunCallback(Callback):
    """Lets Hydra forget a job's config once the job is done: a sweep's memory does not grow with its runs.

    Before a single run it notes which folders Hydra is about to make, for a request that is refused.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Note the folders that do not exist yet."""
        note_new_folders(Path(str(config.hydra.run.dir)))

    def on_job_end(self, config: DictConfig, job_return: Any, **kwargs: Any) -> None:
        """Forget the configs that Hydra would keep until the sweep ends."""
        job_return.cfg = job_return.hydra_cfg = None
        gc.collect()  # configs are full of cycles

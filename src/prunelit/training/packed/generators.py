"""The random numbers of a run whose process does several runs in turn."""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np
import torch


class Generators:
    """The states of the random number generators, and the seed that Lightning gives to worker processes."""

    def save(self) -> Any:
        """Return the states."""
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
        states = (torch.get_rng_state(), cuda, np.random.get_state(), random.getstate())
        return states, os.environ.get("PL_GLOBAL_SEED"), torch.get_num_threads()

    def restore(self, value: Any) -> None:
        """Set the states."""
        (numbers, cuda, by_numpy, by_python), seed, threads = value
        torch.set_rng_state(numbers)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda)
        np.random.set_state(by_numpy)
        random.setstate(by_python)
        torch.set_num_threads(threads)
        if seed is None:
            os.environ.pop("PL_GLOBAL_SEED", None)
        else:
            os.environ["PL_GLOBAL_SEED"] = seed

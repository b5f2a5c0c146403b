"""Which runs of a sweep train together in one process: ``hydra/launcher=packed``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

from annotated_types import Ge, Gt
from omegaconf import DictConfig
from typing_extensions import Doc

from prunelit.amount import KEYS
from prunelit.declared import options_of
from prunelit.request import within
from prunelit.study.sweep.composer import Request, Run
from prunelit.study.sweep.isolation import in_own_process

FREE = ("seed", "epochs", "pre_epochs", "checkpoint", "checkpoint_strict", *KEYS)
"""Keys in which runs that train together may differ."""
FREE_GROUPS = ("pruner", "scheduler")
"""Config groups in which they may differ."""
FREE_ARGUMENTS = ("optimizer.lr", "optimizer.weight_decay")
"""Arguments of the optimizer in which they may differ."""
MODELS = "prunelit.training.models."
TRAINER = {
    "strategy": "auto",
    "precision": "32-true",
    "gradient_clip_val": None,
    "accumulate_grad_batches": 1,
    "compile": False,
    "channels_last": False,
}
"""Options of the trainer with the only value that runs that train together may have."""
PLAIN = (*TRAINER, "_target_", "accelerator", "devices", "threads", "deterministic")
"""Options of the trainer that they may have."""

RunsThatFit = Callable[[DictConfig, float | None], int]
"""Returns how many runs with a config fit into the memory of this machine, or into a number of GB."""


class MemoryNotMeasured(Exception):
    """The memory that a run needs is not known."""


@dataclass(frozen=True)
class PackedOptions:
    """The keys of ``hydra.launcher`` with ``hydra/launcher=packed``."""

    runs_per_group: Annotated[
        Annotated[int, Ge(1)] | None,
        Doc("The maximum number of runs that train together. null: as many as the memory allows."),
    ] = None
    memory_gb: Annotated[
        Annotated[float, Gt(0)] | None,
        Doc("The memory for all runs in progress, in GB. null: half of the free memory of the device."),
    ] = None

    @classmethod
    def of(cls, config: DictConfig) -> PackedOptions:
        """Return the options of Hydra's ``config``.

        Raises:
            BadRequest: a wrong value.
        """
        options = options_of(PackedOptions)
        values = {key: config.hydra.launcher.get(key) for key in options}
        with within("hydra.launcher", options):
            for key, value in values.items():
                options[key].check(value)
        return cls(**values)


def groups_of(
    runs: Sequence[Run],
    compose: Callable[[Request], DictConfig],
    options: PackedOptions,
    jobs: int,
    fit: RunsThatFit | None,
) -> list[list[int]]:
    """Return the numbers of the runs of each group; a run that is not packed is a group of one.

    Prints one line for runs that cannot be packed, and why.

    Args:
        runs: the runs of the sweep.
        compose: returns the config of a run.
        options: limits of the groups.
        jobs: the number of groups at a time.
        fit: the number of runs that fit into the memory; None: all.
    """
    forms: dict[Request, list[int]] = {}
    for number, run in enumerate(runs):
        forms.setdefault(_form(run), []).append(number)
    groups: list[list[int]] = []
    for form, numbers in forms.items():
        config = compose(runs[numbers[0]].overrides)
        size = min(options.runs_per_group or len(numbers), math.ceil(len(numbers) / jobs))
        why = "" if size < 2 else why_not_packed(config)
        if size > 1 and not why and fit is not None:
            try:
                size = min(size, _fitting(fit, config, options.memory_gb, jobs))
            except MemoryNotMeasured as error:
                why = str(error)
            else:
                why = "" if size > 1 else "the memory has room for one of them (hydra.launcher.memory_gb)"
        if why:
            print(f"not packed: {len(numbers)} runs{' with ' if form else ''}{' '.join(form)}: {why}")
        groups += [[number] for number in numbers] if why else _even(numbers, size)
    return groups


def why_not_packed(config: DictConfig) -> str:
    """Return why runs with this config cannot train together; empty if their config does not rule it out."""
    trainer: Any = config.trainer
    if not str(config.model.get("_target_")).startswith(MODELS):
        return "model is a class of your own"
    if str(trainer.devices) != "1":
        return f"trainer.devices={trainer.devices}"
    for key, value in trainer.items():
        if key not in PLAIN or (key in TRAINER and value != TRAINER[key]):
            return f"trainer.{key}={value}"
    if config.sweep.timeout_minutes is not None:
        return "sweep.timeout_minutes limits the time of each run"
    return "data.in_memory=false" if config.data.get("in_memory") is False else ""


def _form(run: Run) -> Request:
    """Return the overrides that must be equal for runs that train together."""
    return tuple(text for text in run.overrides if not _is_free(text.lstrip("+~").partition("=")[0]))


def _is_free(key: str) -> bool:
    return key in FREE or key in FREE_ARGUMENTS or key.partition(".")[0] in FREE_GROUPS


def _fitting(fit: RunsThatFit, config: DictConfig, memory_gb: float | None, jobs: int) -> int:
    """Return how many runs fit into each of ``jobs`` processes, at least 1.

    They are measured in another process, so that this one builds no network and uses no device.

    Raises:
        MemoryNotMeasured: the measurement failed.
    """
    try:
        most: int = in_own_process(lambda: fit(config, memory_gb), lambda: False)
    except Exception as error:  # the run itself reports what is wrong
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise MemoryNotMeasured(f"the memory that one of them needs cannot be measured ({reason})") from error
    return max(1, most // jobs)


def _even(numbers: list[int], size: int) -> list[list[int]]:
    """Split ``numbers`` into as few parts of at most ``size`` as possible, of nearly equal sizes."""
    parts = math.ceil(len(numbers) / size)
    ends = [round(len(numbers) * part / parts) for part in range(parts + 1)]
    return [numbers[start:end] for start, end in pairwise(ends)]

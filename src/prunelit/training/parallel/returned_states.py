"""Return the state of callbacks from the processes that ``ddp_fork`` and ``ddp_spawn`` start.

With these strategies, and with ``ddp_notebook``, a fit runs in worker processes that end with it. Lightning
returns weights and metrics, but not the state of callbacks. Its launcher has two methods for more:
``get_extra_results`` packs what the first worker sends, ``update_main_process_results`` unpacks it. Both are
called by ``_recover_results_in_main_process``, which loads the weights first.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from functools import wraps
from typing import Any, Protocol, runtime_checkable

import torch

KEY = "prunelit"
LAUNCHERS = tuple(
    f"{package}.strategies.launchers.multiprocessing"
    for package in ("lightning.pytorch", "pytorch_lightning")
)


@runtime_checkable
class ReturnsFromWorker(Protocol):
    """A callback whose state is returned from a worker process."""

    state_key: str

    def worker_state(self) -> dict[str, Any]:
        """Return what the main process needs, at the end of the work of a worker."""

    def before_worker_weights(self, state: dict[str, Any], pl_module: Any) -> None:
        """Prepare ``pl_module`` for the weights of the worker, whose :meth:`worker_state` is ``state``."""

    def load_worker_state(self, state: dict[str, Any], pl_module: Any) -> None:
        """Take over the result of :meth:`worker_state`; ``pl_module`` already has its new weights."""


def bring_back_states() -> None:
    """Let the launchers of the loaded Lightning packages return the states of callbacks."""
    for name in LAUNCHERS:
        launcher = getattr(sys.modules.get(name), "_MultiProcessingLauncher", None)
        if launcher is not None and not hasattr(launcher.get_extra_results, "brings_back_states"):
            launcher.get_extra_results = _packing(launcher.get_extra_results)
            launcher.update_main_process_results = _unpacking(launcher.update_main_process_results)
            recover = launcher._recover_results_in_main_process
            launcher._recover_results_in_main_process = _preparing(recover)


def _packing(get_extra_results: Any) -> Any:
    @wraps(get_extra_results)
    def packing(launcher: Any, trainer: Any) -> dict[str, Any]:
        states = [callback.worker_state() for callback in _returning(trainer)]
        buffer = io.BytesIO()
        torch.save(states, buffer)  # bytes, because tensors in shared memory end with the worker
        return {**get_extra_results(launcher, trainer), KEY: buffer.getvalue()}

    packing.brings_back_states = True  # type: ignore[attr-defined]
    return packing


def _unpacking(update_main_process_results: Any) -> Any:
    @wraps(update_main_process_results)
    def unpacking(launcher: Any, trainer: Any, extra: dict[str, Any]) -> None:
        update_main_process_results(launcher, trainer, extra)
        for callback, state in _returned(trainer, extra):
            callback.load_worker_state(state, trainer.lightning_module)

    return unpacking


def _preparing(recover_results: Any) -> Any:
    @wraps(recover_results)
    def preparing(launcher: Any, worker_output: Any, trainer: Any) -> None:
        for callback, state in _returned(trainer, worker_output.extra):
            callback.before_worker_weights(state, trainer.lightning_module)
        recover_results(launcher, worker_output, trainer)

    return preparing


def _returned(trainer: Any, extra: dict[str, Any]) -> Iterator[tuple[ReturnsFromWorker, dict[str, Any]]]:
    # Sent by a process of this program, so that objects of any class are safe to load.
    states = torch.load(io.BytesIO(extra[KEY]), map_location="cpu", weights_only=False)
    return zip(_returning(trainer), states, strict=True)


def _returning(trainer: Any) -> list[ReturnsFromWorker]:
    return [callback for callback in trainer.callbacks if isinstance(callback, ReturnsFromWorker)]

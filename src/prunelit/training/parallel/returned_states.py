"""Bring the state of callbacks back from the processes that ``ddp_fork`` and ``ddp_spawn`` start.

With these strategies, and with ``ddp_notebook``, a fit runs in worker processes that end with it. Lightning
brings back weights and metrics, but no state of a callback. Its launcher has two methods for more:
``get_extra_results`` packs what the first worker sends, ``update_main_process_results`` unpacks it.
"""

from __future__ import annotations

import io
import sys
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
    """A callback whose state comes back from a worker process."""

    state_key: str

    def worker_state(self) -> dict[str, Any]:
        """Return what the main process needs, at the end of the work of a worker."""

    def load_worker_state(self, state: dict[str, Any], pl_module: Any) -> None:
        """Take over what :meth:`worker_state` returned; ``pl_module`` has its new weights already."""


def bring_back_states() -> None:
    """Let the launchers of the Lightning packages that are loaded bring back the states of callbacks."""
    for name in LAUNCHERS:
        launcher = getattr(sys.modules.get(name), "_MultiProcessingLauncher", None)
        if launcher is not None and not hasattr(launcher.get_extra_results, "brings_back_states"):
            launcher.get_extra_results = _packing(launcher.get_extra_results)
            launcher.update_main_process_results = _unpacking(launcher.update_main_process_results)


def _packing(get_extra_results: Any) -> Any:
    @wraps(get_extra_results)
    def packing(launcher: Any, trainer: Any) -> dict[str, Any]:
        states = [callback.worker_state() for callback in _returning(trainer)]
        buffer = io.BytesIO()
        torch.save(states, buffer)  # bytes, as tensors in shared memory end with the worker
        return {**get_extra_results(launcher, trainer), KEY: buffer.getvalue()}

    packing.brings_back_states = True  # type: ignore[attr-defined]
    return packing


def _unpacking(update_main_process_results: Any) -> Any:
    @wraps(update_main_process_results)
    def unpacking(launcher: Any, trainer: Any, extra: dict[str, Any]) -> None:
        update_main_process_results(launcher, trainer, extra)
        # Sent by a process of this program a moment ago: objects of any class may be in it.
        states = torch.load(io.BytesIO(extra[KEY]), map_location="cpu", weights_only=False)
        for callback, state in zip(_returning(trainer), states, strict=True):
            callback.load_worker_state(state, trainer.lightning_module)

    return unpacking


def _returning(trainer: Any) -> list[ReturnsFromWorker]:
    return [callback for callback in trainer.callbacks if isinstance(callback, ReturnsFromWorker)]

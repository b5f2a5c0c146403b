"""Change the shapes of parameters that DistributedDataParallel reduces the gradients of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import lightning.pytorch as pl
from torch.nn.parallel import DistributedDataParallel


@contextmanager
def rewrapped(trainer: pl.Trainer) -> Iterator[None]:
    """Take the module out of ``DistributedDataParallel`` in the block, and wrap it in a new one afterwards.

    The buckets of a ``DistributedDataParallel``, and its hooks on the gradients, have the shapes that the
    parameters had when it was created. The new one has the same options. It compares the shapes of all ranks,
    and gives every rank the parameters and buffers of rank 0. With another strategy, nothing is done.
    """
    strategy = trainer.strategy
    wrapper = strategy.model
    if not isinstance(wrapper, DistributedDataParallel):
        yield
        return
    # The hooks end with the reducer; as long as they live, autograd expects gradients of the former shapes.
    wrapper.reducer = wrapper.logger = None  # type: ignore[assignment]
    strategy.model = wrapper.module
    del wrapper
    yield
    strategy.configure_ddp()  # type: ignore[attr-defined]
    if hasattr(strategy, "_pl_static_graph_delay_done"):
        strategy._pl_static_graph_delay_done = False

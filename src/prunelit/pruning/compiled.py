"""Run the original Python code of parts that ``torch.compile`` compiled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def original_parts(network: nn.Module) -> Iterator[None]:
    """Let compiled modules in ``network`` run as they were written inside the block.

    Tracers and modes that replace operations cannot look into compiled code. Parameters keep their names
    (``_orig_mod`` included). Functions that ``torch.compile`` compiled stay compiled.
    """
    undo: list[tuple[dict[str, Any], str, Any]] = []
    for module in network.modules():
        state = module.__dict__
        if "_torchdynamo_orig_callable" in state or type(module).__name__ == "OptimizedModule":
            undo.append((state, "forward", state["forward"]))
            state["forward"] = module.get_submodule("_orig_mod")
        if state.get("_compiled_call_impl") is not None:  # of module.compile()
            undo.append((state, "_compiled_call_impl", state["_compiled_call_impl"]))
            state["_compiled_call_impl"] = None
    try:
        yield
    finally:
        for state, name, value in reversed(undo):
            state[name] = value

"""The operations of one forward pass, as ``torch.export`` records them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.export import ExportedProgram

from prunelit.pruning.call import Call
from prunelit.pruning.compiled import original_parts
from prunelit.pruning.preserve import modes, random_state

NO_LINES = "do_not_emit_stack_traces"
"""A setting of ``torch.fx``."""


class NotTraced(ValueError):
    """``torch.export`` does not take the network; the message says why in one line."""


@dataclass(frozen=True)
class Trace:
    """The graph of a forward pass.

    Attributes:
        program: what ``torch.export`` returned.
        tensors: names of parameters and buffers by the names of the graph's inputs; shared ones have one.
        buffers: the names that are buffers.
    """

    program: ExportedProgram
    tensors: dict[str, str]
    buffers: frozenset[str]

    @property
    def module(self) -> torch.fx.GraphModule:
        """What holds the graph and the graphs inside it."""
        return self.program.graph_module


def traced(network: nn.Module, call: Call, training: bool = False) -> Trace:
    """Return the operations of one forward pass of ``network``, which is left as it was.

    Raises:
        NotTraced: the pass cannot be recorded, such as one whose way depends on values.
    """
    with modes(network), random_state(0), original_parts(network), _quiet():
        network.train(training)
        start_autograd()
        try:
            program = torch.export.export(network, call.inputs, dict(call.keywords), strict=False)
        except Exception as error:  # of any kind, from any part of torch
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            name = type(network).__name__
            raise NotTraced(f"torch.export does not record {name}: {reason}") from error
    program.graph.eliminate_dead_code()  # such as attention weights that nobody takes
    signature = program.graph_signature
    named = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    first: dict[int, str] = {}
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        first.setdefault(id(tensor), name)
    tensors = {}
    for place, name in named.items():
        owner, _, leaf = name.rpartition(".")
        held = getattr(network.get_submodule(owner), leaf, None)
        tensors[place] = first.get(id(held), name)
    return Trace(program, tensors, frozenset(signature.inputs_to_buffers.values()))


def start_autograd() -> None:
    """Let autograd start before ``torch.export`` does.

    If the first backward pass of a process comes after ``torch.export``, autograd also starts threads for
    devices that are not there, and refuses to work in processes that are forked afterwards, such as those
    of ``strategy="ddp_fork"`` and of sweeps.
    """
    with torch.inference_mode(False), torch.enable_grad():
        torch.ones(1, requires_grad=True).sum().backward()


@contextmanager
def _quiet() -> Iterator[None]:
    """Record attention as separate operations and no lines of code, and print nothing."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    log = logging.getLogger("torch.export")
    level = log.level
    log.setLevel(logging.ERROR)
    # The lines of code behind each operation, which nobody reads, take a fifth of the time.
    without_lines = getattr(torch.fx.config, NO_LINES, None)
    if without_lines is not None:  # older versions do not have the setting
        setattr(torch.fx.config, NO_LINES, True)
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        if without_lines is not None:
            setattr(torch.fx.config, NO_LINES, without_lines)
        log.setLevel(level)
        torch.backends.mha.set_fastpath_enabled(fused)

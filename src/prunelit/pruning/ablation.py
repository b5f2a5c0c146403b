"""The loss without one weight: many weights at once, with everything before their layer computed once.

Without one weight, a linear or convolutional layer gives its former output minus one product, in one unit or
channel. A network that ``torch.fx`` can trace is run once; then, for a stack of such outputs, only the
operations after the layer are run again. If this is not possible (see :meth:`Ablation.changes`), each weight
is set to 0 in turn and the whole network is run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node, symbolic_trace

from prunelit.pruning.objective import Batch, Objective
from prunelit.pruning.suffix import Suffix, Values, record

Head = Callable[[Tensor, Batch], Tensor]


class Ablation:
    """Changes of the loss of one batch when single weights are set to 0.

    Args:
        network: what the objective's loss runs; its modes are not changed.
        trace: the network's graph, from :func:`traced`; None: run whole networks.
        objective: its ``loss``, and its ``head`` if it has one.
        batch: one of the objective's batches.
    """

    def __init__(
        self, network: nn.Module, trace: GraphModule | None, objective: Objective, batch: Batch
    ) -> None:
        self.network, self.loss, self.batch = network, objective.loss, batch
        self.head: Head | None = None
        self.base = self._loss()
        self.interpreter: Interpreter | None = None
        self.values = Values()
        if objective.head is not None and self._is_the_loss(objective.head):
            self.head = objective.head
            self.base = self._loss()
            if trace is not None:
                self._record(trace)

    def changes(self, name: str, wanted: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield flat indices of parameter ``name``, and by how much the loss grows, in float64.

        ``wanted`` contains the requested indices. The first are those that change nothing: weights at 0, and
        those whose inputs are 0 in every sample.

        Whole networks are run, weight by weight, where the objective has no ``head``, the network
        cannot be traced, the layer is called more than once, its parameter is shared, or the first
        weight shows that samples do not stand alone (statistics of the batch, dropout).
        """
        parameter = self.network.get_parameter(name)
        if not torch.isfinite(self.base):
            yield wanted, torch.full((len(wanted),), torch.inf, dtype=torch.float64)
            return
        idle = parameter.detach().flatten()[wanted].cpu() == 0
        nodes = self._nodes(parameter)
        suffix = self._suffix(parameter, nodes)
        if self.interpreter is not None and not nodes:
            idle[:] = True
        elif suffix:
            idle |= ~suffix.reached()[wanted].cpu()
        if idle.any():
            yield wanted[idle], torch.zeros(int(idle.sum()), dtype=torch.float64)
            wanted = wanted[~idle]
        if suffix and len(wanted) and self._agrees(suffix, parameter, wanted):
            for indices in wanted.split(suffix.stack):
                yield indices, self._stacked(suffix, indices) - self.base
        else:
            for index in wanted:
                with without(parameter, int(index)):
                    yield index[None], (self._loss() - self.base)[None]

    def _loss(self) -> Tensor:
        """Return the loss of the unchanged network."""
        if self.head is None:
            loss = self.loss(self.batch)  # of a training step, which may insist on a graph
        else:
            with torch.no_grad():
                loss = self.head(self.network(self.batch[0]), self.batch)
        return loss.detach().double().cpu()

    @torch.no_grad()
    def _is_the_loss(self, head: Head) -> bool:
        """Return whether ``head`` of this network's output is the loss: not so for a part of a network."""
        try:
            value = head(self.network(self.batch[0]), self.batch)
        except Exception:  # the head of another output, or a loss that takes no float64
            return False
        return torch.allclose(value.double().cpu(), self.base, rtol=1e-2, atol=1e-6)

    @torch.no_grad()
    def _record(self, trace: GraphModule) -> None:
        values = record(trace, self.batch[0])
        output = next(value for node, value in values.items() if node.op == "output")
        if _close(output, self.network(self.batch[0])):
            self.interpreter, self.values = Interpreter(trace), values

    @torch.no_grad()
    def _stacked(self, suffix: Suffix, indices: Tensor) -> Tensor:
        assert self.head is not None
        assert self.interpreter is not None
        outputs = suffix.outputs(self.interpreter, suffix.without(indices))
        return torch.stack([self.head(output, self.batch) for output in outputs]).double().cpu()

    def _nodes(self, parameter: nn.Parameter) -> list[Node]:
        """Return the nodes of the graph that use ``parameter``."""
        return [node for node in self.values if _uses(self.network, node, parameter)]

    def _suffix(self, parameter: nn.Parameter, nodes: list[Node]) -> Suffix | None:
        """Return what follows the one layer that uses ``parameter``; None if there is no such layer."""
        if len(nodes) != 1 or nodes[0].op != "call_module" or not isinstance(self.values[nodes[0]], Tensor):
            return None
        module = self.network.get_submodule(str(nodes[0].target))
        for leaf, own in module.named_parameters(recurse=False):
            if own is parameter:
                return Suffix(module, leaf, nodes[0], self.values, len(self.batch[0]))
        return None

    @torch.no_grad()
    def _agrees(self, suffix: Suffix, parameter: nn.Parameter, wanted: Tensor) -> bool:
        """Return whether the largest weight's removal, stacked on quite other values, gives what it
        should."""
        index = wanted[parameter.detach().flatten()[wanted].abs().argmax()]
        stacked = suffix.without(index[None])
        with without(parameter, int(index)):
            expected = self.network(self.batch[0])
        assert self.interpreter is not None
        try:
            found = suffix.outputs(self.interpreter, torch.cat([stacked, torch.zeros_like(stacked)]))[0]
        except Exception:  # the network's own code runs on a larger batch than it was traced with
            return False
        return _close(found, expected)


def traced(network: nn.Module) -> GraphModule | None:
    """Return the graph of ``network``'s forward pass in its present modes, None if it has no static one."""
    try:
        return symbolic_trace(network)
    except Exception:  # the network's own code may raise anything for a replaced input
        return None


@contextmanager
def without(parameter: nn.Parameter, index: int) -> Iterator[None]:
    """Hold the element of flat ``index`` at 0 inside the block."""
    place = torch.unravel_index(torch.tensor(index), parameter.shape)
    value = parameter.detach()[place].clone()
    with torch.no_grad():
        parameter[place] = 0
    try:
        yield
    finally:
        with torch.no_grad():
            parameter[place] = value


def _close(found: Tensor, expected: Tensor) -> bool:
    """Return whether two outputs differ by rounding only, also in the short formats of a GPU's products."""
    if not isinstance(found, Tensor) or not isinstance(expected, Tensor) or found.shape != expected.shape:
        return False
    tolerance = torch.finfo(expected.dtype).eps ** 0.25 * float(expected.abs().max())
    return torch.allclose(found, expected, rtol=0, atol=tolerance)


def _uses(network: nn.Module, node: Node, parameter: nn.Parameter) -> bool:
    if node.op == "call_module":
        return any(p is parameter for p in network.get_submodule(str(node.target)).parameters())
    if node.op == "get_attr":
        owner, _, leaf = str(node.target).rpartition(".")
        return getattr(network.get_submodule(owner), leaf, None) is parameter
    return False

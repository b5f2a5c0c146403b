"""SynFlow: synaptic flow, score(w) = |w| * dR/d|w| with R = 1' f(1; |w|).

Tanaka, Kunin, Yamins and Ganguli, Pruning neural networks without any data by iteratively
conserving synaptic flow, https://arxiv.org/abs/2006.05467

R is the sum of the outputs for an input of ones, when every parameter is replaced by its absolute
value. Masks and token ids among the inputs stay as they are (see ``signal_inputs``). Outputs count as
they are before a final softmax, sigmoid or the like, and losses among them do not count (see
``prunelit.pruning.flow``). Biases that are not prunable are left out, as in the paper: flow that
enters by them starves the layers before, which may then empty. ``biases=True`` counts them, as
published code does; without biases both are the same. Batch normalisation runs in eval mode with its
running mean taken as 0, so that it is a positive scaling; in a fresh network that is the identity.

R is a product over layers and leaves float32 in deep networks, so it is computed in float64. The
network itself is not touched. Where R nears the ends of float64 too, input, biases and output are
multiplied by one power of two. f is positively homogeneous in input and biases, so this multiplies
all scores by one common factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from torch import nn
from typing_extensions import Doc

from prunelit.declared import checked
from prunelit.pruning.criteria.criterion import Criterion
from prunelit.pruning.flow_highest import keep_highest_of_flow
from prunelit.pruning.flow_scores import flow_scores
from prunelit.pruning.masks import Masks, Scores
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Parameters


class SynFlow(Criterion):
    """Synaptic flow in float64; one forward and backward pass of one input, without data."""

    needs = "example"

    @checked
    def __init__(
        self,
        biases: Annotated[
            bool, Doc("Include biases that are not prunable in the flow, as published code does.")
        ] = False,
    ) -> None:
        self.biases = biases
        self._memory: Scores = {}

    def scores(self, network: nn.Module, parameters: Parameters, objective: Objective | None) -> Scores:
        """Return ``|w| * dR/d|w|`` in float64.

        Raises:
            NoFlow: no output depends on an input and on a prunable parameter.
        """
        assert objective is not None
        network.eval()
        example = objective.example(network)
        memory, self._memory = self._memory, {}
        return flow_scores(network, parameters, example, self.biases, memory)

    def scores_again(
        self, network: nn.Module, parameters: Parameters, objective: Objective | None, previous: Scores
    ) -> Scores:
        """Return the scores of a later round in the memory of ``previous``."""
        self._memory = self._memory or previous
        return self.scores(network, parameters, objective)

    def keep_highest(
        self,
        network: nn.Module,
        parameters: Parameters,
        objective: Objective | None,
        numbers: Sequence[int],
        alive: Masks,
    ) -> tuple[Masks, int]:
        """Return masks after as many rounds as need no scores, and how many those are."""
        if type(self).scores is not SynFlow.scores:
            return alive, 0
        assert objective is not None
        network.eval()
        example = objective.example(network)
        masks, self._memory, done = keep_highest_of_flow(
            network, parameters, example, self.biases, numbers, alive
        )
        return masks, done

"""A smaller network: what pruning emptied is cut out of the tensors, so that memory and time are saved.

Units that belong together (`prunelit.pruning.coupling` finds them) go together: a filter, the scale and
shift of its normalisation, and the weights that take it in, in every layer that a sum, a concatenation
or a gate joins.
"""

from __future__ import annotations

import warnings
from typing import Any

from torch import Tensor, nn

from prunelit.pruning.call import Call
from prunelit.pruning.coupling.groups import found_groups
from prunelit.pruning.coupling.removable import units_cut_by_masks, units_with_effect
from prunelit.pruning.coupling.trial import cut_what_fits
from prunelit.pruning.coupling.without_units import reference_for
from prunelit.pruning.masks import attached
from prunelit.pruning.parameters import in_groups
from prunelit.request import PruningWarning


def compact(network: nn.Module, example: Tensor | tuple[Any, ...] | Call) -> nn.Module:
    """Return a copy of a pruned network without the units that have no effect any more.

    In eval mode it computes the same as ``network``, which stays as it is; if units were pruned with
    ``cut_normalized``, the same as its architecture built without them. Layers keep their names and
    at least one unit each; parameters, BatchNorm statistics and the masks noted on the network are
    cut to size. What cannot be cut keeps its width; :func:`prunelit.explain` says why.

    Args:
        network: pruned: weights that were removed are 0. Any module that ``torch.export`` takes.
        example: a batch on the network's device, a tuple of the forward pass's arguments, or a ``Call``.

    Raises:
        ValueError: the network can't be copied or its operations can't be recorded; one line.

    Warns:
        PruningWarning: units without effect stay, as where a size is written into ``forward``.
    """
    call = Call.of(example)
    coupled = found_groups(network, call)
    kept = units_with_effect(network, coupled) | units_cut_by_masks(coupled, attached(network) or {})
    done = cut_what_fits(network, coupled, kept, call, reference_for(network, coupled, kept, call))
    if done.left_whole:
        reasons = {name: str(reason) for name, reason in done.left_whole.items()}
        message = f"units without effect stay in {type(network).__name__}: {in_groups(reasons)}"
        warnings.warn(message, PruningWarning, stacklevel=2)
    return done.network

"""Detect scores that are NaN or infinite."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from prunelit.pruning.parameters import abridged
from prunelit.request import OneLineFault


class NonFiniteScores(OneLineFault, ArithmeticError):
    """A criterion gave NaN or infinity; the message names the layers and remedies."""


def check_finite(scores: Mapping[str, Tensor], what: str = "scores") -> None:
    """Raise NonFiniteScores if a score is NaN or infinite; a message calls the scores ``what``."""
    layers = [name for name, score in scores.items() if not torch.isfinite(score).all()]
    if layers:
        raise NonFiniteScores(
            f"the {what} of layer {abridged(layers)} are not finite; remedies: look for NaN, infinity and "
            "very large numbers in its weights and in the batches, keep the weights in float32, "
            "or leave the layer dense (exclude)"
        )

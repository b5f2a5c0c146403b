"""Kinds of layers: which parameters are weights to prune, and why the weights of others stay dense."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import ParametrizationList

LAYERS = (nn.Linear, _ConvNd)
NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
ATTENTION = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
"""The weights of ``nn.MultiheadAttention`` that make queries, keys and values."""

FROZEN = "they do not require a gradient; frozen=True prunes them"
MASKED = "torch.nn.utils.prune masks them; its remove() makes them prunable"
WEIGHT_NORM = "torch.nn.utils.weight_norm computes the weight from them; remove_weight_norm() undoes it"
SPECTRAL_NORM = "torch.nn.utils.spectral_norm computes the weight from them; remove_spectral_norm() undoes it"
PARAMETRIZED = "torch.nn.utils.parametrize computes the weight from them; remove_parametrizations() undoes it"
RECURRENT = "recurrent layers"
EMBEDDING = "embeddings"
NOT_FLOATING = "not floating-point numbers"
OTHER = "not the weight of a Conv*d, Linear or MultiheadAttention"


def is_weight(module: nn.Module, leaf: str) -> bool:
    """Return whether the parameter ``leaf`` of ``module`` is a weight that pruning knows how to remove."""
    if isinstance(module, nn.MultiheadAttention):
        return leaf in ATTENTION
    return isinstance(module, LAYERS) and leaf == "weight"


def is_bias(module: nn.Module, leaf: str) -> bool:
    """Return whether the parameter ``leaf`` of ``module`` is the bias of a layer with such weights."""
    if isinstance(module, nn.MultiheadAttention):
        return leaf == "in_proj_bias"
    return isinstance(module, LAYERS) and leaf == "bias"


def is_matrix(tensor: Tensor) -> bool:
    """Return whether ``tensor`` extends along two axes or more, as weights do and scales or shifts do not."""
    return sum(size > 1 for size in tensor.shape) > 1


def why_dense(module: nn.Module, leaf: str) -> str:
    """Return in a few words why a parameter that is no weight of a known layer stays dense."""
    kind, _, rest = leaf.rpartition("_")
    if isinstance(module, ParametrizationList):
        return PARAMETRIZED
    if rest == "orig" and hasattr(module, f"{kind}_mask"):
        return MASKED
    if rest == "orig" and hasattr(module, f"{kind}_u"):
        return SPECTRAL_NORM
    if rest == "v" and hasattr(module, f"{kind}_g"):
        return WEIGHT_NORM
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return RECURRENT
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return EMBEDDING
    return OTHER

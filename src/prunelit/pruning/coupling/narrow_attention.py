"""``nn.MultiheadAttention`` that lost some heads, so that together they are narrower than its inputs."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NarrowAttention(nn.MultiheadAttention):
    """Multi-head attention whose ``num_heads`` heads of width ``head_dim`` do not fill ``embed_dim``.

    ``nn.MultiheadAttention`` always takes ``embed_dim = num_heads * head_dim``. Parameters, arguments and
    results are the same.
    """

    @classmethod
    def narrow(cls, attention: nn.MultiheadAttention) -> None:
        """Make this of an attention whose weights have been cut, in place."""
        if attention.bias_k is not None or attention.add_zero_attn:
            raise ValueError("nn.MultiheadAttention with an additional key cannot lose heads")
        if type(attention) not in (nn.MultiheadAttention, cls):
            raise ValueError(f"{type(attention).__name__} cannot lose heads")
        attention.__class__ = cls
        # The fused path of torch's encoder layers takes the widths of the whole module.
        attention._qkv_same_embed_dim = False
        attention.num_heads = attention.out_proj.in_features // attention.head_dim

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return outputs and, if asked for, attention weights, as ``nn.MultiheadAttention`` does."""
        batched = query.ndim == 3
        if not batched:
            query, key, value = (tensor.unsqueeze(0) for tensor in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = (tensor.transpose(0, 1) for tensor in (query, key, value))
        q, k, v = (self._heads(*each) for each in zip("qkv", (query, key, value), strict=True))
        bias = self._bias(attn_mask, key_padding_mask, q, k)
        weights = None
        if need_weights:
            scores = q @ k.transpose(-2, -1) / math.sqrt(self.head_dim)
            weights = (scores if bias is None else scores + bias).softmax(-1)
            dropped = F.dropout(weights, self.dropout, self.training)
            result = dropped @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            dropout = self.dropout if self.training else 0.0
            result = F.scaled_dot_product_attention(q, k, v, bias, dropout)
        result = self.out_proj(result.transpose(1, 2).flatten(2))
        if not batched:
            return result[0], None if weights is None else weights[0]
        return result if self.batch_first else result.transpose(0, 1), weights

    def _heads(self, part: str, tensor: Tensor) -> Tensor:
        """Return queries, keys or values of shape (batch, heads, length, width of a head)."""
        place = "qkv".index(part)
        if self.in_proj_weight is not None:
            weight = self.in_proj_weight.chunk(3)[place]
        else:
            weight = getattr(self, f"{part}_proj_weight")
        bias = None if self.in_proj_bias is None else self.in_proj_bias.chunk(3)[place]
        return F.linear(tensor, weight, bias).unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)

    def _bias(self, mask: Tensor | None, padding: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
        """Return what is added to the scores: of shape (batch or 1, heads or 1, queries, keys)."""
        found = None
        if mask is not None:
            found = _as_bias(mask, q.dtype)
            found = found if found.ndim == 2 else found.unflatten(0, (len(q), -1))
            if found.ndim == 4 and found.shape[1] != self.num_heads:
                raise ValueError("a mask for each head does not fit an attention that lost heads")
        if padding is not None:
            padded = _as_bias(padding, q.dtype)[:, None, None]
            found = padded if found is None else found + padded
        return found


def _as_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(mask, -torch.inf)
    return mask

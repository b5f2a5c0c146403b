"""The k-th highest of many values as it is found on a GPU; any tensor will do."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunelit.pruning.masks import _kth_highest


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([0.0, -0.0, 1e-45, -1e-45, 3e38, -3e38]) | st.floats(width=32), min_size=1),
    st.sampled_from([torch.float32, torch.float64]),
    st.data(),
)
def test_the_bits_of_values_tell_the_kth_highest(
    values: list[float], dtype: torch.dtype, data: st.DataObject
) -> None:
    tensor = torch.tensor([value for value in values if value == value] or [0.0], dtype=dtype)
    k = data.draw(st.integers(1, len(tensor)))
    assert _kth_highest(tensor.clone(), k) == tensor.sort(descending=True).values[k - 1]

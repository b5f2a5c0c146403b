"""Every criterion's file states its source and its formula."""

from __future__ import annotations

import inspect

import pytest

from prunelit.pruning import criteria


@pytest.mark.parametrize("name", [name for name in criteria.__all__ if name != "Criterion"])
def test_its_file_says_where_it_comes_from(name: str) -> None:
    module = inspect.getmodule(getattr(criteria, name))
    assert module is not None
    opening = module.__doc__ or ""
    assert "https://" in opening
    assert "score(w" in opening

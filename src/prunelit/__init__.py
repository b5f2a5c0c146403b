"""prunelit: prune image classifiers and measure the effect of pruning.

The public names are those that ``__init__.pyi`` imports. They are loaded when they are first used, so that
reading records does not import torch.
"""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).parent


def _imported(file: Path) -> dict[str, str]:
    """Return each name that a file imports for others (``X as X``), and the module that it comes from."""
    found: dict[str, str] = {}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if alias.name == "*":
                    package = _PACKAGE.joinpath(*node.module.split(".")[1:], "__init__.py")
                    found |= dict.fromkeys(_imported(package), node.module)
                elif alias.asname:
                    found[alias.asname] = node.module
    return found


_HOMES = _imported(_PACKAGE / "__init__.pyi")
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'prunelit' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__

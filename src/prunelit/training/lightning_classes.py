"""Recognize objects of Lightning's classes under both names of the package.

The same classes come as ``lightning.pytorch`` and as ``pytorch_lightning``, and the classes of one are not
subclasses of the other's. Both names are in use, so ``isinstance`` with a class of one package does not find
the objects of the other.
"""

from __future__ import annotations

from typing import Any

PACKAGES = ("lightning", "pytorch_lightning", "lightning_fabric")


def is_lightning(found: object, name: str) -> bool:
    """Return whether ``found`` is an object of Lightning's class ``name``, or of a subclass of it."""
    return is_lightning_class(found.__class__, name)  # proxies report the class of their object


def is_lightning_class(kind: Any, name: str) -> bool:
    """Return whether ``kind`` is Lightning's class ``name`` or a subclass of it; False if it is not a
    class."""
    return any(
        each.__name__ == name and each.__module__.partition(".")[0] in PACKAGES
        for each in getattr(kind, "__mro__", ())
    )


def overrides(module: object, hook: str) -> bool:
    """Return whether the class of ``module`` defines ``hook`` itself instead of inheriting Lightning's."""
    method = getattr(type(module), hook, None)
    package = getattr(method, "__module__", "").partition(".")[0]
    return method is not None and package not in PACKAGES

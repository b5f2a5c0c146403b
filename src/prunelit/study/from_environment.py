"""Values of environment variables are text; messages about them explain how to read them as numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from omegaconf import DictConfig

from prunelit.request import BadRequest


@contextmanager
def explaining_text(node: DictConfig, key: str) -> Iterator[None]:
    """Add a hint to a BadRequest for a key whose value is ``${oc.env:NAME}``."""
    try:
        yield
    except BadRequest as error:
        written = str(dict(node.items_ex(resolve=False))[key])
        if error.key != key or not re.fullmatch(r"\$\{oc\.env:[^{}]*\}", written):
            raise
        typed = f"'{node._get_full_key(key)}=\"${{oc.decode:{written}}}\"'"
        raise BadRequest(key, error.value, f"{error.allowed}; write {typed}", error.why) from error

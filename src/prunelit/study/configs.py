"""The folder of the configs, and what a file in it says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig

PACKAGE = Path(__file__).resolve().parent.parent
CONFIGS = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parents[1] / "conf"
"""Inside an installed wheel, or at the top of a checkout."""


def load_choice(group: str, choice: str) -> DictConfig:
    """Return the node of a choice of a group, with the keys of the choices that its file extends."""
    from omegaconf import DictConfig, OmegaConf

    node = OmegaConf.load(CONFIGS / group / f"{choice}.yaml")
    assert isinstance(node, DictConfig)
    extended = [load_choice(group, name) for name in node.pop("defaults", []) if name != "_self_"]
    merged = OmegaConf.merge(*extended, node)
    assert isinstance(merged, DictConfig)
    return merged

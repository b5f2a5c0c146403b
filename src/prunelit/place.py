"""Which of several processes of a run this is."""

from __future__ import annotations

import os

MARKS = ("LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
"""Variables that mark a rank: Lightning's, torchrun's and SLURM's."""


def is_first() -> bool:
    """Whether this process is the one that writes the record: rank 0, or the only one."""
    return all(os.environ.get(name, "0") == "0" for name in MARKS)

"""Hydra's launcher for runs that train together. Hydra only finds launchers in this namespace."""

from __future__ import annotations

from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher


class PackedLauncher(BasicLauncher):
    """Where processes cannot be forked, executes runs one after the other.

    On Linux, the main process of the sweep forks one process for each group of runs instead.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        print("not packed: processes are forked on Linux only, so runs are executed one after the other")

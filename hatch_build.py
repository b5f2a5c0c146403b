"""Compile ``src/prunelit/pruning/loops.c`` when the package is built or installed, if there is a C compiler.

Without a compiler the package works as well: NumPy then does the work of these loops, in more time.
"""

from __future__ import annotations

import itertools
import os
import shlex
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PRUNING = Path("src", "prunelit", "pruning")
LIBRARY = "compiled_loops.so"
OPTIONS = ["-O3", "-std=c11", "-shared", "-fPIC"]
FURTHER: tuple[list[str], ...] = ([], ["-DPORTABLE"])
"""Options that are tried in turn: for several kinds of processor at once, and for one kind."""


def compilers() -> list[str]:
    """Return the C compilers to try: that of the environment, that of Python, and the usual ones."""
    named = [os.environ.get("CC") or "", sysconfig.get_config_var("CC") or ""]
    return list(
        dict.fromkeys([*(shlex.split(text)[0] for text in named if text.strip()), "cc", "gcc", "clang"])
    )


def compile_loops(source: Path, library: Path, tried: Sequence[str]) -> str | None:
    """Compile ``source`` to ``library`` by the first compiler that can; return why none could."""
    reasons = []
    for compiler, further in itertools.product(tried, FURTHER):
        command = [compiler, *OPTIONS, *further, "-o", str(library), str(source)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            reasons.append(str(getattr(error, "stderr", None) or error).strip())
        else:
            return None
    return reasons[0]


class LoopsHook(BuildHookInterface):
    """Adds the compiled loops to a wheel, or puts them beside their source for an editable installation."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the loops; display why if that fails."""
        folder = Path(self.root, PRUNING)
        (folder / LIBRARY).unlink(missing_ok=True)
        if reason := compile_loops(folder / "loops.c", folder / LIBRARY, compilers()):
            self.app.display_warning(
                f"NumPy is going to do the work of loops.c, which was not compiled: {reason}"
            )
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["artifacts"].append(str(PRUNING / LIBRARY))

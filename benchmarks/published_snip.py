"""What the benchmarks of SNIP's published counts have in common: their options and the images of MNIST."""

from __future__ import annotations

import argparse
from pathlib import Path

from torch import Tensor

from prunelit.training.data import ImageData


def root_and_seeds(description: str | None) -> tuple[Path, int]:
    """Return the folder of MNIST and the number of seeds from the command line."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    return given.root, given.seeds


def standardised(
    root: Path, batches: int | None, batch_size: int, seed: int = 0
) -> list[tuple[Tensor, Tensor]]:
    """Return batches of standardised training images of 28 x 28 and their labels; None: all of them."""
    data = ImageData("mnist", root=str(root), download=False, seed=seed)
    data.prepare_data()
    data.setup()
    return data.scoring_batches(None, batches, batch_size)

"""What a training step prints and writes to open files is what it is without pruning."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from prunelit import SNIP, Pruning, SynFlow
from stock import Stranger, loader, trainer


class Talking(Stranger):
    """Prints its losses, and writes them to a table that it keeps open."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file.open("w", buffering=1)
        self.table = csv.writer(self.file)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        print("loss", loss.item())
        self.table.writerow([batch_idx, loss.item()])
        return loss


@pytest.mark.parametrize("criterion", [SNIP(), SynFlow()], ids=lambda c: type(c).__name__)
def test_scoring_prints_and_writes_nothing(criterion, tmp_path, capsys) -> None:
    found = []
    for callbacks in ([], [Pruning(criterion, compression=0)]):
        torch.manual_seed(0)
        module = Talking(tmp_path / "losses.csv")
        data = loader()
        torch.manual_seed(1)
        trainer(*callbacks, max_epochs=1).fit(module, data)
        module.file.close()
        found.append((capsys.readouterr().out, (tmp_path / "losses.csv").read_text()))
    assert found[0][0]
    assert found[0][1]
    assert found[0] == found[1]

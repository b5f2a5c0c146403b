"""Runs whose scores decide nothing, or are no numbers, end with one line, and their records say why."""

import json
import re
from pathlib import Path

import pytest

QUICK = ("epochs=1", "batch_size=1024", "logger=none", "pruner=snip", "compression=0.5")


@pytest.mark.parametrize(
    ("network", "expected", "line"),
    [
        ("Zeros", 2, "pruner.criterion=SNIP: all scores of SNIP that compete are equal .0.*train first"),
        ("NotANumber", 1, r"the scores of layer .*body\.1\.weight.* are not finite; remedies: .*exclude"),
    ],
)
def test_one_line_says_what_is_wrong_with_scores(cli, network: str, expected: int, line: str) -> None:
    status, _, err = cli(f"model._target_=own_networks.{network}", *QUICK)
    assert status == expected, err
    assert len(err) == 1
    (said,) = Path("outputs").glob("*/*/status.json")
    noted = json.loads(said.read_text())
    assert noted["status"] == "failed"
    assert noted["error"].endswith(err[0])
    assert re.search(line, err[0])

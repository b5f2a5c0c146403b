"""What SNIP keeps in each tensor, against published counts, by the same code as the benchmark."""

import runpy
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.slow
def test_snip_keeps_what_was_published_in_every_tensor_of_100_parameters_or_more(
    real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    benchmark = runpy.run_path(str(BENCHMARKS / "snip_counts.py"))
    cells = [cell for cell in benchmark["table"](real_data) if cell.total >= 100]
    assert len(cells) == 22
    assert [cell for cell in cells if abs(cell.points) > 3] == []

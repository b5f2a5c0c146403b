"""What SNIP keeps of the published VGG16, by the same code as the benchmark."""

import runpy
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.slow
def test_the_statistics_of_batchnorm_decide_what_is_kept(
    real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    benchmark = runpy.run_path(str(BENCHMARKS / "published_vgg16.py"))
    with pytest.raises(RuntimeError, match="too small"):
        benchmark["published_network"]().eval()(torch.zeros(1, 1, 28, 28))
    rows = {row.statistics: row for row in benchmark["table"](real_data, seeds=1)}
    # The report: 99.6 to 99.9 %, and almost all biases are removed but those of the last layer.
    assert rows["new"].least < 99.55
    assert 99.55 <= rows["running"].least < rows["running"].greatest < 99.95
    assert rows["batch"].least >= 99.95
    assert "48.bias" in rows["running"].biases
    assert len(rows["running"].biases) < 6

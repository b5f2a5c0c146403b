"""What SNIP keeps of the published VGG16, by the same code as the benchmark."""

import runpy
from pathlib import Path

import pytest
import torch


@pytest.mark.slow
def test_scored_in_eval_mode_the_published_network_has_the_published_sparsities(real_data: Path) -> None:
    benchmark = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "published_vgg16.py"))
    with pytest.raises(RuntimeError, match="too small"):
        benchmark["published_network"]().eval()(torch.zeros(1, 1, 28, 28))
    rows = {(row.size, row.mode): row for row in benchmark["table"](real_data, seeds=1)}
    # The report: 99.6 to 99.9 %, and almost all biases are removed but those of the last layer.
    assert rows["padded", "eval"].least >= 99.55
    assert rows["padded", "eval"].greatest < 99.95
    assert rows["padded", "train"].least >= 99.95
    assert rows["padded", "train"].biases == ("48.bias",)

"""flops=, params= and speedup= prune whole units, and the record has what was requested and what it gave."""

from __future__ import annotations

import pytest

import runs
from runs import SMALLEST


def test_a_latency_is_requested_in_milliseconds_and_recorded(cli) -> None:
    """Far above what the network takes, so that nothing depends on the load of the machine."""
    network = ("model=convnet", "+data.size=16", "pruner=l1_filter", "pruner.when=start")
    assert cli("latency=1000ms", *network, *SMALLEST[:2])[0] == 0
    result = runs.result()
    assert result["asked_latency"] == 1000
    assert result["density"] == 1
    assert 0 < result["latency_predicted"] < 1000


@pytest.mark.parametrize("latency", ["8s", "0ms", "-1ms", "fast"])
def test_a_wrong_latency_is_refused(cli, latency: str) -> None:
    status, _, (line,) = cli(f"latency={latency}", *SMALLEST)
    assert status == 2
    assert line.startswith(f"latency={latency}: ")


@pytest.mark.parametrize(
    ("request_", "field"),
    [("flops=0.5", "flops"), ("params=0.4", "parameters"), ("speedup=2.5", "flops")],
)
def test_the_record_has_the_request_and_what_a_cut_network_costs(cli, request_: str, field: str) -> None:
    status, _, _ = cli(
        request_, "model=convnet", "data.size=16", "pruner=l1_filter", "pruner.when=start", *SMALLEST[:2]
    )
    assert status == 0
    key, value = request_.split("=")
    result = runs.result()
    assert result[f"asked_{key}"] == float(value)
    assert result["asked_compression"] is result["asked_sparsity"] is None
    share = 1 / float(value) if key == "speedup" else float(value)
    dense = result["flops_dense"] if field == "flops" else result["parameters"]
    assert 0.8 * share < result[f"{field}_compact"] / dense <= share

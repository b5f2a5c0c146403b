"""A finished training is kept, whatever number of its record cannot be had."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file

import own_networks
from prunelit.pruning.flops import count_flops
from prunelit.pruning.paths import effective_masks
from prunelit.study.report.charts.study_figures import draw_study
from prunelit.study.report.figures import all_figures
from prunelit.study.report.page.html import page
from prunelit.study.report.records.study import read_study
from prunelit.study.report.tables.files import write_report
from prunelit.study.report.tables.metrics import metric_named
from prunelit.study.report.tables.report_tables import make_tables
from runs import csv_rows, only_folder, result

SHORT = ("epochs=1", "batch_size=1024", "logger=none", "compression=0.5")


def own(network: str) -> tuple[str, ...]:
    return (f"model._target_=own_networks.{network}",)


@pytest.mark.parametrize(
    ("network", "warning", "flops", "effective"),
    [
        ("Lstm", ["FLOPs exclude lstm", "effective density: .* lstm is not followed"], 80, False),
        ("InNumPy", ["effective density: .*numpy", "the cut network: .*numpy"], 2368, False),
        ("Quantised", ["FLOPs: .*quantized", r"weights.safetensors omits body\.1\."], None, True),
        ("Complex", ["effective density: .*complex"], 1184, False),
        ("Remembering", ["weights.safetensors omits _extra_state"], 2368, True),
        ("Compiled", [], 2368, True),
        ("CompiledInPlace", [], 2368, True),
        ("Scripted", ["FLOPs: .*traced", "effective density: .*scripted"], None, False),
        ("Lazy", [], 2368, True),
        ("Branching", ["the cut network: .*data-dependent"], 2368, True),
        ("Tied", [], 374, True),
    ],
)
def test_what_cannot_be_counted_is_null_with_one_warning(
    cli, network: str, warning: list[str], flops: int | None, effective: bool
) -> None:
    status, _, err = cli(*own(network), "pruner=mag", "pruner.scope=layer", *SHORT)
    assert status == 0, err
    found = result()
    assert found["top1"] > 0
    assert (found["effective_density"] is not None) == effective
    assert found["flops_dense"] == flops
    density = found["density"]
    assert density == pytest.approx(10**-0.5, abs=0.01)
    masks = load_file(only_folder() / "masks.safetensors")
    layers = {row["layer"]: row for row in csv_rows("layers.csv")}
    assert layers.keys() == masks.keys()
    assert all((row["flops_dense"] == "") == (flops is None) for row in layers.values())
    if flops is not None and network != "Tied":
        assert found["flops_sparse"] == pytest.approx(flops * density, rel=0.05)
    # Others are the compiler's, and about what stays dense.
    said = [line for line in err if re.match("warning: .*(the record lacks|excludes?|omits?)", line)]
    assert len(said) == len(warning)
    for line, expected in zip(said, warning, strict=True):
        assert re.match(f"warning: .*{expected}", line)


def test_a_network_that_returns_more_than_logits_is_one_line(cli) -> None:
    status, _, err = cli(*own("WithFeatures"), "pruner=mag", *SHORT)
    assert status == 2
    assert len(err) == 1
    assert "WithFeatures: " in err[0]
    assert "tuple" in err[0]


@pytest.mark.parametrize("network", ["Lstm", "Compiled"])
def test_a_dense_baseline_of_the_same_networks_is_kept(cli, network: str) -> None:
    status, _, err = cli(*own(network), "pruner=none", *SHORT[:3])
    assert status == 0, err
    assert result()["density"] == 1


def test_flops_of_a_shared_weight_count_under_the_name_it_is_pruned_by(cli) -> None:
    assert cli(*own("Tied"), "pruner=mag", *SHORT)[0] == 0
    flops = {
        row["layer"]: (int(row["flops_dense"]), float(row["flops_sparse"])) for row in csv_rows("layers.csv")
    }
    masks = load_file(only_folder() / "masks.safetensors")
    assert flops["out.weight"] == (204, pytest.approx(int(masks["out.weight"].sum())))


@pytest.mark.parametrize("compiled", ["Compiled", "CompiledInPlace"])
def test_a_compiled_part_counts_as_the_part_itself(compiled: str) -> None:
    torch.manual_seed(0)
    plain = own_networks.Body(10, (1, 8, 8))
    network = getattr(own_networks, compiled)(10, (1, 8, 8))
    network.load_state_dict(dict(zip(network.state_dict(), plain.state_dict().values(), strict=True)))
    image = torch.randn(1, 1, 8, 8)
    before = network(image)
    mask = torch.zeros(32, 64, dtype=torch.bool)
    mask[:3] = True
    found = []
    for each in (plain, network):
        first, head = (name for name, p in each.named_parameters() if p.ndim == 2)
        masks = {first: mask, head: torch.ones(10, 32, dtype=torch.bool)}
        found.append(list(effective_masks(each, masks, image).values()))
        assert list(count_flops(each, image).by_parameter.values()) == [2048, 320]
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert torch.equal(network(image), before)


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed"])
def test_every_precision_is_counted(cli, precision: str) -> None:
    status, _, err = cli(
        "pruner=none", "epochs=1", "batch_size=1024", "logger=none", f"trainer.precision={precision}"
    )
    assert (status, err) == (0, [])
    assert (result()["flops_dense"], result()["effective_density"]) == (47400, 1.0)


def test_a_report_shows_runs_whose_numbers_are_missing(cli, tmp_path) -> None:
    assert cli(*own("Lstm"), "pruner=rand", "epochs=0", "logger=none")[0] == 0
    record = only_folder() / "result.json"
    record.write_text(json.dumps(result() | {"flops_dense": None, "flops_sparse": None, "best_top1": None}))
    study = read_study([record.parent.parent])
    tables = make_tables(study, metric_named("effective_density"))
    write_report(study, tables, tmp_path / "report")
    assert "lstm" in page(study, tables, draw_study(study, all_figures()), lambda: "")

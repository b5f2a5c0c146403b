"""Latencies of the dense, the masked and the cut network have a column each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prunelit.study.record import Record
from prunelit.study.report.records.study import read_study
from prunelit.study.report.tables.metrics import METRICS
from prunelit.study.report.tables.report_tables import make_tables

MakeRun = Callable[..., Record]


def test_forms_and_batches_have_a_column_each_and_devices_a_table(make_run: MakeRun, tmp_path: Path) -> None:
    where = {"device": "a cpu", "threads": 2}
    for seed, cut in ((0, 2.0), (1, 3.0)):
        latency = {"latency_dense_1": 4.0, "latency_masked_1": 5.0, "latency_cut_1": cut}
        make_run("pruner=mag", "compression=1", f"seed={seed}", latency_cut_64=80.5, **latency, **where)
    make_run("pruner=snip", "compression=1", latency_dense_1=4.0, **where)
    make_run("pruner=rand", "compression=1", latency_half_1=0.1, latency_2to4_1=0.05, device="a gpu")
    make_run("pruner=none")
    first, second = make_tables(read_study([tmp_path]), METRICS["top1"]).by_section["Latency"]
    assert first.title == "digits, fc: median milliseconds of a forward pass on a cpu, 2 threads"
    heads = ["dense\n1 input", "masked\n1 input", "cut\n1 input", "cut\n64 inputs"]
    assert first.header == ["method", "asked", "seeds", *heads]
    assert [[cell.text for cell in row] for row in first.rows] == [
        ["mag", "compression 1", "2", "4.000", "5.000", "2.500", "80.50"],
        ["snip", "compression 1", "1", "4.000", "–", "–", "–"],
    ]
    assert second.header[3:] == ["half precision\n1 input", "2:4 products\n1 input"]


def test_a_study_without_latencies_has_no_table(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("pruner=mag", "compression=1")
    assert make_tables(read_study([tmp_path]), METRICS["top1"]).by_section["Latency"] == []

"""Weights from anywhere: taken where they fit exactly, and named for what they are otherwise."""

from __future__ import annotations

import argparse
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunelit.request import BadRequest
from prunelit.training.checkpoints.contents import start_from

Weights = dict[str, Tensor]


def network(classes: int = 2) -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, classes))


@pytest.fixture
def weights() -> Weights:
    torch.manual_seed(1)
    return network().state_dict()


def prefixed(prefix: str, weights: Weights) -> Weights:
    return {prefix + name: value for name, value in weights.items()}


SHAPES: dict[str, tuple[Callable[[Weights], Any], str]] = {
    **{
        prefix: (lambda w, prefix=prefix: {"state_dict": prefixed(prefix, w)}, f"names without '{prefix}'")
        for prefix in ("net.", "model.", "module.", "_orig_mod.", "network.", "backbone.", "module.model.")
    },
    **{
        key: (lambda w, key=key: {key: w, "epoch": 3}, f"the weights under '{key}'")
        for key in ("model", "model_state_dict", "net", "weights", "params", "model_ema", "params_ema")
    },
    "beside others": (lambda w: {**prefixed("net.", w), "loss.weight": torch.ones(2)}, "not loss.weight"),
    "no counter": (lambda w: {n: v for n, v in w.items() if "num_batches" not in n}, ""),
    "no callbacks": (lambda w: {"state_dict": w, "callbacks": None}, ""),
    "half precision": (lambda w: {n: v.half() if v.is_floating_point() else v for n, v in w.items()}, ""),
}


@pytest.mark.parametrize("name", SHAPES)
def test_weights_that_fit_are_taken(
    name: str, weights: Weights, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, said = SHAPES[name]
    torch.save(make(weights), tmp_path / "file.pth")
    start_from(found := network(), tmp_path / "file.pth")
    for key, value in found.state_dict().items():
        torch.testing.assert_close(value, weights[key], atol=1e-3, rtol=1e-3)
    told = capsys.readouterr().err
    assert told.count("\n") == bool(said)
    assert said in told


def bit_flipped(weights: Weights, path: Path) -> None:
    torch.save(weights, path)
    content = bytearray(path.read_bytes())
    content[bytes(content).find(weights["0.weight"].numpy().tobytes()) + 3] ^= 0x40
    path.write_bytes(content)


def zipped(weights: Weights, path: Path) -> None:
    torch.save(weights, path)
    path.write_bytes(gzip.compress(path.read_bytes()))


def saved(change: Callable[[Weights], Any]) -> Callable[[Weights, Path], None]:
    return lambda weights, path: torch.save(change(weights), path)


WRONG: dict[str, tuple[Callable[[Weights, Path], Any], str]] = {
    "folder": (lambda w, path: path.mkdir(), "it is a folder; must be a file in it"),
    "missing": (lambda w, path: None, "no such file"),
    "empty": (lambda w, path: path.write_bytes(b""), "it is empty"),
    "page": (lambda w, path: path.write_text("\n<!DOCTYPE html>"), "it is a web page.*downloaded again"),
    "pointer": (lambda w, path: path.write_text("version https://git-lfs.x"), "Git LFS.*git lfs pull"),
    "gzip": (zipped, "compressed by gzip; must be unpacked"),
    "one bit": (bit_flipped, "it is damaged: a checksum"),
    "whole model": (saved(lambda w: network()), "an object of torch.nn.*torch.save.network.state_dict"),
    "arguments": (saved(lambda w: {"state_dict": w, "a": argparse.Namespace()}), "an object of argparse"),
    "int8": (saved(lambda w: {**w, "0.weight": w["0.weight"].char()}), "0.weight holds int8"),
    "complex": (saved(lambda w: {**w, "0.weight": w["0.weight"] + 0j}), "0.weight is complex"),
    "sparse": (saved(lambda w: {**w, "0.weight": w["0.weight"].to_sparse()}), "0.weight is a sparse tensor"),
    "nan": (saved(lambda w: {**w, "3.bias": w["3.bias"] / 0}), "3.bias holds NaN or infinity"),
    "two": (
        saved(lambda w: {**prefixed("a.", w), **prefixed("b.", w)}),
        "twice, after the prefixes a. and b.",
    ),
    "no weights": (saved(lambda w: {"epoch": 1, "loss": 2.0}), "no state dict but epoch, loss"),
    "another": (saved(lambda w: {**w, "0.weight": torch.ones(3, 8)}), r"0.weight has shape \(3, 8\)"),
    "head": (saved(lambda w: network(5).state_dict()), "3.weight has shape.*checkpoint_strict=false"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_checkpoint_is_named_for_what_it_is(name: str, weights: Weights, tmp_path: Path) -> None:
    make, said = WRONG[name]
    make(weights, tmp_path / "file.pth")
    found = network()
    before = {key: value.clone() for key, value in found.state_dict().items()}
    with pytest.raises(BadRequest, match=said) as refused:
        start_from(found, tmp_path / "file.pth")
    assert refused.value.key == "checkpoint"
    assert "\n" not in str(refused.value)
    assert all(torch.equal(value, before[key]) for key, value in found.state_dict().items())


def test_a_last_layer_of_another_size_stays_new_on_request(
    weights: Weights, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(weights, tmp_path / "file.pth")
    found = network(5)
    head = found[3].weight.detach().clone()
    start_from(found, tmp_path / "file.pth", strict=False)
    assert torch.equal(found[0].weight, weights["0.weight"])
    assert torch.equal(found[3].weight, head)
    assert "3.weight, 3.bias keep their initial values" in capsys.readouterr().err

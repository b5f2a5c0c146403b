"""Masks of one bit for each weight: any reader of safetensors can unpack them, and prunelit reads both."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from prunelit.request import BadRequest
from prunelit.training.checkpoints.contents import save_tensors
from prunelit.training.checkpoints.mask_files import SHAPES, as_bits, read_mask_file
from runs import QUICK, folders


@pytest.mark.parametrize("shape", [(3, 5), (8,), (2, 3, 3, 3), ()])
def test_bits_are_read_as_the_masks_that_were_written(shape: tuple[int, ...], tmp_path: Path) -> None:
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(0)) > 0.5
    save_tensors(tmp_path / "masks.safetensors", *as_bits({"weight": mask, "other": ~mask}))
    found = read_mask_file(tmp_path / "masks.safetensors")
    assert torch.equal(found["weight"], mask)
    assert torch.equal(found["other"], ~mask)


def test_shapes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "masks.safetensors"
    save_file(
        {"weight": torch.zeros(2, dtype=torch.uint8)}, path, {SHAPES: json.dumps({"weight": [3, 3, 3]})}
    )
    with pytest.raises(BadRequest, match=r"^checkpoint=.*\b27\b"):
        read_mask_file(path)


def test_a_run_writes_bits_that_another_run_starts_from(cli) -> None:
    assert cli(*QUICK, "pruner=mag", "name=bits", "sweep.mask_format=bits")[0] == 0
    assert cli(*QUICK, "pruner=mag", "name=bytes")[0] == 0
    bits, whole = (folder / "masks.safetensors" for folder in folders())
    expected = read_mask_file(whole)
    with safe_open(bits, "np") as file:
        shapes = json.loads(file.metadata()["prunelit.bit_masks"])
        for name, shape in shapes.items():
            count = int(np.prod(shape))
            mask = np.unpackbits(file.get_tensor(name), count=count).reshape(shape)
            assert np.array_equal(mask, expected[name].numpy())
    assert bits.stat().st_size < whole.stat().st_size / 6
    start = f"checkpoint={bits.with_name('weights.safetensors')}"
    assert cli(*QUICK, "pruner=none", "name=next", start)[0] == 0
    after = {folder.parent.name: read_mask_file(folder / "masks.safetensors") for folder in folders()}
    assert all(torch.equal(mask, after["next"][name]) for name, mask in expected.items())
    assert cli(*QUICK, "pruner=rand", "name=densities", f"pruner.densities_from={bits.parent}")[0] == 0
    other = (*QUICK, "pruner=like", "name=other", f"pruner.densities_from={bits.parent}")
    for depth, named in ((2, "there is no such parameter"), (7, "fc7.weight of FC has none")):
        status, _, (line,) = cli(*other, f"model.depth={depth}")
        assert (status, named in line) == (2, True), line
        assert line.startswith(f"pruner.densities_from={bits.parent}: ")

"""Read weights from any checkpoint, safely; write tensors atomically."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

from prunelit.durable import replacing, write_atomically
from prunelit.notice import warn
from prunelit.pruning.coupling.narrowing import Narrowing
from prunelit.pruning.masks import Masks, apply_masks, attach, layer_densities
from prunelit.request import BadRequest
from prunelit.training.checkpoints.mask_files import read_mask_file
from prunelit.training.checkpoints.weight_files import read_file, state_dict_of
from prunelit.training.checkpoints.weight_names import fitted
from prunelit.training.network_pruner import STATE_KEY

SUSPICIOUS = 0.01
"""The share of weights equal to 0 above which a network is assumed to be pruned."""


def read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], Masks, str]:
    """Return the weights in a file, its masks (empty if there are none), and the key of the weights.

    Reads a Lightning checkpoint, a state dict saved by ``torch.save``, also under a usual key such as
    ``model``, or a ``.safetensors`` file with ``masks.safetensors`` in the same folder. Nothing in the file
    is executed. Weights of a network that was cut while training have the shapes of the whole one, with 0
    where they were cut out.

    Raises:
        BadRequest: no such file, or not a checkpoint.
    """
    path = Path(path)
    content = read_file(path)
    masks = _masks_of(content.get("callbacks"))
    beside = path.with_name("masks.safetensors")
    if path.suffix == ".safetensors" and beside.is_file():
        masks = read_mask_file(beside)
    weights, key = state_dict_of(content, path)
    for prefix, narrowing in _cuts_of(content.get("callbacks"), path):
        weights = {name: narrowing.widened(name.removeprefix(prefix), v) for name, v in weights.items()}
    return weights, {name: mask.bool() for name, mask in masks.items()}, key


def _masks_of(states: Any) -> Masks:
    """Return the masks in the states of callbacks; a callback of a submodule names parameters within it."""
    masks: Masks = {}
    for key, state in states.items() if isinstance(states, Mapping) else ():
        if key == STATE_KEY:
            masks |= state["masks"]
        elif key.startswith(f"{STATE_KEY}["):
            masks |= {f"{state['network']}.{name}": mask for name, mask in state["masks"].items()}
    return masks


def _cuts_of(states: Any, path: Path) -> Iterator[tuple[str, Narrowing]]:
    """Yield what was cut out of the networks in a file, with the prefix that their names have there."""
    for key, state in states.items() if isinstance(states, Mapping) else ():
        if key.startswith(STATE_KEY) and (cut := state.get("cut")):
            yield (f"{state['network']}." if state["network"] else ""), Narrowing.from_state(cut)
    if path.suffix == ".safetensors" and path.with_name("network.json").is_file():
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):  # of another program
            if cut := json.loads(path.with_name("network.json").read_text()).get("cut"):
                yield "", Narrowing.from_state(cut)


def read_masks(path: Path) -> Masks:
    """Return the masks in a ``masks.safetensors`` file."""
    return read_mask_file(path, "pruner.densities_from")


def densities_of(run: str | None) -> dict[str, float] | None:
    """Return the layer densities of a run's masks, given its folder or its ``masks.safetensors``."""
    if run is None:
        return None
    path = Path(run) / "masks.safetensors" if Path(run).is_dir() else Path(run)
    if not run or not path.is_file():
        allowed = "the folder of a complete run, or its masks.safetensors"
        raise BadRequest("pruner.densities_from", run, allowed)
    return layer_densities(read_masks(path))


def start_from(network: nn.Module, path: str | Path, strict: bool = True) -> None:
    """Load the weights of a checkpoint into ``network``, and its masks if it has any.

    One line reports the key of the weights and the prefix of their names, if there is one.

    Args:
        network: receives the weights.
        path: the file.
        strict: refuse a last layer of another size, instead of keeping its initial weights.

    Raises:
        BadRequest: not a checkpoint, or one of another network; names the first parameter that differs.
    """
    weights, masks, key = read_checkpoint(path)
    fit = fitted(weights, network.state_dict(), Path(path), strict)
    network.load_state_dict(fit.weights, strict=True)
    parameters = dict(network.named_parameters(remove_duplicate=False))
    masks = {name.removeprefix(fit.prefix): mask for name, mask in masks.items()}
    if masks:
        # In the network's order; a layer with initial weights has none.
        masks = {n: masks[n] for n, p in parameters.items() if n in masks and masks[n].shape == p.shape}
        attach(network, masks)
        apply_masks(parameters, masks)
    else:
        _warn_of_zeros(network, path)
    said = [f"the weights under {key!r}"] if key not in ("", "state_dict") else []
    said += [f"names without {fit.prefix!r}"] if fit.prefix else []
    said += (
        [
            f"not {', '.join(fit.ignored[:3])} and others"
            if len(fit.ignored) > 3
            else f"not {', '.join(fit.ignored)}"
        ]
        if fit.ignored
        else []
    )
    said += [f"{', '.join(fit.fresh)} keep their initial values"] if fit.fresh else []
    if said:
        warn(f"checkpoint={path}: taken are {'; '.join(said)}")


def _warn_of_zeros(network: nn.Module, path: str | Path) -> None:
    """Warn if weights seem to be pruned but there are no masks; such zeros are trained like other weights."""
    weights = [p for n, p in network.named_parameters() if n.endswith("weight") and p.ndim > 1]
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    total = sum(weight.numel() for weight in weights)
    if zeros > SUSPICIOUS * total:
        warn(
            f"checkpoint={path}: {zeros} of {total} weights are 0 but the file has no masks, so they are "
            "trained and count as kept (masks are stored in the .ckpt files of prunelit and in "
            "masks.safetensors)"
        )


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a ``.safetensors`` file atomically; shared tensors are written once per name.

    The format only supports plain tensors. Anything else in a state dict, such as quantized or sparse tensors
    and objects, is omitted with one warning. Checkpoints contain everything.
    """
    from safetensors.torch import save

    plain = {name: tensor for name, tensor in tensors.items() if _is_plain(tensor)}
    if left_out := [name for name in tensors if name not in plain]:
        warn(f"{path.name} omits {', '.join(left_out)}, which are not plain tensors")
    copies = {name: t.detach().cpu().clone().contiguous() for name, t in plain.items()}
    write_atomically(path, save(copies, metadata))


def _is_plain(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized


class WholeFiles(TorchCheckpointIO):
    """Writes checkpoints atomically, unlike Lightning, which copies them from ``/tmp``."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write ``path`` atomically and flush it to the disk."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            torch.save(checkpoint, file)


def save_again(trainer: pl.Trainer, folder: Path, pruned_last: bool) -> None:
    """Save the final network if a checkpoint is missing or does not contain the network of its name.

    This applies to both checkpoints after a pruning that follows the training, and to the best one if no
    epoch was evaluated at the final density, because the best checkpoint then has another density.
    """
    best = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
    if pruned_last:
        trainer.save_checkpoint(folder / "last.ckpt")
    if pruned_last or not any(callback.best_model_path for callback in best):
        trainer.save_checkpoint(folder / "best.ckpt")

"""Read weights from any checkpoint, safely; write tensors atomically."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

from prunelit.durable import replacing, write_atomically
from prunelit.notice import warn
from prunelit.pruning.masks import Masks, apply_masks, attach
from prunelit.request import BadRequest
from prunelit.training.network_pruner import STATE_KEY

KINDS = "a .ckpt of prunelit or Lightning, a state dict saved with torch.save, or a .safetensors file"


def read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], Masks]:
    """Return the weights in a file and the masks that ride along (empty if none do).

    Reads a Lightning checkpoint, a state dict saved by ``torch.save`` or a ``.safetensors`` file
    with ``masks.safetensors`` beside it. Nothing in the file is executed: ``weights_only=True``.

    Raises:
        BadRequest: no such file, or not a checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise BadRequest("checkpoint", path, KINDS, "no such file")
    content = _load(path)
    masks = _masks_of(content.get("callbacks", {}))
    beside = path.with_name("masks.safetensors")
    if path.suffix == ".safetensors" and beside.is_file():
        masks = _load(beside)
    weights = content.get("state_dict", content)
    if not isinstance(weights, Mapping) or not all(isinstance(v, Tensor) for v in weights.values()):
        raise BadRequest("checkpoint", path, KINDS, "it holds no state dict")
    return dict(weights), {name: mask.bool() for name, mask in masks.items()}


def _masks_of(states: Mapping[str, Any]) -> Masks:
    """Return the masks in the states of callbacks; those of a named part have names within that part."""
    masks: Masks = {}
    for key, state in states.items():
        if key == STATE_KEY:
            masks |= state["masks"]
        elif key.startswith(f"{STATE_KEY}["):
            masks |= {f"{state['network']}.{name}": mask for name, mask in state["masks"].items()}
    return masks


def read_masks(path: Path) -> Masks:
    """Return the masks in a ``masks.safetensors`` file."""
    return {name: mask.bool() for name, mask in _load(path, "pruner.mask_from").items()}


def _load(path: Path, key: str = "checkpoint") -> dict[str, Any]:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise BadRequest(key, path, KINDS, f"it cannot be read ({error})") from error
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        reason = str(error).strip().split("\n")[0].split(". ")[0]
        raise BadRequest(key, path, KINDS, f"it cannot be read ({reason})") from error
    if not isinstance(content, dict):
        raise BadRequest(key, path, KINDS, f"it holds a {type(content).__name__}")
    return content


def start_from(network: nn.Module, path: str | Path) -> None:
    """Give ``network`` the weights of a checkpoint, and the masks if it is one of a pruned network.

    Raises:
        BadRequest: not a checkpoint, or one of another network; names the first parameter that differs.
    """
    weights, masks = read_checkpoint(path)
    own = network.state_dict()
    for name in [*own, *weights]:
        if name not in weights or name not in own:
            where = "the checkpoint lacks" if name not in weights else "the network lacks"
            raise BadRequest("checkpoint", path, "a checkpoint of the same network", f"{where} {name}")
        if weights[name].shape != own[name].shape:
            why = f"{name} has shape {tuple(weights[name].shape)}, the network's {tuple(own[name].shape)}"
            raise BadRequest("checkpoint", path, "a checkpoint of the same network", why)
    network.load_state_dict(weights, strict=True)
    parameters = dict(network.named_parameters())
    if masks:
        attach(network, {name: masks[name] for name in masks if name in parameters})
        apply_masks(parameters, {name: masks[name] for name in masks if name in parameters})


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a ``.safetensors`` file atomically; shared tensors are written once a name.

    The format takes plain tensors alone: anything else in a state dict, such as quantised or sparse tensors
    and objects, is left out with one warning. Checkpoints hold all of it.
    """
    from safetensors.torch import save

    plain = {name: tensor for name, tensor in tensors.items() if _is_plain(tensor)}
    if left_out := [name for name in tensors if name not in plain]:
        warn(f"{path.name} leaves out {', '.join(left_out)}, which are no plain tensors")
    write_atomically(path, save({name: t.detach().cpu().clone().contiguous() for name, t in plain.items()}))


def _is_plain(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized


class WholeFiles(TorchCheckpointIO):
    """Writes checkpoints aside and renames them; Lightning moves its own over from ``/tmp``, by parts."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write ``path`` atomically and bring it to the disk."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            torch.save(checkpoint, file)


def save_again(trainer: pl.Trainer, folder: Path, pruned_last: bool) -> None:
    """Save the final network where a checkpoint is missing or holds another network than its name says.

    That is both after a pruning that came after training, and the best where no epoch was evaluated at the
    final density: a best of a denser network is none of this one.
    """
    best = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
    if pruned_last:
        trainer.save_checkpoint(folder / "last.ckpt")
    if pruned_last or not any(callback.best_model_path for callback in best):
        trainer.save_checkpoint(folder / "best.ckpt")

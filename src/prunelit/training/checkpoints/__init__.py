"""Weights and masks in files: what any checkpoint holds, and the checkpoint that a run is resumed from."""

from prunelit.training.checkpoints.contents import read_checkpoint, save_tensors, start_from

__all__ = ["read_checkpoint", "save_tensors", "start_from"]

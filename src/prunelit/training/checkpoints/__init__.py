"""Weights and masks in files: reading any checkpoint, and the checkpoint from which a run resumes."""

from prunelit.training.checkpoints.contents import read_checkpoint, save_tensors, start_from

__all__ = ["read_checkpoint", "save_tensors", "start_from"]

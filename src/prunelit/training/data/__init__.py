"""Image data sets as one LightningDataModule."""

from prunelit.training.data.module import ImageData

__all__ = ["ImageData"]

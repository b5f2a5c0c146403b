"""The network of a finished run, made again from what its record says of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from prunelit.request import within
from prunelit.training.checkpoints.contents import start_from
from prunelit.training.data import ImageData
from prunelit.training.data.augment import Normalise
from prunelit.training.run.from_config import build_data, make_network


@dataclass(frozen=True)
class NetworkDescription:
    """What it takes to make a run's network again and to feed it, without the images of the run.

    Args:
        model: the resolved config of the network.
        num_classes: its outputs.
        input_shape: channels, height and width of one image.
        mean: mean of each channel over the training images, for pixels in [0, 1].
        std: standard deviation of each channel, likewise.
        class_names: in the order of the outputs.
        working_folder: where the run was started; own modules were imported from there.
        cut: which parts of the network the recorded weights are, as ``Narrowing.state`` says it; None: all.
    """

    model: dict[str, Any]
    num_classes: int
    input_shape: tuple[int, int, int]
    mean: list[float]
    std: list[float]
    class_names: list[str]
    working_folder: str
    cut: dict[str, Any] | None = None

    @classmethod
    def of(
        cls,
        model: Mapping[str, Any],
        data: ImageData,
        working_folder: str = "",
        cut: dict[str, Any] | None = None,
    ) -> NetworkDescription:
        """Describe the network that a config makes for data that was read.

        ``working_folder``: where the run was started; by default here.
        """
        return cls(
            model=dict(model),
            num_classes=data.num_classes,
            input_shape=data.input_shape,
            mean=data.normalise.mean,
            std=data.normalise.std,
            class_names=list(data.class_names),
            working_folder=working_folder or str(Path.cwd()),
            cut=cut,
        )

    @classmethod
    def from_record(cls, values: Mapping[str, Any]) -> NetworkDescription:
        """Return the description in a record's ``network.json``.

        Raises:
            ValueError: it holds something else; the message is one line.
        """
        try:
            channels, height, width = map(int, values["input_shape"])
            mean, std = [[float(value) for value in values[key]] for key in ("mean", "std")]
            names, num_classes = list(map(str, values["class_names"])), int(values["num_classes"])
            model = dict(values["model"])
            folder = str(values["working_folder"])
        except (KeyError, TypeError, ValueError) as error:
            reason = f"no key {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"describes no network ({reason})") from error
        if not len(mean) == len(std) == channels or min(channels, height, width, num_classes) < 1:
            raise ValueError("describes no network (numbers of channels or classes do not agree)")
        return cls(model, num_classes, (channels, height, width), mean, std, names, folder, values.get("cut"))

    @property
    def normalise(self) -> Normalise:
        """The normalisation of the images that the network was trained on."""
        return Normalise(self.mean, self.std)

    def network_with(self, weights: Path) -> nn.Module:
        """Make the network again, with the weights in a file, in evaluation mode.

        Trained weights that the run started from are not fetched again.

        Raises:
            BadRequest: its class cannot be imported or cannot be made, or the weights are of another network.
        """
        model = dict(self.model)
        trained = model.get("weights") if str(model.get("_target_", "")).startswith("prunelit.") else None
        if trained is not None:
            model["weights"] = None
        node = OmegaConf.create({"model": model}).model
        network = make_network(node, self.num_classes, self.input_shape)
        if trained is not None and self.input_shape[0] == 3 and hasattr(network, "transform_input"):
            setattr(network, "transform_input", True)  # noqa: B010  (what torchvision's trained GoogLeNet and Inception do)
        start_from(network, weights)
        return network.eval()


def describe_from_images(cfg: DictConfig, working_folder: str) -> NetworkDescription:
    """Describe the network of a run whose record has no ``network.json``, by reading its data.

    Args:
        cfg: the run's config.
        working_folder: where it was started; a relative ``data.root`` may lie there.

    Raises:
        BadRequest: the images are not where they were.
    """
    data = data_at_hand(cfg, working_folder)
    model: Any = OmegaConf.to_container(cfg.model, resolve=True)
    return NetworkDescription.of(model, data, working_folder)


def data_at_hand(cfg: DictConfig, working_folder: str) -> ImageData:
    """Return the data of a run, read from where its images are now; nothing is downloaded.

    Raises:
        BadRequest: they are neither where the config says nor there as seen from ``working_folder``.
    """
    root = cfg.data.get("root")
    if root is not None and not Path(root).exists() and (Path(working_folder) / root).exists():
        cfg.data.root = str(Path(working_folder) / root)
    if "download" in cfg.data:
        cfg.data.download = False
    data = build_data(cfg)
    with within("data", cfg.data):
        data.prepare_data()
        data.setup()
    return data


@contextmanager
def importable_from(folder: str) -> Iterator[None]:
    """Let own modules be imported from ``folder``, or else from the current folder, inside the block.

    Afterwards these modules are forgotten, because modules of another run may have the same names.
    """
    path, modules, here = list(sys.path), set(sys.modules), str(Path.cwd())
    sys.path[:0] = [folder, here]
    try:
        yield
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            file = getattr(sys.modules[name], "__file__", None)
            if file is not None and str(Path(file).parent).startswith((folder, here)):
                del sys.modules[name]

"""Derive the commands that repeat a report at a scale, and the folders of their runs."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prunelit.request import BadRequest
from prunelit.study.reproduction.description import Report, Sweep
from prunelit.study.sweep.composer import Composer, Run

PROGRAM = ("python", "-m", "prunelit.train")
NO_RESULT = (
    *("trainer", "trainer.accelerator", "trainer.devices", "trainer.threads", "logger", "output_dir"),
    *("data.root", "data.download", "data.workers", "data.in_memory", "data.eval_batch_size"),
)
"""Keys that do not change the experiment of a sweep, in addition to all keys of ``sweep`` and ``hydra``."""


@dataclass(frozen=True)
class Request:
    """What the user requests.

    Attributes:
        scale: in (0, 1]; below 1 the sweeps are made smaller.
        overrides: the overrides of every run, written as on the command line.
        images: folders of images by data set, read instead of the downloaded images.
        output_dir: the folder of the studies.
        seeds: at most this number of seeds of each sweep, the first ones; None: all.
    """

    scale: float = 1.0
    overrides: tuple[str, ...] = ()
    images: Mapping[str, Path] = field(default_factory=dict)
    output_dir: Path = Path("outputs")
    seeds: int | None = None

    def seeds_of(self, sweep: Sweep) -> list[int]:
        """Return the seeds of a sweep."""
        return sweep.seeds_at(self.scale)[: self.seeds]

    def study(self, report: Report) -> str:
        """Return the name of the studies' common folder below ``output_dir``."""
        scaled = f"/scale{self.scale:g}" if self.scale < 1 else ""
        return f"reproduce/{report.name}{scaled}"

    def folder(self, report: Report, sweep: Sweep | None = None) -> Path:
        """Return the folder of all sweeps of a report, or of one."""
        top = self.output_dir / self.study(report)
        return top if sweep is None else top / sweep.name

    def overrides_of(self, sweep: Sweep) -> list[str]:
        """Return the overrides that apply to a sweep: not those of epochs if the sweep trains nothing."""
        return [text for text in self.overrides if not sweep.trains_none_of(text.partition("=")[0])]

    def otherwise(self, sweep: Sweep) -> str:
        """Return the overrides with which a sweep differs from the published experiment.

        Fewer values of what the sweep has several of, such as ``pruner=mag``, make no other experiment.
        """
        own = {key: value.split(",") for key, _, value in (text.partition("=") for text in sweep.run.split())}
        changed = (text for text in self.overrides_of(sweep) if _changes_results(text))
        return " ".join(text for text in changed if not _is_part(text, own))


@dataclass(frozen=True)
class Command:
    """One call of the training program: the sweep that it belongs to, its overrides, and its runs."""

    sweep: Sweep
    overrides: tuple[str, ...]
    runs: tuple[Run, ...]

    @property
    def text(self) -> str:
        """The command line."""
        return shlex.join([*PROGRAM, "-m", *self.overrides])

    @property
    def left(self) -> list[Run]:
        """The runs that are not complete."""
        return [run for run in self.runs if not run.complete]


def commands(report: Report, request: Request, sweeps: Sequence[Sweep]) -> list[Command]:
    """Return the commands of sweeps, in order, each with the runs that it requests.

    Raises:
        BadRequest: a value that is wrong.
        HydraException: a name or key is unknown to Hydra.
    """
    with composing() as compose:
        return [
            command for sweep in sweeps for command in _commands_of(sweep, Planner(report, request, compose))
        ]


@dataclass(frozen=True)
class Planner:
    """Adds the request of the user to the overrides of the sweeps of one report."""

    report: Report
    request: Request
    compose: Any

    def command(self, sweep: Sweep, seeds: Sequence[int], more: Sequence[str] = ()) -> Command:
        """Return one command of a sweep, with the overrides ``more`` in addition to the described ones."""
        own = [*sweep.overrides(self.request.scale), f"seed={','.join(map(str, seeds))}", *more]
        own += ["logger=none", "sweep.keep_checkpoints=false"]
        own += [f"name={self.request.study(self.report)}/{sweep.name}"]
        own += [f"output_dir={self.request.output_dir}"]
        asked = self.request.overrides_of(sweep)
        given = {text.partition("=")[0].lstrip("+~") for text in asked}
        own = [text for text in own if text.partition("=")[0].lstrip("+") not in given]
        overrides = [*own, *self._images(own), *asked]
        memory = self.request.folder(self.report, sweep) / ".sweep" / "reproduce.json"
        return Command(sweep, tuple(overrides), tuple(self.compose(overrides, memory)))

    def _images(self, overrides: Sequence[str]) -> list[str]:
        """Return the overrides that read a data set's images from the folder that the user named."""
        if not self.request.images:
            return []
        config = self.compose.config(overrides)
        folder = self.request.images.get(str(config.data.name))
        if folder is None:
            return []
        # Random crops are the default of the named data set, but not of a folder.
        usual = ["data.augment=true"] if config.data.augment is None and config.data.name in CROPPED else []
        return ["data=folder", f"data.root={folder.resolve()}", f"data.name={config.data.name}", *usual]


CROPPED = ("cifar10", "cifar100")
"""Data sets whose training images are cropped and mirrored at random unless a config says otherwise."""


def _commands_of(sweep: Sweep, planner: Planner) -> Iterator[Command]:
    """Yield one command, or one per seed if a sweep starts from the weights of another sweep's runs."""
    seeds = planner.request.seeds_of(sweep)
    if not sweep.start_from:
        yield planner.command(sweep, seeds)
        return
    # Seeds are the last override, so that the first runs have the first values, ordered by seed.
    sources = planner.command(planner.report.sweeps[sweep.start_from], seeds).runs
    for seed, source in zip(seeds, sources, strict=False):
        yield planner.command(sweep, [seed], [f"checkpoint={source.folder / 'weights.safetensors'}"])


class Compose:
    """Composes runs in the same way as the training program, from overrides and a file that caches them."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self._loaded: dict[tuple[str, ...], Any] = {}

    def __call__(self, overrides: Sequence[str], memory: Path) -> list[Run]:
        """Return the runs of a sweep, each once."""
        requests = self._requests(overrides)
        own = [text for text in overrides if text.startswith("hydra")]
        config = self._load(own)
        plain = [tuple(t for t in request if not t.startswith("hydra")) for request in requests]
        runs = Composer(self.loader, config, memory).runs(plain)
        return list({run.folder: run for run in runs}.values())

    def config(self, overrides: Sequence[str]) -> Any:
        """Return the config of the first run of a sweep."""
        return self.loader.load_sweep_config(self._load([]), list(self._requests(overrides)[0]))

    def _load(self, overrides: list[str]) -> Any:
        from hydra.types import RunMode

        key = tuple(overrides)
        if key not in self._loaded:
            self._loaded[key] = self.loader.load_configuration("config", overrides, RunMode.MULTIRUN)
        return self._loaded[key]

    def _requests(self, overrides: Sequence[str]) -> list[tuple[str, ...]]:
        from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
        from hydra.core.override_parser.overrides_parser import OverridesParser

        parsed = OverridesParser.create(config_loader=self.loader).parse_overrides(list(overrides))
        (requests,) = BasicSweeper.split_arguments(parsed, None)
        return [tuple(request) for request in requests]


@contextmanager
def composing() -> Iterator[Compose]:
    """Set up Hydra, and yield the object that composes runs from overrides."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from prunelit.study.configs import CONFIGS
    from prunelit.study.identity import register_resolvers

    register_resolvers()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        yield Compose(GlobalHydra.instance().config_loader())


def check_overrides(overrides: Sequence[str]) -> None:
    """Raise BadRequest for text that is not ``key=value``, and for keys that this command sets itself."""
    decided = {
        "name": "the study's folder is named after the report",
        "seed": "--seeds limits the seeds",
        "output_dir": "--output-dir sets it",
    }
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise BadRequest("override", text, "key=value, such as trainer=gpu")
        if key in decided:
            raise BadRequest(key, value, "left out", decided[key])


def _is_part(text: str, own: Mapping[str, Sequence[str]]) -> bool:
    key, _, value = text.partition("=")
    return key in own and set(value.split(",")) <= set(own[key])


def _changes_results(text: str) -> bool:
    key = text.partition("=")[0].lstrip("+~")
    return key not in NO_RESULT and key.partition(".")[0].partition("/")[0] not in (
        "sweep",
        "hydra",
        "logger",
    )

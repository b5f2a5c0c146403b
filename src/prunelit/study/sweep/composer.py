"""Map the overrides of a run to its folder; the result is composed once and cached.

Hydra composes a config in some 50 ms: too long to find out that each of 10,000 runs is complete. Results are
cached in ``<study>/.sweep/folders.json``, together with a fingerprint of everything that the composition
reads. If a result may depend on anything else, it is composed again.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, open_dict

from prunelit.durable import write_atomically
from prunelit.study import checks, identity, options, record
from prunelit.study.integrity import DamagedRun

Request = tuple[str, ...]
"""The overrides of one run, as Hydra takes them."""

MOST_FILES = 2000
"""The maximum number of config files in the fingerprint; with more files, nothing is cached."""
RESOLVERS = {"run_slug", "run_folder", "class_name"}
"""Resolvers whose value only depends on the config. ``oc.env`` is supported too, through the value of the
variable."""


@dataclass(frozen=True)
class Run:
    """One run of a sweep: its overrides, its folder, and whether to repeat it if it is complete."""

    overrides: Request
    folder: Path
    rerun: bool

    @property
    def complete(self) -> bool:
        """Whether the run is complete and each of its files has the size that it was written with."""
        written = record.Record(self.folder)
        try:
            if written.complete:
                written.check()
                return True
        except DamagedRun:
            pass  # the run is passed to the launcher, and reports what is wrong
        return False


class Composer:
    """Composes and checks the runs of a sweep; ``loader`` and ``config`` are Hydra's for this
    command."""

    def __init__(self, loader: Any, config: DictConfig, memory: Path) -> None:
        self.loader, self.config, self.memory = loader, config, memory
        self._plain: dict[str, bool] = {}
        self._groups: dict[str, bool] = {}
        self._bases: dict[Request, DictConfig] = {}
        self._ahead: tuple[Request, DictConfig] | None = None

    def runs(self, requests: Sequence[Request]) -> list[Run]:
        """Return a run for each request, in order.

        Raises:
            BadRequest: a value that is wrong.
            HydraException: a name or key is unknown to Hydra.
        """
        mark = fingerprint(self.config)
        known = self._remembered(mark)
        news = list(dict.fromkeys(request for request in requests if _key(request) not in known))
        found = {request: run for group in self._alike(news) for request, run in self._compose(group)}
        if mark is not None and found:
            lasting = {_key(r): [str(run.folder), run.rerun] for r, run in found.items() if _is_pure(r)}
            content = {"fingerprint": mark, "runs": known | lasting}
            with suppress(OSError):  # the cache only saves time
                self.memory.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(self.memory, json.dumps(content))
        return [found.get(request) or _recalled(request, known[_key(request)]) for request in requests]

    def compose(self, request: Request) -> DictConfig:
        """Return the config of one run, composed by Hydra."""
        config: DictConfig = self.loader.load_sweep_config(self.config, list(request))
        return config

    def compose_ahead(self, request: Request) -> DictConfig:
        """Return the config of one run, and return a copy of it from the next call of :meth:`config_of`."""
        config = self.config_of(request)
        self._ahead = request, copy.deepcopy(config)
        return config

    def config_of(self, request: Request) -> DictConfig:
        """Return the same as :meth:`compose`, faster if :meth:`runs` has composed a run of the same form."""
        if self._ahead is not None and self._ahead[0] == request:
            (_, config), self._ahead = self._ahead, None
            return config
        base = self._bases.get(self._skeleton(request))
        if base is None:
            return self.compose(request)
        config = self._with_values(copy.deepcopy(base), request)
        parsed = [_parsed(text) for text in request]
        of_hydra = [override.input_line for override in parsed if override.is_hydra_override()]
        own = [override for override in parsed if not override.is_hydra_override()]
        # The leader of a sweep adds overrides of Hydra after it has composed the runs.
        added = [text for text in self.config.hydra.overrides.hydra if text not in base.hydra.overrides.hydra]
        ConfigLoaderImpl._apply_overrides_to_config([_parsed(text) for text in added], config)
        options = config.hydra.job.config.override_dirname
        with open_dict(config):
            config.hydra.overrides.hydra = [*self.config.hydra.overrides.hydra, *of_hydra]
            config.hydra.overrides.task = [override.input_line for override in own]
            config.hydra.job.override_dirname = get_overrides_dirname(
                own, list(options.exclude_keys), options.item_sep, options.kv_sep
            )
        return config

    def _remembered(self, mark: str | None) -> dict[str, Any]:
        try:
            content = json.loads(self.memory.read_text())
        except (OSError, ValueError):
            return {}
        known = mark is not None and isinstance(content, dict) and content.get("fingerprint") == mark
        return dict(content["runs"]) if known else {}

    def _compose(self, group: list[Request]) -> Iterator[tuple[Request, Run]]:
        """Compose the first of requests that differ in plain values only; set the values of the others.

        The last one is also composed. If the result differs from setting the values, all of them are
        composed.
        """
        config = self.compose(group[0])
        base = copy.deepcopy(config) if len(group) > 1 else config
        yield group[0], _checked(group[0], config)
        others = [(request, _checked(request, self._with_values(config, request))) for request in group[1:]]
        if others and _checked(group[-1], self.compose(group[-1])) != others[-1][1]:
            others = [(request, _checked(request, self.compose(request))) for request in group[1:]]
        elif others:
            self._bases[self._skeleton(group[0])] = base
        yield from others

    def _with_values(self, config: DictConfig, request: Request) -> DictConfig:
        """Set the plain values of ``request`` in a config of its group, in place, like Hydra."""
        ConfigLoaderImpl._apply_overrides_to_config(
            [_parsed(text) for text in self._plain_of(request)], config
        )
        return config

    def _alike(self, requests: Sequence[Request]) -> Iterator[list[Request]]:
        """Yield the requests in groups: the requests of a group only differ in plain values of the same
        keys."""
        groups: dict[Request, list[Request]] = {}
        for request in requests:
            groups.setdefault(self._skeleton(request), []).append(request)
        yield from groups.values()

    def _skeleton(self, request: Request) -> Request:
        plain = self._plain_of(request)
        return tuple(text.partition("=")[0] if text in plain else text for text in request)

    def _plain_of(self, request: Request) -> list[str]:
        """Return the plain overrides in a request with keys that no other one has, is above or is below.

        The same key may be set to a plain value again; the last value counts.
        """
        keys = {text: _parsed(text).key_or_group for text in request}
        others = [(key, self._is_plain(text)) for text, key in keys.items() if not self._is_group(key)]

        def stands_alone(key: str) -> bool:
            return not any(_overlap(key, other) and not (plain and key == other) for other, plain in others)

        return [text for text in request if self._is_plain(text) and stands_alone(keys[text])]

    def _is_plain(self, text: str) -> bool:
        """Whether an override sets a key of the config to a value that is not a mapping or list."""
        if text not in self._plain:
            override = _parsed(text)
            adds = override.is_add() or override.is_force_add() or override.is_delete()
            other = override.package is not None or override.is_hydra_override()
            merged = isinstance(override.value(), (dict, list))
            self._plain[text] = not (adds or other or merged or self._is_group(override.key_or_group))
        return self._plain[text]

    def _is_group(self, key: str) -> bool:
        if key not in self._groups:
            self._groups[key] = bool(self.loader.get_group_options(key))
        return self._groups[key]


def _overlap(first: str, second: str) -> bool:
    """Whether two keys are equal, or one is above the other."""
    return f"{first}.".startswith(f"{second}.") or f"{second}.".startswith(f"{first}.")


def _checked(request: Request, config: DictConfig) -> Run:
    checks.check(config)
    return Run(request, identity.folder(config), config.rerun)


def _recalled(request: Request, entry: list[Any]) -> Run:
    return Run(request, Path(entry[0]), entry[1])


def _key(request: Request) -> str:
    return "\x1f".join(request)


@lru_cache(maxsize=100_000)
def _parsed(text: str) -> Override:
    return OverridesParser.create().parse_override(text)


def fingerprint(config: DictConfig) -> str | None:
    """Return a digest of everything that determines a run's config except its overrides; None if unknown."""
    digest = hashlib.sha256()
    packages = [f"{name} {version(name)}" for name in ("prunelit", "hydra-core", "omegaconf")]
    code = [Path(module.__file__ or "").read_text() for module in (identity, checks, options)]
    for text in (*packages, *code, str(config.hydra.job.config_name), *config.hydra.overrides.hydra):
        digest.update(f"{text}\0".encode())
    if set(ConfigStore.instance().repo) - {"hydra", "_dummy_empty_config_.yaml"}:
        return None  # a plugin has stored configs in memory
    for source in config.hydra.runtime.config_sources:
        digest.update(f"{source.schema} {source.path}\0".encode())
        if source.schema == "file":
            texts = _texts(Path(source.path))
            if texts is None:
                return None
            for name, text in texts.items():
                values = _outside(text)
                if values is None:
                    return None
                digest.update(f"{name}\0{text}\0{values}\0".encode())
        elif source.schema != "structured" and source.path != "hydra.conf":
            return None
    return digest.hexdigest()


def _texts(folder: Path) -> dict[str, str] | None:
    """Return the yaml files below a folder; None if there are too many to read each time."""
    found: dict[str, str] = {}
    for visited, (parent, folders, files) in enumerate(os.walk(folder, followlinks=True)):
        folders.sort()
        for name in sorted(files):
            if name.endswith((".yaml", ".yml")):
                path = Path(parent, name)
                found[str(path.relative_to(folder))] = path.read_text(errors="replace")
        if max(visited, len(found)) > MOST_FILES:
            return None
    return found


def _outside(text: str) -> list[str | None] | None:
    """Return the values of environment variables in ``text``; None if a resolver in it may read something
    else."""
    values = []
    for name, argument in re.findall(r"\$\{\s*([A-Za-z_][\w.]*)\s*:\s*([A-Za-z_]\w*)?", text):
        if name == "oc.env" and argument:
            values.append(os.environ.get(argument))
        elif name not in RESOLVERS:
            return None
    return values


def _is_pure(request: Request) -> bool:
    """Whether the meaning of a request only depends on its text and the config files."""
    return _outside(" ".join(request)) == []

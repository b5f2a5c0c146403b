"""What a launcher says of itself, and how a sweep is therefore done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from omegaconf import DictConfig, ListConfig
from typing_extensions import Doc

from prunelit.declared import options_of
from prunelit.request import BadRequest, nearest, within
from prunelit.study.devices import cores, gpus
from prunelit.study.process import this_process
from prunelit.study.sweep.isolation import SAFE
from prunelit.study.sweep.leases import gpus_wanted, processes
from prunelit.study.sweep.state import Sweep

NODE = "hydra.env.launcher"
"""The node where a launcher's yaml declares its kind; keys of its own node would be its arguments."""


@dataclass(frozen=True)
class LauncherKind:
    """What a launcher is. The defaults hold for one that says nothing, and are safe for any.

    They let each run lease the GPUs that it uses, and leave it to the launcher to start the processes.
    """

    shares_machine: Annotated[
        bool, Doc("Several runs at a time on this machine: each leases GPUs, or a share of the cores.")
    ] = True
    forks: Annotated[
        bool, Doc("On Linux, the main process of the sweep forks the process of each run in its place.")
    ] = False
    cluster: Annotated[
        bool, Doc("Its jobs go on when the command ends, and a scheduler gives them their devices.")
    ] = False
    packs: Annotated[bool, Doc("Runs of the same form train together in one process.")] = False
    reads: Annotated[
        tuple[str, ...], Doc("The keys of `hydra.launcher` that count where the main process forks.")
    ] = ()

    @classmethod
    def of(cls, config: DictConfig) -> LauncherKind:
        """Return what the launcher of Hydra's ``config`` says of itself.

        Raises:
            BadRequest: a key or a value that is not one of these.
        """
        declared, options = config.hydra.env.get("launcher") or {}, options_of(LauncherKind)
        values: dict[str, Any] = {}
        for key, value in declared.items():
            if key not in options:
                raise BadRequest(f"{NODE}.{key}", value, nearest(key, options), "there is no such key")
            with within(NODE, options):
                options[key].check(value)
            values[key] = tuple(value) if isinstance(value, ListConfig) else value
        return cls(**values)

    def check_keys(self, config: DictConfig) -> None:
        """Raise BadRequest for a key of ``hydra.launcher`` on the command line that would be ignored."""
        for override in config.hydra.overrides.hydra:
            name, _, value = str(override).lstrip("+").partition("=")
            node, _, key = name.rpartition(".")
            if node == "hydra.launcher" and key not in self.reads:
                why = "the sweep starts the processes of this launcher itself and does not read it"
                allowed = " or ".join(f"hydra.launcher.{name}" for name in self.reads)
                raise BadRequest(name, value, f"left out{f' ({allowed} are read)' if allowed else ''}", why)


def sweep_of(
    config: DictConfig, first: DictConfig, num_runs: int, trainers: Sequence[DictConfig] = ()
) -> Sweep:
    """Return how to execute a sweep.

    Args:
        config: Hydra's config.
        first: the config of the first run.
        num_runs: the number of runs.
        trainers: the different ``trainer`` nodes of all runs; empty: that of ``first``.

    Raises:
        BadRequest: an option that the launcher would ignore.
    """
    kind = LauncherKind.of(config)
    if not kind.cluster and not first.sweep.wait:
        raise BadRequest("sweep.wait", False, "true, except with hydra/launcher=submitit_slurm")
    shared = kind.shares_machine and not kind.cluster
    isolate = bool(first.sweep.isolate) and not kind.cluster and SAFE
    pooled = kind.forks and SAFE and (shared or isolate)
    if pooled:
        kind.check_keys(config)
    found, process = gpus() if shared else {}, this_process()
    return Sweep(
        Sweep.new_folder(Path(str(config.hydra.sweep.dir))),
        jobs=min(num_runs, _jobs_at_once(config, first, len(found), trainers or [first.trainer]))
        if shared
        else 1,
        isolate=isolate,
        pooled=pooled,
        shared=shared,
        packs=kind.packs and pooled,
        gpus=found,
        cluster=kind.cluster,
        leader=process["pid"],
        host=process["host"],
    )


def _jobs_at_once(
    config: DictConfig, first: DictConfig, num_gpus: int, trainers: Sequence[DictConfig]
) -> int:
    """Return the number of runs at a time on this machine: as requested, but at most what it allows.

    By default as many as the GPUs allow, or without GPUs as many as have a core for each thread of each
    process of the largest run. The number of threads is one if ``trainer.threads`` is not given; then a
    larger number of runs may be requested.
    """
    wanted = gpus_wanted(first.trainer, num_gpus)
    most, limits = None, "the GPUs here and sweep.runs_per_gpu allow"
    by_cores = max(
        1, cores() // max(processes(trainer) * (trainer.get("threads") or 1) for trainer in trainers)
    )
    if wanted:
        most = max(1, num_gpus // wanted) * first.sweep.runs_per_gpu
    elif any(trainer.get("threads") for trainer in trainers):
        most, limits = by_cores, f"the {cores()} cores here and trainer.threads allow"
    for asked in (first.sweep.jobs, config.hydra.launcher.get("n_jobs")):
        if asked is not None and asked > 0:
            if most is not None and asked > most:  # the others would occupy cores and wait
                print(f"{asked} parallel runs were requested; {most} run at a time, as many as {limits}")
                return most
            return int(asked)
    return most or by_cores

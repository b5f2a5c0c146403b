"""The entry point of a run: config, parts, fit, test, record.

python -m prunelit.train pruner=synflow compression=0.5
python -m prunelit.train -m pruner=snip,synflow compression=0.5,1
"""

from __future__ import annotations

import sys
from functools import partial
from importlib import import_module
from typing import Any

import hydra
from omegaconf import DictConfig

from prunelit.interruption import Interruption, until_done
from prunelit.place import is_first
from prunelit.study import command
from prunelit.study.checks import check
from prunelit.study.complete import confirm, make_way
from prunelit.study.configs import CONFIGS
from prunelit.study.identity import folder, resolved
from prunelit.study.inputs import read_by
from prunelit.study.invocation import Invocation
from prunelit.study.lock import locked
from prunelit.study.record import Record
from prunelit.study.recording import noting_the_end
from prunelit.study.requested import hyperparameters, result_of
from prunelit.study.sweep.display import bar_shown, say_complete
from prunelit.study.sweep.machine_share import machine_share
from prunelit.study.sweep.run_in_sweep import run_here
from prunelit.study.sweep.state import Sweep
from prunelit.training.run import prepare


def train(cfg: DictConfig) -> dict[str, Any]:
    """Do one run and return its ``result.json``; a complete run is not done again, by none of its ranks.

    Raises:
        BadRequest: a wrong request, before any work.
        Busy: another process works on this run.
        DamagedRun: the run is complete, but its files, or the images or weights that it read, have changed.
        Interrupted: by a signal; the same command resumes from the last checkpoint.
    """
    check(cfg)
    record = Record(folder(cfg), writable=is_first())
    if not record.writable:  # other ranks must not wait for rank 0 where it leaves a complete run alone
        return record.result if record.complete and not cfg.rerun else _run(cfg, record)
    if cfg.rerun or not record.settled:
        prepare.check_parts(cfg)
        with locked(record.folder), machine_share(cfg, Sweep.current()) as num_threads:
            if make_way(record, cfg.rerun):
                return _run(cfg, record, num_threads)
    return confirm(record)


def _run(cfg: DictConfig, record: Record, num_threads: int | None = None) -> dict[str, Any]:
    """Do the run, with several devices in one process for each, and note in its record how it ends."""
    from prunelit.training.parallel import rank_processes, threads

    threads.set_number(num_threads)
    job, may_fork = partial(_fit_and_record, cfg, record), not Invocation.current().has_computed
    with noting_the_end(record, cfg.output_dir, keep_refused=Sweep.current() is not None):
        return until_done(
            lambda interruption: rank_processes.run(job, cfg.trainer, interruption, may_fork),
            on_interruption=record.interrupt,
            minutes=cfg.sweep.timeout_minutes,
        )


def _fit_and_record(cfg: DictConfig, record: Record) -> dict[str, Any]:
    """Do the run as one of its ranks, or as the only one; a checkpoint is saved before a signal ends it."""
    from prunelit.training.export.recorded_network import NetworkDescription
    from prunelit.training.run.parts import assemble
    from prunelit.training.run.result import test_and_count

    Invocation.current().has_computed = True
    record.writable = is_first()
    with Interruption() as interruption:
        parts = assemble(cfg, record.folder, record.update_metrics, interruption, bar_shown())
        record.under_way(parts.epochs, parts.device)
        with parts.settings(cfg):
            read = read_by(cfg, parts.data) if record.writable else {}
            parts.fit(record.folder / "checkpoints")
            found = test_and_count(parts)
            result = result_of(cfg, found.result)
            if record.writable:
                network = NetworkDescription.of(resolved(cfg)["model"], parts.data, cut=found.cut)
                record.write(**found.rows_and_arrays, network=vars(network))
                found.save_tensors(record.folder, cfg.sweep.mask_format == "bits")
                parts.log_result(hyperparameters(cfg), result)
                if "data.root" not in read:  # data that was only now fetched
                    read = read_by(cfg, parts.data)
                record.finish(result, cfg.sweep.keep_checkpoints, read)
                say_complete(record.folder, result, found.layers)
    return result


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="config")
def run(cfg: DictConfig) -> float | Exception:
    """Do the run that Hydra composed; returns the test accuracy, for sweepers that optimise it."""
    command.begin_output()
    return run_here(cfg, train, prepare.prepare)


def main() -> None:
    """Run from the command line; exit status 0 done, 1 a fault, 2 a wrong request."""
    program = run
    if {"--help", "-h"} & {*sys.argv}:
        from prunelit import command_help  # which takes as long to import as a wrong request is answered

        program = partial(command_help.show, sys.argv[1:])
    sys.exit(command.call(program, sys.argv, Invocation(*prepare.FOR_SWEEPS)))


if __name__ == "__main__":
    # Under the module's own name, so that launchers can send the task to other processes.
    import_module("prunelit.train").main()

"""The door of a run: config, objects, fit, test, record.

python -m prunelit.train pruner=synflow compression=0.5
python -m prunelit.train -m pruner=snip,synflow compression=0.5,1
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import warnings
from functools import partial
from importlib import import_module
from shutil import rmtree
from typing import TYPE_CHECKING, Any, TextIO

import hydra
from omegaconf import DictConfig

from prunelit.amount import Amount
from prunelit.durable import DiskFull, is_full, lost_output, say_of_full_disks_once
from prunelit.interruption import Interruption, until_done
from prunelit.notice import warn
from prunelit.place import is_first
from prunelit.request import PruningWarning
from prunelit.study import command
from prunelit.study.checks import check
from prunelit.study.configs import CONFIGS
from prunelit.study.devices import numbered
from prunelit.study.identity import config_hash, folder, method, resolved
from prunelit.study.inputs import Inputs, read_by
from prunelit.study.lock import locked
from prunelit.study.record import Record
from prunelit.study.sweep import preflight
from prunelit.study.sweep.display import bar_shown, say_complete
from prunelit.study.sweep.machine_share import machine_share
from prunelit.study.sweep.run_in_sweep import run_in_sweep
from prunelit.study.sweep.state import Sweep

if TYPE_CHECKING:
    from prunelit.training.run.parts import Assembly
    from prunelit.training.run.result import Found


def train(cfg: DictConfig) -> dict[str, Any]:
    """Do one run and return its ``result.json``; a complete run is not done again, by none of its ranks.

    Raises:
        BadRequest: a wrong request, before any work.
        Busy: another process works on this run.
        DamagedRun: the run is complete, but one of its files is not what it wrote, or it read other images or
            weights than lie there now.
        Interrupted: by a signal; the same request goes on from what is saved.
    """
    check(cfg)
    record = Record(folder(cfg), writable=is_first())
    if not record.writable:  # rank 0 leaves a complete run alone, and would never meet the others
        return record.result if record.complete and not cfg.rerun else _recorded(cfg, record)
    if cfg.rerun or not record.settled:
        _check_parts(cfg)
        with locked(record.folder), machine_share(cfg, Sweep.current()) as threads:
            if cfg.rerun or not record.complete:  # nor by a process that has ended since
                if record.complete:
                    _put_aside(record)
                _use(threads)
                return _recorded(cfg, record)
            record.check()
            record.settle()
    record.check()
    Inputs().check(record.folder)
    print(f"complete already: {record.folder} (rerun=true repeats it)")
    return record.result


def _check_parts(cfg: DictConfig) -> None:
    """Check the keys of all groups, before anything is written."""
    from prunelit.training.config import keys
    from prunelit.training.run import from_config

    keys.check_config(cfg)
    from_config.check_trainer(cfg)


def _put_aside(record: Record) -> None:
    """Move an old record away, but for what Hydra has written already for this run."""
    old = record.put_aside()
    if (old / ".hydra").is_dir():
        shutil.copytree(old / ".hydra", record.folder / ".hydra")
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.close()  # and open anew, in the new folder, with the next line


def _use(threads: int | None) -> None:
    """Use so many threads in this run; its ranks share them."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def _recorded(cfg: DictConfig, record: Record) -> dict[str, Any]:
    """Do the run, and say in its record how it ended."""
    from prunelit.training.parallel import rank_processes
    from prunelit.training.run import from_config

    record.start()
    try:
        from_config.check_trainer(cfg)
        job = partial(rank_processes.run, partial(_listen, cfg, record), cfg.trainer)
        result: dict[str, Any] = until_done(job, record.interrupt, cfg.sweep.timeout_minutes)
        return result
    except (SystemExit, KeyboardInterrupt):
        record.interrupt()
        raise
    except BaseException as error:
        if is_full(error):
            error = DiskFull(cfg.output_dir)
        error = lost_output(error, record.folder) or error
        request = command.as_request(error)
        # A sweep's table counts what it could not do.
        if request and not request.shows_in_the_run and not Sweep.current():
            record.refuse()
        else:
            record.fail(error)
        raise error


def prepare() -> None:
    """Import what runs need, so that each can be forked from a process that has it."""
    for module in (
        *("fvcore.nn", "safetensors.torch", "torch.utils.tensorboard", "torchvision"),
        *(f"prunelit.pruning.{name}" for name in ("flops", "paths", "criteria")),
        *(f"prunelit.training.{name}" for name in ("run.parts", "run.result", "models")),
    ):
        import_module(module)


def _listen(cfg: DictConfig, record: Record) -> dict[str, Any]:
    """Do the run as one of its ranks, or as the only one, and save before a signal ends it."""
    with Interruption() as interruption:
        return _train(cfg, record, interruption)


def refuse(cfg: DictConfig) -> None:
    """Raise BadRequest for what :func:`train` would refuse, as far as that is seen without loading data."""
    from prunelit.training.run.parts import try_parts

    try_parts(cfg, Amount.of(cfg))


def _train(cfg: DictConfig, record: Record, interruption: Interruption) -> dict[str, Any]:
    from prunelit.training.config.run_logger import closing_loggers
    from prunelit.training.run import result as results
    from prunelit.training.run.parts import assemble

    results.forget_peak_memory()
    record.writable = is_first()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    run = assemble(cfg, Amount.of(cfg), record.folder, record.write_metrics, interruption, bar_shown())
    record.under_way(run.epochs, numbered(results.place(run.trainer)))
    with closing_loggers(run.trainer):
        return _fit_and_record(cfg, record, run)


def _fit_and_record(cfg: DictConfig, record: Record, run: Assembly) -> dict[str, Any]:
    from prunelit.training.export.recorded_network import NetworkDescription
    from prunelit.training.parallel import threads
    from prunelit.training.run import result as results
    from prunelit.training.run.from_config import full_keys

    read = read_by(cfg, run.data) if record.writable else {}
    with full_keys(cfg), threads.put_back() as available:
        run.use_threads(cfg.trainer.get("threads"), cfg.batch_size, available)
        run.fit(record.folder / "checkpoints")
        found = results.find(run)
    asked = {"pruner": method(cfg), "model": cfg.model.name, "data": cfg.data.name, "seed": cfg.seed}
    result = {**asked, **_asked(cfg), **found.result, "config_hash": config_hash(cfg)}
    if record.writable:
        _write(record, run, found)
        record.write_network(vars(NetworkDescription.of(resolved(cfg)["model"], run.data, os.getcwd())))
        run.measured.attempt("the result in a logger", partial(_log, cfg, run, asked, result))
        # data that was only now fetched could not be described before
        read = read if "data.root" in read else read_by(cfg, run.data)
        record.finish(result, cfg.sweep.keep_checkpoints, read)
        if not cfg.sweep.keep_checkpoints:
            rmtree(record.folder / "checkpoints", ignore_errors=True)
        say_complete(record.folder, result, found.layers)
    return result


def _asked(cfg: DictConfig) -> dict[str, float | None]:
    """Return the amount that was asked for, as numbers of its own."""
    amount = Amount.of(cfg)
    return {"asked_compression": amount.compression, "asked_sparsity": amount.sparsity}


def _write(record: Record, run: Assembly, found: Found) -> None:
    from prunelit.training.checkpoints import save_tensors

    record.write_metrics(run.measured.epochs)
    record.write_rounds(run.measured.rounds)
    record.write_thresholds(run.measured.thresholds)
    record.write_layers(found.layers)
    record.write_details(found.details)
    save_tensors(record.folder / "masks.safetensors", found.masks)
    save_tensors(record.folder / "weights.safetensors", run.network.state_dict())


def _log(cfg: DictConfig, run: Assembly, asked: dict[str, Any], result: dict[str, Any]) -> None:
    from prunelit.training.measuring.logged import log_result

    log_result(run.trainer, _hyperparameters(cfg, asked), result)


def _hyperparameters(cfg: DictConfig, asked: dict[str, Any]) -> dict[str, Any]:
    """Return the same keys for every run, for TensorBoard's HPARAMS page."""
    amount = Amount.of(cfg)
    values = resolved(cfg)
    more = ("epochs", "pre_epochs", "batch_size", "label_smoothing")
    return {
        **asked,
        "compression": "" if amount.compression is None else amount.compression,
        "sparsity": "" if amount.sparsity is None else amount.sparsity,
        **{key: values[key] for key in more},
        **{f"pruner.{key}": values["pruner"][key] for key in ("rounds", "schedule", "scope", "when")},
        "pruner.pattern": values["pruner"]["pattern"] or "",
        "optimizer": values["optimizer"]["name"],
        "optimizer.lr": values["optimizer"]["lr"],
        "optimizer.weight_decay": values["optimizer"]["weight_decay"],
        "scheduler": values["scheduler"]["name"],
    }


_said: set[str] = set()
"""The warnings of pruning that this run has given."""


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Write a warning to the log, and one of pruning in a line to standard error too, once in a run."""
    if issubclass(category, PruningWarning):
        if str(message) not in _said:
            _said.add(str(message))
            warn(str(message))
    else:
        text = warnings.formatwarning(message, category, filename, lineno, line)
        logging.getLogger("py.warnings").warning("%s", text)


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="config")
def run(cfg: DictConfig) -> float | Exception:
    """Do the run that Hydra composed; returns the test accuracy, for sweepers that optimise it."""
    logging.captureWarnings(True)  # where there is no log, it keeps them from standard error
    logging.getLogger("py.warnings").addHandler(logging.NullHandler())
    _said.clear()
    warnings.showwarning = _show_warning
    warnings.simplefilter("always", PruningWarning)
    say_of_full_disks_once()
    sweep = Sweep.current()
    if sweep is not None and is_first():
        return run_in_sweep(cfg, sweep, accuracy, prepare)
    return command.outcome_of(lambda: accuracy(cfg))


def accuracy(cfg: DictConfig) -> float:
    """Do one run; return its test accuracy in percent."""
    return float(train(cfg)["top1"])


def main() -> None:
    """Run from the command line; exit status 0 done, 1 a fault, 2 a wrong request."""
    preflight.register(refuse, prepare)
    arguments, program = sys.argv[1:], run
    if "--help" in arguments or "-h" in arguments:
        from prunelit import command_help  # which takes as long to import as a wrong request is answered

        program = partial(command_help.show, arguments)
    sys.exit(command.call(program, sys.argv))


if __name__ == "__main__":
    # Under the module's own name, so that launchers can send the task to other processes.
    from prunelit import train as door

    door.main()

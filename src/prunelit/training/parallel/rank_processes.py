"""Several processes (ranks) for one run: how they are started and ended, and which of them writes."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import socket
import time
import traceback
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import lightning.pytorch as pl
import torch
from omegaconf import DictConfig, OmegaConf
from torch.distributed import TCPStore

from prunelit.interruption import Interruption
from prunelit.place import die_with

GRACE = 1.0
"""Seconds to wait for errors of other ranks after a failure."""


class RankDied(RuntimeError):
    """The process of a rank ended without a result: killed, or out of memory."""


class InRank(Exception):
    """Carries the traceback of a rank, as text, to the process that started it."""


@dataclass(frozen=True)
class Failure:
    """The error of a rank, its time (seconds; 0 for a rank that was killed), and its traceback as text."""

    time: float
    error: BaseException
    text: str = ""


def run(
    job: Callable[[], Any],
    trainer: DictConfig,
    interruption: Interruption | None = None,
    may_fork: bool = False,
) -> Any:
    """Return what ``job`` returns; with several devices, one process per device calls it and the value of
    rank 0 is returned.

    The processes are started here and not by Lightning, which would repeat the command line (also that of a
    sweep) and end this process with a rank that dies. Ranks started by ``torchrun`` or ``srun`` are not
    affected.

    Args:
        job: the function that each process calls.
        trainer: node of the config that sets the number of devices.
        interruption: handles signals, which are forwarded to the ranks.
        may_fork: whether processes may be forked from this one. It must not have computed anything, because
            its threads do not survive a fork.

    Raises:
        RankDied: a rank was killed.
        Exception: the error of the first rank that failed. All ranks have ended then.
    """
    count = num_ranks(trainer)
    if not count:
        return job()
    # A fork saves the time of imports, but lacks the threads and the GPU context of its parent.
    fork = may_fork and hasattr(os, "fork") and not torch.cuda.is_initialized()
    context: Any = multiprocessing.get_context("fork" if fork else "spawn")
    threads = torch.get_num_threads()
    if "OMP_NUM_THREADS" not in os.environ:  # it applies per process
        threads = max(1, threads // count)
    store, places = _meeting_place()
    ranks: dict[Connection, BaseProcess] = {}
    try:
        for rank in range(count):
            receiver, sender = context.Pipe(duplex=False)
            places |= {"LOCAL_RANK": str(rank), "NODE_RANK": os.environ.get("NODE_RANK", "0")}
            work = (job, dict(places), threads, sender, os.getpid())
            ranks[receiver] = context.Process(target=_be_rank, args=work, name=f"rank {rank}")
            ranks[receiver].start()
            sender.close()
        with (interruption or Interruption()).sent_on_to(p.pid for p in ranks.values() if p.pid):
            result = _result_of(ranks)
        for process in ranks.values():
            process.join(10)
        return result
    finally:
        for process in ranks.values():
            process.kill()
            process.join()
        del store


def _meeting_place() -> tuple[TCPStore | None, dict[str, str]]:
    """Return what the ranks connect to, which serves as long as it is referenced, and its address.

    This process listens from the beginning. A port that is only known to be free could be taken before rank 0
    listens. Where the environment names an address, rank 0 listens there.
    """
    host, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    if host or port:
        return None, {"MASTER_ADDR": host or "127.0.0.1", "MASTER_PORT": port or str(free_port())}
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    return store, address | {"TORCHELASTIC_USE_AGENT_STORE": "True"}


def num_ranks(trainer: DictConfig) -> int:
    """Return the number of processes to start: 0 if this one suffices or if others have started them."""
    if os.environ.get("LOCAL_RANK") is not None or int(os.environ.get("SLURM_NTASKS", "1")) > 1:
        return 0
    if str(trainer.devices) == "1" and trainer.strategy == "auto":
        return 0
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    asked: Any = OmegaConf.to_container(OmegaConf.create({"devices": trainer.devices}))
    return pl.Trainer(accelerator=trainer.accelerator, logger=False, barebones=True, **asked).num_devices


def free_port() -> int:
    """Return a free port of this machine."""
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _result_of(ranks: dict[Connection, BaseProcess]) -> Any:
    """Return the result of rank 0 once all have sent one; raise the error of the first rank that failed."""
    words: dict[Connection, Any] = {}
    failures: list[Failure] = []
    while len(words) < len(ranks):
        # A rank that loses its peers fails as well: wait a moment for the original error.
        ready = wait([receiver for receiver in ranks if receiver not in words], GRACE if failures else None)
        for receiver in ready:
            assert isinstance(receiver, Connection)
            words[receiver] = _word(receiver, ranks[receiver])
        failures = [word for word in words.values() if isinstance(word, Failure)]
        if failures and not ready:
            break
    if failures:
        first = min(failures, key=lambda failure: failure.time)
        raise first.error from InRank(first.text) if first.text else None
    return next(words[receiver] for receiver in ranks)


def _word(receiver: Connection, process: BaseProcess) -> Any:
    try:
        return receiver.recv()
    except EOFError:
        process.join()
        return Failure(0.0, RankDied(f"{process.name} {_ending(process.exitcode or 0)}"))


def _ending(exitcode: int) -> str:
    if exitcode >= 0:
        return f"ended with status {exitcode}"
    return f"was killed by {signal.Signals(-exitcode).name}"


def _be_rank(
    job: Callable[[], Any], places: dict[str, str], threads: int, sender: Connection, parent: int
) -> None:
    """Do the job as one rank and send its result or error."""
    die_with(parent)
    os.environ.update(places)
    # Lightning would treat a single SLURM task as the only rank.
    os.environ.pop("SLURM_NTASKS", None)
    torch.set_num_threads(threads)
    # The process that started the ranks ends them, on Ctrl-C too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        result = job()
        word = result if places["LOCAL_RANK"] == "0" else None
    except BaseException as error:
        text = f"in {multiprocessing.current_process().name}:\n{traceback.format_exc()}"
        word = Failure(time.time(), _sendable(error), text)
    sender.send(word)
    if torch.distributed.is_initialized():
        with suppress(Exception):
            torch.distributed.destroy_process_group()


def _sendable(error: BaseException) -> BaseException:
    """Return ``error``, or its text if it cannot be sent between processes."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error

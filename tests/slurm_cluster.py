"""A real SLURM cluster of one node, with all its files in one folder."""

from __future__ import annotations

import ctypes
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

DAEMONS = ("munged", "slurmctld", "slurmd")
PROGRAMS = (*DAEMONS, "sbatch", "squeue", "scancel", "scontrol")
PATIENCE = 120.0
CORES = 4


def find(program: str) -> str | None:
    """Return where a program lies; daemons are often not on the path of a user."""
    return shutil.which(program, path=os.pathsep.join((os.environ["PATH"], "/usr/sbin", "/usr/local/sbin")))


def until(condition: Callable[[], Any], what: str) -> Any:
    """Return the first truth that ``condition`` returns; fail if none comes."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.2)
    raise AssertionError(f"{what}: not within {PATIENCE:.0f} s")


def free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def die_with_parent() -> None:
    """Let the kernel end a daemon when the test process dies, however it does."""
    ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))  # PR_SET_PDEATHSIG


class Cluster:
    """munged, slurmctld and slurmd with all their files in ``folder``."""

    def __init__(self, folder: Path, array_size: int = 1001) -> None:
        self.folder, self.daemons = folder, list[subprocess.Popen[bytes]]()
        self.array_size = array_size
        self.config = folder / "slurm.conf"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))},
            "SLURM_CONF": str(self.config),
            "OMP_NUM_THREADS": "1",
        }

    def start(self) -> None:
        """Write the configuration, start the daemons, and wait until the node takes jobs."""
        for name in ("munge", "state", "spool"):
            (self.folder / name).mkdir(parents=True)
        munge = self.folder / "munge"
        munge.chmod(0o711)
        (munge / "key").write_bytes(os.urandom(128))
        (munge / "key").chmod(0o400)
        self.config.write_text(self._configuration())
        places = [f"--{name}-file={munge / name}" for name in ("key", "pid", "log", "seed")]
        self._start("munged", "--foreground", "--force", f"--socket={munge / 'socket'}", *places)
        until((munge / "socket").exists, "munged listens")
        self._start("slurmctld", "-D")
        self._start("slurmd", "-D")
        until(lambda: "idle" in self._asked("sinfo", "--noheader", "--format=%T"), "the node is idle")

    def _configuration(self) -> str:
        host, (control, node) = socket.gethostname().partition(".")[0], free_ports(2)
        lines = {
            "ClusterName": "test",
            "SlurmctldHost": f"{host}(127.0.0.1)",
            "SlurmUser": getpass.getuser(),
            "SlurmdUser": getpass.getuser(),
            "AuthType": "auth/munge",
            "AuthInfo": f"socket={self.folder / 'munge' / 'socket'}",
            "CredType": "cred/munge",
            "SlurmctldPort": control,
            "SlurmdPort": node,
            "StateSaveLocation": self.folder / "state",
            "SlurmdSpoolDir": self.folder / "spool",
            "SlurmctldPidFile": self.folder / "slurmctld.pid",
            "SlurmdPidFile": self.folder / "slurmd.pid",
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/none",
            "SwitchType": "switch/none",
            "MpiDefault": "none",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_Core",
            "SlurmdParameters": "config_overrides",  # more cores than this machine may have
            "MaxJobCount": 20000,
            "MaxArraySize": self.array_size,
            "KillWait": 5,  # seconds from SIGTERM to SIGKILL
            "ReturnToService": 2,
        }
        return "\n".join(
            [f"{key}={value}" for key, value in lines.items()]
            + [f"NodeName={host} NodeAddr=127.0.0.1 CPUs={CORES} State=UNKNOWN"]
            + ["PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP", ""]
        )

    def _start(self, program: str, *arguments: str) -> None:
        path = find(program)
        assert path is not None
        log = (self.folder / f"{program}.log").open("wb")
        self.daemons.append(
            subprocess.Popen(
                [path, *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        )
        log.close()

    def _asked(self, *command: str) -> str:
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60
        ).stdout

    def logs(self) -> str:
        """Return the last lines of every daemon."""
        files = [self.folder / f"{program}.log" for program in DAEMONS]
        return "\n".join(f"{f.name}: {f.read_text()[-500:]}" for f in files if f.exists())

    def stop(self) -> None:
        """End all jobs and all daemons, and make sure that no process is left."""
        self._asked("scancel", f"--user={getpass.getuser()}", "--signal=KILL", "--full")
        self._asked("scancel", f"--user={getpass.getuser()}")
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        until(lambda: not [self._kill(process) for process in self.processes()], "all processes end")

    def processes(self) -> list[int]:
        """Return the processes of this cluster: those that know its configuration."""
        mark, found = f"SLURM_CONF={self.config}".encode(), []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:
                continue
        return [process for process in found if process != os.getpid()]

    @staticmethod
    def _kill(process: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)

    def scontrol(self, *arguments: str) -> str:
        """Tell SLURM something."""
        done = subprocess.run(["scontrol", *arguments], env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def scancel(self, *arguments: str) -> None:
        """End jobs, or send them a signal."""
        subprocess.run(["scancel", *arguments], env=self.environment, check=True)

    def hurry(self, *jobs: str) -> None:
        """Let requeued jobs start at once, and not two minutes later."""
        for job in jobs:
            until(lambda job=job: self.states()[job] == "PENDING", f"{job} is requeued")
            self.scontrol("update", f"JobId={job}", "StartTime=now")

    def states(self) -> dict[str, str]:
        """Return the state of every job by its id."""
        lines = self._asked("squeue", "--noheader", "--array", "--states=all", "--format=%i %T").splitlines()
        return dict(line.split() for line in lines)

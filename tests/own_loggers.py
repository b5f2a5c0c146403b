"""Loggers as other packages bring them, and loggers that fail."""

from typing import Any

from lightning.pytorch.loggers.logger import DummyLogger

made: list[dict[str, str]] = []
"""Arguments of each logger ``Own`` that was made."""


class Own(DummyLogger):
    """Names its arguments as several packages do."""

    def __init__(
        self, save_dir: str, run_name: str, project: str, id: str = "", offline: bool = True
    ) -> None:
        super().__init__()
        made.append({"save_dir": save_dir, "run_name": run_name, "project": project, "id": id})


class Broken(DummyLogger):
    """Its server goes away after the start."""

    def log_metrics(self, *_: Any, **__: Any) -> None:
        raise ConnectionError("the server is gone")

    log_hyperparams = finalize = log_metrics


class BrokenFromTheStart(Broken):
    """Its server cannot be reached."""

    @property
    def experiment(self) -> Any:
        raise ConnectionError("the server is gone")


class Refusing(DummyLogger):
    """Cannot be made."""

    def __init__(self) -> None:
        raise KeyError("API_TOKEN")


def function() -> dict[str, int]:
    """No logger."""
    return {}

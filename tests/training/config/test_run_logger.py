"""Loggers of Lightning and of others: one name and identity for each run, kept when it is resumed."""

import csv
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import own_loggers
from runs import csv_rows, folders, power_cut

FEW = ("pruner=rand", "epochs=3", "batch_size=1024")


def interrupted_and_resumed(cli, monkeypatch, *logger: str) -> Path:
    """Do a run that breaks off in its third epoch and goes on, and return its folder."""
    with power_cut(monkeypatch, batch=0):
        assert cli(*FEW, *logger)[0] == 1
    status, _, err = cli(*FEW, *logger)
    assert status == 0, err
    (record,) = Path("outputs").rglob("result.json")
    return record.parent


def wandb_records(path: Path) -> Iterator[Any]:
    """Yield the records in a file that Weights & Biases wrote offline, in the form of LevelDB's log."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, position, data = path.read_bytes(), 7, b""  # after the file's own header
    while position + 7 <= len(content):
        if 32768 - position % 32768 < 7:  # a header does not cross the border of a block
            position += 32768 - position % 32768
            continue
        _, size, part = struct.unpack_from("<IHB", content, position)
        data += content[position + 7 : position + 7 + size]
        position += 7 + size
        if part in (1, 4):  # whole, or the last part
            yield Record.FromString(data)
            data = b""


def wandb_logs(folder: Path) -> list[dict[str, Any]]:
    """Return id, name, project and history of each time that a run was logged."""
    found = []
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        log: dict[str, Any] = {"epochs": []}
        for record in wandb_records(path):
            if record.HasField("run"):
                log |= {
                    "id": record.run.run_id,
                    "name": record.run.display_name,
                    "project": record.run.project,
                }
            if record.HasField("history"):
                items = {item.key or item.nested_key[0]: item.value_json for item in record.history.item}
                if "density" in items:
                    log["epochs"].append(int(items["trainer/global_step"]))
        found.append(log)
    return found


def test_weights_and_biases(cli, monkeypatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    # Within one process, as in a sweep without isolation: each run ends its own log.
    first = interrupted_and_resumed(cli, monkeypatch, "logger=wandb", "name=small/one")
    before, after = wandb_logs(first)
    assert before["id"] == after["id"]
    assert (before["name"], before["project"]) == (first.name, "small-one")
    assert (before["epochs"], after["epochs"]) == ([0, 1], [2])
    assert (
        cli("pruner=rand", "epochs=1", "batch_size=1024", "logger=wandb", "name=small/one", "seed=1")[0] == 0
    )
    (second,) = Path("outputs/small/one").glob("*seed1*")
    (other,) = wandb_logs(second)
    assert other["name"] == second.name
    assert other["id"] != before["id"]


def test_mlflow(cli, monkeypatch) -> None:
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = interrupted_and_resumed(cli, monkeypatch, "logger=mlflow", "name=small/one")
    assert (
        cli("pruner=rand", "epochs=1", "batch_size=1024", "logger=mlflow", "name=small/one", "seed=1")[0] == 0
    )
    client = MlflowClient("file:outputs/mlruns")
    experiment = client.get_experiment_by_name("small/one")
    logged = {each.info.run_name: each for each in client.search_runs([experiment.experiment_id])}
    assert logged.keys() == {folder.name for folder in Path("outputs/small/one").glob("digits*")}
    assert {each.info.status for each in logged.values()} == {"FINISHED"}
    found = logged[run.name]
    history = client.get_metric_history(found.info.run_id, "train/loss")
    assert sorted(metric.step for metric in history) == [0, 1, 2]
    assert found.data.metrics["final/top1"] == json.loads((run / "result.json").read_text())["top1"]
    assert found.data.params["pruner"] == "rand"


def test_the_table_of_a_resumed_run_has_every_epoch(cli, monkeypatch) -> None:
    run = interrupted_and_resumed(cli, monkeypatch, "logger=csv")
    with (run / "csv" / "metrics.csv").open() as file:
        logged = [row for row in csv.DictReader(file) if row["density"]]
    assert [int(row["step"]) for row in logged] == [0, 1, 2]
    assert [float(row["train/loss"]) for row in logged] == [
        float(row["train_loss"]) for row in csv_rows("metrics.csv")
    ]


def test_a_logger_of_another_package_gets_the_arguments_that_it_takes(cli, monkeypatch) -> None:
    own_loggers.made.clear()
    run = interrupted_and_resumed(
        cli, monkeypatch, "logger=csv", "logger._target_=own_loggers.Own", "+logger.project=p"
    )
    first, second = own_loggers.made
    assert first == second
    assert first | {"id": ""} == {"save_dir": str(run), "run_name": run.name, "id": "", "project": "p"}
    assert len(first["id"]) == 32
    assert (
        cli(
            *FEW[:1],
            "epochs=0",
            "logger=csv",
            "logger._target_=own_loggers.Own",
            "+logger.project=p",
            "seed=1",
        )[0]
        == 0
    )
    assert own_loggers.made[2]["id"] != first["id"]


@pytest.mark.parametrize(
    ("target", "lacks"),
    [
        ("BrokenFromTheStart", ["is left out"]),
        ("Broken", ["lacks what log_metrics", "lacks what log_hyperparams", "lacks what finalize"]),
    ],
)
def test_a_failing_logger_loses_no_run(cli, target: str, lacks: list[str]) -> None:
    status, _, err = cli(*FEW, "logger=csv", f"logger._target_=own_loggers.{target}")
    assert status == 0
    assert len(csv_rows("metrics.csv")) == 3
    assert len(err) == len(lacks)
    for what in lacks:
        assert any(line.startswith(f"warning: logger=csv {what}") for line in err)
    assert all("ConnectionError: the server is gone" in line for line in err)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ("logger._target_=no.such", "logger._target_=no.such: "),
        ("logger._target_=torch.nn.Identity", "logger._target_=torch.nn.Identity: "),
        ("logger._target_=os.sep", "logger._target_=os.sep: "),
        ("logger._target_=own_loggers.function", "logger._target_=own_loggers.function: "),
        ("logger._target_=own_loggers.Own", "logger.project: .*own_loggers.Own"),
        (
            "logger._target_=own_loggers.Refusing",
            "logger._target_=own_loggers.Refusing: KeyError: 'API_TOKEN'",
        ),
        ("+logger.flush=3", "logger.flush=3: .*flush_logs_every_n_steps"),
        ("+logger.flush_logs_every_n_steps=often", "logger.flush_logs_every_n_steps=often: "),
        ("~logger", "~logger: "),
    ],
)
def test_a_wrong_logger_is_one_line(cli, wrong: str, line: str) -> None:
    status, _, err = cli("logger=csv", "pruner=rand", "epochs=0", wrong)
    assert (status, len(err)) == (2, 1), err
    assert re.match(line, err[0]), err
    assert not folders()


@pytest.mark.parametrize("logger", ["tensorboard", "wandb"])
def test_what_a_logger_passes_on_is_checked_too(cli, logger: str) -> None:
    if logger == "wandb":
        pytest.importorskip("wandb")
    status, _, err = cli(f"logger={logger}", "pruner=rand", "epochs=0", "+logger.taggs=[a]")
    assert status == 2
    (line,) = err
    assert line.startswith("logger.taggs=['a']: ")

"""What a run refuses, and how it fails."""

import json
import logging
import os
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from prunelit.training.models import FC
from runs import QUICK, SMALLEST, folders

WORDING = [
    ("compression=-1", "compression=-1: must be a number >= 0, or null"),
    ("--pruner=snip", "--pruner=snip: keys have no dashes; must be written pruner=..."),
    (
        "~pruner.rounds",
        "~pruner.rounds: keys and groups cannot be removed; must be given a value, pruner.rounds=...",
    ),
    ("+epoch=3", "epoch=3: there is no such key; must be a key of the config (did you mean epochs?)"),
    ("lr=0.01", "lr=0.01: must be a key of the config (did you mean optimizer.lr?)"),
    (
        "compression=1 sparsity=0.5",
        "sparsity=0.5: compression=1.0 is given too; must be compression or sparsity, not both",
    ),
    ("trainer.max_epochs=3", "trainer.max_epochs=3: must be left out (use epochs)"),
    ("name=実験", """name=実験: must be quoted, for the shell as well: 'name="実験"'"""),
    (
        "pruner.schedule=cubik",
        "pruner.schedule=cubik: must be exponential, linear, cubic or constant (did you mean cubic?)",
    ),
]
"""One request of each kind, and the whole message."""

REFUSED = [
    ("pruner=snipp", "pruner=snipp", "snip?"),
    ("pruner.roundss=3", "pruner.roundss=3", "pruner.rounds?"),
    ("nonsense=1", "nonsense=1", "seed"),
    ("epochs", "epochs=", "key=value"),
    ("-m compression=0.5, 1", "compression=0.5,", "without spaces"),
    ("pruner.only=[a,b] seed=1,2", "seed=1,2", "-m"),
    ("sparsity=1.2", "sparsity=1.2", "[0, 1"),
    ("compression=5", "compression=5", "47400"),
    ("pruner=like", "pruner.densities_from=", "complete run"),
    ("pruner=like pruner.densities_from=nowhere", "pruner.densities_from=nowhere", "complete run"),
    ("pruner=nm compression=1", "compression=1", "pruner.pattern=2:4"),
    ("name=../x", "name=../x", "/"),
    ("data=folder", "data.root=null", "folder"),
    ("data=folder data.root=nowhere", "data.root=nowhere", "train/"),
    ("data=mnist data.root=nowhere data.download=false", "data.root=nowhere", "MNIST"),
    ("+model.foo=3", "model.foo=3", "depth, init"),
    ("+optimizer.foo=3", "optimizer.foo=3", "weight_decay"),
    ("+trainer.limit_train_batches=0", "trainer.limit_train_batches=0", ">= 1"),
    ("model._target_=mynett.Net", "model._target_=mynett.Net", "mynett"),
    ("model._target_=torch.nn.Linaer", "model._target_=torch.nn.Linaer", "Linaer"),
    (
        "pruner=rand pruner.criterion._target_=torch.nn.ReLU",
        "pruner.criterion._target_=torch.nn.ReLU",
        "prunelit.Criterion",
    ),
    ("pruner.invert=no", "pruner.invert=no", "true or false"),
    ("+trainer.max_epochs=3", "trainer.max_epochs=3", "epochs="),
    ("+trainer.callbacks=[]", "trainer.callbacks=[]", "prunelit"),
    ("+trainer.overfit_batches=1", "trainer.overfit_batches=1", "limit_train_batches="),
    ("~logger", "~logger", "value"),
    ("checkpoint=epoch=9-step=10.ckpt", "checkpoint=epoch=9-step=10.ckpt", """'checkpoint="epoch=9"""),
    ("data.root=a#b", "data.root=a#b", """'data.root="a#b"'"""),
    ("+foo=1", "foo=1", "seed"),
    ("+sweep.job=2", "sweep.job=2", "sweep.jobs?"),
    ("+hydra.foo=1", "hydra.foo=1", "Hydra"),
    ("sweep=3", "sweep=3", "left out"),
    ("density=0.1", "density=0.1", "sparsity"),
    ("model=resnet50", "model=resnet50", "model.name=resnet50"),
    ("hydra.job.chdir=true", "hydra.job.chdir=true", "false"),
    ("-m hydra.job.chdir=True seed=1,2", "hydra.job.chdir=True", "false"),
    ("hydra.run.dir=here", "hydra.run.dir=here", "output_dir="),
    ("-m hydra.sweep.subdir=a seed=1,2", "hydra.sweep.subdir=a", "left out"),
    ("hydra.output_subdir=null", "hydra.output_subdir=null", "config"),
    ("hydra.sweeper.params={}", "hydra.sweeper.params={}", "command line"),
    ("+pruner.density=0.1", "pruner.density=0.1", "sparsity"),
    ("model=vgg16", "data.size=8x8", "vgg16; must be 16 "),
    ("model.init=xavier", "model.init=xavier", "xavier_normal?"),
    ("pruner.scope=tensor", "pruner.scope=tensor", "global, layer, "),
    ("pruner.scope=2:4", "pruner.scope=2:4", "pruner.pattern=2:4"),
    ("pruner.mask_from=RUN", "pruner.mask_from=RUN", "pruner.densities_from=RUN"),
    ("+pruner.decay=cosine", "pruner.decay=cosine", "pruner.grow.decay=cosine"),
    ("pruner.grow=gradient", "pruner.grow=gradient", "pruner.grow.at=gradient"),
    ("pruner.grow=null", "pruner.grow=null", "pruner.grow.at=random"),
    (
        "pruner=mag pruner.keep_at_least=100000 sparsity=0.5",
        "pruner.keep_at_least=100000",
        "density at least",
    ),
    ("pruner.pattern=2-4", "pruner.pattern=2-4", "2:4"),
    ("pruner=rigl pruner.share=0.2", "pruner.share=0.2", "grow.share"),
    ("pruner=erk pruner.pattern=2:4", "pruner.scope=erk", "pattern=2:4"),
    ("pruner.exclude=[head]", "pruner.exclude=head", "fc1"),
    ("checkpoint=nowhere.ckpt", "checkpoint=nowhere.ckpt", "no such file"),
]
"""Requests, the key and value that the message names first, and what else it must name."""


@pytest.mark.parametrize(("arguments", "line"), WORDING, ids=[arguments for arguments, _ in WORDING])
def test_the_wording_of_each_kind_of_message(cli, arguments: str, line: str) -> None:
    assert cli(*arguments.split()) == (2, "", [line])
    assert not Path("outputs").exists()


@pytest.mark.parametrize(("arguments", "given", "named"), REFUSED, ids=[each[0] for each in REFUSED])
def test_a_wrong_request_ends_with_2_and_one_line(cli, arguments: str, given: str, named: str) -> None:
    status, out, err = cli(*arguments.split())
    assert (status, out, len(err)) == (2, "", 1), err
    assert err[0].startswith(f"{given}: "), err[0]
    assert named in err[0].removeprefix(f"{given}: "), err[0]
    assert not Path("outputs").exists()


def test_a_folder_that_cannot_be_made_is_refused(cli) -> None:
    status, _, err = cli("output_dir=/dev/null/x")
    assert (status, len(err)) == (2, 1)
    assert re.match("output_dir=/dev/null/x/default/[^:]+: Not a directory", err[0])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(cli) -> None:
    status, _, err = cli("trainer=gpu")
    assert status == 2
    (line,) = err
    assert line.startswith("trainer.accelerator=gpu: ")
    assert line.endswith("cpu or auto")


@pytest.mark.parametrize("values", ["optimizer.lr=0.01,-1", "trainer.precision=32-true,foo"])
def test_a_sweep_refuses_first_what_other_libraries_refuse(cli, values: str) -> None:
    status, out, err = cli("-m", "pruner=none", values, *QUICK)
    key, _, both = values.partition("=")
    assert status == 2
    assert len(err) == 1
    assert err[0].startswith(f"{key}={both.split(',')[1]}: "), err
    assert out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        "+foo=1,2",
        "~seed",
        "pruner.invert=no,true",
        "+pruner.foo=1,2",
        "sweep.wait=false",
        "pruner.exclude=[head]",
        "model._target_=mynett.Net seed=0,1",
    ],
)
def test_a_refused_sweep_leaves_nothing(cli, arguments: str) -> None:
    status, out, err = cli("-m", *arguments.split())
    assert (status, len(err), out) == (2, 1, "")
    assert list(Path().iterdir()) == []


def test_a_number_from_the_environment_says_how_to_read_it(cli, monkeypatch) -> None:
    monkeypatch.setenv("SEED_OF_A_TEST", "3")
    status, _, err = cli("seed=${oc.env:SEED_OF_A_TEST}")
    asked = 'seed="${oc.decode:${oc.env:SEED_OF_A_TEST}}"'
    assert (status, len(err)) == (2, 1)
    assert err[0].startswith("seed='3': ")
    assert err[0].endswith(f"'{asked}'")
    assert cli(asked, "--cfg", "job", "--resolve")[1].splitlines()[0] == "seed: 3"


@pytest.mark.parametrize("name", ["cifar10", "mnist"])
def test_a_folder_of_images_given_to_a_named_data_set(cli, name: str) -> None:
    images = Path("images/train/cat")
    images.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(images / "1.png")
    status, _, err = cli(f"data={name}", "data.root=images")
    assert (status, len(err)) == (2, 1)
    assert err[0].startswith("data.root=images: ")
    assert err[0].endswith("(data=folder data.root=images)")
    assert not Path("outputs").exists()


def test_a_sweep_with_one_wrong_run_does_no_work(cli) -> None:
    status, _, err = cli("-m", "compression=0.5,abc", *QUICK)
    assert status == 2
    assert len(err) == 1
    assert err[0].startswith("compression=abc: ")
    assert folders() == []


def test_a_checkpoint_of_another_network(cli, tmp_path) -> None:
    other = FC(num_classes=10, input_shape=(1, 8, 8), width=50)
    save_file(other.state_dict(), tmp_path / "other.safetensors")
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "linear.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    for file, named in (
        ("other.safetensors", ("fc1.weight", "(50, 64)", "(100, 64)")),
        ("linear.pt", ("fc1.weight",)),
        ("list.pt", ("list",)),
        ("text.ckpt", ()),
    ):
        status, _, err = cli(f"checkpoint={file}", *SMALLEST)
        assert (status, len(err)) == (2, 1)
        assert err[0].startswith(f"checkpoint={file}: ")
        assert all(name in err[0].removeprefix(f"checkpoint={file}: ") for name in named)


class Harmful:
    def __reduce__(self):
        return (os.mkdir, ("harmed",))


def test_a_checkpoint_runs_no_code(cli, tmp_path) -> None:
    torch.save({"state_dict": {}, "x": Harmful()}, tmp_path / "bad.ckpt")
    status, _, err = cli("checkpoint=bad.ckpt", *SMALLEST)
    assert status == 2
    assert err[0].startswith("checkpoint=bad.ckpt: ")
    assert "posix.mkdir" in err[0]
    assert not Path("harmed").exists()


def test_a_loss_that_becomes_nan_stops_the_run_and_names_the_layer(cli) -> None:
    status, _, err = cli("pruner=none", "optimizer=sgd", "optimizer.lr=1e30", *QUICK)
    assert status == 1
    assert any("NonFiniteLoss: the training loss is nan" in line and "layer" in line for line in err)
    (folder,) = Path("outputs/default").glob("digits*")
    told = json.loads((folder / "status.json").read_text())
    assert told["status"] == "failed"
    assert "NonFiniteLoss" in (folder / told["traceback"]).read_text()
    assert not (folder / "result.json").exists()


def test_weights_that_are_not_finite_name_the_layer(cli, tmp_path) -> None:
    weights = FC(num_classes=10, input_shape=(1, 8, 8)).state_dict()
    weights["fc3.weight"][0, 0] = float("nan")
    save_file(weights, tmp_path / "nan.safetensors")
    status, _, err = cli("pruner=mag", "checkpoint=nan.safetensors", *QUICK)
    assert status == 2
    assert err[0].startswith("checkpoint=nan.safetensors: fc3.weight ")


def test_an_epsilon_that_is_0_in_float16_is_refused(cli) -> None:
    status, _, err = cli("pruner=none", "trainer.precision=16-true", *QUICK)
    assert status == 2
    assert err[0].startswith("optimizer.eps=1e-08: ")
    assert "float16" in err[0]


def test_what_is_logged_after_a_refused_run_opens_no_file(cli, tmp_path) -> None:
    """The folder of the run and the log in it are gone."""
    assert cli("pruner=karnin", "compression=20", "epochs=1", "logger=none")[0] == 2
    logging.getLogger("prunelit").warning("later")
    assert not list(tmp_path.rglob("train.log"))

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

REFUSED = [
    ("pruner=snipp", "pruner=snipp: must be one of .*did you mean snip"),
    ("pruner.roundss=3", r"pruner.roundss=3: .*did you mean pruner.rounds\?"),
    ("nonsense=1", "nonsense=1: must be"),
    ("epochs", "epochs=: .*key=value"),
    ("-m compression=0.5, 1", "compression=0.5,: must be a list without spaces"),
    ("pruner.only=[a,b] seed=1,2", "seed=1,2: must be one value, or -m"),
    ("compression=-1", "compression=-1: must be a number >= 0"),
    ("compression=1 sparsity=0.5", "sparsity=0.5: .*not both"),
    ("sparsity=1.2", "sparsity=1.2: must be a number in"),
    ("compression=5", "compression=5: must be one that keeps at least 1 of the 47400"),
    ("pruner=like", "pruner.densities_from=: must be the folder of a complete run"),
    (
        "pruner=like pruner.densities_from=nowhere",
        "pruner.densities_from=nowhere: must be the folder of a complete run",
    ),
    ("pruner=nm compression=1", "compression=1: pruner.pattern=2:4 sets the density; must be left out"),
    ("name=../x", "name=../x: must be a name"),
    ("data=folder", "data.root=.*: .*must be a folder"),
    ("data=folder data.root=nowhere", "data.root=nowhere: .*must be a folder with train/"),
    (
        "data=mnist data.root=nowhere data.download=false",
        "data.root=nowhere: .*must be a folder with MNIST",
    ),
    ("+model.foo=3", "model.foo=3: there is no such key; must be one of depth, init"),
    ("+optimizer.foo=3", "optimizer.foo=3: there is no such key; must be one of"),
    ("+trainer.limit_train_batches=0", "trainer.limit_train_batches=0: must be an integer >= 1"),
    ("model._target_=mynett.Net", "model._target_=mynett.Net: .*must be a dotted path"),
    ("model._target_=torch.nn.Linaer", "model._target_=torch.nn.Linaer: .*must be a dotted path"),
    ("pruner=rand pruner.criterion._target_=torch.nn.ReLU", "pruner.criterion._target_=.*prunelit.Criterion"),
    ("pruner.invert=no", "pruner.invert=no: must be true or false"),
    ("+trainer.max_epochs=3", r"trainer.max_epochs=3: .*use epochs="),
    ("+trainer.callbacks=[]", r"trainer.callbacks=\[\]: prunelit sets it"),
    ("+trainer.overfit_batches=1", "trainer.overfit_batches=1: .*limit_train_batches="),
    ("~logger", "~logger: keys and groups cannot be removed"),
    ("~pruner.rounds", "~pruner.rounds: keys and groups cannot be removed; must be given a value"),
    ("--pruner=snip", "--pruner=snip: keys have no dashes; must be written pruner="),
    (
        "checkpoint=epoch=9-step=10.ckpt",
        "checkpoint=.*: must be quoted.*'checkpoint=\"epoch=9",
    ),
    ("data.root=a#b", """data.root=a#b: must be quoted.*'data.root="a#b"'$"""),
    ("name=実験", """name=実験: must be quoted.*'name="実験"'$"""),
    ("+foo=1", "foo=1: there is no such key; must be one of seed"),
    ("+epoch=3", r"epoch=3: there is no such key; .*did you mean epochs\?"),
    ("+sweep.job=2", r"sweep.job=2: there is no such key; .*did you mean sweep.jobs\?"),
    ("+hydra.foo=1", "hydra.foo=1: Hydra has no such key; must be one of"),
    ("sweep=3", "sweep=3: must be left out"),
    ("lr=0.01", r"lr=0.01: .*did you mean optimizer.lr\?"),
    ("density=0.1", "density=0.1: .*use sparsity"),
    ("trainer.max_epochs=3", r"trainer.max_epochs=3: must be left out \(use epochs\)"),
    ("model=resnet50", "model=resnet50: .*must be torchvision, with model.name=resnet50"),
    ("hydra.job.chdir=true", "hydra.job.chdir=true: paths are relative .*; must be false"),
    ("-m hydra.job.chdir=True seed=1,2", "hydra.job.chdir=True: paths are relative .*; must be false"),
    ("hydra.run.dir=here", "hydra.run.dir=here: a run has one folder; must be left out .output_dir=..."),
    ("-m hydra.sweep.subdir=a seed=1,2", "hydra.sweep.subdir=a: a run has one folder; must be left out"),
    ("hydra.output_subdir=null", "hydra.output_subdir=null: reports read the config"),
    ("hydra.sweeper.params={}", "hydra.sweeper.params={}: sweeps are defined on the command line"),
    ("+pruner.density=0.1", "pruner.density=0.1: give sparsity"),
    ("model=vgg16", "data.size=8x8: .*vgg16; must be 16 or more"),
    ("model.init=xavier", "model.init=xavier: must be .*did you mean xavier_normal"),
    ("pruner.schedule=cubik", "pruner.schedule=cubik: .*did you mean cubic"),
    ("pruner.scope=tensor", "pruner.scope=tensor: must be global, layer, "),
    ("pruner.scope=2:4", r"pruner.scope=2:4: must be left out \(write pruner.pattern=2:4\)"),
    ("pruner.mask_from=RUN", r"pruner.mask_from=RUN: must be left out \(write pruner.densities_from=RUN\)"),
    ("+pruner.decay=cosine", r"pruner.decay=cosine: must be left out \(write pruner.grow.decay=cosine\)"),
    ("pruner.grow=gradient", r"pruner.grow=gradient: must be left out \(write pruner.grow.at=gradient\)"),
    ("pruner.grow=null", "pruner.grow=null: must be a group of keys, such as pruner.grow.at=random"),
    ("pruner.pattern=2-4", "pruner.pattern=2-4: must be N:M with N <= M, such as 2:4"),
    ("pruner=rigl pruner.share=0.2", r"pruner.share=0.2: .*must be 0.1 \(.*grow.share\)"),
    (
        "pruner=erk pruner.pattern=2:4",
        "pruner.scope=erk: pattern=2:4 determines the density; must be global",
    ),
    ("pruner.exclude=[head]", "pruner.exclude=head: must be a pattern"),
    ("checkpoint=nowhere.ckpt", "checkpoint=nowhere.ckpt: no such file"),
    ("output_dir=/dev/null/x", "output_dir=/dev/null/x.*: .*must be a folder that can be written"),
]


@pytest.mark.parametrize(("arguments", "line"), REFUSED, ids=[arguments for arguments, _ in REFUSED])
def test_a_wrong_request_ends_with_2_and_one_line(cli, arguments: str, line: str) -> None:
    status, out, err = cli(*arguments.split())
    assert status == 2
    assert len(err) == 1, err
    assert re.match(line, err[0]), err[0]
    assert out == ""
    assert not Path("outputs").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(cli) -> None:
    status, _, err = cli("trainer=gpu")
    assert status == 2
    assert err == ["trainer.accelerator=gpu: this machine has no GPU; must be cpu or auto"]


@pytest.mark.parametrize("values", ["optimizer.lr=0.01,-1", "trainer.precision=32-true,foo"])
def test_a_sweep_refuses_first_what_other_libraries_refuse(cli, values: str) -> None:
    status, out, err = cli("-m", "pruner=none", values, *QUICK)
    key, _, both = values.partition("=")
    assert status == 2
    assert len(err) == 1
    assert err[0].startswith(f"{key}={both.split(',')[1]}: must be "), err
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
    allowed = "an integer from 0 to 4294967295"
    assert (status, err) == (2, [f"seed='3': this is text; must be {allowed}; write '{asked}'"])
    assert cli(asked, "--cfg", "job", "--resolve")[1].splitlines()[0] == "seed: 3"


@pytest.mark.parametrize("name", ["cifar10", "mnist"])
def test_a_folder_of_images_given_to_a_named_data_set(cli, name: str) -> None:
    images = Path("images/train/cat")
    images.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(images / "1.png")
    status, _, err = cli(f"data={name}", "data.root=images")
    assert (status, len(err)) == (2, 1)
    assert err[0].startswith(
        "data.root=images: it has train/ with folders of images; must be given to data=folder"
    )
    assert not Path("outputs").exists()


def test_a_sweep_with_one_wrong_run_does_no_work(cli) -> None:
    status, _, err = cli("-m", "compression=0.5,abc", *QUICK)
    assert status == 2
    assert err == ["compression=abc: must be a number >= 0, or null"]
    assert folders() == []


def test_a_checkpoint_of_another_network(cli, tmp_path) -> None:
    other = FC(num_classes=10, input_shape=(1, 8, 8), width=50)
    save_file(other.state_dict(), tmp_path / "other.safetensors")
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "linear.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    for file, line in (
        ("other.safetensors", "fc1.weight has shape (50, 64), the network's (100, 64)"),
        ("linear.pt", "the checkpoint lacks fc1.weight"),
        ("list.pt", "it contains a list"),
        ("text.ckpt", "it cannot be read"),
    ):
        status, _, err = cli(f"checkpoint={file}", *SMALLEST)
        assert status == 2
        assert len(err) == 1
        assert err[0].startswith(f"checkpoint={file}: {line}")


class Harmful:
    def __reduce__(self):
        return (os.mkdir, ("harmed",))


def test_a_checkpoint_runs_no_code(cli, tmp_path) -> None:
    torch.save({"state_dict": {}, "x": Harmful()}, tmp_path / "bad.ckpt")
    status, _, err = cli("checkpoint=bad.ckpt", *SMALLEST)
    assert status == 2
    assert err[0].startswith("checkpoint=bad.ckpt: it contains an object of posix.mkdir, and code")
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
    assert err[0].startswith("checkpoint=nan.safetensors: fc3.weight holds NaN or infinity")


def test_an_epsilon_that_is_0_in_float16_is_refused(cli) -> None:
    status, _, err = cli("pruner=none", "trainer.precision=16-true", *QUICK)
    assert status == 2
    assert err[0].startswith("optimizer.eps=1e-08: in float16")


def test_what_is_logged_after_a_refused_run_opens_no_file(cli, tmp_path) -> None:
    """The folder of the run and the log in it are gone."""
    assert cli("pruner=karnin", "compression=20", "epochs=1", "logger=none")[0] == 2
    logging.getLogger("prunelit").warning("later")
    assert not list(tmp_path.rglob("train.log"))

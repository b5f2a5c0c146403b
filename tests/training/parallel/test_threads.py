"""A run chooses its threads by the request alone, and says how many."""

import pytest
import torch
from torch import nn

from prunelit.training.parallel.threads import choose, put_back, subnormals_as_zero, work
from runs import QUICK, folders, only_folder, power_cut, result


@pytest.fixture(autouse=True)
def _nobody_has_said(monkeypatch: pytest.MonkeyPatch):
    """As on a machine of three cores where no variable says how many threads there are."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with put_back():
        torch.set_num_threads(3)
        yield


def test_the_work_of_a_batch_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 10))
    assert work(network, (1, 8, 8), batch_size=4) == 4 * (2 * 9 * 64 + 720)


def test_a_small_network_has_one_thread_and_a_large_one_all() -> None:
    assert choose(None, 2**20, available=8) == 1
    assert choose(None, 2**40, available=8) == 8
    assert choose(5, 2**20, available=8) == 5


def test_a_variable_of_the_user_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert choose(None, 2**20, available=2) == 2


@pytest.mark.parametrize(
    ("more", "wanted"),
    [((), 1), (("trainer.threads=2",), 2), (("model=resnet20", "epochs=0"), 3)],
    ids=["small", "asked", "large"],
)
def test_the_record_says_how_many(cli, more: tuple[str, ...], wanted: int) -> None:
    assert cli(*QUICK, "epochs=0", "pruner=rand", *more)[0] == 0
    assert result()["threads"] == wanted
    assert torch.get_num_threads() == 3, "the next run in this process chooses for itself"


def test_threads_are_part_of_the_hash_only_if_given(cli) -> None:
    assert cli("pruner=rand", "epochs=0", "logger=none")[0] == 0
    plain = only_folder().name
    status, out, _ = cli("pruner=rand", "epochs=0", "logger=none", "trainer.threads=null")
    assert (status, out.count("complete already")) == (0, 1)
    assert cli("pruner=rand", "epochs=0", "logger=none", "trainer.threads=1", "name=other")[0] == 0
    assert {folder.name for folder in folders()} > {plain}
    assert len({folder.name for folder in folders()}) == 2


@pytest.mark.parametrize("number", ["0", "1025"])
def test_numbers_that_no_machine_has_are_refused(cli, number: str) -> None:
    status, _, err = cli(*QUICK, f"trainer.threads={number}")
    assert status == 2
    assert err[0].startswith(f"trainer.threads={number}: ")


def test_a_resumed_run_computes_with_as_many_threads_as_before(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another number would add sums in another order."""
    monkeypatch.setattr("prunelit.training.parallel.threads.SMALL", 0)
    request = ("pruner=rand", "epochs=3", "logger=none", "model=mlp")
    with power_cut(monkeypatch):
        assert cli(*request)[0] == 1
    torch.set_num_threads(2)  # as on a machine with fewer cores, or beside another run
    assert cli(*request)[0] == 0
    assert result()["threads"] == 3


def subnormal() -> float:
    return float(torch.full((1,), 1e-40).mul(1.0))


def test_a_run_computes_with_zero_instead_of_subnormal_numbers(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moments of weights without a gradient shrink until they are subnormal, which makes each step slower."""
    seen = []
    step = torch.optim.Adam.step

    def observed_step(*args, **kwargs):
        seen.append(subnormal())
        return step(*args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", observed_step)
    assert cli("pruner=rand", "epochs=1", "logger=none")[0] == 0
    assert set(seen) == {0.0}
    assert subnormal() > 0, "programs that call a run keep PyTorch's setting"


def test_the_setting_of_the_program_comes_back() -> None:
    with subnormals_as_zero():
        with subnormals_as_zero():
            pass
        assert subnormal() == 0
    assert subnormal() > 0

"""Signals that come while a run is under way: which of them wait, and who has them in the end."""

import os
import pickle
import signal
import threading
from collections.abc import Iterator

import pytest

from prunelit.interruption import BATCHES, EVALUATION, Interrupted, Interruption, until_done


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """The usual handlers, and the test process's own afterwards."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {n: signal.signal(n, usual.get(n, signal.SIG_DFL)) for n in BATCHES}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", sorted(BATCHES))
def test_a_signal_ends_the_run_at_once_where_no_checkpoint_is_near(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as ended, Interruption():
        send(number)
    assert ended.value.code == 128 + number
    assert signal.getsignal(number) is before


def test_signals_wait_for_the_end_of_a_batch() -> None:
    with Interruption() as interruption:
        interruption.waiting = BATCHES
        send(signal.SIGTERM)
        assert interruption.asked == signal.SIGTERM


def test_a_person_does_not_wait_for_an_evaluation_nor_ask_twice() -> None:
    with Interruption() as interruption:
        interruption.waiting = EVALUATION
        send(signal.SIGUSR1)
        with pytest.raises(Interrupted):
            send(signal.SIGINT)
    with Interruption() as interruption:
        interruption.waiting = BATCHES
        send(signal.SIGINT)
        with pytest.raises(Interrupted):
            send(signal.SIGINT)


def test_a_library_s_handler_in_between_is_put_aside_again() -> None:
    with Interruption() as interruption:
        interruption.waiting = BATCHES
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        interruption.install()
        send(signal.SIGTERM)
        assert interruption.asked == signal.SIGTERM


@pytest.mark.parametrize(("number", "status"), [(signal.SIGUSR2, 0), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_worker_leaves_the_decision_to_the_run_but_can_be_ended(number: int, status: int) -> None:
    with Interruption() as interruption:
        if (worker := os.fork()) == 0:
            send(number)
            os._exit(interruption.asked or 0)
        assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == status
        assert interruption.asked is None


def test_a_run_in_another_thread_takes_no_signals() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with Interruption():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_handler_that_returns_has_the_run_go_on_from_what_is_saved() -> None:
    heard, attempts = [], []
    signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))

    def attempt(interruption: Interruption) -> str:
        attempts.append(len(heard))
        if len(attempts) == 1:
            send(signal.SIGTERM)
        return "done"

    saved: list[str] = []
    assert until_done(attempt, lambda: saved.append("saved")) == "done"
    assert (attempts, heard, saved) == ([0, 1], [signal.SIGTERM], ["saved"])


def test_the_exception_is_no_failure_and_crosses_process_borders() -> None:
    asked = pickle.loads(pickle.dumps(Interrupted(signal.SIGUSR1)))
    assert (asked.signal, asked.code) == (signal.SIGUSR1, 138)
    assert not isinstance(asked, Exception)
    assert "SIGUSR1" in str(asked)

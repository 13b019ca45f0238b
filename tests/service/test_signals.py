"""Ctrl-C and SIGTERM: the first asks, the second ends."""

import os
import signal

import pytest

from service.signals import StopOnSignal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_ends(number: signal.Signals) -> None:
    before, said = signal.getsignal(number), list[str]()
    with pytest.raises(KeyboardInterrupt, match="at once"), StopOnSignal(said.append) as stopper:
        os.kill(os.getpid(), number)
        assert stopper.stop.wait(5)
        os.kill(os.getpid(), number)
        assert stopper.stop.wait(5)
    assert signal.getsignal(number) == before
    assert "Ctrl-C again ends at once" in said[0]


def test_a_handler_that_was_replaced_is_set_again() -> None:
    with StopOnSignal(lambda text: None) as stopper:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stopper.install()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopper.stop.wait(5)

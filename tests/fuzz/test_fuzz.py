"""A part of `make fuzz`, with the same seeds each time."""

import pytest

from tests.fuzz.__main__ import main
from tests.fuzz.run import fuzz
from tests.fuzz.seeds import seeds


def test_no_mutated_capture_ends_the_reading() -> None:
    found = fuzz(1200, seed=2_000_000)
    assert found.failures == [] and found.cases == 1200
    assert set(found.events) >= {"MessageSeen", "Observation", "CallEnded", "StreamEnded", "PacketsSkipped"}


@pytest.mark.study
@pytest.mark.timeout(900)
def test_no_capture_of_a_hundred_thousand_ends_the_reading(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(100_000, seed=3_000_000) == 0


def test_each_seed_is_read_without_a_fault_before_it_is_mutated() -> None:
    from adversary.tap.decode.events import CallEnded, StreamEnded
    from adversary.tap.decode.observation import Observation
    from adversary.tap.decode.read import GrowingCapture
    from tests.adversary.tap import conftest as wire

    tensors = {}
    for name, pieces in seeds().items():
        capture = GrowingCapture("x.pcap")
        packets = wire.conversation(pieces)
        if name == "late":
            packets = packets[3:]
        events = [*capture.feed(wire.pcap(packets)), *capture.finish()]
        faults = [one.reason for one in events if isinstance(one, CallEnded)]
        faults += [one.reason for one in events if isinstance(one, StreamEnded) and one.broken]
        assert [fault for fault in faults if name != "fleet over http/1.1"] == [], name
        tensors[name] = sum(isinstance(one, Observation) for one in events)
    assert tensors == {
        "split head": 10,
        "late": 20,
        "fleet": 1,
        "fleet over http/1.1": 1,
        "grpc-web": 2,
        "grpc-web-text": 2,
        "join": 4,
        "adapter": 1,
        "inline": 1,
        "compressed": 0,
        "h2c": 0,
        "tls": 0,
    }

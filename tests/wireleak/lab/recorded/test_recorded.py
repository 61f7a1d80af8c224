"""`wireleak attack` on any capture: what it asks for, what it refuses, and what it says of what it read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from adversary.tap.inspect.command import inspect
from tests.adversary.tap.test_cases import CASES, WIRE, name_of
from wireleak.common.traffic import Traffic
from wireleak.lab.recorded.content import Content, check_link
from wireleak.lab.recorded.request import Request
from wireleak.lab.recorded.show import Guessed, show
from wireleak.lab.run.layout import CellFolder
from wireleak.lab.run.results import read_results
from wireleak.lab.study.schema import StudyError

RMLE: dict[str, Any] = {"reads": Traffic.SERVING, "threat": {"knows": ["weights"], "vantage": ["link"], "sees": []}}
LABELS = RMLE | {"reads": Traffic.SPLIT_TRAINING, "threat": {"knows": ["surrogate", "queries"], "vantage": ["link"]}}
# Cases of which an attack on activations reads three; of the late one, those after its start.
READ = dict.fromkeys(
    ("gre", "gzip", "ip-fragments", "ipip", "pipe", "plain-ethernet", "ppp", "rst-out-of-window", "vxlan"), 3
)
READ |= {"late-start": 2}


def seen(**changes: Any) -> dict[str, Any]:
    stream = {"transport": "plaintext HTTP/2", "late": False, "client": "1.1.1.1:5000", "server": "2.2.2.2:80"}
    shapes = (([1, 4], 294), ([6, 4], 1))
    tensors = [{"kind": "activation", "shape": shape, "count": count, "bytes": 16} for shape, count in shapes]
    stream |= {"up": 9, "down": 9}
    content = {"streams": [stream], "kinds": {"activation": 295}, "tensors": tensors, "skipped": {}, "faults": []}
    return content | {"notes": [], "calls": [], "first": 0.0, "last": 1.0} | changes


def content(**changes: Any) -> Content:
    return Content(Path("cut.pcap"), seen(**changes))


def refused(found: Content, traffic: Traffic = Traffic.SERVING, sees_tensors: bool = True) -> str:
    with pytest.raises(StudyError) as caught:
        found.check("linear", traffic, sees_tensors)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_all_that_is_wrong_with_the_options_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    request = Request(tmp_path / "no.pcap", "linear", "input", device=tmp_path / "d", options=["x"])
    with pytest.raises(StudyError) as caught:
        replace(request, out=tmp_path / "out").check()
    said = str(caught.value)
    assert all(part in said for part in ("CAPTURE: no file", "--device: no file", "--option: 'x'", "--out: "))


def test_all_that_is_missing_is_asked_for_at_once(tmp_path: Path) -> None:
    request = Request(tmp_path / "router.pcap", "rmle", "input")
    with pytest.raises(
        StudyError, match=r"give --surrogate \(.*\), --model \(.*\), --encoder \(.*\); the capture is not"
    ):
        request.check_needs(RMLE, sees_tensors=True)
    with pytest.raises(StudyError, match=r"--surrogate .*, --device .*, --model .*, --victims "):
        request.check_needs(LABELS, sees_tensors=False)


def test_an_attack_writes_where_the_user_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Request(Path("/elsewhere/a.pcap.gz"), "linear", "input").folder == tmp_path / "a-linear-input"
    assert Request(Path("-"), "linear", "input").folder == tmp_path / "stdin-linear-input"


def test_inputs_are_counted_from_the_capture() -> None:
    assert content().activations == 300
    assert content(tensors=[]).activations == 0
    calls = [{"method": "/wireleak.v1.SplitHead/Predict", "up": {"messages": 297}}]
    assert content(calls=calls).activations == 302  # two messages could not be decoded
    content().check("linear", Traffic.SERVING, True)


def test_tls_says_that_there_is_nothing_to_read() -> None:
    tls = content(streams=[seen()["streams"][0] | {"transport": "TLS"}], kinds={}, tensors=[])
    assert "cut.pcap is TLS: nothing to read" in refused(tls)
    tls.check("sizes", Traffic.SERVING, False)


def test_a_capture_without_tensors_says_what_it_holds() -> None:
    bare = content(kinds={}, tensors=[], skipped={"link type 147": 28})
    assert "nothing was decoded from cut.pcap: 1 stream of plaintext HTTP/2, 28 packets skipped" in refused(bare)
    assert "no connection; nothing to read" in refused(content(kinds={}, streams=[]), sees_tensors=False)


@pytest.mark.parametrize(
    ("kinds", "traffic", "said"),
    [
        ({"activation": 9, "label": 9}, Traffic.SERVING, "is the stream of a split training"),
        ({"model-update": 3}, Traffic.SERVING, "is Flower's link of a federated training"),
        ({"activation": 9, "prediction": 9}, Traffic.SPLIT_TRAINING, "is the stream of a device that asks"),
        ({"activation": 9}, Traffic.FEDERATED_TRAINING, "give a capture of Flower's link"),
    ],
)
def test_the_wrong_stream_is_refused_by_name(kinds: dict[str, int], traffic: Traffic, said: str) -> None:
    assert said in refused(content(kinds=kinds), traffic)


def test_only_the_victims_link_of_a_run_is_scored(tmp_path: Path) -> None:
    cell = CellFolder(tmp_path)
    cell.inspected.parent.mkdir()
    links = [
        {"capture": f"/x/{name}.pcap", "streams": [{"client": name}]} for name in ("serve-victim", "serve-attacker")
    ]
    cell.inspected.write_text(json.dumps({"captures": links}))

    def victims(name: str, client: str) -> bool:
        return check_link(Path(name), cell, ["pi"], content(streams=[seen()["streams"][0] | {"client": client}]))

    assert victims("serve-victim.pcap.gz", "any") and victims("untrained-serve-victim.pcap", "any")
    assert victims("serve-pi.pcap", "any") and victims("cut.pcap", "serve-victim")
    assert not victims("cut.pcap", "serve-attacker") and not victims("cut.pcap", "stranger")
    with pytest.raises(StudyError, match=r"serve-attacker\.pcap is not the victims' link"):
        victims("serve-attacker.pcap", "serve-victim")


@pytest.mark.skipif(CASES is None, reason="the folder shared/cases with captures of faults is not there")
@pytest.mark.parametrize("path", WIRE, ids=name_of)
def test_each_case_is_attacked_or_refused_with_a_reason(path: Path) -> None:
    found = Content(path, inspect([path]))
    if path.parent.name in READ:
        found.check("linear", Traffic.SERVING, True)
        assert found.activations == READ[path.parent.name]
        assert found.late == (path.parent.name == "late-start")
    else:
        said = refused(found)
        assert "nothing was decoded" in said or "federated training" in said


def test_a_second_request_goes_on_with_its_own_guesses_only(tmp_path: Path) -> None:
    capture = tmp_path / "a.pcap"
    capture.write_bytes(b"one")
    request = Request(capture, "linear", "input", out=tmp_path / "out")
    config = {"captures": {"victims": [str(capture)]}, "seed": 0}
    assert request.claim(config) is None and request.claim(config) is None
    request.guesses.path.mkdir()
    request.guesses.guesses.write_bytes(b"")
    assert "holds these guesses already" in str(request.claim(config))
    capture.write_bytes(b"two")
    assert "with other options or files; it is replaced" in str(request.claim(config))
    assert not request.guesses.guesses.exists() and request.claim(config) is None


@pytest.fixture
def attacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, Path]]:
    """Shows an attack outside a run, with stand-ins for its files; returns status, output and folder."""

    def attacked(count: int, prior: str | None = None) -> tuple[int, str, Path]:
        request = Request(tmp_path / "cut.pcap", "linear", "input", victims=500, out=tmp_path / "out")
        request.guesses.path.mkdir(parents=True)
        np.savez(request.guesses.guesses, linear=np.zeros((500, 1, 4, 4), np.float32))
        read = {"kind": "activation", "count": count, "promised": 500, "party": "victims"}
        meta: dict[str, Any] = {
            "reads": {"": [read]},
            "prior": prior,
            "notes": [],
            "fit": None,
            "observations": {"victims": count},
        }
        request.guesses.meta.write_text(json.dumps(meta | {"granted": {}}))
        part = seen() | {"capture": "cut.pcap", "bursts": []}
        console = Console(width=200)
        with console.capture() as said:
            threat = {"threat": {"vantage": ["link"], "sees": ["activation"], "knows": []}}
            found = Content(Path("cut.pcap"), part | {"captures": [part]})
            status = show(request, threat, found, Guessed([], None, "no truth"), console)
        return status, said.get(), request.folder

    return attacked


def test_what_was_read_is_counted_and_unscored_guesses_are_called_so(attacked: Any) -> None:
    status, said, folder = attacked(294)
    assert status == 0 and "† read 294 of 500 activations" in said
    assert "not scored: no truth. This shows neither that the wire leaks nor that it does not." in said
    page = (folder / "report.html").read_text()
    assert "Not scored: no truth" in page and "read 294 of 500 activations" in page
    assert read_results(folder).grants[0].incomplete == "read 294 of 500 activations"
    assert {"guesses.npz", "meta.json", "results.json", "report.html"} <= {path.name for path in folder.iterdir()}


def test_a_guess_that_is_only_the_prior_has_no_score_and_another_status(attacked: Any) -> None:
    status, said, folder = attacked(0, "victims: 0 activations seen; the guess is the prior")
    assert status == 1 and "nothing is shown: victims: 0 activations seen; the guess is the prior" in said
    assert "† read 0 of 500 activations" in said and not (folder / "report.html").exists()

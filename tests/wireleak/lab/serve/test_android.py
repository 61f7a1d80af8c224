"""`wireleak android`: the real adb command against a stand-in of adb's server. Nothing here is a real device."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from tests.wireleak.lab.serve.stand_in_adb import StandIn
from wireleak.cli import app
from wireleak.lab.serve import android
from wireleak.lab.serve.android import Adb, Device, advice, choose, show_on_android
from wireleak.lab.serve.session import Wanted
from wireleak.lab.study.schema import StudyError

needs_adb = pytest.mark.skipif(shutil.which("adb") is None, reason="needs adb")
WANTED = Wanted(None, ("wide",), None, True, "127.0.0.1", 8787, Path("runs"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., StandIn]]:
    """Start a stand-in that the adb command uses."""
    with ExitStack() as running:

        def begin(devices: dict[str, str], **more: str) -> StandIn:
            made = running.enter_context(StandIn(devices, **more))
            monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(made.port))
            return made

        yield begin


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Wanted]:
    """Replace the session by one that is ready at once and ends."""
    seen: list[Wanted] = []

    class Session:
        capture = Path("web.pcap")

    def serve(wanted: Wanted, console: Console, ready: Callable[[Session], None]) -> None:
        seen.append(wanted)
        ready(Session())

    monkeypatch.setattr(android, "serve", serve)
    return seen


def show(network: bool = False, serial: str | None = None) -> str:
    console = Console(record=True, width=200)
    show_on_android(WANTED, serial, network, console)
    return console.export_text()


@needs_adb
def test_the_page_opens_as_the_devices_own_localhost(server: Callable[..., StandIn], served: list[Wanted]) -> None:
    stand_in = server({"emulator-5554": "device"})
    ports: list[dict[str, str]] = []
    told, stand_in_answer = stand_in.asked, stand_in.answer

    def answer(request: str) -> list[bytes]:
        if request.startswith("shell:"):
            ports.append(dict(stand_in.ports))
        return stand_in_answer(request)

    stand_in.answer = answer  # type: ignore[method-assign]
    said = show()
    assert ports == [{"tcp:8787": "tcp:8787", "tcp:8788": "tcp:8788"}] and stand_in.ports == {}
    assert "shell:am start -a android.intent.action.VIEW -d http://localhost:8787/" in told
    assert "opened on emulator-5554: http://localhost:8787/" in said and "add --network" in said


@needs_adb
def test_over_the_network_the_devices_own_capture_sees_the_bytes(
    server: Callable[..., StandIn], served: list[Wanted], monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator = server({"emulator-5554": "device"})
    assert "-tcpdump FILE.pcap" in show(network=True)
    assert "shell:am start -a android.intent.action.VIEW -d http://10.0.2.2:8787/" in emulator.asked
    assert "10.0.2.2" in served[0].hosts and served[0].host == "127.0.0.1"
    assert not any(asked.startswith("reverse:") for asked in emulator.asked)
    monkeypatch.setattr(android, "own_address", lambda: "192.168.1.5")
    phone = server({"R58M": "device"})
    assert "PCAPdroid" in show(network=True)
    assert "shell:am start -a android.intent.action.VIEW -d http://192.168.1.5:8787/" in phone.asked
    assert served[1].host == "0.0.0.0" and "192.168.1.5" in served[1].hosts


@needs_adb
@pytest.mark.parametrize(
    ("devices", "serial", "line"),
    [
        ({}, None, "adb sees no phone and no emulator; connect a phone with USB debugging switched on"),
        ({"R58M": "unauthorized"}, None, "R58M has not allowed this computer; confirm the question on its screen"),
        ({"R58M": "offline"}, None, "R58M is offline"),
        ({"a": "device", "b": "device"}, None, "--serial: several are connected; choose one of a, b"),
        ({"a": "device"}, "c", "--serial: no phone or emulator c; adb sees a"),
    ],
)
def test_every_reason_is_one_line(
    server: Callable[..., StandIn], devices: dict[str, str], serial: str | None, line: str
) -> None:
    server(devices)
    done = CliRunner().invoke(app, ["android", *(["--serial", serial] if serial else [])])
    assert done.exit_code == 2 and done.stderr.startswith(f"wireleak: {line}") and done.stderr.count("\n") == 1


@needs_adb
def test_a_browser_that_is_missing_ends_it_and_the_ports_are_freed(
    server: Callable[..., StandIn], served: list[Wanted]
) -> None:
    stand_in = server({"R58M": "device"}, says="Starting\nError: Activity not started, unable to resolve Intent\n")
    with pytest.raises(StudyError, match=r"R58M: its browser cannot open .*Activity not started"):
        show()
    assert stand_in.ports == {}


@needs_adb
def test_what_adb_itself_refuses_is_passed_on(server: Callable[..., StandIn]) -> None:
    server({"R58M": "device"})
    with pytest.raises(StudyError, match="adb -s nobody reverse tcp:1 tcp:1: device 'nobody' not found"):
        Adb().run("-s", "nobody", "reverse", "tcp:1", "tcp:1")


def test_without_adb_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    done = CliRunner().invoke(app, ["android"])
    assert done.exit_code == 2 and "adb: not found; install it (Debian, Ubuntu: apt install adb" in done.stderr


def test_an_sdk_that_is_not_on_the_path_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "platform-tools" / "adb"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\nprintf "List of devices attached\\nR58M\\tdevice\\n\\n"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("ANDROID_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(os, "defpath", "/nowhere")
    assert Adb().devices() == [Device("R58M", "device")]


def test_a_usable_device_is_taken_where_another_is_not() -> None:
    assert choose([Device("a", "offline"), Device("b", "device")], None) == Device("b", "device")


def test_the_advice_says_where_the_bytes_pass() -> None:
    through_adb = " ".join(advice(Device("R58M", "device"), "http://localhost:8787/", False, Path("web.pcap")))
    assert "does not see these bytes" in through_adb and "PCAPdroid" not in through_adb

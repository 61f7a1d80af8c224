"""Open the page on an Android phone or emulator, which adb connects to this machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
from rich.console import Console

from wireleak.lab.launch.watch import say
from wireleak.lab.serve.session import Session, Wanted, serve
from wireleak.lab.study.schema import StudyError

# An emulator's name for the machine that it runs on.
EMULATORS_HOST = "10.0.2.2"
_INSTALL = (
    "install it (Debian, Ubuntu: apt install adb; macOS: brew install android-platform-tools), or set ANDROID_HOME to "
    "an SDK with platform-tools"
)
_CONNECT = (
    "connect a phone with USB debugging switched on, or start an emulator: emulator -avd NAME -tcpdump android.pcap"
)
_STATES = {
    "unauthorized": "has not allowed this computer; confirm the question on its screen",
    "offline": "is offline; unlock it or connect it again",
    "no permissions": "needs udev rules for this user (Debian: apt install android-sdk-platform-tools-common)",
}
_SECONDS = 60


@dataclass(frozen=True)
class Device:
    """A phone or an emulator.

    Parameters
    ----------
    serial : str
        Its name for adb.
    state : str
        "device" where it can be used.
    """

    serial: str
    state: str

    @property
    def is_emulator(self) -> bool:
        """Whether it is an emulator on this machine."""
        return self.serial.startswith("emulator-")


class Adb:
    """The command adb.

    Raises
    ------
    StudyError
        There is no adb; the message says how to install it.
    """

    def __init__(self) -> None:
        homes = [os.environ[name] for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT") if os.environ.get(name)]
        tools = [Path(home) / "platform-tools" / "adb" for home in homes]
        found = shutil.which("adb") or next((str(path) for path in tools if os.access(path, os.X_OK)), None)
        if found is None:
            raise StudyError(f"adb: not found; {_INSTALL}")
        self._command = found

    def devices(self) -> list[Device]:
        """List phones and emulators, usable or not."""
        lines = self.run("devices").splitlines()
        rows = [line.partition("\t") for line in lines if "\t" in line]
        return [Device(serial, state.partition(";")[0].strip()) for serial, _, state in rows]

    def run(self, *argv: str) -> str:
        """Run a command and return its output.

        Raises
        ------
        StudyError
            adb refused; the message is adb's own last line.
        """
        try:
            done = subprocess.run([self._command, *argv], capture_output=True, text=True, timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            raise StudyError(f"adb {argv[0]}: no answer after {_SECONDS} s; try adb kill-server, then again") from None
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip() or "it gave no reason").splitlines()[-1]
            raise StudyError(f"adb {' '.join(argv)}: {said.removeprefix('adb: ').removeprefix('error: ')}")
        return done.stdout


def choose(devices: list[Device], serial: str | None) -> Device:
    """Return the wanted device, or the only one.

    Raises
    ------
    StudyError
        There is none, several, or it cannot be used; one line says what to do.
    """
    usable = [device for device in devices if device.state == "device"]
    names = ", ".join(device.serial for device in usable) or "none"
    if serial is not None:
        chosen = next((device for device in devices if device.serial == serial), None)
        if chosen is None:
            raise StudyError(f"--serial: no phone or emulator {serial}; adb sees {names}")
    elif len(usable) > 1:
        raise StudyError(f"--serial: several are connected; choose one of {names}")
    else:
        chosen = next(iter(usable or devices), None)
        if chosen is None:
            raise StudyError(f"adb sees no phone and no emulator; {_CONNECT}")
    if chosen.state != "device":
        reason = next((text for state, text in _STATES.items() if chosen.state.startswith(state)), f"is {chosen.state}")
        raise StudyError(f"{chosen.serial} {reason}")
    return chosen


def show_on_android(wanted: Wanted, serial: str | None, network: bool, console: Console) -> None:
    """Serve the page, open it on the device, and stop with Ctrl-C.

    Parameters
    ----------
    wanted : Wanted
        The session.
    serial : str, optional
        The device, where several are connected.
    network : bool
        Reach this machine over the device's network, where its own capture sees the bytes; otherwise through adb.
    console : Console

    Raises
    ------
    StudyError, DataError, ExportError, LaunchError
        There is no device, or the network cannot be served.
    """
    adb = Adb()
    device = choose(adb.devices(), serial)
    host = "localhost"
    if network:
        host = EMULATORS_HOST if device.is_emulator else own_address()
        wanted = replace(wanted, host=wanted.host if device.is_emulator else "0.0.0.0", names=(host,))
    url = f"http://{host}:{wanted.port}/"
    with reversed_ports(adb, device, () if network else wanted.ports):

        def ready(session: Session) -> None:
            view = ["am", "start", "-a", "android.intent.action.VIEW", "-d", url]
            said = adb.run("-s", device.serial, "shell", *view)
            if error := next((line for line in said.splitlines() if line.startswith("Error")), None):
                raise StudyError(f"{device.serial}: its browser cannot open {url}: {error}")
            for line in advice(device, url, network, session.capture):
                say(console, line)

        serve(wanted, console, ready)


@contextmanager
def reversed_ports(adb: Adb, device: Device, ports: tuple[int, ...]) -> Iterator[None]:
    """Let the device reach this machine's ports as its own localhost, and undo it at the end."""
    done: list[int] = []
    try:
        for port in ports:
            adb.run("-s", device.serial, "reverse", f"tcp:{port}", f"tcp:{port}")
            done.append(port)
        yield
    finally:
        for port in done:
            try:
                adb.run("-s", device.serial, "reverse", "--remove", f"tcp:{port}")
            except StudyError:
                break  # the device was disconnected, and its forwarding with it


def advice(device: Device, url: str, network: bool, capture: Path) -> list[str]:
    """Return the lines that say what is open, and how to capture on the device itself."""
    lines = [f"opened on {device.serial}: {url}"]
    if not network:
        return [
            *lines,
            "Camera and installing work: for the browser this page is its own localhost, through adb.",
            "The device's own capture does not see these bytes, as they travel over adb: add --network for that.",
        ]
    tool = (
        "start the emulator with -tcpdump FILE.pcap"
        if device.is_emulator
        else "record with PCAPdroid, pcap or pcapng, with or without its trailer, and copy the file here"
    )
    return [
        *lines,
        "Camera and installing are off: the browser allows them only for localhost or HTTPS.",
        f"To capture on the device: {tool}.",
        f"Such a file goes to wireleak inspect and wireleak attack in the place of {capture.name}.",
    ]


def own_address() -> str:
    """Return this machine's address for other machines.

    Raises
    ------
    StudyError
        It has none.
    """
    for name, held in psutil.net_if_addrs().items():
        if name in psutil.net_if_stats() and not psutil.net_if_stats()[name].isup:
            continue
        for one in held:
            if one.family == socket.AF_INET and not one.address.startswith("127."):
                return str(one.address)
    raise StudyError("--network: this machine has no address that a phone could reach; connect it to a network")

"""The Raspberry Pis that can be emulated, and the links that they can have."""

from __future__ import annotations

from dataclasses import dataclass

from wireleak.common.wire.channel import IPV4_LOOPBACK


@dataclass(frozen=True)
class Board:
    """A Raspberry Pi: its CPU as the emulator names it, and its name for people."""

    title: str
    cpu: str


BOARDS = {
    "pi3": Board("Raspberry Pi 3", "cortex-a53"),
    "pi4": Board("Raspberry Pi 4", "cortex-a72"),
}
# What the guest's network emulator (netem) does to each packet that the device sends.
LINKS = {"ethernet": "", "wifi": "delay 20ms rate 20mbit loss 1%"}
# The host's loopback, as the emulator's network shows it to the guest.
HOST = "10.0.2.2"


def seen_from_guest(address: str) -> str:
    """Return the address under which an emulated Pi reaches a service on the host's loopback.

    Raises
    ------
    ValueError
        The service is not on loopback.
    """
    host, _, port = address.rpartition(":")
    if host not in IPV4_LOOPBACK:
        raise ValueError(f"address: {address} is not on this machine's loopback; use 127.0.0.1:{port}")
    return f"{HOST}:{port}"

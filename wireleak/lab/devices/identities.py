"""Certificates for a head and devices on several machines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from wireleak.lab.devices.errors import ExportError
from wireleak.lab.launch.certificates import Authority

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?")
_DEVICE = re.compile(r"[a-z0-9][a-z0-9-]*")
_HEAD = "head"


def make_identities(folder: Path, hosts: Sequence[str], devices: Sequence[str], days: int) -> list[str]:
    """Write `ca.pem`, `head.pem`, `head.key`, and a certificate and key for each device; return lines for people.

    The authority's key is not kept, so nobody can add a device later; make all certificates anew.

    Raises
    ------
    ExportError
        A name is not one, or the folder holds certificates already.
    """
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise ExportError(f"--host: {host!r} is no name or address; give one such as head.local or 192.168.1.10")
    for device in devices:
        if not _DEVICE.fullmatch(device) or device in (_HEAD, "ca"):
            raise ExportError(f"--device: {device!r} is no name for a file; use small letters, digits and -")
    if (folder / "ca.pem").exists():
        raise ExportError(f"--out: {folder} holds certificates already; name another folder or remove it")
    try:
        authority = Authority(folder, days)
        head = authority.server(_HEAD, hosts)
        owned = [authority.client(device) for device in devices]
    except OSError as error:
        raise ExportError(f"--out: cannot write {folder}: {error.strerror}") from error
    given = ", ".join([head.ca.name, *(f"{one.certificate.name}, {one.key.name}" for one in owned)])
    return [
        f"the head keeps {head.certificate} and {head.key}"
        + (f", and {head.ca} to ask for certificates" * bool(owned)),
        f"devices get {given}",
    ]

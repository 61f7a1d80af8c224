"""The sniffer: tcpdump on an interface, as a child process that never outlives this one. Needs the right to capture."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from wireleak.common.words import counted

MISTAKE, FAILED = 2, 3
# The kernel passes packets to tcpdump in blocks, at the latest after a second. Wait for the last block before a stop.
_RETIRE_S = 1.2
_PR_SET_PDEATHSIG = 1


def main(interface: str, output: Path, filter: str = "", *, buffer_kib: int = 32_768) -> None:
    """Capture an interface's packets into a pcap until SIGINT or SIGTERM, then report tcpdump's counts.

    Parameters
    ----------
    interface : str
        The interface, e.g. ``"lo"`` or ``"any"``.
    output : Path
        The pcap file; it must not exist.
    filter : str, optional
        Filter in tcpdump's syntax, e.g. ``"tcp port 4001"``.
    buffer_kib : int, optional
        Size of the kernel's capture buffer, KiB; packets of a larger burst are dropped.

    Raises
    ------
    SystemExit
        Status 2 if tcpdump is missing, not permitted or refuses the interface or filter; 3 if it ends by itself.
    """
    program = shutil.which("tcpdump") or shutil.which("tcpdump", path="/usr/sbin:/sbin")
    if program is None:
        raise _exit(MISTAKE, "tcpdump is missing; install it: make deps-system")
    if output.exists():
        raise _exit(MISTAKE, f"{output} exists already; captures are never overwritten: move it or name another file")
    stopped, stopper = os.pipe()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os.write(stopper, b"\0"))
    child = _start(_command(program, interface, output, filter, buffer_kib))
    try:
        _wait_until_listening(child, interface, program)
        print(f"tap: sniffing {interface}, recorded in {output}; Ctrl-C ends it", flush=True)
        ended = _wait_for_stop(child, stopped)
        counters = _stop(child)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    if ended:
        raise _exit(FAILED, f"tcpdump ended: {_reason(counters)}; what was captured stays readable")
    _report(counters)


def _command(program: str, interface: str, output: Path, filter: str, buffer_kib: int) -> list[str]:
    command = [program, "-i", interface, "-w", str(output), "-U", "-n", "-s", "0", "-B", str(buffer_kib)]
    if os.geteuid() == 0:
        # tcpdump would change to a user that may not write the file, and would lose the parent-death signal.
        command += ["-Z", pwd.getpwuid(0).pw_name]
    return [*command, "--", filter] if filter else command


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def die_with_parent() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    # Its own session: Ctrl-C reaches only this process, which then stops tcpdump cleanly.
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=die_with_parent,
    )


def _wait_until_listening(child: subprocess.Popen[bytes], interface: str, program: str) -> None:
    assert child.stderr is not None
    output = b""
    for line in child.stderr:
        if b"listening on" in line:
            return
        output += line
    text = output.decode(errors="replace")
    if re.search(r"permi(ssion|tted)", text) and "-w" not in text and "syntax" not in text:
        raise _exit(
            MISTAKE,
            f"not permitted to capture on {interface}: run as root, or "
            f"sudo setcap cap_net_raw,cap_net_admin=eip {program}",
        )
    raise _exit(MISTAKE, f"tcpdump cannot start: {_reason(text)}")


def _wait_for_stop(child: subprocess.Popen[bytes], stopped: int) -> bool:
    """Wait for a signal or for the end of tcpdump; return whether tcpdump ended."""
    process = os.pidfd_open(child.pid)
    try:
        ready, _, _ = select.select([stopped, process], [], [])
    finally:
        os.close(process)
    return process in ready


def _stop(child: subprocess.Popen[bytes]) -> str:
    """Stop tcpdump cleanly and return its last output."""
    if child.poll() is None:
        time.sleep(_RETIRE_S)
        child.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        _, output = child.communicate(timeout=10)
        return output.decode(errors="replace")
    return ""


def _report(counters: str) -> None:
    counts = {name: int(number) for number, name in re.findall(r"(\d+) packets? (captured|dropped by \w+)", counters)}
    captured = counts.pop("captured", 0)
    dropped = {name: number for name, number in counts.items() if number}
    print(f"tap: {counted(captured, 'packet')} captured", flush=True)
    for name, number in dropped.items():
        print(f"tap: {counted(number, 'packet')} {name}: the capture has gaps", file=sys.stderr, flush=True)


def _reason(text: str) -> str:
    lines = [line.removeprefix("tcpdump: ") for line in text.splitlines() if line.strip()]
    reasons = [line for line in lines if not re.match(r"\d+ packets? |listening on|data link type", line)]
    return reasons[0] if reasons else "no reason given"


def _exit(status: int, text: str) -> SystemExit:
    print(f"tap: {text}", file=sys.stderr, flush=True)
    return SystemExit(status)

"""An independent reader of a capture: dpkt reads packets, h2 reads HTTP/2, protobuf's own compiler makes the messages.

It shares no line with wireleak, so a mistake in wireleak's reader cannot hide in this one. It reads what a study's tap
records: complete plaintext connections, each in one file or in several.
"""

from __future__ import annotations

import gzip
import importlib.util
import struct
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import dpkt
import numpy as np
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived
from h2.settings import SettingCodes

Flow = tuple[bytes, int, bytes, int]
_LARGEST_WINDOW = 2**31 - 1
_RAW = (12, 101)  # packets without a link layer: libpcap's DLT_RAW and LINKTYPE_RAW


@dataclass
class Call:
    """One gRPC call: its path, and the messages in each direction as bytes."""

    path: str
    requests: list[bytes] = field(default_factory=list)
    responses: list[bytes] = field(default_factory=list)


def compiled(proto: Path, folder: Path) -> ModuleType:
    """Compile `proto` with protobuf's compiler into `folder`, under a name of its own, and import it."""
    # protobuf refuses a second file with the same symbols in one process, so the package is renamed.
    source = proto.read_text().replace("package wireleak.v1;", "package oracle;")
    (folder / "oracle.proto").write_text(source)
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{folder}", f"--python_out={folder}", "oracle.proto"]
    subprocess.run(command, check=True)
    spec = importlib.util.spec_from_file_location("oracle_pb2", folder / "oracle_pb2.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def calls(capture: Path) -> list[Call]:
    """Return a capture's gRPC calls, in the order of their beginning."""
    found: list[Call] = []
    streams = _streams(capture)
    for flow in list(streams):
        if flow not in streams:
            continue
        back = (flow[2], flow[3], flow[0], flow[1])
        there, here = streams.pop(flow), streams.pop(back, b"")
        if here.startswith(b"PRI * HTTP/2.0"):
            there, here = here, there
        if there.startswith(b"PRI * HTTP/2.0"):
            found += _read(there, here)
    return found


def tensor(message: Any) -> np.ndarray[Any, Any]:
    """Return a message's tensor as an array, little-endian as the contract says."""
    kinds = {1: "<f4", 2: "<f2", 3: "<i8", 4: "u1"}
    return np.frombuffer(message.data, kinds[message.dtype]).reshape(tuple(message.shape))


def _streams(capture: Path) -> dict[Flow, bytes]:
    """Return the bytes of each direction of each TCP connection."""
    parts: dict[Flow, dict[int, bytes]] = defaultdict(dict)
    first: dict[Flow, int] = {}
    opener = gzip.open if capture.suffix == ".gz" else open
    with opener(capture, "rb") as file:
        reader = dpkt.pcap.Reader(file)
        for _, packet in reader:
            ip = _ip(reader.datalink(), packet)
            if ip is None or not isinstance(ip.data, dpkt.tcp.TCP):
                continue
            tcp = ip.data
            flow = (bytes(ip.src), tcp.sport, bytes(ip.dst), tcp.dport)
            if tcp.flags & dpkt.tcp.TH_SYN:
                first[flow] = tcp.seq + 1
            if tcp.data:
                number = (tcp.seq - first.setdefault(flow, tcp.seq)) % 2**32
                parts[flow].setdefault(number, bytes(tcp.data))
    return {flow: _joined(segments) for flow, segments in parts.items()}


def _ip(link: int, packet: bytes) -> Any:
    if link in _RAW:
        return dpkt.ip.IP(packet)
    data = dpkt.ethernet.Ethernet(packet).data
    return data if isinstance(data, dpkt.ip.IP | dpkt.ip6.IP6) else None


def _joined(segments: dict[int, bytes]) -> bytes:
    joined = bytearray()
    for number, data in sorted(segments.items()):
        if number > len(joined):
            raise ValueError(f"bytes {len(joined)} to {number} of a connection are missing")
        joined += data[len(joined) - number :]
    return bytes(joined)


def _read(client: bytes, server: bytes) -> Iterator[Call]:
    """Read both directions of a connection, each as its receiver does."""
    opened: dict[int, Call] = {}
    for event in _events(client, as_client=False):
        if isinstance(event, RequestReceived):
            opened[event.stream_id] = Call(dict(event.headers)[b":path"].decode())
    for data, is_request in ((client, True), (server, False)):
        body: dict[int, bytearray] = defaultdict(bytearray)
        for event in _events(data, as_client=not is_request, calls=opened):
            if isinstance(event, DataReceived):
                body[event.stream_id] += event.data
        for stream, content in body.items():
            messages = opened[stream].requests if is_request else opened[stream].responses
            messages += _messages(bytes(content))
    yield from opened.values()


def _events(data: bytes, *, as_client: bool, calls: dict[int, Call] | None = None) -> Iterator[Any]:
    config = H2Configuration(
        client_side=as_client, header_encoding=None, validate_inbound_headers=False, validate_outbound_headers=False
    )
    connection = H2Connection(config)
    # What the real receiver allowed is not known here, so everything is.
    connection.local_settings.update({SettingCodes.INITIAL_WINDOW_SIZE: _LARGEST_WINDOW})
    connection.local_settings.update({SettingCodes.MAX_FRAME_SIZE: 2**24 - 1})
    connection.local_settings.acknowledge()
    connection.max_inbound_frame_size = 2**24 - 1
    connection.initiate_connection()
    connection.increment_flow_control_window(_LARGEST_WINDOW - 65_535)
    if as_client:
        # A response is read only on a stream that was opened.
        for stream in sorted(calls or {}):
            connection.send_headers(stream, [(b":method", b"POST"), (b":path", b"/"), (b":scheme", b"http")])
    for start in range(0, len(data), 1 << 16):
        for event in connection.receive_data(data[start : start + (1 << 16)]):
            if isinstance(event, DataReceived) and event.flow_controlled_length:
                connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            yield event
        connection.data_to_send()


def _messages(body: bytes) -> Iterator[bytes]:
    """Cut a gRPC body into its messages: a flag, a length of four bytes, and the message."""
    at = 0
    while at + 5 <= len(body):
        compressed, length = struct.unpack_from(">BI", body, at)
        if compressed:
            raise ValueError("a compressed message")
        yield body[at + 5 : at + 5 + length]
        at += 5 + length

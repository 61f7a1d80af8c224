"""gRPC channels and ports: plaintext, TLS or mutual TLS by one switch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

# Configs name a link's protection and limits; only a process that opens a link needs gRPC.
if TYPE_CHECKING:
    import grpc

IPV4_LOOPBACK = ("localhost", "127.0.0.1")
LOOPBACK = (*IPV4_LOOPBACK, "::1")
# A batch of activations at a wide cut outgrows gRPC's 4 MiB default.
MAX_MESSAGE_BYTES = 80 << 20


@dataclass(frozen=True)
class Security:
    """How a link is protected. All fields None: plaintext.

    Parameters
    ----------
    ca : Path, optional
        PEM of the authority that signs the other side. A client with `ca` speaks TLS; a server
        with `ca` asks every client for a certificate (mutual TLS).
    certificate, key : Path, optional
        PEM of this side's own certificate and key. A server with them speaks TLS.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("security: certificate and key go together; give both or neither")

    @property
    def encrypted(self) -> bool:
        """Whether the link is TLS."""
        return self.ca is not None or self.certificate is not None

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Credentials of a client."""
        import grpc

        return grpc.ssl_channel_credentials(_read(self.ca), _read(self.key), _read(self.certificate))

    def server_credentials(self) -> grpc.ServerCredentials:
        """Credentials of a server."""
        import grpc

        key, certificate = _read(self.key), _read(self.certificate)
        if key is None or certificate is None:
            raise ValueError("security: a TLS server needs certificate and key")
        return grpc.ssl_server_credentials(
            [(key, certificate)], root_certificates=_read(self.ca), require_client_auth=self.ca is not None
        )


def channel_options(most_received: int = MAX_MESSAGE_BYTES) -> list[tuple[str, int]]:
    """Options of every channel and server: other message limits than gRPC's, and no port shared in silence."""
    return [
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", most_received),
        ("grpc.so_reuseport", 0),
    ]


def open_channel(address: str, security: Security = Security()) -> grpc.Channel:
    """Open a client's channel to `address` ("host:port"); it connects on first use."""
    import grpc

    options = channel_options()
    if address.rpartition(":")[0].strip("[]") in LOOPBACK:
        # A proxy that the environment names cannot reach this machine's loopback.
        options.append(("grpc.enable_http_proxy", 0))
    if security.encrypted:
        return grpc.secure_channel(address, security.channel_credentials(), options=options)
    return grpc.insecure_channel(address, options=options)


def bind(server: grpc.Server, address: str, security: Security = Security()) -> int:
    """Bind a server to `address` and return its port (chosen by the system for port 0).

    Raises
    ------
    OSError
        The port is in use.
    """
    try:
        if security.encrypted:
            return server.add_secure_port(address, security.server_credentials())
        return server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}: the port is in use; choose another") from error


def _read(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()

import shutil
import socket
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from wireleak.lab.launch.certificates import Authority


def handshake(server_context: Any, client_context: Any, hostname: Any) -> Any:
    """Return what the server says to a client after the handshake; raise what the client meets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                try:
                    with server_context.wrap_socket(connection, server_side=True) as secure:
                        secure.sendall(b"welcome")
                except (ssl.SSLError, ConnectionError):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            plain = socket.create_connection(listener.getsockname(), timeout=5)
            with plain, client_context.wrap_socket(plain, server_hostname=hostname) as secure:
                return secure.recv(16)
        finally:
            thread.join()


def contexts(
    server: Any, client: Any = None, ca: Any = None, mutual: bool = False
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=server.ca if mutual else None)
    serving.load_cert_chain(server.certificate, server.key)
    serving.verify_mode = ssl.CERT_REQUIRED if mutual else ssl.CERT_NONE
    asking = ssl.create_default_context(cafile=ca or server.ca)
    if client is not None:
        asking.load_cert_chain(client.certificate, client.key)
    return serving, asking


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_client_that_knows_the_authority_trusts_the_server(authority: Authority, host: str) -> None:
    assert handshake(*contexts(authority.server()), host) == b"welcome"


def test_another_name_and_another_authority_are_refused(authority: Authority, tmp_path: Path) -> None:
    server = authority.server()
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(*contexts(server), "example.org")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(*contexts(server, ca=Authority(tmp_path / "other").ca), "127.0.0.1")


def test_mutual_tls_takes_its_clients_alone(authority: Authority, tmp_path: Path) -> None:
    server = authority.server()
    assert handshake(*contexts(server, authority.client("device"), mutual=True), "127.0.0.1") == b"welcome"
    stranger = Authority(tmp_path / "other").client("device")
    for client in (None, stranger, authority.server("another")):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            handshake(*contexts(server, client, mutual=True), "127.0.0.1")


def test_openssl_accepts_the_chain_and_keys_are_private(authority: Authority) -> None:
    server, client = authority.server(), authority.client("device")
    assert server.key.stat().st_mode & 0o077 == 0
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    for identity, purpose in ((server, "sslserver"), (client, "sslclient")):
        command: list[str | Path] = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", identity.ca]
        result = subprocess.run([*command, identity.certificate], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr

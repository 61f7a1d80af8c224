"""`wireleak certificates`: files that TLS accepts for the names that were asked for, and no others."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.wireleak.lab.launch.test_certificates import contexts, handshake
from wireleak.cli import app
from wireleak.lab.launch.certificates import Identity


def make(folder: Path, *argv: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["certificates", "--out", str(folder), *argv])
    return done.exit_code, done.stdout, done.stderr


def identity(folder: Path, name: str) -> Identity:
    return Identity(folder / "ca.pem", folder / f"{name}.pem", folder / f"{name}.key")


@pytest.mark.parametrize("name", ["head.local", "10.0.0.2", "localhost"])
def test_a_head_is_trusted_under_its_names_with_mutual_tls(tmp_path: Path, name: str) -> None:
    status, output, _ = make(tmp_path / "pem", "--host", "head.local", "--host", "10.0.0.2", "--device", "pi")
    assert status == 0
    assert "devices get ca.pem, pi.pem, pi.key" in output
    head, device = (identity(tmp_path / "pem", own) for own in ("head", "pi"))
    server, client = contexts(head, device, mutual=True)
    assert handshake(server, client, name) == b"welcome"


def test_another_name_is_not_trusted(tmp_path: Path) -> None:
    make(tmp_path / "pem", "--host", "head.local")
    server, client = contexts(identity(tmp_path / "pem", "head"))
    with pytest.raises(ssl.SSLError, match="Hostname mismatch"):
        handshake(server, client, "other.local")


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (("--host", "a b"), "--host: 'a b' is no name or address"),
        (("--host", "h", "--device", "../x"), "--device: '../x' is no name for a file"),
        (("--host", "h", "--device", "head"), "--device: 'head' is no name for a file"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, argv: tuple[str, ...], line: str) -> None:
    status, output, errors = make(tmp_path / "pem", *argv)
    assert (status, output, errors.count("\n")) == (2, "", 1)
    assert line in errors
    assert not (tmp_path / "pem").exists()


def test_certificates_are_not_replaced(tmp_path: Path) -> None:
    make(tmp_path / "pem", "--host", "h")
    before = (tmp_path / "pem" / "head.key").read_bytes()
    status, _, errors = make(tmp_path / "pem", "--host", "h")
    assert status == 2
    assert "holds certificates already" in errors
    assert (tmp_path / "pem" / "head.key").read_bytes() == before

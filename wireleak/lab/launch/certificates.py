"""A temporary certificate authority, for variants with TLS and mutual TLS and for a head on another machine."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from wireleak.common.files import OWNER, write_atomically
from wireleak.common.wire.channel import LOOPBACK

_DAYS = 30


@dataclass(frozen=True)
class Identity:
    """Paths of one party's certificate and key, and of the authority that signed it (all PEM)."""

    ca: Path
    certificate: Path
    key: Path


class Authority:
    """A certificate authority. Its own key is never written to disk.

    Parameters
    ----------
    folder : Path
        Folder for PEM files, created if missing. The authority's certificate is `ca.pem`.
    days : int
        Days for which its certificates are valid.
    """

    def __init__(self, folder: Path, days: int = _DAYS) -> None:
        self._folder = folder
        self._days = days
        folder.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("wireleak lab authority")
        public = self._key.public_key()
        certificate = (
            self._builder(self._name, public)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(sign_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.ca = folder / "ca.pem"
        write_atomically(self.ca, certificate.public_bytes(serialization.Encoding.PEM))

    def server(self, name: str = "server", hosts: Iterable[str] = ()) -> Identity:
        """Issue a certificate for a server on 127.0.0.1, ::1 or localhost, as `name`.pem and `name`.key.

        `hosts` are further addresses and names under which clients know this machine.
        """
        return self._issue(name, ExtendedKeyUsageOID.SERVER_AUTH, hosts)

    def client(self, name: str) -> Identity:
        """Issue a certificate that proves a client's identity (mutual TLS), as `name`.pem and `name`.key."""
        return self._issue(name, ExtendedKeyUsageOID.CLIENT_AUTH)

    def _issue(self, name: str, purpose: x509.ObjectIdentifier, hosts: Iterable[str] = ()) -> Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        known = [_subject(host) for host in dict.fromkeys((*LOOPBACK, *hosts))]
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            self._builder(_name(name), key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.SubjectAlternativeName(known), critical=False)
            .add_extension(authority, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        identity = Identity(self.ca, self._folder / f"{name}.pem", self._folder / f"{name}.key")
        write_atomically(identity.certificate, certificate.public_bytes(serialization.Encoding.PEM))
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_atomically(identity.key, private, OWNER)
        return identity

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        # Valid from an hour ago, for clocks that are slow.
        begins = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(begins + datetime.timedelta(days=self._days))
        )


def _subject(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )

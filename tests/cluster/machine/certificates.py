"""One authority for a cluster, and what it signs: a server's certificate, a client's, a kubeconfig that carries one."""

from __future__ import annotations

import base64
import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFETIME = datetime.timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Pair:
    """PEM files of a certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """Signs for one cluster; its key file stays for the controller-manager's signer, and for `kept`."""

    def __init__(self, directory: Path, key: ec.EllipticCurvePrivateKey, pair: Pair, name: str) -> None:
        self._directory = directory
        self._key = key
        self._name = _name(name)
        self.pair = pair

    @classmethod
    def new(cls, directory: Path, name: str = "cluster-ca") -> Self:
        """One that nobody knows yet."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(name), _name(name), key.public_key())
        certificate = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).sign(
            key, hashes.SHA256()
        )
        return cls(directory, key, _write(directory, name, certificate, key), name)

    @classmethod
    def kept(cls, directory: Path, name: str = "cluster-ca") -> Self:
        """The one that `new` left in this directory."""
        pair = _pair(directory, name)
        key = serialization.load_pem_private_key(pair.key.read_bytes(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return cls(directory, key, pair, name)

    def server(self, name: str, addresses: tuple[str, ...], names: tuple[str, ...] = ()) -> Pair:
        """A server's pair, for these addresses and DNS names."""
        alternatives: list[x509.GeneralName] = [x509.DNSName(each) for each in names]
        alternatives += [x509.IPAddress(ipaddress.ip_address(each)) for each in addresses]
        return self._issue(name, _name(name), ExtendedKeyUsageOID.SERVER_AUTH, alternatives)

    def client(self, user: str, group: str | None = None) -> Pair:
        """A client's pair, for this user of Kubernetes and this group."""
        return self._issue(user.replace(":", "-"), _name(user, group), ExtendedKeyUsageOID.CLIENT_AUTH, [])

    def kubeconfig(self, path: Path, *, server: str, user: str, group: str | None = None) -> Path:
        """Write a kubeconfig for a new client, with everything inside."""
        pair = self.client(user, group)
        cluster = {"server": server, "certificate-authority-data": _base64(self.pair.certificate)}
        credentials = {"client-certificate-data": _base64(pair.certificate), "client-key-data": _base64(pair.key)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "cluster", "cluster": cluster}],
            "users": [{"name": user, "user": credentials}],
            "contexts": [{"name": "cluster", "context": {"cluster": "cluster", "user": user}}],
            "current-context": "cluster",
        }
        _write_private(path, yaml.safe_dump(config, sort_keys=False).encode())
        return path

    def _issue(
        self, stem: str, subject: x509.Name, usage: x509.ObjectIdentifier, alternatives: list[x509.GeneralName]
    ) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(subject, self._name, key.public_key())
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return _write(self._directory, stem, builder.sign(self._key, hashes.SHA256()), key)


def service_account_key(directory: Path) -> Path:
    """The key that signs service account tokens."""
    path = directory / "service-accounts.key"
    _write_private(path, _pem(rsa.generate_private_key(65537, 2048)))
    return path


def _pair(directory: Path, stem: str) -> Pair:
    return Pair(directory / f"{stem}.crt", directory / f"{stem}.key")


def _write(directory: Path, stem: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    pair = _pair(directory, stem)
    pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    _write_private(pair.key, _pem(key))
    return pair


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + _LIFETIME)
    )


def _name(common: str, organisation: str | None = None) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    if organisation:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation))
    return x509.Name(attributes)


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write_private(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()

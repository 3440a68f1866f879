"""The certificates of an embedded control plane: one authority, one server, one administrator.

Made once and kept: the service-account key must not change, else every token ever given is void. Renewed when less
than a month is left. Nothing here is for a real cluster, where the platform issues certificates.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from roadstead.embedded.files import write_atomically, write_once

_LIFETIME = datetime.timedelta(days=730)
_RENEW_BEFORE = datetime.timedelta(days=30)
_SERVER_NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
_SERVER_ADDRESSES = ("127.0.0.1", "10.96.0.1")


@dataclass(frozen=True, slots=True)
class Certificates:
    """Paths of PEM files in one directory."""

    directory: Path

    @property
    def authority(self) -> Path:
        return self.directory / "ca.crt"

    @property
    def authority_key(self) -> Path:
        return self.directory / "ca.key"

    @property
    def server(self) -> Path:
        return self.directory / "apiserver.crt"

    @property
    def server_key(self) -> Path:
        return self.directory / "apiserver.key"

    @property
    def admin(self) -> Path:
        return self.directory / "admin.crt"

    @property
    def admin_key(self) -> Path:
        return self.directory / "admin.key"

    @property
    def service_account_key(self) -> Path:
        return self.directory / "service-accounts.key"

    def usable(self, now: datetime.datetime) -> bool:
        """Whether all are there and none ends within a month."""
        try:
            certificates = [x509.load_pem_x509_certificate(path.read_bytes()) for path in self._all()]
        except (OSError, ValueError):
            return False
        keys = (self.authority_key, self.server_key, self.admin_key)
        return all(key.exists() for key in keys) and all(
            certificate.not_valid_after_utc - now > _RENEW_BEFORE for certificate in certificates
        )

    def _all(self) -> tuple[Path, ...]:
        return self.authority, self.server, self.admin


def ensure_certificates(directory: Path, *, now: datetime.datetime) -> Certificates:
    """Make what is missing or runs out in `directory`; a restart finds the same files."""
    certificates = Certificates(directory)
    write_once(certificates.service_account_key, _pem_key(rsa.generate_private_key(65537, 2048)))
    if certificates.usable(now):
        return certificates
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _authority(authority_key, now)
    server_key, admin_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    server = _leaf(
        _name("kube-apiserver"), server_key, signer=authority, signing_key=authority_key, now=now, server=True
    )
    admin = _leaf(
        _name("admin", organisation="system:masters"),
        admin_key,
        signer=authority,
        signing_key=authority_key,
        now=now,
        server=False,
    )
    write_atomically(certificates.authority_key, _pem_key(authority_key))
    write_atomically(certificates.server_key, _pem_key(server_key))
    write_atomically(certificates.admin_key, _pem_key(admin_key))
    write_atomically(certificates.server, server.public_bytes(serialization.Encoding.PEM))
    write_atomically(certificates.admin, admin.public_bytes(serialization.Encoding.PEM))
    write_atomically(certificates.authority, authority.public_bytes(serialization.Encoding.PEM))
    return certificates


def write_kubeconfig(path: Path, *, server_url: str, certificates: Certificates) -> None:
    """An administrator's kubeconfig with everything inside, so that it can be copied."""

    def embedded(file: Path) -> str:
        return base64.b64encode(file.read_bytes()).decode()

    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "roadstead",
                "cluster": {"server": server_url, "certificate-authority-data": embedded(certificates.authority)},
            }
        ],
        "users": [
            {
                "name": "admin",
                "user": {
                    "client-certificate-data": embedded(certificates.admin),
                    "client-key-data": embedded(certificates.admin_key),
                },
            }
        ],
        "contexts": [{"name": "roadstead", "context": {"cluster": "roadstead", "user": "admin"}}],
        "current-context": "roadstead",
    }
    write_atomically(path, yaml.safe_dump(config, sort_keys=False))


def _authority(key: ec.EllipticCurvePrivateKey, now: datetime.datetime) -> x509.Certificate:
    name = _name("roadstead-embedded-ca")
    return (
        _builder(name, name, key, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _leaf(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    *,
    signer: x509.Certificate,
    signing_key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
    server: bool,
) -> x509.Certificate:
    usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        _builder(subject, signer.subject, key, now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()), critical=False)
    )
    if server:
        names: list[x509.GeneralName] = [x509.DNSName(name) for name in _SERVER_NAMES]
        names += [x509.IPAddress(ipaddress.ip_address(address)) for address in _SERVER_ADDRESSES]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signing_key, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # An hour back: a clock that is set right after a suspend must not find a certificate from the future.
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str, *, organisation: str | None = None) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    if organisation:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation))
    return x509.Name(attributes)


def _pem_key(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )

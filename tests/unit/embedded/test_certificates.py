"""Certificates are made once, renewed before they end, and the service-account key never changes."""

from __future__ import annotations

import datetime
from pathlib import Path

import yaml
from cryptography import x509

from roadstead.embedded.certificates import ensure_certificates, write_kubeconfig

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


def test_the_administrator_is_one_to_the_api_server(tmp_path: Path) -> None:
    certificates = ensure_certificates(tmp_path, now=NOW)
    admin = x509.load_pem_x509_certificate(certificates.admin.read_bytes())
    assert admin.subject.rfc4514_string() == "CN=admin,O=system:masters"
    admin.verify_directly_issued_by(x509.load_pem_x509_certificate(certificates.authority.read_bytes()))


def test_the_server_is_known_by_its_loopback_address(tmp_path: Path) -> None:
    server = x509.load_pem_x509_certificate(ensure_certificates(tmp_path, now=NOW).server.read_bytes())
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "127.0.0.1" in {str(address) for address in names.get_values_for_type(x509.IPAddress)}


def test_no_key_can_be_read_by_others(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, now=NOW)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("*.key")} == {0o600}


def test_a_restart_finds_the_same_files_and_a_late_one_new_certificates(tmp_path: Path) -> None:
    def content() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    ensure_certificates(tmp_path, now=NOW)
    first = content()
    ensure_certificates(tmp_path, now=NOW + datetime.timedelta(days=600))
    assert content() == first
    ensure_certificates(tmp_path, now=NOW + datetime.timedelta(days=710))
    changed = {name for name, data in content().items() if data != first[name]}
    assert {"ca.crt", "apiserver.crt", "admin.crt"} <= changed
    assert "service-accounts.key" not in changed


def test_a_kubeconfig_holds_everything_and_names_one_server(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    certificates = ensure_certificates(tmp_path / "secrets", now=NOW)
    write_kubeconfig(tmp_path / "kubeconfig", server_url="https://127.0.0.1:1", certificates=certificates)
    config = yaml.safe_load((tmp_path / "kubeconfig").read_text())
    assert config["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:1"
    assert set(config["users"][0]["user"]) == {"client-certificate-data", "client-key-data"}
    assert (tmp_path / "kubeconfig").stat().st_mode & 0o777 == 0o600

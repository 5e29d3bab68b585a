"""`seawall certs`: what it makes is what OpenSSL takes, nothing is overwritten, and what needs attention is told."""

from __future__ import annotations

import datetime
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from seawall.certs import Authority, CertsError, findings
from seawall.certs.files import read_certificates, read_crl, read_key
from seawall.cli import main

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


def ca_in(folder: Path, *services: str, days: int = 90, now: datetime.datetime = NOW) -> Authority:
    """Return a new authority with certificates for services."""
    authority = Authority(folder, now=lambda: now)
    authority.begin("ecdsa")
    for name in services:
        authority.issue(name, kind="ecdsa", days=days)
    return authority


def test_init_makes_a_ca_and_a_pair_of_its_own_for_every_service(tmp_path: Path) -> None:
    """By default keys are RSA 4096; backend and db always come, each with its names; keys are their owner's only."""
    folder = tmp_path / "certs"
    assert main(["certs", "init", "--dir", str(folder), "--name", "web=web.internal,10.0.0.7", "--days", "30"]) == 0
    ca = read_certificates(folder / "ca-cert.pem")[0]
    keys = [read_key(path) for path in sorted(folder.glob("*-key.pem"))]
    assert len(keys) == 4
    assert all(isinstance(key, rsa.RSAPrivateKey) and key.key_size == 4096 for key in keys)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.glob("*-key.pem")} == {0o600}
    serials = set[int]()
    for name, hosts in (("backend", ["localhost"]), ("db", ["localhost"]), ("web", ["web.internal"])):
        certificate = read_certificates(folder / f"{name}-cert.pem")[0]
        certificate.verify_directly_issued_by(ca)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [name, *hosts]
        lasts = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
        assert datetime.timedelta(days=29) < lasts <= datetime.timedelta(days=30)
        serials.add(certificate.serial_number)
    assert len(serials) == 3


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second init, and an issue of a name that is there, end with 2 and leave every byte as it was."""
    folder = tmp_path / "certs"
    assert main(["certs", "init", "--dir", str(folder), "--key", "ecdsa"]) == 0
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert main(["certs", "init", "--dir", str(folder), "--key", "ecdsa"]) == 2
    assert main(["certs", "issue", "db", "--dir", str(folder), "--key", "ecdsa"]) == 2
    said = capsys.readouterr().err
    assert said.count("not overwritten") == 2
    assert "Traceback" not in said
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_revoked_certificate_stays_on_the_list_and_its_successor_has_another_key(tmp_path: Path) -> None:
    """Revoking is for good and can be repeated; renewing then makes a new key, and otherwise keeps it."""
    authority = ca_in(tmp_path, "web", "db")
    web, web_key, db_key = (
        authority.certificate("web"),
        read_key(authority.key_path("web")).public_key(),
        read_key(authority.key_path("db")).public_key(),
    )
    assert authority.revoke("web")
    assert not authority.revoke("web")
    authority.revoke("db")
    renewed = authority.renew("web")
    assert authority.is_revoked(web)
    assert not authority.is_revoked(renewed)
    assert renewed.public_key() != web_key
    assert renewed.public_key() == read_key(authority.key_path("web")).public_key()
    assert [each.state for each in findings(authority, now=NOW)] == ["good", "good", "revoked", "good"]
    kept = authority.renew("web")
    assert kept.public_key() == renewed.public_key()
    assert kept.not_valid_after_utc == NOW + datetime.timedelta(days=90)
    assert authority.renew("db").public_key() != db_key
    crl = read_crl(authority.crl_path)
    assert len(list(crl)) == 2
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 3


def test_check_tells_what_needs_attention(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Soon to end, ended, revoked, a key of another and another CA's: each is named with its remedy, exit code 1."""
    now = datetime.datetime.now(datetime.UTC)
    authority = ca_in(tmp_path / "certs", "good", "revoked", "mixed", "foreign", days=90, now=now)
    authority.issue("soon", kind="ecdsa", days=10)
    Authority(authority.folder, now=lambda: now - datetime.timedelta(days=50)).issue("ended", kind="ecdsa", days=40)
    assert main(["certs", "check", "--dir", str(authority.folder), "--warn", "1"]) == 1
    authority.revoke("revoked")
    authority.key_path("mixed").write_bytes(authority.key_path("good").read_bytes())
    other = ca_in(tmp_path / "other", "foreign", now=now)
    for path in (other.cert_path("foreign"), other.key_path("foreign")):
        (authority.folder / path.name).write_bytes(path.read_bytes())
    states = {each.name: each.state for each in findings(authority, now=now)}
    assert states == {
        **dict.fromkeys(("ca", "crl", "good"), "good"),
        "ended": "expired",
        "foreign": "broken",
        "mixed": "broken",
        "revoked": "revoked",
        "soon": "expiring",
    }
    capsys.readouterr()
    assert main(["certs", "check", "--dir", str(authority.folder)]) == 1
    said = capsys.readouterr().out
    assert len(said.splitlines()) == 5
    for name in ("ended", "mixed", "revoked", "soon"):
        assert f"seawall certs renew {name}" in said
    assert "PRIVATE" not in said


@pytest.mark.parametrize(
    "arguments",
    [
        ("show",),
        ("renew", "nobody"),
        ("renew",),
        ("issue", "Not A Name"),
        ("issue", "ca"),
        ("issue", "web=under_score"),
        ("check", "web"),
        ("issue", "web", "--days", "0"),
        ("show", "--name", "web"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    """No CA, an unknown service, a name that is none, words in the wrong place: exit code 2 and one line that helps."""
    folder = tmp_path / "certs"
    if arguments != ("show",):
        ca_in(folder)
    assert main(["certs", *arguments, "--dir", str(folder)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("seawall certs: ")
    assert said.count("\n") == 1


def test_a_certificate_never_outlives_its_ca(tmp_path: Path) -> None:
    """A service's certificate ends with the CA at the latest, whatever is asked."""
    authority = Authority(tmp_path, now=lambda: NOW)
    authority.begin("ecdsa", days=20)
    with pytest.raises(CertsError, match="there already"):
        authority.begin("ecdsa")
    assert authority.issue("web", kind="ecdsa", days=90).not_valid_after_utc == NOW + datetime.timedelta(days=20)

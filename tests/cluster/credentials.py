"""Who is who in the cluster, and how does each prove it?

A certificate authority of the cluster's own, the API server's certificate, the key that signs ServiceAccount tokens,
and one random token for each of the cluster's own users. All of it is made anew at every start and lies in one folder
that only its owner can read.
"""

from __future__ import annotations

import datetime
import ipaddress
import secrets
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

VALID_FOR = datetime.timedelta(days=30)
# User -> its group. The API server has roles of its own for the scheduler's and the controller manager's names.
USERS = {
    "admin": "system:masters",
    "kubelet": "system:masters",
    "kwok": "system:masters",
    "system:kube-controller-manager": "",
    "system:kube-scheduler": "",
}


@dataclass(frozen=True)
class Credentials:
    """Files of one cluster's keys."""

    folder: Path

    @property
    def authority(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def server_certificate(self) -> Path:
        return self.folder / "apiserver.crt"

    @property
    def server_key(self) -> Path:
        return self.folder / "apiserver.key"

    @property
    def account_key(self) -> Path:
        return self.folder / "service-accounts.key"

    @property
    def account_public_key(self) -> Path:
        return self.folder / "service-accounts.pub"

    @property
    def tokens(self) -> Path:
        return self.folder / "tokens.csv"

    def token(self, user: str) -> str:
        """:raises KeyError: for a user that is not in ``USERS``."""
        rows = (line.split(",") for line in self.tokens.read_text().splitlines())
        return {row[1]: row[0] for row in rows}[user]


def create(folder: Path, addresses: tuple[str, ...]) -> Credentials:
    """New keys in ``folder``; the API server's certificate is for its names in a cluster and for ``addresses``."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    credentials = Credentials(folder)
    authority_key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test cluster")])
    key_usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    authority = (
        _certificate(name, name, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    server_key = ec.generate_private_key(ec.SECP256R1())
    server = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")])
    hosts = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
    names: list[x509.GeneralName] = [x509.DNSName(host) for host in hosts]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    certificate = (
        _certificate(server, name, server_key.public_key())
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    account_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    credentials.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    credentials.server_certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    credentials.server_key.write_bytes(_private(server_key))
    credentials.account_key.write_bytes(_private(account_key))
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    credentials.account_public_key.write_bytes(
        account_key.public_key().public_bytes(serialization.Encoding.PEM, public)
    )
    rows = [f'{secrets.token_hex(16)},{user},{user},"{group}"' for user, group in USERS.items()]
    credentials.tokens.write_text("\n".join(rows) + "\n")
    return credentials


def kubeconfig(credentials: Credentials, server: str, user: str) -> Path:
    """Writes, and returns, a kubeconfig of ``user`` for the API server at the URL ``server``."""
    path = credentials.folder / f"{user.replace(':', '-')}.kubeconfig"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "test", "cluster": {"server": server, "certificate-authority": str(credentials.authority)}}
        ],
        "users": [{"name": user, "user": {"token": credentials.token(user)}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
        "current-context": "test",
    }
    path.write_text(yaml.safe_dump(content))
    return path


def _certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    # An hour of slack: a test may set its clock back.
    now = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    return builder.serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(now + VALID_FOR)


def _private(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())

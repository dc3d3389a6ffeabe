"""Where is the API server, and who are we to it?"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from airflow_fate.kube.credentials import CredentialsError, find_credentials


@pytest.fixture(scope="module")
def authority() -> str:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def _config(path: Path, user: dict[str, Any], **cluster: Any) -> Path:
    content = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://10.0.0.1:6443/", **cluster}}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(yaml.safe_dump(content))
    return path


def test_in_a_pod_the_token_is_read_again_for_each_request(tmp_path: Path, authority: str) -> None:
    (tmp_path / "ca.crt").write_text(authority)
    (tmp_path / "namespace").write_text("models")
    (tmp_path / "token").write_text("first\n")
    environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}
    credentials = find_credentials(None, environment, tmp_path)
    assert (credentials.server, credentials.namespace) == ("https://[fd00::1]:6443", "models")
    assert credentials.headers() == {"Authorization": "Bearer first"}
    (tmp_path / "token").write_text("second")
    assert credentials.headers() == {"Authorization": "Bearer second"}
    assert len(credentials.tls.get_ca_certs()) == 1


def test_a_kubeconfigs_files_are_relative_to_it(tmp_path: Path, authority: str) -> None:
    (tmp_path / "ca").write_text(authority)
    (tmp_path / "token").write_text("t")
    path = _config(tmp_path / "config", {"tokenFile": "token"}, **{"certificate-authority": "ca"})
    credentials = find_credentials(path)
    assert (credentials.server, credentials.namespace) == ("https://10.0.0.1:6443", "default")
    assert credentials.headers() == {"Authorization": "Bearer t"}


@pytest.mark.parametrize(
    ("user", "cluster", "reason"),
    [
        ({"exec": {"command": "aws"}}, {}, "exec"),
        ({}, {"insecure-skip-tls-verify": True}, "must be verified"),
        ({}, {"certificate-authority": "nowhere"}, "nowhere"),
        ({}, {"certificate-authority-data": "!"}, "must be a kubeconfig"),
        ({}, {"certificate-authority-data": ""}, "must be a certificate"),
        ({}, {"certificate-authority-data": "aGVsbG8="}, "must be a certificate"),
    ],
)
def test_what_can_not_be_used_is_named(tmp_path: Path, user: dict[str, Any], cluster: Any, reason: str) -> None:
    with pytest.raises(CredentialsError, match=reason):
        find_credentials(_config(tmp_path / "config", user, **cluster))


@pytest.mark.parametrize("content", ["", "[", "current-context: c", "3"])
def test_a_file_that_is_no_kubeconfig_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "config").write_text(content)
    with pytest.raises(CredentialsError, match="config: must be a kubeconfig"):
        find_credentials(tmp_path / "config")
    with pytest.raises(CredentialsError, match="No such file"):
        find_credentials(tmp_path / "none")


def test_a_pod_without_a_token_says_why(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="automountServiceAccountToken"):
        find_credentials(None, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, tmp_path)

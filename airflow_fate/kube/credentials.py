"""Who are we to the API server, and where is it? A pod's ServiceAccount, or the current context of a kubeconfig.

A ServiceAccount's token is replaced about every hour: it is read again for each request.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ACCOUNT_FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class CredentialsError(ValueError):
    """The API server or our identity is unknown; says what was expected where."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """How to reach the API server.

    :param server: its URL.
    :param namespace: our own, or the context's.
    :param token: the bearer token; empty where a file or a certificate is used.
    """

    server: str
    tls: ssl.SSLContext
    namespace: str
    token: str = ""
    token_file: Path | None = None

    def headers(self) -> dict[str, str]:
        """Of a request that is made now.

        :raises OSError: when the token's file can't be read.
        """
        token = self.token_file.read_text().strip() if self.token_file else self.token
        return {"Authorization": f"Bearer {token}"} if token else {}


def find_credentials(
    kubeconfig: Path | None = None, environment: Mapping[str, str] = os.environ, account: Path = ACCOUNT_FOLDER
) -> Credentials:
    """Those of the file if one is named, else the pod's.

    :raises CredentialsError: when there are none that can be used.
    """
    return _of_file(kubeconfig) if kubeconfig else _of_pod(environment, account)


def _of_pod(environment: Mapping[str, str], account: Path) -> Credentials:
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise CredentialsError("not in a pod (KUBERNETES_SERVICE_HOST is not set), and no kubeconfig is named")
    token_file = account / "token"
    if not token_file.is_file():
        raise CredentialsError(f"{token_file}: the pod has no ServiceAccount token (automountServiceAccountToken)")
    named = account / "namespace"
    return Credentials(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        tls=_trusting(account / "ca.crt"),
        namespace=named.read_text().strip() if named.is_file() else "default",
        token_file=token_file,
    )


def _of_file(path: Path) -> Credentials:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        context = _named(content, "contexts", content["current-context"], "context")
        cluster = _named(content, "clusters", context["cluster"], "cluster")
        user = _named(content, "users", context["user"], "user")
        if "exec" in user or "auth-provider" in user:
            raise CredentialsError(f"{path}: programs that fetch tokens (exec, auth-provider) are not supported")
        token_file = user.get("tokenFile")
        tls = _of_cluster(cluster, path.parent)
        _identify(tls, user, path.parent)
        return Credentials(
            server=cluster["server"].rstrip("/"),
            tls=tls,
            namespace=context.get("namespace", "default"),
            token=user.get("token", ""),
            token_file=path.parent / token_file if token_file else None,
        )
    except OSError as error:
        raise CredentialsError(f"{error.filename or path}: {error.strerror}; expected a kubeconfig") from error
    except (yaml.YAMLError, LookupError, TypeError, AttributeError, UnicodeDecodeError, binascii.Error) as error:
        raise CredentialsError(f"{path}: must be a kubeconfig with a current-context: {error}") from error


def _named(content: Mapping[str, Any], kind: str, name: str, part: str) -> dict[str, Any]:
    for item in content[kind]:
        if item["name"] == name:
            value: dict[str, Any] = item[part] or {}
            return value
    raise LookupError(f"{kind} has no {name!r}")


def _of_cluster(cluster: Mapping[str, Any], folder: Path) -> ssl.SSLContext:
    if cluster.get("insecure-skip-tls-verify"):
        raise CredentialsError("insecure-skip-tls-verify: the API server must be verified; name its authority")
    if "certificate-authority-data" in cluster:
        text = base64.b64decode(cluster["certificate-authority-data"], validate=True).decode()
        try:
            # Without any text it would trust whom this machine trusts.
            return ssl.create_default_context(cadata=text or " ")
        except ssl.SSLError as error:
            raise CredentialsError(f"certificate-authority-data: must be a certificate in PEM: {error}") from error
    authority = cluster.get("certificate-authority")
    return _trusting(folder / authority) if authority else ssl.create_default_context()


def _trusting(authority: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(authority))
    except OSError as error:
        raise CredentialsError(f"{authority}: must hold the API server's authority: {error}") from error


def _identify(tls: ssl.SSLContext, user: Mapping[str, Any], folder: Path) -> None:
    """Show the user's client certificate, if it has one."""
    if "client-certificate" in user:
        tls.load_cert_chain(folder / user["client-certificate"], folder / user["client-key"])
    elif "client-certificate-data" in user:
        # The ssl module reads keys from files alone.
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(base64.b64decode(user["client-certificate-data"]))
            pair.write(b"\n" + base64.b64decode(user["client-key-data"]))
            pair.flush()
            tls.load_cert_chain(pair.name)

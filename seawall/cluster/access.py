"""Where a local cluster is and how to get in: all of it files in its state folder, mode 0700."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from seawall.cluster.errors import ClusterError

__all__ = ["Access", "write_kubeconfig"]

_FILE = "access.json"


@dataclass(frozen=True, kw_only=True)
class Access:
    """
    The way into a cluster. `token` is the administrator's bearer token; it does not show in `repr`.

    `ports` are those of the parts by name, all on 127.0.0.1: `etcd`, `etcd-peer`, `kube-apiserver`,
    `kube-controller-manager`, `kube-scheduler`, `chaos-webhook`, `chaos-metrics`.
    """

    state: Path
    ports: dict[str, int]
    token: str = field(repr=False)

    @classmethod
    def load(cls, state: Path) -> Self:
        """Read the access of the cluster whose state folder this is. Raises ClusterError when there is none."""
        try:
            said = json.loads((state / _FILE).read_text("utf-8"))
            token = (state / "token").read_text("ascii").strip()
            return cls(state=state, ports={name: int(port) for name, port in said["ports"].items()}, token=token)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ClusterError(f"{state} holds no cluster ({error}); start one with `seawall cluster up`") from error

    def save(self) -> None:
        """Write what `load` reads, and the kubeconfig; the folder and the token file are the caller's."""
        (self.state / _FILE).write_text(json.dumps({"v": 1, "ports": self.ports}) + "\n", "utf-8")
        # The token stays in its own file: a kubeconfig is what people copy and paste.
        user = {"tokenFile": str(self.token_path)}
        write_kubeconfig(self.kubeconfig, self.api_url, self.ca_path, user)

    @property
    def api_url(self) -> str:
        """The API server's address."""
        return f"https://127.0.0.1:{self.ports['kube-apiserver']}"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig; its one context is `seawall-local`."""
        return self.state / "kubeconfig"

    @property
    def token_path(self) -> Path:
        """The file that holds the token and nothing else, mode 0600."""
        return self.state / "token"

    @property
    def logs(self) -> Path:
        """The folder with one log file a part."""
        return self.state / "logs"

    @property
    def ca_path(self) -> Path:
        """The certificate authority of everything that serves in this cluster."""
        return self.state / "pki" / "ca.crt"

    @property
    def front_proxy_ca_path(self) -> Path:
        """The authority of the certificate that the API server shows to an aggregated API, such as metrics."""
        return self.state / "pki" / "front-proxy-ca.crt"

    @property
    def serving_certificate_path(self) -> Path:
        """The certificate to serve with: for 127.0.0.1, localhost and metrics-server.kube-system.svc."""
        return self.state / "pki" / "serving.crt"

    @property
    def serving_key_path(self) -> Path:
        """The key of it, mode 0600."""
        return self.state / "pki" / "serving.key"


def write_kubeconfig(path: Path, api_url: str, ca_path: Path, user: dict[str, str]) -> None:
    """Write a kubeconfig with one context, `seawall-local`, mode 0600. JSON is YAML, and needs no library."""
    name = "seawall-local"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": {"server": api_url, "certificate-authority": str(ca_path)}}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "default"}}],
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")

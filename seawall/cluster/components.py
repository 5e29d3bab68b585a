"""How each part of the control plane is started. Pure: ports and folders in, command lines and environments out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "MEMORY_ENVIRONMENT",
    "HpaTimings",
    "Layout",
    "apiserver",
    "chaos",
    "controller_manager",
    "etcd",
    "scheduler",
]

MEMORY_ENVIRONMENT = {"GOGC": "50"}
"""Twice as many collections as Go does by default: a quarter less memory, at no more time than can be measured."""


_CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "cronjob-controller",
    "daemonset-controller",
    "deployment-controller",
    "disruption-controller",
    "endpoints-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    "horizontal-pod-autoscaler-controller",
    "job-controller",
    "namespace-controller",
    "node-lifecycle-controller",
    "pod-garbage-collector-controller",
    "replicaset-controller",
    "replicationcontroller-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "statefulset-controller",
    "taint-eviction-controller",
    "ttl-after-finished-controller",
)
"""All that concern workloads. For volumes, certificates, quotas and clouds there is nothing to do here."""


@dataclass(frozen=True, kw_only=True)
class HpaTimings:
    """
    How often the HPA controller looks, and how long it waits before it takes pods away, in seconds.

    Shorter than Kubernetes' own 15 s and 300 s, so that a scenario takes seconds. Its guards against start-up CPU
    (`cpu-initialization-period`, `initial-readiness-delay`) stay at their defaults on purpose: with both at 1 s a pod's
    own start-up counted as load, and a deployment without a single request ran away from 1 pod to 10.
    """

    sync_period_s: float = 2.0
    downscale_stabilization_s: float = 10.0


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where a cluster's files are. `ports` fills as the parts are started."""

    state: Path
    program: Path
    chaos_program: Path
    ports: dict[str, int]

    def pki(self, name: str) -> str:
        """Return the path of a key or certificate."""
        return str(self.state / "pki" / name)

    def kubeconfig_of(self, part: str) -> Path:
        """Return the path of the kubeconfig that `part` logs in with."""
        return self.state / "pki" / f"{part}.kubeconfig"


def etcd(layout: Layout) -> list[str]:
    """Return the command line of etcd: one member, TLS with client certificates for clients and peers alike."""
    url, peer = (f"https://127.0.0.1:{layout.ports[name]}" for name in ("etcd", "etcd-peer"))
    files = {
        "cert-file": "etcd.crt",
        "key-file": "etcd.key",
        "trusted-ca-file": "etcd-ca.crt",
        "peer-cert-file": "etcd.crt",
        "peer-key-file": "etcd.key",
        "peer-trusted-ca-file": "etcd-ca.crt",
    }
    return [
        *(str(layout.program), "etcd", "--name=seawall", f"--data-dir={layout.state / 'etcd'}"),
        *(f"--{flag}={layout.pki(file)}" for flag, file in files.items()),
        *("--client-cert-auth=true", "--peer-client-cert-auth=true"),
        *(f"--listen-client-urls={url}", f"--advertise-client-urls={url}"),
        *(f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=seawall={peer}"),
        # The data is thrown away with the cluster: nothing in it is worth waiting for a disk.
        *("--unsafe-no-fsync=true", "--snapshot-count=10000", "--log-level=warn"),
    ]


def apiserver(layout: Layout) -> list[str]:
    """Return the command line of kube-apiserver: RBAC, no anonymous requests, aggregation, loopback only."""
    files = {
        "etcd-cafile": "etcd-ca.crt",
        "etcd-certfile": "etcd-client.crt",
        "etcd-keyfile": "etcd-client.key",
        "tls-cert-file": "serving.crt",
        "tls-private-key-file": "serving.key",
        "client-ca-file": "ca.crt",
        "token-auth-file": "tokens.csv",
        "service-account-key-file": "service-accounts.pub",
        "service-account-signing-key-file": "service-accounts.key",
        "requestheader-client-ca-file": "front-proxy-ca.crt",
        "proxy-client-cert-file": "front-proxy-client.crt",
        "proxy-client-key-file": "front-proxy-client.key",
    }
    return [
        *(str(layout.program), "kube-apiserver"),
        *(f"--{flag}={layout.pki(file)}" for flag, file in files.items()),
        f"--etcd-servers=https://127.0.0.1:{layout.ports['etcd']}",
        *("--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"),
        f"--secure-port={layout.ports['kube-apiserver']}",
        *("--authorization-mode=RBAC", "--anonymous-auth=false", "--profiling=false"),
        # The pods are ours: none of them talks to the API, and a token volume is nothing a process could mount.
        "--disable-admission-plugins=ServiceAccount",
        # It would publish its own address as the endpoints of `kubernetes`, and 127.0.0.1 is refused there.
        "--endpoint-reconciler-type=none",
        *("--service-account-issuer=https://kubernetes.default.svc", "--service-cluster-ip-range=10.96.0.0/16"),
        *("--requestheader-allowed-names=front-proxy-client", "--requestheader-username-headers=X-Remote-User"),
        *("--requestheader-group-headers=X-Remote-Group", "--requestheader-extra-headers-prefix=X-Remote-Extra-"),
    ]


def controller_manager(layout: Layout, timings: HpaTimings) -> list[str]:
    """Return the command line of kube-controller-manager, with the HPA's times."""
    return [
        *_controller(layout, "kube-controller-manager"),
        f"--controllers={','.join(_CONTROLLERS)}",
        f"--service-account-private-key-file={layout.pki('service-accounts.key')}",
        f"--root-ca-file={layout.pki('ca.crt')}",
        f"--horizontal-pod-autoscaler-sync-period={timings.sync_period_s:g}s",
        f"--horizontal-pod-autoscaler-downscale-stabilization={timings.downscale_stabilization_s:g}s",
    ]


def scheduler(layout: Layout) -> list[str]:
    """Return the command line of kube-scheduler."""
    return _controller(layout, "kube-scheduler")


def chaos(layout: Layout) -> tuple[list[str], dict[str, str]]:
    """Return the command line of chaos-controller-manager and the environment that is its configuration."""
    environment = {
        "KUBECONFIG": str(layout.kubeconfig_of("chaos-controller-manager")),
        "NAMESPACE": "chaos-mesh",
        "WEBHOOK_HOST": "127.0.0.1",
        "WEBHOOK_PORT": str(layout.ports["chaos-webhook"]),
        "METRICS_HOST": "127.0.0.1",
        "METRICS_PORT": str(layout.ports["chaos-metrics"]),
        "CERTS_DIR": str(layout.state / "pki" / "webhook"),
        "ENABLE_LEADER_ELECTION": "false",
        # There is neither a user to check by token nor a daemon to speak to over mutual TLS.
        "SECURITY_MODE": "false",
        "CHAOSD_SECURITY_MODE": "false",
        "CLUSTER_SCOPED": "true",
        # With fewer controllers than all it waits for kinds that nobody registered.
        "ENABLED_CONTROLLERS": "*",
        "ENABLED_WEBHOOKS": "*",
        "TZ": "UTC",
    }
    return [str(layout.chaos_program)], environment


def _controller(layout: Layout, part: str) -> list[str]:
    kubeconfig = layout.kubeconfig_of(part)
    return [
        *(str(layout.program), part, "--leader-elect=false", "--profiling=false"),
        *(f"--{flag}={kubeconfig}" for flag in ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")),
        *("--bind-address=127.0.0.1", f"--secure-port={layout.ports[part]}"),
        *(f"--tls-cert-file={layout.pki('serving.crt')}", f"--tls-private-key-file={layout.pki('serving.key')}"),
    ]

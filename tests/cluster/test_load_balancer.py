"""What the load balancer serves, and the configuration of it, with no nginx."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seawall.cluster.kubelet.load_balancer import backends_of
from seawall.cluster.kubelet.nginx_config import Frontend, RenderFailed, render
from seawall.cluster.kubelet.selectors import parse_selector

FOLDER = Path("/state/nginx")


def rendered(*frontends: Frontend) -> str:
    """Return the configuration."""
    return render(frontends, FOLDER, as_root=False)


def endpoint(uid: str, *, ready: bool | None = True) -> dict[str, Any]:
    """Return an endpoint of a pod."""
    conditions = {} if ready is None else {"ready": ready}
    return {"addresses": ["10.244.0.9"], "conditions": conditions, "targetRef": {"kind": "Pod", "uid": uid}}


def test_streams_are_not_buffered_and_connections_are_kept() -> None:
    """Answers are passed on as they come, over HTTP/1.1 connections that stay open, on loopback only."""
    text = rendered(Frontend(name="default_web_http", port=4000, backends=(("127.9.0.2", 80), ("127.9.0.1", 80))))
    for line in ("proxy_buffering off;", "proxy_http_version 1.1;", 'proxy_set_header Connection "";', "keepalive 64;"):
        assert line in text
    assert "listen 127.0.0.1:4000;" in text
    assert text.index("server 127.9.0.1:80 ") < text.index("server 127.9.0.2:80 ")
    assert text.count("{") == text.count("}")
    assert "user " not in text
    assert render([], FOLDER, as_root=True).startswith("user root;")


def test_the_same_backends_are_the_same_configuration() -> None:
    """The order and repetition of what is served make no difference, so that nginx is reloaded for changes only."""
    one = Frontend(name="a", port=1, backends=(("127.9.0.1", 80), ("127.9.0.2", 80)))
    other = Frontend(name="a", port=1, backends=(("127.9.0.2", 80), ("127.9.0.1", 80), ("127.9.0.1", 80)))
    last = Frontend(name="b", port=2, backends=())
    assert rendered(one, last) == rendered(last, other)


def test_no_backend_is_503() -> None:
    """A Service with no ready pod is served, with 503."""
    text = rendered(Frontend(name="a", port=1, backends=()))
    assert "return 503;" in text
    assert "upstream" not in text


@pytest.mark.parametrize(
    "frontend",
    [
        Frontend(name="a; }", port=1, backends=()),
        Frontend(name="a", port=0, backends=()),
        Frontend(name="a", port=1, backends=(("127.0.0.1; }", 80),)),
        Frontend(name="a", port=1, backends=(("127.0.0.1", 70000),)),
    ],
)
def test_what_is_no_address_is_never_rendered(frontend: Frontend) -> None:
    """A name, address or port that could mean something else to nginx is refused."""
    with pytest.raises(RenderFailed):
        rendered(frontend)
    with pytest.raises(RenderFailed):
        render([], Path("/a b"), as_root=False)


def test_ready_endpoints_of_known_pods_are_served() -> None:
    """Slice, then targetRef, then the pod's annotation: not what is unready, unknown, or tells no address."""
    pods = {
        uid: {"metadata": {"uid": uid, "annotations": {"seawall.dev/address": f"127.9.0.{number}"}}}
        for number, uid in enumerate(("a", "b", "c"), 1)
    }
    pods["d"] = {"metadata": {"uid": "d"}}
    endpoints = [
        endpoint("a"),
        endpoint("b", ready=False),
        endpoint("c", ready=None),
        endpoint("d"),
        endpoint("gone"),
        {"addresses": ["1.2.3.4"]},
    ]
    slices = [{"ports": [{"name": "http", "port": 8000}, {"name": "admin", "port": 9}], "endpoints": endpoints}]
    assert backends_of(slices, "http", pods) == (("127.9.0.1", 8000), ("127.9.0.3", 8000))
    assert backends_of(slices, "none", pods) == ()
    assert backends_of([{"ports": None, "endpoints": None}], "http", pods) == ()


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("app=web", True),
        ("app==web,tier!=db", True),
        ("app in (x, web),!old", True),
        ("app notin (web)", False),
        ("tier", False),
        ("app=web,tier=db", False),
    ],
)
def test_label_selectors_are_understood(text: str, matches: bool) -> None:
    """The selectors that controllers and kubectl send match what they mean."""
    assert parse_selector(text)({"app": "web"}) is matches
    with pytest.raises(ValueError, match="no part of a label selector"):
        parse_selector("a=b,??")

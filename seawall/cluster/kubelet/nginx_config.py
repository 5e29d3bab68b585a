"""The configuration of the load balancer, rendered from what it shall serve. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

__all__ = ["Frontend", "RenderFailed", "render"]

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,200}")
_FOLDER = re.compile(r"/[^\s;{}\"'\\$]*")


class RenderFailed(Exception):
    """What shall be served cannot be told to nginx. The message says what is wrong with it."""


class Frontend(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One port of a Service: the loopback port where it is served, and its ready backends as (address, port)."""

    name: str
    port: int
    backends: tuple[tuple[str, int], ...]


def render(frontends: Iterable[Frontend], folder: Path, *, as_root: bool, workers: int = 1) -> str:
    """
    Return an nginx.conf that serves each frontend on 127.0.0.1 and keeps all its files in `folder`.

    Answers are passed on as they come, so that a stream stays a stream; connections are kept open on both sides. A
    frontend with no backend answers 503. As a Service does, a request goes to any ready pod; as an ingress does, it is
    given to another when the connection is refused. Raises RenderFailed for what is no address, port or plain name.
    """
    if not _FOLDER.fullmatch(str(folder)):
        raise RenderFailed(f"the folder {str(folder)!r} has a character that nginx would not take as it is")
    names = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "\n".join(f"    {name}_temp_path {folder}/{name};" for name in names)
    blocks = "\n".join(_frontend(each) for each in sorted(frontends))
    user = "user root;\n" if as_root else ""  # its workers would be `nobody` and could not enter the folder
    return f"""{user}daemon off;
worker_processes {workers};
pid {folder}/nginx.pid;
error_log stderr warn;
worker_shutdown_timeout 60s;  # an old worker goes on with its open streams for so long
events {{
    worker_connections 4096;
}}
http {{
    access_log off;
{temporary}
    keepalive_timeout 75s;
    client_max_body_size 0;
    proxy_http_version 1.1;
    proxy_buffering off;
    proxy_request_buffering off;
    proxy_connect_timeout 2s;
    proxy_read_timeout 300s;
    proxy_set_header Host $http_host;
    proxy_set_header Connection "";
{blocks}}}
"""


def _frontend(frontend: Frontend) -> str:
    if not _NAME.fullmatch(frontend.name):
        raise RenderFailed(f"{frontend.name!r} is no name of a Service's port")
    listen = f"127.0.0.1:{_port(frontend.port)}"
    if not frontend.backends:
        return f"    server {{\n        listen {listen};\n        return 503;\n    }}\n"
    # A failed connection must not keep a pod out: whether it serves is for its readiness probe to say.
    servers = "".join(f"        server {_backend(*each)} max_fails=0;\n" for each in sorted(set(frontend.backends)))
    return (
        f"    upstream {frontend.name} {{\n        random;\n{servers}        keepalive 64;\n    }}\n"
        f"    server {{\n        listen {listen};\n        location / {{\n"
        f"            proxy_pass http://{frontend.name};\n        }}\n    }}\n"
    )


def _backend(address: str, port: int) -> str:
    try:
        return f"{ipaddress.IPv4Address(address)}:{_port(port)}"
    except ValueError as error:
        raise RenderFailed(f"{address!r} is no IPv4 address") from error


def _port(port: int) -> int:
    if not 1 <= port <= 65535:
        raise RenderFailed(f"{port} is no port")
    return port

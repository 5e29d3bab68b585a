"""Held ports: nobody else's, and still one that a server of ours can listen on."""

from __future__ import annotations

import socket
import sys

import pytest

from seawall.ports import HeldPort

LINUX = sys.platform.startswith("linux")


def test_a_held_port_refuses_and_can_be_listened_on() -> None:
    """Until the server listens, connections to a held port are refused; a server that reuses addresses gets it."""
    with HeldPort() as held:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", held.port), timeout=5)
        with socket.create_server(("127.0.0.1", held.port)):
            socket.create_connection(("127.0.0.1", held.port), timeout=5).close()


@pytest.mark.skipif(not LINUX, reason="interpreter runs where a bound port cannot be shared")
def test_a_held_port_is_given_to_nobody_else() -> None:
    """A socket that asks for the port without reusing addresses does not get it until it is released."""
    held = HeldPort()
    with socket.socket() as other:
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", held.port))
        held.release()
        held.release()
        other.bind(("127.0.0.1", held.port))


def test_a_port_that_is_listened_on_cannot_be_held() -> None:
    """Holding a port that somebody listens on fails at once."""
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(OSError, match="in use"):
        HeldPort(server.getsockname()[1])

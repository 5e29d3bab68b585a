"""
A client that adds nothing of its own: plain gevent sockets, no bound on connections, no retries, no redirects.

A bounded pool would make requests wait inside the client, out of sight of every figure (measured: 1603 of 1800 sent
more than 50 ms late during a stall that the pool of ten reported as 1.5 ms).
"""

from __future__ import annotations

import socket as plain_socket
import time
from collections.abc import Callable

import gevent
import msgspec
from gevent import socket

from loadtests.config import ConfigError, LoadConfig, target_of
from loadtests.outcome import Ending
from loadtests.reception import Reception
from seawall.plan import Arrival

__all__ = ["Client", "Exchange"]

_READ_BYTES = 65536


class Exchange:
    """One request on its way: filled in as it goes, so that it can be told from wherever it ends."""

    def __init__(self, arrival: Arrival, intended_ns: int) -> None:
        self.arrival = arrival
        self.intended_ns = intended_ns
        self.reception = Reception(stream=arrival.stream)
        self.sent_ns: int | None = None
        self.reused = False
        self.ending = Ending("failed")


class Client:
    """
    Send requests to one address, each on a connection of its own; a connection that is free again is used first.

    `on_sent` is called right after the last byte of a request has left. Raises ConfigError when the host is unknown.
    """

    def __init__(self, config: LoadConfig, api_key: str | None, on_sent: Callable[[Exchange], None]) -> None:
        host, port = target_of(config.base_url)
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise ConfigError(f"base_url {config.base_url!r}: the host cannot be found ({error.strerror})") from error
        # `localhost` may mean ::1 first, where fewer programs listen.
        self._family, _, _, _, self._address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
        self._model = config.plan.model
        self._deadline_s = config.plan.deadline_s
        self._on_sent = on_sent
        self._idle: list[socket.socket] = []
        self._encode = msgspec.json.Encoder().encode
        named = f"[{host}]" if ":" in host else host
        authorization = f"authorization: Bearer {api_key}\r\n" if api_key else ""
        others = "".join(f"{name}: {value}\r\n" for name, value in config.headers.items())
        self._head = (
            f"POST {config.path} HTTP/1.1\r\nhost: {named}:{port}\r\n{authorization}{others}"
            "content-type: application/json\r\naccept-encoding: identity\r\n"
        )

    def perform(self, exchange: Exchange) -> None:
        """Send the request and receive its answer. Returns however it ends, `exchange.ending` says how."""
        try:
            exchange.ending = self._perform(exchange)
        except gevent.GreenletExit:
            exchange.ending = Ending("stopped", "stopped by the harness")

    def close(self) -> None:
        """Close the connections that are free."""
        while self._idle:
            self._idle.pop().close()

    def _perform(self, exchange: Exchange) -> Ending:
        request = self._request(exchange.arrival)
        connection: socket.socket | None = None
        timeout = gevent.Timeout.start_new(self._deadline_s)
        try:
            connection = self._free_connection()
            exchange.reused = connection is not None
            if connection is None:
                connection = socket.socket(self._family, socket.SOCK_STREAM)
                connection.connect(self._address)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(request)
            exchange.sent_ns = time.monotonic_ns()
            self._on_sent(exchange)
            # The client's patience counts from here, however long the connection took.
            timeout.close()
            timeout = gevent.Timeout.start_new(self._deadline_s)
            self._receive(connection, exchange.reception)
            if exchange.reception.keep_alive:
                self._idle.append(connection)
                connection = None
            return Ending("answered")
        except OSError as error:
            return Ending("failed", _in_words(error))
        except gevent.Timeout as fired:
            if fired is not timeout:
                raise
            return Ending("deadline", f"the deadline of {self._deadline_s:g} s passed")
        finally:
            timeout.close()
            if connection is not None:
                connection.close()

    def _request(self, arrival: Arrival) -> bytes:
        body = self._encode(
            {
                "model": self._model,
                "messages": [{"role": "user", "content": arrival.prompt}],
                "max_tokens": arrival.max_tokens,
                "stream": arrival.stream,
            }
        )
        accept = "text/event-stream" if arrival.stream else "application/json"
        head = (
            f"{self._head}accept: {accept}\r\nx-request-id: {arrival.request_id}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode("latin-1") + body

    def _free_connection(self) -> socket.socket | None:
        """Return the connection that was used last and is still fit for use, or None."""
        while self._idle:
            connection = self._idle.pop()
            if _is_fit(connection):
                return connection
            connection.close()
        return None

    @staticmethod
    def _receive(connection: socket.socket, reception: Reception) -> None:
        while True:
            data = connection.recv(_READ_BYTES)
            if not data:
                reception.close()
                return
            if reception.feed(data, time.monotonic_ns()):
                return


def _is_fit(connection: socket.socket) -> bool:
    """Say whether a free connection is open and silent: not closed by the peer, no bytes that nobody asked for."""
    connection.settimeout(0.0)
    try:
        connection.recv(1, plain_socket.MSG_PEEK | plain_socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    except OSError:
        return False
    else:
        return False
    finally:
        connection.settimeout(None)


def _in_words(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "the connection was refused"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "the connection was reset"
    return (error.strerror or type(error).__name__).lower()

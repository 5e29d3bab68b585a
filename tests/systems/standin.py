"""
A stand-in for a gateway of others: asks the first upstream, then the next, and misbehaves as it is told.

`python standin.py MODE UPSTREAM …` prints `{"port": …}`. Modes: `good`; `stubborn` asks the first one only; `leaves`
leaves a process behind that is in no group of its own; `crash` ends at once; `deaf` never says that it is ready.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

MODE, *UPSTREAMS = sys.argv[1:]
LEFT_S = 300


class Handler(BaseHTTPRequestHandler):
    """Passes a request on."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer with the first good answer."""
        body = self.rfile.read(int(self.headers["content-length"]))
        status, answer = 502, b'{"error": {"message": "nobody answers", "type": "bad_gateway"}}'
        for upstream in UPSTREAMS[:1] if MODE == "stubborn" else UPSTREAMS:
            headers = {"authorization": "Bearer emulated", "content-type": "application/json"}
            connection = http.client.HTTPConnection(urlsplit(upstream).netloc, timeout=5)
            try:
                connection.request("POST", "/v1/chat/completions", body, headers)
                reply = connection.getresponse()
                if reply.status == 200:
                    status, answer = reply.status, reply.read()
                    break
            except OSError:
                continue
            finally:
                connection.close()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
        """Say nothing."""


def main() -> None:
    """Serve, or whatever the mode is."""
    if MODE == "crash":
        sys.exit("a bad configuration")
    if MODE == "leaves":
        subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({LEFT_S})"], start_new_session=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if MODE == "deaf":
        time.sleep(LEFT_S)
    sys.stdout.write(json.dumps({"port": server.server_address[1]}) + "\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()

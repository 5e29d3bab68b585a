"""
The harness as a child of Locust: started once, spoken to by its control API, ended by the end of its standard input.

Knows nothing of Locust. Whoever dies first, what was injected is taken back: the child undoes everything when its
input ends, even when this process was killed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

__all__ = ["Harness", "HarnessError"]

_ASK_S = 20.0
_END_S = 60.0
# The harness is on loopback: no proxy that the environment names has a say.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class HarnessError(Exception):
    """The harness could not be started, or refuses. `status` is HTTP's, 502 for one that does not answer."""

    def __init__(self, message: str, status: int = 502, body: bytes = b"") -> None:
        super().__init__(message)
        self.status = status
        self.body = body


class Harness:
    """The child process. Raises HarnessError when it does not come up."""

    def __init__(self, out: str | None = None) -> None:
        argv = [sys.executable, "-m", "seawall.control", *([out] if out else [])]
        # In a session of its own: Ctrl-C is ours, and the child ends in order when we have.
        self._child = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        line = self._child.stdout.readline() if self._child.stdout is not None else ""
        try:
            said = json.loads(line)
            self._token = Path(said["token_file"]).read_text(encoding="ascii")
        except (ValueError, KeyError, OSError) as error:
            self.close()
            raise HarnessError("the harness did not start; its own words are above") from error
        self._url = f"http://127.0.0.1:{said['port']}"

    def get(self, path: str) -> Any:
        """Return the JSON at `path`. Raises HarnessError."""
        return json.loads(self.raw("GET", path)[1])

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Send `body` and return the JSON that is answered. Raises HarnessError."""
        return json.loads(self.raw("POST", path, json.dumps(body).encode())[1])

    def raw(self, method: str, path: str, body: bytes | None = None) -> tuple[dict[str, str], bytes]:
        """Return the headers and the body of an answer. Raises HarnessError, with what was answered."""
        headers = {"x-seawall-token": self._token, "content-type": "application/json"}
        request = urllib.request.Request(f"{self._url}{path}", body, headers, method=method)  # noqa: S310 - loopback
        try:
            with _OPENER.open(request, timeout=_ASK_S) as answer:
                return {name.lower(): value for name, value in answer.headers.items()}, answer.read()
        except urllib.error.HTTPError as error:
            told = error.read()
            raise HarnessError(_in_words(told), error.code, told) from None
        except OSError as error:
            raise HarnessError(f"the harness does not answer: {error}") from error

    def close(self) -> int:
        """End it, with everything undone; return the exit code of its last run."""
        child = self._child
        if child.stdin is not None:
            child.stdin.close()
        try:
            code = child.wait(_END_S)
        except subprocess.TimeoutExpired:
            child.kill()
            code = child.wait()
        if child.stdout is not None:
            child.stdout.close()
        return code


def _in_words(told: bytes) -> str:
    try:
        flaws = json.loads(told)["errors"]
        return "; ".join("; ".join(part for part in (flaw["message"], flaw["fix"]) if part) for flaw in flaws)
    except (ValueError, KeyError, TypeError):
        return told.decode("utf-8", "replace")[:300]

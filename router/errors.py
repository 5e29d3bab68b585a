"""
What can go wrong, split by what the caller can do about it.

    SeawallError
    ├── ConfigurationError          fix the settings
    ├── RequestError                fix the request (client errors 400, 413, 422)
    ├── SecurityError               the air gap forbids it
    ├── BudgetExceeded              wait for tomorrow, or raise the limit
    ├── BudgetStoreDown             mend the store; the router itself goes on by BUDGET_STORE_DOWN
    ├── DeadlineExceeded            ask with more patience
    ├── AllCloudsDownError          wait `retry_after_s` (also a SystemError)
    └── ProviderError               one attempt failed; the chain goes on elsewhere
        ├── AuthenticationFailed    401, 403: alarm
        ├── ModelNotFound           404: alarm
        ├── Unsupported             the model cannot do what is asked, and only it knew
        ├── RateLimited             429, with the cooldown that the provider asked for
        ├── ProviderOverloaded      408, 5xx, 529
        ├── InvalidAnswer           malformed, empty, HTML, wrong content type, error event
        └── TransportError
            ├── ConnectFailed       nothing was sent: refused, no route, DNS
            ├── TlsError            nothing was sent: the handshake failed
            ├── FirstByteTimeout    the answer did not begin in time
            ├── IdleTimeout         the answer stopped in the middle for too long
            ├── Reset               the peer broke the connection
            └── TruncatedBody       the answer ended before its end

Every error has a stable `code` (for machines), an HTTP `status` (what a gateway answers) and `retryable` (whether
the same request may succeed later without a change).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from router.events import Attempt

__all__ = [
    "AllCloudsDownError",
    "AuthenticationFailed",
    "BudgetExceeded",
    "BudgetStoreDown",
    "ConfigurationError",
    "ConnectFailed",
    "DeadlineExceeded",
    "FirstByteTimeout",
    "IdleTimeout",
    "InvalidAnswer",
    "ModelNotFound",
    "ProviderError",
    "ProviderOverloaded",
    "RateLimited",
    "RequestError",
    "Reset",
    "SeawallError",
    "SecurityError",
    "TlsError",
    "TransportError",
    "TruncatedBody",
    "Unsupported",
]


class SeawallError(Exception):
    """The root of every error that Seawall raises on purpose."""

    code: ClassVar[str] = "internal_error"
    status: int = 500
    retryable: ClassVar[bool] = False


class ConfigurationError(SeawallError):
    """A setting is missing or has a value that cannot be used; the message lists every violation."""

    code = "configuration"

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class RequestError(SeawallError):
    """The request itself is at fault: no provider would take it, so none other is asked."""

    code = "bad_request"
    status = 400

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class SecurityError(SeawallError):
    """The air gap forbids what was asked: a cloud provider by name, or an origin that is not allowed."""

    code = "airgap"
    status = 403


class BudgetExceeded(SeawallError):
    """The spend limit is reached and no free provider is in the chain."""

    code = "budget_exceeded"
    status = 402


class BudgetStoreDown(SeawallError):
    """
    The books of the budget cannot be reached, or gave no answer in time.

    `asked` says whether the step may have been taken all the same: its answer, not the step, is what is missing.
    """

    code = "budget_store_down"
    status = 503
    retryable = True

    def __init__(self, message: str, *, asked: bool = False) -> None:
        super().__init__(message)
        self.asked = asked


class DeadlineExceeded(SeawallError):
    """The request's own time was over before anybody had answered; says nothing about a provider."""

    code = "deadline_exceeded"
    status = 504
    retryable = True


class AllCloudsDownError(SeawallError, SystemError):
    """
    Nobody could answer. The message begins with "All Clouds Down".

    `attempts` holds every attempt of this request; `retry_after_s` is the time in seconds to the soonest probe; `calls`
    counts the attempts with those of gateways behind this one.
    """

    code = "all_clouds_down"
    status = 503
    retryable = True

    def __init__(
        self,
        detail: str,
        *,
        attempts: Sequence[Attempt] = (),
        retry_after_s: float | None = None,
        calls: int | None = None,
    ) -> None:
        super().__init__(f"All Clouds Down: {detail}")
        self.attempts = tuple(attempts)
        self.calls = len(self.attempts) if calls is None else calls
        self.retry_after_s = retry_after_s


class ProviderError(SeawallError):
    """One attempt at one provider failed. `counts` says whether the breaker counts it as a failure."""

    code = "provider_error"
    status = 502
    retryable = True
    counts: ClassVar[bool] = True
    calls: int = 1
    """How many attempts it stands for: a gateway behind the provider's address tells how many it made."""

    def __init__(self, message: str, *, upstream_status: int | None = None) -> None:
        super().__init__(message)
        self.upstream_status = upstream_status


class AuthenticationFailed(ProviderError):
    """The provider refuses our key (401, 403). Says nothing about its health, so the breaker does not count it."""

    code = "authentication_failed"
    counts = False


class ModelNotFound(ProviderError):
    """The provider does not know the model (404). Not counted by the breaker."""

    code = "model_not_found"
    counts = False


class Unsupported(ProviderError):
    """The provider's model cannot do what the request asks, and only the provider knew. Not counted by the breaker."""

    code = "unsupported"
    counts = False


class RateLimited(ProviderError):
    """The provider throttles us (429). `retry_after_s` is what it asked for, in seconds, or None."""

    code = "rate_limited"

    def __init__(self, message: str, *, upstream_status: int = 429, retry_after_s: float | None = None) -> None:
        super().__init__(message, upstream_status=upstream_status)
        self.retry_after_s = retry_after_s


class ProviderOverloaded(RateLimited):
    """The provider is down or drowning (408, 5xx, 529); it may ask for a pause too."""

    code = "provider_overloaded"


class InvalidAnswer(ProviderError):
    """The provider answered with something that is no answer."""

    code = "invalid_answer"


class TransportError(ProviderError):
    """The wire failed. `sent` says whether the request may have reached the peer."""

    code = "transport_error"
    sent: ClassVar[bool] = True


class ConnectFailed(TransportError):
    """No connection could be made; the peer saw nothing of the request."""

    code = "connect_failed"
    sent = False


class TlsError(TransportError):
    """The TLS handshake failed; the peer saw nothing of the request."""

    code = "tls_error"
    sent = False


class FirstByteTimeout(TransportError):
    """No byte of the answer came within the first-byte timeout."""

    code = "first_byte_timeout"


class IdleTimeout(TransportError):
    """The answer began and then nothing more came within the idle timeout."""

    code = "idle_timeout"


class Reset(TransportError):
    """The peer broke the connection before or while it answered."""

    code = "reset"


class TruncatedBody(TransportError):
    """The connection ended in order, but before the end of the answer."""

    code = "truncated_body"

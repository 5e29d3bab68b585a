"""
Keep one command alive no longer than whoever holds the other end of standard input.

    python -m seawall.supervise -- COMMAND [ARGUMENT …]

The command runs in a session of its own. When standard input ends (its writer closed it, or was killed with SIGKILL),
or this process gets SIGTERM, SIGINT or SIGHUP, the command's whole process group gets SIGTERM and, after 2 seconds,
SIGKILL. When the command ends by itself, what is left of its group is killed. The exit code is the command's, 128 + n
when signal n ended it, 127 when it could not be started. A pipe is chosen over a death signal alone because it does
not depend on which thread of the parent started us, and because it works on macOS too; on Linux the command gets the
death signal as well, should this process be the one that is killed.

With `--control FD`, lines on that descriptor tell the command's life (`pid N`, then `exit CODE`, `signal N` or
`failed ERRNO`), and each byte on standard input is the number of a signal to send: to the command, or with
`GROUP` added to its whole process group. Only this process can signal without a race: it is the one that reaps.

This file imports as little as it can and is run by path: it must be up in milliseconds.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable

__all__ = ["GRACE_S", "GROUP", "command_line", "main"]

GRACE_S = 2.0
"""From SIGTERM to SIGKILL."""
GROUP = 0x80
"""Added to a signal's number on the control channel: the whole process group is meant."""

_PR_SET_PDEATHSIG = 1
_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_HANDLED = (*_STOPPING, signal.SIGCHLD)
_POLL_S = 0.02


def command_line(argv: list[str], *, control: int | None = None) -> list[str]:
    """Return the command that runs `argv` under a supervisor; descriptor `control` must be inherited by it."""
    options = [] if control is None else ["--control", str(control)]
    # -I and -S leave out site packages and PYTHON* variables for the supervisor only, not for what it starts.
    return [sys.executable, "-I", "-S", os.path.abspath(__file__), *options, "--", *argv]  # noqa: PTH100 - fast start


class _Supervisor:
    """The state machine: `running` → `stopping` (SIGTERM sent, `deadline` set) → ended."""

    def __init__(self, argv: list[str], control: int | None) -> None:
        self.argv = argv
        self.control = control
        self.pid = 0
        self.deadline: float | None = None
        self.killed = False

    def run(self) -> int:
        """Start the command, wait for its end or for ours, and return its exit code."""
        wake, waker = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        for number in _HANDLED:
            signal.signal(number, _ignore)
        problem = self._start()
        if problem:
            self._tell(f"failed {problem}")
            sys.stderr.write(f"seawall: cannot start {self.argv[0]}: {os.strerror(problem)}\n")
            return 127
        self._tell(f"pid {self.pid}")
        status = self._wait(wake)
        self._end_group()
        code = os.waitstatus_to_exitcode(status)
        self._tell(f"exit {code}" if code >= 0 else f"signal {-code}")
        return code if code >= 0 else 128 - code

    def _start(self) -> int:
        """Fork and execute; return 0, or the errno of why not."""
        set_death_signal = _death_signal()
        parent = os.getpid()
        # Both ends close on exec: an end of file says that the command has replaced the forked copy of us, and so that
        # its session exists and that no signal can be lost any more.
        reader, writer = os.pipe()
        if self.control is not None:
            os.set_inheritable(self.control, False)
        signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setsid()
                set_death_signal()
                if os.getppid() != parent:
                    os._exit(127)
                nothing = os.open(os.devnull, os.O_RDONLY)
                os.dup2(nothing, 0)
                for number in (*_HANDLED, signal.SIGPIPE, signal.SIGXFSZ):
                    signal.signal(number, signal.SIG_DFL)
                signal.set_wakeup_fd(-1)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
                os.execvp(self.argv[0], self.argv)  # noqa: S606 - no shell is what is wanted
            except OSError as error:
                os.write(writer, str(error.errno or 1).encode())
            finally:
                os._exit(127)
        os.close(writer)
        problem = int(os.read(reader, 16) or b"0")
        os.close(reader)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
        if problem:
            os.waitpid(self.pid, 0)
        return problem

    def _wait(self, wake: int) -> int:
        """Serve standard input and signals until the command has ended; return its wait status."""
        watched = [0, wake]
        while True:
            timeout = None
            if self.deadline is not None and not self.killed:
                timeout = max(0.0, self.deadline - time.monotonic())
            ready, _, _ = select.select(watched, [], [], timeout)
            if wake in ready and not {int(number) for number in _STOPPING}.isdisjoint(os.read(wake, 512)):
                self._stop()
            if 0 in ready:
                orders = os.read(0, 512)
                if orders:
                    self._obey(orders)
                else:
                    watched.remove(0)
                    self._stop()
            if self.deadline is not None and not self.killed and time.monotonic() >= self.deadline:
                self.killed = True
                self._signal_group(signal.SIGKILL)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return status

    def _obey(self, orders: bytes) -> None:
        if self.control is None:
            return
        for order in orders:
            if order & GROUP:
                self._signal_group(order & ~GROUP)
            else:
                os.kill(self.pid, order)  # not reaped yet, so the number is still the command's

    def _stop(self) -> None:
        if self.deadline is not None:
            return
        self.deadline = time.monotonic() + GRACE_S
        self._signal_group(signal.SIGTERM)
        # A stopped process acts on SIGTERM only when it goes on.
        self._signal_group(signal.SIGCONT)

    def _end_group(self) -> None:
        """Kill what the command left behind, after its own grace where we are stopping."""
        while self.deadline is not None and time.monotonic() < self.deadline and self._signal_group(0):
            time.sleep(_POLL_S)
        self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: int) -> bool:
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):  # macOS says EPERM of a group of zombies
            return False
        return True

    def _tell(self, line: str) -> None:
        if self.control is None:
            return
        try:
            os.write(self.control, f"{line}\n".encode())
        except BrokenPipeError:  # nobody listens any more
            self.control = None


def _ignore(_number: int, _frame: object) -> None:
    """Do nothing: the wake-up descriptor carries the signal's number to the loop."""


def _death_signal() -> Callable[[], object]:
    """Return a function for the forked process that makes it die with its parent (a no-op but on Linux)."""
    if not sys.platform.startswith("linux"):
        return lambda: None
    try:
        import ctypes  # noqa: PLC0415 - may be missing from a slim build, and is only a second belt

        prctl = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return lambda: None
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def main(argv: list[str] | None = None) -> int:
    """Run the command after `--`; 2 when there is none."""
    words = sys.argv[1:] if argv is None else argv
    control = None
    if words[:1] == ["--control"] and len(words) > 1 and words[1].isdecimal():
        control = int(words[1])
        words = words[2:]
    if words[:1] != ["--"] or len(words) < 2:
        sys.stderr.write("usage: python -m seawall.supervise [--control FD] -- COMMAND [ARGUMENT …]\n")
        return 2
    return _Supervisor(words[1:], control).run()


if __name__ == "__main__":
    sys.exit(main())

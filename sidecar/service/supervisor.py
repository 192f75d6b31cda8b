"""The parent process: it holds the listening sockets, and restarts the worker when it dies.

Falco loses an alert when its connection is refused, but waits when it is only accepted slowly. So this process owns the
sockets. It does nothing that could crash: it imports almost nothing, starts the worker with the sockets, and waits.
gunicorn and uvicorn can do the same, with three times the memory and a worker protocol that is of no use here.
"""

import os
import signal
import sys
import time
from types import FrameType
from typing import NoReturn

from sidecar.errors import EXIT_PROBLEM, EXIT_WRONG

STEADY_SECONDS = 1.0
"""A worker that ran longer than this before it died was not in a crash loop."""

MAX_PAUSE_SECONDS = 5.0

MAX_CRASHES = 8
"""Crashes in a row after which the supervisor exits; that takes about ten seconds. If it kept the port, connections of
Falco would be accepted and never answered, and Falco would stop all of its outputs."""

GRACE_SECONDS = 8.0
"""How long a worker may take to stop before it is killed."""


class Supervisor:
    """Runs `command` until it exits by itself or this process is asked to stop."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._stopping = 0.0
        self._worker = 0

    def run(self) -> int:
        """The exit code of a worker that exited by itself; EXIT_PROBLEM if workers keep dying."""
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self._stop)
        signal.signal(signal.SIGHUP, self._forward)
        crashes = 0
        while True:
            started = time.monotonic()
            code = self._run_worker()
            if self._stopping:
                return 0 if code in (0, -signal.SIGTERM, -signal.SIGINT) else 1
            if code in (0, EXIT_WRONG):
                return code
            crashes = 0 if time.monotonic() - started > STEADY_SECONDS else crashes + 1
            if crashes == MAX_CRASHES:
                _log(f'"worker keeps dying, releasing the ports","exit_code":{code},"crashes_in_a_row":{crashes}')
                return EXIT_PROBLEM
            pause = min(0.05 * 2 ** (crashes - 1), MAX_PAUSE_SECONDS) if crashes else 0.0
            _log(f'"worker died, starting another","exit_code":{code},"crashes_in_a_row":{crashes},"pause":{pause}')
            if not self._rested(pause):
                return 0

    def _rested(self, seconds: float) -> bool:
        """Wait, but not while Falco's orchestrator waits for the end; False if this process is to stop."""
        until = time.monotonic() + seconds
        while not self._stopping and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.05))  # a signal does not end a sleep
        return not self._stopping

    def _run_worker(self) -> int:
        """Start one worker and wait until it exits."""
        # SIGHUP, which means reload, waits until the worker can take it; until then it would end the process
        self._worker = os.posix_spawn(self._command[0], self._command, os.environ, setsigmask=[signal.SIGHUP])
        if self._stopping:
            self._stop(signal.SIGTERM, None)
        return os.waitstatus_to_exitcode(os.waitpid(self._worker, 0)[1])

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self._stopping = self._stopping or time.monotonic()
        if self._worker:
            signal.signal(signal.SIGALRM, self._kill)
            signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)
            self._forward(number, None)

    def _forward(self, number: int, _frame: FrameType | None) -> None:
        try:
            os.kill(self._worker, number)
        except ProcessLookupError:
            return

    def _kill(self, _number: int, _frame: FrameType | None) -> None:
        self._forward(signal.SIGKILL, None)


def _log(rest: str) -> None:
    now = time.time()
    stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1e6):06d}Z"
    if os.isatty(2):
        os.write(2, f"{time.strftime('%H:%M:%S', time.localtime(now))}  error    {rest}\n".encode())
        return
    line = f'{{"time":"{stamp}","level":"error","logger":"sidecar.service.supervisor","message":{rest}}}\n'
    os.write(2, line.encode())


def main() -> NoReturn:
    """`python -m sidecar.service.supervisor COMMAND ...`: supervise the command."""
    os._exit(Supervisor(sys.argv[1:]).run())


if __name__ == "__main__":
    main()

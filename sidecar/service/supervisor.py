"""The parent process: it holds the listening sockets, and starts the worker again when that dies.

Falco loses an alert when its connection is refused, but waits when it is only slow to be accepted. So the sockets
belong to this process, which does nothing that could crash: it imports next to nothing (11 MB), starts the worker with
the sockets in its hands, and waits. gunicorn and uvicorn can do the same, with three times the memory and a worker
protocol that has no use here.
"""

import os
import signal
import sys
import time
from types import FrameType
from typing import NoReturn

from sidecar.errors import EXIT_PROBLEM, EXIT_WRONG

STEADY = 1.0
"""Seconds after which a worker that dies was not in a crash loop."""

LONGEST_PAUSE = 5.0

GIVE_UP = 8
"""Crashes in a row after which the supervisor ends, which takes about ten seconds. It would keep holding the port, and
Falco, whose connection is accepted and never answered, would stop all of its outputs."""

GRACE = 8.0
"""Seconds that a worker gets to end before it is killed."""


class Supervisor:
    """Runs `command` until it ends by itself or this process is asked to stop."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._stopping = 0.0
        self._worker = 0

    def run(self) -> int:
        """The exit code of a worker that ended by itself; EXIT_PROBLEM if workers keep dying."""
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self._stop)
        signal.signal(signal.SIGHUP, self._pass_on)
        crashes = 0
        while True:
            began = time.monotonic()
            code = self._live()
            if self._stopping:
                return 0 if code in (0, -signal.SIGTERM, -signal.SIGINT) else 1
            if code in (0, EXIT_WRONG):
                return code
            crashes = 0 if time.monotonic() - began > STEADY else crashes + 1
            if crashes == GIVE_UP:
                _say(f'"worker keeps dying, giving up the ports","exit_code":{code},"crashes_in_a_row":{crashes}')
                return EXIT_PROBLEM
            pause = min(0.05 * 2 ** (crashes - 1), LONGEST_PAUSE) if crashes else 0.0
            _say(f'"worker died, starting another","exit_code":{code},"crashes_in_a_row":{crashes},"pause":{pause}')
            time.sleep(pause)

    def _live(self) -> int:
        """Start one worker and wait for its end."""
        self._worker = os.posix_spawn(self._command[0], self._command, os.environ)
        if self._stopping:
            self._stop(signal.SIGTERM, None)
        return os.waitstatus_to_exitcode(os.waitpid(self._worker, 0)[1])

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self._stopping = self._stopping or time.monotonic()
        if self._worker:
            signal.signal(signal.SIGALRM, self._kill)
            signal.setitimer(signal.ITIMER_REAL, GRACE)
            self._pass_on(number, None)

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        try:
            os.kill(self._worker, number)
        except ProcessLookupError:
            return

    def _kill(self, _number: int, _frame: FrameType | None) -> None:
        self._pass_on(signal.SIGKILL, None)


def _say(rest: str) -> None:
    now = time.time()
    stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1e6):06d}Z"
    line = f'{{"time":"{stamp}","level":"error","logger":"sidecar.service.supervisor","message":{rest}}}\n'
    os.write(2, line.encode())


def main() -> NoReturn:
    """`python -m sidecar.service.supervisor COMMAND ...`: supervise the command."""
    os._exit(Supervisor(sys.argv[1:]).run())


if __name__ == "__main__":
    main()

"""The errors that this package raises on purpose.

CorrelatorError
 +- AlertError      an alert that cannot be correlated; carries the reason that is counted
 +- ConfigError     a rule file or a settings file is wrong; carries every problem found
 +- SinkError       a sink did not accept a notification
     +- Refused     and never will: do not retry
"""

EXIT_PROBLEM = 1
"""Exit code: a problem was found (a test failed), or workers keep ending."""

EXIT_WRONG = 2
"""Exit code: a setting, a file or the usage is wrong, or a resource is taken: starting again would not help."""


class CorrelatorError(Exception):
    """Base of all errors that this package raises on purpose."""


class AlertError(CorrelatorError):
    """An alert is not usable; `reason` is a key of `model.REJECTIONS` and a metric label."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ConfigError(CorrelatorError):
    """A file that a user wrote is not valid; `problems` has one line for each mistake.

    `where` names the file, "" when each problem names its own.
    """

    def __init__(self, where: str, problems: list[str]) -> None:
        lines = [problem.replace("\n", "\\n") for problem in problems]  # one may quote a value with a line break
        super().__init__("\n".join(f"{where}: {line}" if where else line for line in lines))
        self.where = where
        self.problems = problems


class SinkError(CorrelatorError):
    """The sink did not accept the notification this time; it asked to wait `retry_after` seconds (0 if it did not)."""

    def __init__(self, text: str, retry_after: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class Refused(SinkError):  # noqa: N818 - it reads as the fact that it is
    """The sink responded that it will never accept this notification."""

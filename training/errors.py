"""The ways in which a run can end badly that a user should read as one line."""

import re
import signal


class UsageError(ValueError):
    """The user asked for something that cannot be done; the message is one line. Exit code 2."""


class DivergedError(ArithmeticError):
    """The loss or a weight became infinite or not a number. Exit code 1."""


class StorageError(Exception):
    """The run could not be written, for want of room, say. Exit code 1."""


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to end. Exit code 128 + its number, as shells have it."""

    def __init__(self, number: int = signal.SIGINT):
        super().__init__()
        self.exit_code = 128 + number


def in_one_line(message: str) -> str:
    """The message without line breaks, and without the whole of a very long word."""
    return re.sub(r"\S{200,}", lambda word: f"{word[0][:100]}...", " ".join(message.split()))

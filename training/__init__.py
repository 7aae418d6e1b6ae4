"""What the train scripts of all parts share, and the errors that a user reads as one line."""

import re
import signal


class UsageError(ValueError):
    """The user asked for something that cannot be done; the message is one line. Exit code 2."""


class DivergedError(ArithmeticError):
    """The loss or a weight became infinite or not a number. Exit code 1."""


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to end. Exit code 128 + its number, as in a shell."""

    def __init__(self, number: int = signal.SIGINT):
        super().__init__()
        self.exit_code = 128 + number


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, for which PyTorch's allocators raise RuntimeErrors."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and bool(re.search("(out of|allocate|enough) memory|overflow", str(error)))
    )

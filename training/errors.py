"""The two ways in which a run can end badly that a user should read as one line."""


class UsageError(ValueError):
    """The user asked for something that cannot be done; the message is one line. Exit code 2."""


class DivergedError(ArithmeticError):
    """The loss became infinite or not a number. Exit code 1."""

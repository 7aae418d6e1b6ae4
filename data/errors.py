"""The one error that the loader raises."""


class DataError(ValueError):
    """A data set that is missing, broken or wrongly asked for; the message is one line."""

"""Whether a training fits into this machine, asked before it starts."""

import os

from training.errors import UsageError


def check_memory(n_bytes: float, flags: str) -> None:
    """Refuse what would not fit into the machine's memory.

    Args:
        n_bytes: a rough count of what the training keeps at once.
        flags: those that would have to be smaller.

    Raises:
        UsageError: it would not fit.
    """
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # a system that does not tell
        return
    if n_bytes > memory:
        raise UsageError(
            f"{flags}: this would take some {n_bytes / 2**30:,.0f} GiB of memory, "
            f"and the machine has {memory / 2**30:,.0f}"
        )

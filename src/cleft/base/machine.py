"""What the machine has left to give."""

import psutil

__all__ = ["available_memory"]


def available_memory() -> int:
    """Bytes of memory that can be taken now without pushing anything out.

    Example:
        >>> available_memory() > 0
        True
    """
    return int(psutil.virtual_memory().available)

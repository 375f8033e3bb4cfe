"""What this process may still take of the machine's memory, and how it gives some back."""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

__all__ = ["available_memory", "resident_memory", "trim_memory"]

# Of both versions of control groups, as Slurm, Docker and systemd set them: where they are mounted, and the
# files that say the limit, what is used of it, and how much of that is cache the kernel drops when asked.
GROUPS = {
    2: ("", "memory.max", "memory.current", "inactive_file"),
    1: ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def available_memory(root: Path = Path("/")) -> int:
    """Bytes that this process could still take: of the machine, of its control groups, of its own limit.

    Args:
        root: where ``proc`` and ``sys`` are; another one for tests.

    Example:
        >>> available_memory() > 0
        True
    """
    room = [psutil.virtual_memory().available, *_left_in_groups(root)]
    return max(0, min(room + _left_of_address_space()))


def resident_memory() -> int:
    """Bytes of memory that this process holds now."""
    return int(psutil.Process().memory_info().rss)


def trim_memory() -> None:
    """Return freed memory to the system, where the C library would keep it for later (glibc)."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    """Of glibc; ``None`` where there is another C library."""
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def _left_in_groups(root: Path) -> Iterator[int]:
    """What each control group around this process leaves it."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        version = 1 if "memory" in controllers.split(",") else 2
        if version == 2 and controllers:
            continue
        mount, *names = GROUPS[version]
        base = root / "sys/fs/cgroup" / mount
        # a container sees its own group as the root of the mount, whatever the path says; limits of groups
        # further out hold as well
        group = base / path.lstrip("/")
        for folder in (group, *(parent for parent in group.parents if parent.is_relative_to(base))):
            left = _left(folder, *names)
            if left is not None:
                yield left


def _left(folder: Path, limit: str, used: str, cache: str) -> int | None:
    """What one group leaves; ``None`` where it sets no limit."""
    try:
        most = (folder / limit).read_text().strip()
        if most == "max":
            return None
        taken = int((folder / used).read_text())
        numbers = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return max(0, int(most) - taken + int(numbers.get(cache, 0)))


def _left_of_address_space() -> list[int]:
    """What ``ulimit -v`` leaves, where there is one."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return []
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    return [] if most == resource.RLIM_INFINITY else [most - psutil.Process().memory_info().vms]

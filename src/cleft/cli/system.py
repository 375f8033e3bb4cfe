"""``cleft info --system``: the machine, and what is installed of what cleft can use."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

import cleft
from cleft.core.memory import available_memory
from cleft.core.units import format_bytes

__all__ = ["system_lines"]


def system_lines() -> Iterator[str]:
    """Versions, device, memory and threads; of each extra what is missing, with the command that mends it.

    Example:
        >>> next(system_lines()).split()[0]
        'cleft'
    """
    import torch

    from cleft.prediction.device import bfloat16_is_native, device_of

    device = device_of("auto")
    numbers, free = "bfloat16" if bfloat16_is_native(device) else "float32", available_memory()
    yield f"cleft         {cleft.__version__}, Python {platform.python_version()}, {platform.platform()}"
    yield (
        f"processor     {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"{format_bytes(free)} of memory free"
    )
    yield f"device        {_named(device)}, computes in {numbers}"
    needed = [Requirement(line) for line in requires("cleft") or []]
    base = sorted(r.name for r in needed if r.marker is None or "extra" not in str(r.marker))
    yield "packages      " + ", ".join(f"{name} {_version(name)}" for name in base)
    for extra in sorted({name for r in needed if (name := _extra(r))}):
        missing = [r.name for r in needed if _extra(r) == extra and _version(r.name) == "missing"]
        said = f"missing {', '.join(missing)}; pip install 'cleft[{extra}]'" if missing else "installed"
        yield f"[{extra}] ".ljust(14) + said


def _named(device: object) -> str:
    """A device with the card's own name."""
    import torch

    cards = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    return f"{device}" + (f" ({', '.join(cards)})" if cards else "")


def _extra(needed: Requirement) -> str:
    """The extra that a requirement belongs to, if any."""
    words = str(needed.marker or "").replace("'", '"').split('"')
    return words[1] if "extra" in words[0] else ""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"

"""Triton and the viewer's drawing in one process."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

__all__ = ["settle_triton"]

MAPS = Path("/proc/self/maps")


def settle_triton() -> None:
    """Import Triton now, or never.

    Torch imports Triton, where it is installed, when an optimiser is made. Mesa, which draws where there is
    no driver of NVIDIA's, brings an LLVM of its own, and once that is loaded the import of Triton's ends the
    process. So it comes first where it still can; otherwise it is as if it weren't installed: torch goes
    on without it, and only the fused loss on a card of NVIDIA's is missed.
    """
    if "triton" in sys.modules or importlib.util.find_spec("triton") is None:
        return
    if MAPS.exists() and "libLLVM" in MAPS.read_text(errors="replace"):
        sys.modules["triton"] = None  # type: ignore[assignment]  # Python's way to say: can't be imported
    else:
        importlib.import_module("triton")

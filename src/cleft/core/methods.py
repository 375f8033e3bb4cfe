"""The names of the ways to decide the class of a pixel, which settings, command line and library share."""

from __future__ import annotations

from typing import Literal, get_args

__all__ = ["METHODS", "Method"]

# what they are says ``cleft.labels.instances.to_labels``
Method = Literal["map", "biased", "threshold", "watershed"]
METHODS: tuple[Method, ...] = get_args(Method)

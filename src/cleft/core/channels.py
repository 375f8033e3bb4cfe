"""Which channel of an image is meant: by its name, by its number, or the mean of all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cleft.core.errors import DataError

__all__ = ["MEAN", "Channel", "channel_index", "channels_said", "mean_of_channels"]

Channel = int | str
MEAN = "mean"


def channel_index(which: Channel, count: int, names: Sequence[str] = (), source: str = "image") -> int | None:
    """The number of a channel, from 0 on; ``None`` for the mean of all.

    Args:
        which: a name, in any case of letters; a number from 0 on, also as text; or ``"mean"``. A name goes
            before a number: ``"488"`` is the channel of that name, if there is one.
        count: of the channels there are.
        names: of them, if they are known.
        source: for the message.

    Raises:
        DataError: there is no such channel, or two have the name.

    Example:
        >>> channel_index("gfp", 2, ["DAPI", "GFP"]), channel_index(0, 3), channel_index("mean", 3)
        (1, 0, None)
        >>> channel_index("GFP", 3, ["red", "green", "blue"], "a.png")
        Traceback (most recent call last):
        cleft.core.errors.DataError: a.png: has no channel GFP, expected one of 0 (red), 1 (green), ...
    """
    asked = str(which).strip().casefold()
    found = [i for i, name in enumerate(names[:count]) if name.strip().casefold() == asked]
    if len(found) > 1:
        numbers = " or ".join(map(str, found))
        raise DataError(f"{source}: has {len(found)} channels named {which}, expected its number, {numbers}")
    if found:
        return found[0]
    if asked == MEAN:
        return None
    if asked.isdecimal() and int(asked) < count:
        return int(asked)
    raise DataError(
        f"{source}: has no channel {which}, expected one of {channels_said(count, names)}, or {MEAN}"
    )


def channels_said(count: int, names: Sequence[str] = ()) -> str:
    """The channels of an image for a message.

    Example:
        >>> channels_said(2, ["DAPI", "GFP"]), channels_said(3)
        ('0 (DAPI), 1 (GFP)', '0, 1, 2')
    """
    named = list(names) if len(names) == count else [""] * count
    shown = [f"{i} ({name})" if name else str(i) for i, name in enumerate(named[:8])]
    return ", ".join(shown) + (f", ... {count - 1}" if count > len(shown) else "")


def mean_of_channels(data: np.ndarray, axis: int) -> np.ndarray:
    """The mean of the channels, float32: the same bits however the array lies in memory.

    Example:
        >>> mean_of_channels(np.array([[1, 2], [2, 4]]), 0).tolist()
        [1.5, 3.0]
    """
    channels = np.moveaxis(data, axis, 0)
    total = np.zeros(channels.shape[1:], np.float32)
    for channel in channels:
        total += channel
    return total / np.float32(len(channels))

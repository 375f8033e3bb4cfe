"""What a model is given, checked: an image that suits it, and the name of a device that is there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from cleft.core.errors import DataError, ModelError
from cleft.core.image import Image
from cleft.core.settings import ModelCard
from cleft.io.read import check_pixels

__all__ = ["device_of", "validate_image"]


def validate_image(image: Image, card: ModelCard, name: str) -> Image:
    """The image, booleans as integers.

    Args:
        image: any axes.
        card: of the model.
        name: of the model, for messages.

    Raises:
        DataError: no numbers, no pixels, NaN or infinite pixels, a constant image.
        ModelError: other axes or channels than the model was made for.
    """
    image = _numbers(image)
    found = image.standard()
    if sorted(found.spatial_axes) != sorted(card.axes):
        raise ModelError(
            f"{image.source}: has spatial axes {image.spatial_axes} (shape {image.data.shape}), "
            f"but {name} is a model for {card.axes}"
        )
    if found.data.shape[0] != card.net.channels:
        raise ModelError(
            f"{image.source}: has {found.data.shape[0]} channels (axes {image.axes}), "
            f"but {name} takes {card.net.channels}"
        )
    check_pixels(image)
    return image


def _numbers(image: Image) -> Image:
    """The image, booleans as integers; refused if it holds no numbers."""
    if image.data.dtype.kind not in "biuf":
        raise DataError(f"{image.source}: found pixels of type {image.data.dtype}, expected numbers")
    if not image.data.size:
        raise DataError(f"{image.source}: found an array without pixels, shape {image.data.shape}")
    if image.data.dtype.kind != "b":
        return image
    return replace(image, data=image.data.astype(np.uint8))


def device_of(name: str) -> torch.device:
    """The device of a name: ``"cpu"``, ``"cuda"``, ``"mps"``, or ``"auto"``, the fastest there is.

    Raises:
        ModelError: there is no such device, or not here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(f'device is "{name}", expected cpu, cuda, mps or auto') from error
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if device.type not in counts:
        raise ModelError(f'device is "{name}", expected cpu, cuda, mps or auto')
    if (device.index or 0) >= counts[device.type]:
        raise ModelError(f'device "{name}" is not available here, expected cpu, cuda, mps or auto')
    return device

"""What is done with a damaged file: everything that reads, and nothing but a CleftError may come of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cleft.core.errors import CleftError
from cleft.core.image import Image
from cleft.io import open_image, read_image, read_labels

__all__ = ["attempt", "out_of_memory"]


def attempt(path: Path, done: Callable[[str], None] = lambda step: None) -> list[CleftError | None]:
    """Read a file in every way.

    Args:
        path: of the file or folder.
        done: told the name of each step that came to an end.

    Returns:
        For each step the error, or ``None`` where there was a result.

    Raises:
        Exception: anything else that came out, which is what is looked for.
    """
    outcomes: list[CleftError | None] = []

    def step(name: str, what: Callable[[], object]) -> None:
        try:
            what()
            outcomes.append(None)
        except CleftError as error:
            outcomes.append(error)
        assert outcomes[-1] is None or str(outcomes[-1]).strip(), "an error without a sentence"
        done(name)

    if path.suffix == ".safetensors":
        from cleft.models.card import read_card
        from cleft.models.file import read_model

        step("card", lambda: read_card(path))
        step("model", lambda: read_model(path))
        return outcomes
    images: list[Image] = []  # none where it can't be read whole
    step("image", lambda: images.append(read_image(path)))
    advised = re.search(r"--axes ([TCZYX]+)", str(outcomes[-1]))
    axes = advised and advised[1]
    if axes:
        step("image with axes", lambda: images.append(read_image(path, axes=axes)))
    step("labels", lambda: _numbers(read_labels(path, axes=axes).data))
    step("regions", lambda: _regions(path, axes, images))
    return outcomes


def out_of_memory(error: BaseException | None) -> bool:
    """Whether memory ran out somewhere, which means that a size was believed before it was checked."""
    while error is not None:
        if isinstance(error, MemoryError) or "nable to allocate" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _numbers(data: np.ndarray) -> None:
    assert data.dtype.kind in "iuf", data.dtype
    assert data.size


def _regions(path: Path, axes: str | None, images: list[Image]) -> None:
    """The first corner, the last one and a pixel between them; as in the image read whole, if it was."""
    with open_image(path, axes=axes) as image:
        for region in (
            tuple(slice(0, min(n, 16)) for n in image.shape),
            tuple(slice(max(0, n - 5), n) for n in image.shape),
            tuple(slice(n // 2, n // 2 + 1) for n in image.shape),
        ):
            data = image.read(region)
            assert data.shape[1:] == tuple(s.stop - s.start for s in region)
            _numbers(data)
            for whole in images:
                expected = whole.channels_first()[(slice(None), *region)]
                np.testing.assert_array_equal(data, expected, "a region isn't that of the whole")

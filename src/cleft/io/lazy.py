"""An image on disk that is read region by region."""

from __future__ import annotations

import itertools
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np

from cleft.core.errors import DataError
from cleft.core.image import SPATIAL, Image
from cleft.core.tiles import Slices
from cleft.io.damage import reading
from cleft.io.on_disk import Pixels

__all__ = ["LazyImage"]


@dataclass(frozen=True)
class LazyImage(AbstractContextManager["LazyImage"]):
    """An image that isn't in memory; regions of it come in the order C, Z, Y, X.

    Made by ``open_image``; close it, or use it in a ``with`` block.

    Args:
        pixels: the array on disk.
        letters: for each of its dimensions T, C, Z, Y, X, or another letter for one of length 1.
        spacing_um: micrometres per pixel by letter; ``None`` unless known for every spatial axis.
        source: the file, for messages.
        channels: of the C axis, opacity left out; 1 where there is none.
        open_files: closed with the image.

    Example:
        >>> image = LazyImage(np.arange(6).reshape(1, 2, 3), "QXY", None, "example", 1)
        >>> image.axes, image.shape
        ('YX', (3, 2))
        >>> image.read((slice(1, 3), slice(0, 2))).tolist()
        [[[1, 4], [2, 5]]]
    """

    pixels: Pixels
    letters: str
    spacing_um: dict[str, float] | None
    source: str
    channels: int
    open_files: ExitStack = field(default_factory=ExitStack)

    @classmethod
    def of(cls, image: Image) -> LazyImage:
        """An image in memory, to read as one on disk.

        Example:
            >>> LazyImage.of(Image(np.zeros((4, 6)), "YX")).read((slice(1, 3), slice(0, 6))).shape
            (1, 2, 6)
        """
        spacing = None if image.spacing is None else dict(zip(image.spatial_axes, image.spacing))
        channels = image.data.shape[image.axes.index("C")] if "C" in image.axes else 1
        return cls(image.data, image.axes, spacing, image.source, channels)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open_files.close()

    @property
    def axes(self) -> str:
        """The spatial axes in the order of ``shape``: YX or ZYX."""
        return "".join(a for a in SPATIAL if a in self.letters)

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each spatial axis."""
        return tuple(self.pixels.shape[self.letters.index(a)] for a in self.axes)

    @property
    def spacing(self) -> tuple[float, ...] | None:
        """Micrometres per pixel along each spatial axis, if known."""
        return None if self.spacing_um is None else tuple(self.spacing_um[a] for a in self.axes)

    def read(self, region: Slices) -> np.ndarray:
        """The pixels of a region.

        Args:
            region: slices along the spatial axes, within the image.

        Returns:
            (C, *region) in the file's type; booleans as uint8.

        Raises:
            DataError: pixels are damaged, NaN or infinite; the message names the region.
        """
        by_letter = dict(zip(self.axes, region), C=slice(0, self.channels))
        index = tuple(by_letter.get(letter, slice(0, 1)) for letter in self.letters)

        def told(reason: str) -> str:
            place = self._at(self._damaged(index, region))
            return f"{self.source}: can't be read at {place}, damaged? ({reason})"

        with reading(told):
            data = np.asarray(self.pixels[index])
        data = data.astype(np.uint8 if data.dtype == bool else data.dtype.newbyteorder("="), copy=False)
        if data.dtype.kind == "f" and not np.isfinite(data).all():
            raise DataError(f"{self.source}: found NaN or infinite pixels at {self._at(region)}")
        kept = [i for i, letter in enumerate(self.letters) if letter in by_letter]
        data = data.reshape([data.shape[i] for i in kept])
        letters = "".join(self.letters[i] for i in kept)
        order = [letters.index(a) for a in ("C" * ("C" in letters)) + self.axes]
        data = data.transpose(order)
        return data if "C" in letters else data[None]

    def whole(self) -> Image:
        """The image in memory, in the order C, Z, Y, X."""
        data = self.read(tuple(slice(0, n) for n in self.shape))
        return Image(data, "C" + self.axes, self.spacing, self.source)

    def _damaged(self, index: tuple[slice, ...], region: Slices) -> Slices:
        """Of a region that can't be read, the first chunk that can't."""
        chunks = getattr(self.pixels, "chunks", None)
        if chunks is None:
            return region
        touched = [range(s.start // c, -(-s.stop // c)) for s, c in zip(index, chunks)]
        for place in itertools.product(*touched):
            part = [slice(at * c, min((at + 1) * c, n)) for at, c, n in zip(place, chunks, self.pixels.shape)]
            try:
                with reading(str):
                    self.pixels[tuple(part)]
            except DataError:
                return tuple(part[self.letters.index(a)] for a in self.axes)
        return region

    def _at(self, region: Slices) -> str:
        return ", ".join(f"{a} {s.start}:{s.stop}" for a, s in zip(self.axes, region))

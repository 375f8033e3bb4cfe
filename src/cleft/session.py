"""Annotate a few cells, learn for a minute, look again: images, what is known of them, and a model."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import fastremap
import numpy as np

from cleft.core.downsample import downsample
from cleft.core.errors import DataError
from cleft.core.image import Image, as_image
from cleft.core.settings import ModelCard, TrainSettings, read_settings
from cleft.core.tiles import Slices
from cleft.io.lazy import LazyImage
from cleft.io.outputs import check_outputs
from cleft.io.pairs import find_pairs
from cleft.io.read import check_pixels, read_image, read_labels
from cleft.io.write import write_image, write_labels
from cleft.labels.check import check_pair
from cleft.labels.edit import with_rims
from cleft.models.file import write_model
from cleft.models.unet import UNet
from cleft.prediction.doubt import BLOCK, doubt_map, doubtful_views
from cleft.prediction.model import Model, check_suits, load_model
from cleft.prediction.predictor import Progress as Tiles
from cleft.prediction.predictor import ScaledImage
from cleft.prediction.scale import Diameter
from cleft.training.configure import choose_factors, configure
from cleft.training.dataset import Example, load_examples
from cleft.training.pretrained import Pretrained, with_pretrained
from cleft.training.rounds import Learnt, Progress, Rounds

__all__ = ["Learnt", "Place", "Progress", "Session"]

MODEL_FILE = "model.safetensors"
WELL_KNOWN = 0.5  # share of a view from which on it is not proposed again


@dataclass(frozen=True)
class Place:
    """A view worth annotating.

    Args:
        index: of the image.
        region: slices along its spatial axes, as the image has them.
        doubt: the mean, over the view, of how likely a pixel's class is wrong; what is annotated counts 0.
    """

    index: int
    region: Slices
    doubt: float


@dataclass
class _Item:
    """An image of a session.

    Args:
        image: as given.
        name: for files.
        labels: (*S) int32 in the image's own order of axes; -1 not known.
        taught: the same, with the rims of cells beside those that are known.
        normalised: as trainings want it, made on first use.
    """

    image: Image
    name: str
    labels: np.ndarray
    taught: np.ndarray
    normalised: Example | None = field(default=None, repr=False)

    def standard(self, labels: np.ndarray) -> np.ndarray:
        """Labels of the image in the order of the model's axes."""
        return Image(labels, self.image.spatial_axes).channels_first()[0]

    @property
    def annotated(self) -> bool:
        return bool((self.labels >= 0).any())


class Session:
    """Images, what a person says of their cells, and a model that learns from it within a minute.

    A session begins with a model. Where cells have been annotated, ``learn`` goes on from what the model
    knows, for as many seconds as one likes to wait; the network stays loaded from one round to the next. A
    round goes on from the one before if nothing was annotated since. Otherwise it begins with the first
    model again, so that what comes out depends on what is annotated, not on what was before. What isn't
    annotated (-1) keeps it from forgetting: there it is held to what it said at the beginning. Annotate whole
    neighbourhoods rather than single cells far apart: whether two cells touch is only known where both are.

    Args:
        model: to begin with: the name of one that ships, a path, or a ``Model``.
        device: ``"cpu"``, ``"cuda"``, ``"mps"`` or ``"auto"``, the fastest there is.
        **settings: of trainings, by name, such as ``seed`` or ``learning_rate``; see
            ``cleft.core.settings.TrainSettings``.

    Example:
        >>> from cleft.synthetic import make_cells
        >>> image, truth = make_cells((96, 96), seed=0)
        >>> session = Session("cells2d-small")
        >>> index = session.add(image)
        >>> known = np.full(truth.shape, -1)
        >>> known[:48] = truth[:48]  # the upper half is annotated
        >>> session.annotate(index, known)
        >>> learnt = session.learn(seconds=0.1)
        >>> learnt.steps >= 1, session.segment(index).shape
        (True, (96, 96))
    """

    def __init__(
        self, model: str | Path | Model = "cells2d", *, device: str = "auto", **settings: Any
    ) -> None:
        self.model = model if isinstance(model, Model) else load_model(model, device)
        if len(self.model.origin.names) > 1 or self.model.origin.tta:
            raise DataError(f"{self.model.name}: is several models as one, expected one to go on from")
        self._begun = Pretrained(self.model.origin.names[0], self.model.card)
        self._settings = _settings(self._begun, settings)
        self._items: list[_Item] = []
        self._rounds: Rounds | None = None
        self._before: Model | None = None
        self._changed = False  # what is annotated, since the last round
        self._learning = threading.Lock()

    def __len__(self) -> int:
        return len(self._items)

    def add(
        self,
        image: np.ndarray | Image,
        axes: str | None = None,
        spacing: Sequence[float] | None = None,
        name: str | None = None,
    ) -> int:
        """Take an image into the session; nothing of it is annotated yet.

        Args:
            image, axes, spacing: as for ``Model.segment``.
            name: for ``keep`` and messages; by default image0, image1, ...

        Returns:
            Its index.

        Raises:
            DataError, ModelError: an image that the model isn't made for.
        """
        found = as_image(image, axes, spacing, such_as=self.model.card.axes)
        check_suits(self.model, LazyImage.of(found), found.spatial_axes)
        check_pixels(found)
        name = f"image{len(self._items)}" if name is None else name
        if any(item.name == name for item in self._items):
            raise DataError(f'name is "{name}", which another image of the session has')
        shape = tuple(n for n, axis in zip(found.data.shape, found.axes) if axis != "C")
        nothing = np.full(shape, -1, np.int32)
        self._items.append(_Item(found, name, nothing, nothing))
        return len(self._items) - 1

    def annotate(self, index: int, labels: np.ndarray, shown: np.ndarray | None = None) -> None:
        """Say what is known of an image; it replaces what was said before.

        Args:
            index: of the image.
            labels: (*S) integer in the image's order of axes: 0 where there surely is no cell, 1.. one
                number per cell, -1 where nothing is known.
            shown: (*S) integer, all labels as they were on the screen. Of cells beside those that are known
                the rim is learnt from, too: where a person let a cell pass, another one may begin.

        Raises:
            DataError: another shape, or numbers that labels can't be; the message says what was found.
        """
        item = self._item(index)
        given = Image(
            np.asarray(labels), item.image.spatial_axes, item.image.spacing, f"labels of {item.name}"
        )
        check_pair(item.image, given)
        labels = taught = given.data.astype(np.int32)
        if shown is not None:
            taught = with_rims(labels, np.asarray(shown), item.image.spacing)
        self._changed |= not (np.array_equal(taught, item.taught) and np.array_equal(labels, item.labels))
        item.labels, item.taught = labels, taught

    def annotation(self, index: int) -> np.ndarray:
        """What is known of an image, (*S) int32, -1 where nothing is."""
        return self._item(index).labels.copy()

    def learn(
        self,
        seconds: float = 60.0,
        progress: Callable[[Progress], None] = lambda progress: None,
        stop: threading.Event | None = None,
        pause: threading.Event | None = None,
    ) -> Learnt:
        """Learn from everything annotated so far; ``model`` is then the learnt one.

        It takes the thread that calls it; another one may ``segment`` meanwhile, with the model as it was.

        Args:
            seconds: how long; above 0.
            progress: called about twice a second with how far it is and the loss.
            stop: ends it early once set; what was learnt until then stays.
            pause: while set, nothing is computed.

        Raises:
            DataError: no cell is annotated, or another round is at work.
            CleftError: the loss is no number any more; the model stays as it was.
        """
        if not seconds > 0:
            raise DataError(f"seconds is {seconds}, expected a number above 0")
        if not any((item.labels > 0).any() for item in self._items):
            raise DataError("found no annotated cell to learn from, expected at least one")
        if not self._learning.acquire(blocking=False):
            raise DataError("a round of learning is at work, expected it to end first")
        try:
            examples, card = self._prepared()
            if self._rounds is None:
                net = self._begun.network(card.net).to(self.model.device)
                assert isinstance(net, UNet)
                self._rounds = Rounds(net, card, self._settings)
            elif self._changed:
                self._rounds.begin_anew()
            self._rounds.card, self._changed = card, False
            learnt = self._rounds.learn(examples, seconds, progress, stop, pause)
            told = {"steps": self._rounds.steps, "minutes": round(self._rounds.seconds / 60, 1)}
            card = card.model_copy(update={"training": {**self._settings.flat(), **told}})
            self._before = self.model
            net = deepcopy(self._rounds.net)
            self.model = Model(net, card, str(self.model.device), "session", precision=self.model.precision)
            return learnt
        finally:
            self._learning.release()

    def so_far(self) -> Model:
        """The model in the midst of a round, as a copy; outside of one, the model.

        To be called from ``progress``, between two steps.
        """
        if self._rounds is None or not self._learning.locked():
            return self.model
        net, now = deepcopy(self._rounds.net), self.model
        return Model(net, self._rounds.card, str(now.device), "session", precision=now.precision)

    def take_back(self) -> None:
        """Go back to the model as it was before the last round; what is annotated stays.

        Raises:
            DataError: there was no round, or it was taken back already, or one is at work.
        """
        if self._before is None or self._rounds is None or self._learning.locked():
            raise DataError("there is no round of learning to take back")
        self.model, self._before = self._before, None
        self._rounds.net.load_state_dict(self.model.net.state_dict())
        self._rounds.optimiser.state.clear()

    def segment(
        self,
        index: int,
        region: Slices | None = None,
        diameter: Diameter = None,
        progress: Tiles = lambda done, of: None,
    ) -> np.ndarray:
        """What the model finds, and what is annotated as it is annotated.

        Args:
            index: of the image.
            region: slices along its spatial axes; by default all of it.
            diameter: as for ``Model.segment``.
            progress: called with tiles done and tiles in all.

        Returns:
            (*region) uint32; annotated cells have the numbers that they have there, found ones others.
        """
        item, model = self._item(index), self.model
        found = model.segment(item.image, diameter=diameter, region=region, progress=progress)
        return with_annotation(found, item.labels if region is None else item.labels[region])

    def next(self, index: int | None = None, size: Sequence[int] | int = 256, count: int = 10) -> list[Place]:
        """The views about which the model is least sure.

        Images take turns, those with least annotation first: what a model learns from one image alone can
        cost it others. Of one image the most doubtful view comes first.

        Args:
            index: of the image to look at; by default all of them.
            size: of a view in pixels, one number for the last two axes or one for each.
            count: of views, at most.
        """
        found = []
        for number in range(len(self._items)) if index is None else [index]:
            views = self._doubtful(number, size, count)
            known = int((self._items[number].labels >= 0).sum())
            for turn, place in enumerate(views):
                pixels = math.prod(part.stop - part.start for part in place.region)
                found.append((math.ceil(known / pixels) + turn, -place.doubt, place))
        return [place for *_, place in sorted(found, key=lambda one: one[:2])[:count]]

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write the model as it is now.

        Raises:
            DataError: something stands there that cleft didn't write.
        """
        check_outputs([Path(path)], [], overwrite)
        write_model(Path(path), self.model.net, self.model.card)

    def keep(self, folder: str | Path, overwrite: bool = False) -> None:
        """Write images, annotations and model: a folder that ``cleft train`` and ``Session.open`` read.

        Images in which nothing is annotated are kept, too, with -1 throughout.

        Args:
            folder: gets ``images/``, ``masks/`` and ``model.safetensors``.
            overwrite: replace files of these names that cleft didn't write.
        """
        folder = Path(folder)
        places = [folder / kind / f"{item.name}.tif" for item in self._items for kind in ("images", "masks")]
        check_outputs([*places, folder / MODEL_FILE], [], overwrite)
        for kind in ("images", "masks"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        for item in self._items:
            name = f"{item.name}.tif"
            write_image(folder / "images" / name, item.image)
            write_labels(folder / "masks" / name, item.labels, item.image.spatial_axes, item.image.spacing)
        write_model(folder / MODEL_FILE, self.model.net, self.model.card)

    @classmethod
    def open(cls, folder: str | Path, model: str | Path | None = None, **settings: Any) -> Session:
        """Go on with a session that was kept, or begin one with a folder of images and masks.

        Args:
            folder: as ``keep`` writes it, or any that ``cleft train`` reads.
            model: to begin with; by default the folder's own, and where it has none ``"cells2d"``.
            **settings: as for ``Session``.
        """
        folder = Path(folder)
        own = folder / MODEL_FILE
        session = cls(model or (own if own.exists() else "cells2d"), **settings)
        for pair in find_pairs(folder):
            session.annotate(
                session.add(read_image(pair.image), name=pair.name), read_labels(pair.labels).data
            )
        return session

    def _item(self, index: int) -> _Item:
        if not 0 <= index < len(self._items):
            raise DataError(f"index is {index}, expected that of one of {len(self._items)} images")
        return self._items[index]

    def _prepared(self) -> tuple[list[Example], ModelCard]:
        """The annotated images as the network learns from them, and the card of what comes out."""
        items = [item for item in self._items if item.annotated]
        full = [self._example(item) for item in items]
        # how large cells are isn't told by the rims of those beside them
        said = [
            replace(example, labels=item.standard(item.labels))
            for example, item in zip(full, items, strict=True)
        ]
        shrink, factors = choose_factors(said, self._settings.data, self._begun, in_part=True)
        mixed = len(set(factors)) > 1
        examples = [example.rescaled(f) for example, f in zip(full, factors, strict=True)]
        said = [example.rescaled(f) for example, f in zip(said, factors, strict=True)]
        card = configure(said, self._settings, shrink, self._begun, mixed, in_part=True).card
        # few cells, some cut at the edge of a view, don't tell how small one can be: the share of the usual
        # cell that the model knows does
        before = self._begun.card
        larger = (card.cell_diameter / before.cell_diameter) ** len(card.axes)
        least = {name: getattr(before, name) * larger for name in ("min_size", "min_size_at_border")}
        return examples, card.model_copy(update=least)

    def _example(self, item: _Item) -> Example:
        if item.normalised is None:
            (item.normalised,) = load_examples([(item.image, item.labels)], self._settings)
        return replace(item.normalised, labels=item.standard(item.taught), name=item.name, spots={})

    def _doubtful(self, index: int, size: Sequence[int] | int, count: int) -> list[Place]:
        """The views of one image."""
        item, model, axes = self._item(index), self.model, self.model.card.axes
        standard, labels, order = item.image.standard(), item.standard(item.labels), item.image.spatial_axes
        scaled = ScaledImage.of(standard.data, model.card, model.factors(LazyImage.of(standard), None))
        doubt = doubt_map(model.predictor(), scaled)
        known = (scaled.scale.labels(labels) >= 0)[None].astype(np.float32)
        wanted = [size] * len(axes) if isinstance(size, int) else [size[order.index(a)] for a in axes]
        sizes = [min(w, n) for w, n in zip(wanted, labels.shape, strict=True)]
        place = [BLOCK * step for step in scaled.scale.steps]  # pixels of the image in one place of the map
        # as many whole places as hold a view, and none that reaches beyond the image, so that views lie apart
        view = [math.ceil(s / p) for s, p in zip(sizes, place, strict=True)]
        whole = tuple(slice(max(v, int(n / p))) for v, n, p in zip(view, labels.shape, place, strict=True))
        known = downsample(known, (BLOCK,) * len(axes))[0]
        found = []
        for region, mean in doubtful_views(doubt[whole], known[whole], view, count):
            starts = [
                min(int(r.start * p), n - s)
                for r, p, n, s in zip(region, place, labels.shape, sizes, strict=True)
            ]
            slices = {axis: slice(a, a + s) for axis, a, s in zip(axes, starts, sizes, strict=True)}
            found.append(Place(index, tuple(slices[axis] for axis in order), mean))
        return found


def with_annotation(found: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Found labels, with what is annotated as it is annotated.

    A found cell most of which is annotated, as a cell or as none, is another reading of what is known, and
    goes; of the others what lies where nothing is known stays.

    Args:
        found: (*S) integer, 0 background, 1.. cells.
        labels: (*S) integer, -1 not annotated.

    Returns:
        (*S) uint32; annotated cells keep their numbers, found ones get those above.

    Example:
        >>> with_annotation(np.array([1, 1, 1, 2, 2, 2]), np.array([5, 5, 0, 0, -1, -1])).tolist()
        [5, 5, 0, 0, 6, 6]
    """
    numbers, _ = fastremap.renumber(found.astype(np.int64))
    sizes = np.bincount(numbers.reshape(-1))
    free = np.bincount(numbers[labels < 0], minlength=sizes.size)
    stays = 2 * free > sizes
    stays[0] = False
    above = max(int(labels.max(initial=0)), 0)
    new = np.where(stays, np.cumsum(stays) + above, 0)[numbers]
    return np.where(labels < 0, new, np.maximum(labels, 0)).astype(np.uint32)


def _settings(begun: Pretrained, given: dict[str, Any]) -> TrainSettings:
    """Of a session's trainings: classes are what the model knows them to be."""
    card = begun.card
    usual = {
        "touching_radius": card.touching_radius, "gap_radius": card.gap_radius,
        "noise_floor": card.noise_floor, "foreground_oversampling": 1.0,
    }  # fmt: skip
    return with_pretrained(read_settings(None, **{**usual, **given, "pretrained": begun.name}), begun)

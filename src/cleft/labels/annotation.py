"""Labels as a person corrects them: what was said of each cell and of each place, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import fastremap
import numpy as np

from cleft.core.errors import DataError
from cleft.core.tiles import Slices
from cleft.labels.edit import (
    BRIDGE,
    box_of,
    cell_under,
    delete_cells,
    known_labels,
    merge_cells,
    split_cell,
)

__all__ = ["NOTHING_HERE", "NOT_ANNOTATED", "NOT_SAID", "Annotation", "Said"]

Said = Literal["accepted", "corrected"]
NOT_SAID, NOTHING_HERE, NOT_ANNOTATED = 0, 1, 2
MOST_STEPS = 100  # that can be taken back


@dataclass(frozen=True)
class _Step:
    """What an edit replaced: labels and marks in a box, and what had been said of some cells."""

    box: Slices
    labels: np.ndarray
    marks: np.ndarray
    states: dict[int, Said | None]


class Annotation:
    """Labels under correction.

    Args:
        labels: (*S) integer, 0 background, 1.. cells; edited in place, so that a viewer sees every edit.
        spacing: size of a pixel along each axis; ``None`` is isotropic.

    Attributes:
        labels: the array given.
        states: of each confirmed cell, whether it was accepted as found, or corrected or drawn.
        last: the box of the last edit, or of what was taken back.
        marks: (*S) uint8, ``NOT_SAID``, ``NOTHING_HERE`` or ``NOT_ANNOTATED`` at each pixel.

    Raises:
        DataError: labels that aren't integers.

    Example:
        >>> work = Annotation(np.array([[1, 1, 0, 0, 0, 0, 0, 0, 2, 2]]))
        >>> work.accept([1])
        >>> work.known().tolist()
        [[1, 1, 0, 0, 0, -1, -1, -1, -1, -1]]
        >>> work.delete([2])
        >>> work.known().tolist()
        [[1, 1, 0, 0, 0, -1, -1, -1, 0, 0]]
        >>> work.undo(), work.undo(), work.undo(), work.states
        (True, True, False, {})
    """

    def __init__(self, labels: np.ndarray, spacing: Sequence[float] | None = None) -> None:
        if labels.dtype.kind not in "iu":
            raise DataError(f"labels are {labels.dtype}, expected an integer type")
        self.labels, self.spacing = labels, spacing
        self.states: dict[int, Said] = {}
        self.marks = np.zeros(labels.shape, np.uint8)
        self.last: Slices = (slice(0, 0),) * labels.ndim
        self._before = labels.copy()
        self._steps: list[_Step] = []

    @classmethod
    def of_known(cls, known: np.ndarray, spacing: Sequence[float] | None = None) -> Annotation:
        """Labels that were annotated before: each cell is confirmed, background is known, -1 isn't.

        Args:
            known: (*S) integer, 0 background, 1.. cells, below 0 not annotated.
            spacing: as for the class.

        Example:
            >>> Annotation.of_known(np.array([3, 0, -1])).known(margin=0).tolist()
            [3, 0, -1]
        """
        made = cls(np.maximum(known, 0).astype(np.uint32), spacing)
        made.states = dict.fromkeys(made.cells(), "accepted")
        made.marks[known == 0] = NOTHING_HERE
        return made

    def cells(self) -> list[int]:
        """The numbers of all cells there are."""
        return [int(n) for n in fastremap.unique(self.labels) if n > 0]

    @property
    def confirmed(self) -> Collection[int]:
        """The numbers of the cells that a person accepted, corrected or drew."""
        return self.states.keys()

    def accept(self, cells: Iterable[int]) -> None:
        """Say that cells are right as they are; one that was corrected stays so.

        Raises:
            DataError: a number that no cell has.
        """
        cells = [int(c) for c in cells]
        self._change(self._box(cells), states={c: self.states.get(c, "accepted") for c in cells})

    def accept_everything(self) -> None:
        """Say that all cells are right and that there are no others."""
        box = tuple(slice(0, n) for n in self.labels.shape)
        marks = np.where(self.marks == NOT_SAID, NOTHING_HERE, self.marks).astype(np.uint8)
        self._change(box, marks=marks, states={c: self.states.get(c, "accepted") for c in self.cells()})

    def delete(self, cells: Iterable[int]) -> None:
        """Say that cells are none: where they were, there is nothing.

        Raises:
            DataError: a number that no cell has.
        """
        cells = [int(c) for c in cells]
        box = self._box(cells)
        gone = np.isin(self.labels[box], cells)
        marks = np.where(gone, NOTHING_HERE, self.marks[box]).astype(np.uint8)
        self._change(box, delete_cells(self.labels[box], cells), marks, dict.fromkeys(cells))

    def split(
        self, stroke: Sequence[Sequence[float]] | np.ndarray, through: Collection[int] = ()
    ) -> list[int]:
        """Split the cell under a stroke; as ``split_cell``.

        Returns:
            The numbers of the pieces.
        """
        points = np.asarray(stroke, float)
        cell = cell_under(self.labels, points)
        box = self._box([cell])
        start = [s.start for s in box]
        part = self.labels[box]
        new, pieces = split_cell(part, points - start, through, cell)
        first = int(self.labels.max()) + 1
        numbers = [cell, *range(first, first + len(pieces) - 1)]
        if numbers[-1] > np.iinfo(part.dtype).max:
            raise DataError(f"labels are {part.dtype}, which has no number left for a new cell")
        places = [new == piece for piece in pieces]
        for place, number in zip(places, numbers, strict=True):
            new[place] = number
        self._change(box, new, states=dict.fromkeys(numbers, "corrected"))
        return numbers

    def merge(self, cells: Sequence[int]) -> int:
        """Make cells one; as ``merge_cells``.

        Returns:
            The number of the cell.
        """
        box = self._box(cells, int(BRIDGE))
        new, number = merge_cells(self.labels[box], cells, self.spacing)
        self._change(box, new, states={**dict.fromkeys(cells), number: "corrected"})
        return number

    def mark(self, where: Slices | np.ndarray, mark: int) -> None:
        """Say of a place that nothing is there, that it isn't annotated, or nothing of it again.

        Cells that nobody confirmed and that lie wholly where nothing is are deleted.

        Args:
            where: a box, as slices; or (*S) bool.
            mark: ``NOTHING_HERE``, ``NOT_ANNOTATED`` or ``NOT_SAID``.

        Raises:
            DataError: the place lies outside, or has another shape.
        """
        if isinstance(where, np.ndarray):
            if where.shape != self.labels.shape:
                raise DataError(f"place: found shape {where.shape}, expected {self.labels.shape}")
            box = box_of(where)
            inside = where[box]
        else:
            box = tuple(slice(*s.indices(n)) for s, n in zip(where, self.labels.shape))
            inside = np.ones([max(0, s.stop - s.start) for s in box], bool)
        if not inside.any():
            raise DataError("the place lies outside the image")
        labels = self.labels[box].copy()
        if mark == NOTHING_HERE:
            labels[np.isin(labels, self._found_wholly_in(box, inside))] = 0
        self._change(box, labels, np.where(inside, mark, self.marks[box]).astype(np.uint8))

    def mark_rest(self, mark: int) -> None:
        """Say the same of all that isn't a confirmed cell and of which nothing was said."""
        self.mark(~np.isin(self.labels, list(self.states)) & (self.marks == NOT_SAID), mark)

    def painted(self) -> set[int]:
        """Take note of what was painted into ``labels`` from outside since the last edit.

        Cells that gained or lost pixels are corrected; where one was erased altogether, nothing is.

        Returns:
            The numbers of the cells that were corrected; empty where nothing has changed.
        """
        changed = self.labels != self._before
        box = box_of(changed)
        if not changed[box].any():
            return set()
        now, old, inside = self.labels[box].copy(), self._before[box].copy(), changed[box]
        touched = {int(n) for n in np.union1d(now[inside], old[inside]) if n > 0}
        present = set(self._present(touched))
        erased = np.isin(old, list(touched - present)) & (now == 0)
        marks = np.where(erased, NOTHING_HERE, self.marks[box]).astype(np.uint8)
        states: dict[int, Said | None] = {n: "corrected" if n in present else None for n in touched}
        self.labels[box] = old  # so that the step back finds what was
        self._change(box, now, marks, states)
        return present

    def renew(self, labels: np.ndarray) -> None:
        """Take new labels of the same image; confirmed cells keep their numbers and pixels.

        What lies mostly under confirmed cells is taken for these; other new cells get numbers above theirs.

        Args:
            labels: (*S) integer, 0 background, 1.. cells.

        Raises:
            DataError: another shape.
        """
        if labels.shape != self.labels.shape:
            raise DataError(f"labels: found shape {labels.shape}, expected {self.labels.shape}")
        sure = np.isin(self.labels, list(self.states))
        new, _ = fastremap.renumber(np.where(labels > 0, labels, 0).astype(np.int64))
        sizes = np.bincount(new.reshape(-1))
        kept = np.bincount(new[~sure], minlength=sizes.size) * 2 > sizes
        kept[:1] = False
        numbers = (np.cumsum(kept) + max(self.states, default=0)) * kept
        if numbers.max(initial=0) > np.iinfo(self.labels.dtype).max:
            raise DataError(f"labels are {self.labels.dtype}, which has too few numbers for the new cells")
        box = tuple(slice(0, n) for n in labels.shape)
        self._change(box, np.where(sure, self.labels, numbers[new]))

    def undo(self) -> bool:
        """Take the last edit back.

        Returns:
            Whether there was one.
        """
        if not self._steps:
            return False
        step = self._steps.pop()
        self.labels[step.box] = self._before[step.box] = step.labels
        self.marks[step.box] = step.marks
        self._say(step.states)
        self.last = step.box
        return True

    def known(self, margin: float | None = None) -> np.ndarray:
        """What may be learnt from, as ``known_labels`` says: (*S) int32, -1 where nothing is known."""
        return known_labels(
            self.labels, self.confirmed, self.marks == NOTHING_HERE, self.marks == NOT_ANNOTATED,
            margin, self.spacing,
        )  # fmt: skip

    def snapshot(self) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
        """What is known now, and the labels shown, to be worked out later by another thread."""
        shown = self.labels.copy()
        known = partial(
            known_labels, shown, list(self.states), self.marks == NOTHING_HERE,
            self.marks == NOT_ANNOTATED, None, self.spacing,
        )  # fmt: skip
        return lambda: (known(), shown)

    def _change(
        self,
        box: Slices,
        labels: np.ndarray | None = None,
        marks: np.ndarray | None = None,
        states: Mapping[int, Said | None] | None = None,
    ) -> None:
        """Do an edit, and remember what it replaces."""
        states = states or {}
        old = {c: self.states.get(c) for c in states}
        self._steps.append(_Step(box, self.labels[box].copy(), self.marks[box].copy(), old))
        del self._steps[:-MOST_STEPS]
        self.last = box
        if labels is not None:
            self.labels[box] = self._before[box] = labels
        if marks is not None:
            self.marks[box] = marks
        self._say(states)

    def _say(self, states: Mapping[int, Said | None]) -> None:
        for cell, said in states.items():
            if said is None:
                self.states.pop(cell, None)
            else:
                self.states[cell] = said

    def _present(self, cells: Iterable[int]) -> list[int]:
        """Those of some numbers that cells have."""
        asked = np.array(sorted({c for c in cells if c > 0}), self.labels.dtype)
        return np.intersect1d(fastremap.unique(self.labels), asked).tolist()

    def _box(self, cells: Sequence[int], margin: int = 1) -> Slices:
        """Where some cells lie."""
        missing = sorted(set(cells) - set(self._present(cells)))
        if missing or not cells:
            raise DataError(f"there is no cell {missing[0] if missing else 0}")
        return box_of(np.isin(self.labels, cells), margin)

    def _found_wholly_in(self, box: Slices, inside: np.ndarray) -> list[int]:
        """The cells not confirmed that have no pixel outside a place."""
        numbers, counts = np.unique(self.labels[box][inside], return_counts=True)
        found = [(n, c) for n, c in zip(numbers.tolist(), counts) if n > 0 and n not in self.states]
        if not found:
            return []
        everywhere = dict(zip(*(a.tolist() for a in fastremap.unique(self.labels, return_counts=True))))
        return [n for n, c in found if everywhere[n] == c]

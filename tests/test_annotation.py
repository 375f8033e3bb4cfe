"""Every edit leaves what was said right, and the way back leads to what was."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleft.core.errors import DataError
from cleft.labels.annotation import NOT_ANNOTATED, NOTHING_HERE, Annotation
from cleft.synthetic import make_cells


def crowd(ndim: int = 2) -> Annotation:
    return Annotation(make_cells((64, 64) if ndim == 2 else (10, 40, 40), 2)[1].astype(np.uint32))


def everything(work: Annotation) -> tuple[bytes, bytes, dict[int, str]]:
    return work.labels.tobytes(), work.marks.tobytes(), dict(work.states)


def do(work: Annotation, what: str, seed: int) -> None:
    """One edit of a kind, somewhere."""
    rng = np.random.default_rng(seed)
    cells = work.cells()
    cell = int(rng.choice(cells))
    if what == "accept":
        work.accept([cell])
    elif what == "delete":
        work.delete([cell])
    elif what == "split":
        middle = np.argwhere(work.labels == cell).mean(0)
        across = np.array((0, 40))
        work.split([middle - across, middle + across])
    elif what == "merge":
        work.merge([cell, int(rng.choice(cells))])
    elif what == "paint":
        at = rng.integers(0, 50, 2)
        work.labels[tuple(slice(a, a + 6) for a in at)] = rng.choice([0, cell, max(cells) + 1])
        work.painted()
    elif what == "nothing":
        work.mark((slice(10, 30), slice(5, 50)), NOTHING_HERE)
    elif what == "unknown":
        work.mark_rest(NOT_ANNOTATED)
    elif what == "renew":
        work.renew(make_cells((64, 64), seed)[1])
    else:
        work.accept_everything()


KINDS = ("accept", "delete", "split", "merge", "paint", "nothing", "unknown", "renew", "everything")


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 99)), max_size=8))
def test_the_way_back_leads_to_what_was(edits: list[tuple[str, int]]) -> None:
    work = crowd()
    seen = [everything(work)]
    for what, seed in edits:
        try:
            do(work, what, seed)
        except DataError:
            assert everything(work) == seen[-1]  # what can't be done leaves nothing behind
            continue
        assert set(work.states) <= set(work.cells())
        known = work.known()
        sure = np.isin(work.labels, list(work.confirmed))
        assert (known[sure] == work.labels[sure]).all()
        assert (known[~sure] <= 0).all()
        if everything(work) != seen[-1]:
            seen.append(everything(work))
    for before in reversed(seen):
        while everything(work) != before:
            assert work.undo()


def test_each_edit_is_remembered(ndim: int) -> None:
    work = crowd(ndim)
    a, b, c, d = work.cells()[:4]
    work.accept([a, b])
    assert work.states == {a: "accepted", b: "accepted"}
    work.delete([b])
    assert work.states == {a: "accepted"}
    middle = np.argwhere(work.labels == c).mean(0)
    across = np.zeros(ndim)
    across[-1] = 2  # within the cell, and continued to its border
    pieces = work.split([middle - across, middle + across], through=range(ndim - 2))
    assert all(work.states[p] == "corrected" for p in pieces)
    assert work.merge(pieces) == c
    assert {k: v for k, v in work.states.items() if k != a} == {c: "corrected"}
    work.accept([c])
    assert work.states[c] == "corrected"
    assert d not in work.states


def test_what_is_painted_is_corrected_and_what_is_erased_is_background() -> None:
    labels = np.zeros((20, 20), np.uint32)
    labels[2:6, 2:6], labels[10:14, 10:14] = 1, 2
    work = Annotation(labels)
    assert work.painted() == set()
    labels[5, 2:6] = 0  # a bit of cell 1
    assert work.painted() == {1}
    labels[labels == 2] = 0
    assert work.painted() == set()
    assert (work.known()[10:14, 10:14] == 0).all()
    labels[15:18, 15:18] = 7
    assert work.painted() == {7}
    assert work.states == {1: "corrected", 7: "corrected"}
    assert work.undo()
    assert work.undo()
    assert (labels[10:14, 10:14] == 2).all()
    assert not labels[15:18, 15:18].any()


def test_marked_boxes_are_what_is_learnt_from() -> None:
    labels = np.zeros((10, 30), np.uint32)
    labels[2:4, 2:4], labels[2:4, 8:14] = 1, 2
    work = Annotation(labels)
    work.mark((slice(0, 10), slice(0, 10)), NOTHING_HERE)
    assert 1 not in work.cells()  # it lay wholly where nothing is
    assert 2 in work.cells()
    known = work.known()
    assert (known[:, :10] == 0).all()
    assert (known[:, 10:] == -1).all()
    work.mark((slice(0, 5), slice(0, 10)), NOT_ANNOTATED)
    assert (work.known()[:5] == -1).all()
    with pytest.raises(DataError, match="outside"):
        work.mark((slice(20, 30), slice(0, 3)), NOTHING_HERE)


def test_new_labels_keep_what_was_confirmed() -> None:
    labels = np.zeros((12, 30), np.uint32)
    labels[2:8, 2:8], labels[2:8, 12:18] = 5, 6
    work = Annotation(labels)
    work.accept([5])
    new = np.zeros((12, 30), np.uint32)
    new[2:8, 3:9], new[2:8, 20:26] = 1, 2  # cell 5 seen a pixel aside, and another
    work.renew(new)
    assert work.cells() == [5, 6]
    assert (labels[2:8, 2:8] == 5).all()
    assert (labels == 5).sum() == 36
    assert (labels[2:8, 20:26] == 6).all()
    assert work.states == {5: "accepted"}


def test_annotations_come_back(rng: np.random.Generator) -> None:
    known = rng.integers(-1, 4, (8, 9))
    assert (Annotation.of_known(known).known(margin=0) == known).all()


def test_what_can_not_be_done_is_said() -> None:
    work = crowd()
    for call in (lambda: work.accept([999]), lambda: work.delete([999]), lambda: work.delete([])):
        with pytest.raises(DataError, match="there is no cell"):
            call()
    with pytest.raises(DataError, match="labels are float64"):
        Annotation(np.zeros((3, 3)))
    with pytest.raises(DataError, match="found shape"):
        work.renew(np.zeros((3, 3), int))

"""Annotate, learn, look again: ``cleft.Session``."""

import itertools
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import cleft
from cleft.core.errors import CleftError, DataError
from cleft.core.image import Image
from cleft.io import find_pairs, read_labels
from cleft.io.lazy import LazyImage
from cleft.labels.rule import cell_diameter
from cleft.prediction import doubt
from cleft.prediction.predictor import ScaledImage
from cleft.session import Session, with_annotation
from cleft.synthetic import CellSettings, make_cells
from cleft.training import rounds

SHAPES = {2: (96, 112), 3: (24, 64, 64)}
MODELS = {2: "cells2d-small", 3: "cells3d"}


def begun(ndim: int, known: float = 0.5) -> tuple[Session, np.ndarray]:
    """A session with one made image, of which the first share along the last axis is annotated; the truth."""
    image, truth = make_cells(SHAPES[ndim], seed=1)
    session = Session(MODELS[ndim])
    session.add(image)
    labels = truth.astype(np.int32)
    labels[..., round(known * truth.shape[-1]) :] = -1
    session.annotate(0, labels)
    return session, truth


def test_a_round_changes_the_model_and_what_is_annotated_stays(ndim):
    session, _ = begun(ndim)
    before, known = session.model, session.annotation(0)
    learnt = session.learn(seconds=0.2)
    assert learnt.steps >= 1
    assert np.isfinite(learnt.loss)
    assert session.model is not before
    assert any((a != b).any() for a, b in zip(before.net.parameters(), session.model.net.parameters()))
    found = session.segment(0)
    assert found.shape == known.shape
    np.testing.assert_array_equal(found[known >= 0], known[known >= 0])


def test_rounds_go_on_with_the_same_network_and_new_patches():
    session, _ = begun(2)
    session.learn(seconds=0.1)
    first = session._rounds
    drawn, steps = first.drawn, session.model.card.training["steps"]
    steps += session.learn(seconds=0.1).steps
    assert session.model.card.training["steps"] == steps
    assert session._rounds is first
    assert first.drawn > drawn


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock by which each look at it takes a fifth of a second, however slow the machine is."""
    now = [0.0]

    def tick() -> float:
        now[0] += 0.2
        return now[0]

    monkeypatch.setattr(rounds, "clock", tick)
    return now


def test_what_normalisation_takes_for_usual_follows_and_stays_at_the_end_of_a_round(ticking):
    session, _ = begun(2)
    means = [next(session.model.net.buffers()).clone()]
    shares = [0.0]

    def look(told: rounds.Progress) -> None:
        means.append(next(session.so_far().net.buffers()).clone())
        shares.append(told.seconds / told.of)

    session.learn(seconds=8, progress=look)
    moved = [bool((a != b).any()) for a, b in itertools.pairwise(means)]
    assert all(moved[n] for n, share in enumerate(shares[1:]) if share < 0.7)
    late = [n for n, share in enumerate(shares[:-1]) if share >= 0.7]
    assert late
    assert not any(moved[n] for n in late)


def test_progress_is_told_and_ends_at_the_end(ticking):
    session, _ = begun(2)
    told = []
    learnt = session.learn(seconds=3, progress=told.append)
    assert len(told) >= 3
    assert [p.step for p in told] == sorted(p.step for p in told)
    assert told[-1].step == learnt.steps
    assert all(p.of == 3 and np.isfinite(p.loss) for p in told)


def test_stopped_it_keeps_what_was_learnt():
    session, _ = begun(2)
    stop = threading.Event()
    before, since = session.model, time.monotonic()
    learnt = session.learn(seconds=300, progress=lambda _: stop.set(), stop=stop)
    assert time.monotonic() - since < 60
    assert learnt.steps >= 1
    assert session.model is not before


def test_paused_the_seconds_stand_still(ticking):
    session, _ = begun(2)
    pause, steps = threading.Event(), []

    def an_hour_later() -> None:
        ticking[0] += 3600
        pause.clear()

    def hold(progress: rounds.Progress) -> None:
        steps.append(progress.step)
        if len(steps) == 1:
            pause.set()
            threading.Timer(0.2, an_hour_later).start()

    learnt = session.learn(seconds=3, progress=hold, pause=pause)
    assert ticking[0] > 3600
    assert learnt.seconds < 5
    assert len(steps) >= 2


def test_two_rounds_at_once_are_refused():
    session, _ = begun(2)
    refused = []

    def again(_: rounds.Progress) -> None:
        with pytest.raises(DataError, match="at work"):
            session.learn(seconds=0.1)
        refused.append(True)

    session.learn(seconds=0.1, progress=again)
    assert refused


def test_a_loss_that_is_no_number_leaves_the_model_as_it_was(monkeypatch):
    session, _ = begun(2)
    session.learn(seconds=0.1)
    before = session.model
    weights = [value.clone() for value in session._rounds.net.state_dict().values()]
    monkeypatch.setattr(session._rounds, "_step", lambda batch: float("nan"))
    with pytest.raises(CleftError, match="nothing was learnt"):
        session.learn(seconds=0.1)
    assert session.model is before
    assert all((a == b).all() for a, b in zip(weights, session._rounds.net.state_dict().values()))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda s: s.learn(0), "seconds is 0"),
        (lambda s: s.segment(3), "index is 3"),
        (lambda s: s.annotate(0, np.zeros((3, 3), int)), "expected"),
        (lambda s: s.annotate(0, np.zeros((96, 112))), "expected integers"),
        (lambda s: s.add(np.ones((64, 64, 64), np.float32), "ZYX"), "is a model for YX"),
        (lambda s: s.add(np.random.default_rng(0).random((32, 32)), name="image0"), "another image"),
        (lambda s: s.segment(0, region=(slice(0, 5),)), "region is"),
    ],
)
def test_what_cannot_be_done_is_said(call, said):
    session, _ = begun(2)
    with pytest.raises(CleftError, match=said):
        call(session)


def test_without_an_annotated_cell_nothing_is_learnt():
    session = Session("cells2d-small")
    session.add(make_cells((64, 64), seed=0)[0])
    with pytest.raises(DataError, match="no annotated cell"):
        session.learn(1)
    session.annotate(0, np.zeros((64, 64), int))
    with pytest.raises(DataError, match="no annotated cell"):
        session.learn(1)


def test_rims_of_cells_beside_are_learnt_from_and_not_shown():
    session, truth = begun(2, known=0.0)
    cell = int(np.argmax(np.bincount(truth[truth > 0])))
    session.annotate(0, np.where(truth == cell, cell, -1), shown=truth)
    (taught,), _ = session._prepared()
    assert (taught.labels > 0).sum() > (truth == cell).sum()
    np.testing.assert_array_equal(session.annotation(0) > 0, truth == cell)
    session.learn(seconds=0.1)
    assert (session.segment(0)[truth == cell] == cell).all()


def test_views_lie_apart_and_most_doubtful_come_first(ndim):
    session, _ = begun(ndim, known=0.0)
    places = session.next(size=24, count=6)
    assert [p.doubt for p in places] == sorted((p.doubt for p in places), reverse=True)
    seen = np.zeros(SHAPES[ndim], int)
    for place in places:
        assert all(s.stop - s.start == min(24, n) for s, n in zip(place.region, seen.shape))
        seen[place.region] += 1
    assert seen.max() == 1 or len(places) == 1


def test_images_take_turns_those_with_least_annotation_first():
    session, _ = begun(2, known=0.0)
    second, _ = make_cells(SHAPES[2], seed=2)
    session.add(second)
    doubts = [session.next(index, size=32, count=1)[0].doubt for index in (0, 1)]
    surer, unsure = np.argsort(doubts)
    places = session.next(size=32, count=4)
    assert [place.index for place in places] == [unsure, surer, unsure, surer]
    known = session.annotation(unsure)
    known[places[0].region] = 0
    session.annotate(unsure, known)
    assert session.next(size=32, count=1)[0].index == surer


def test_what_is_annotated_is_not_proposed():
    session, truth = begun(2, known=0.5)
    place = session.next(size=32, count=1)[0]
    assert place.region[1].stop > truth.shape[1] // 2
    session.annotate(0, truth)
    assert session.next(size=32, count=1)[0].doubt == 0


def test_doubt_by_slabs_is_that_of_the_whole(monkeypatch, ndim):
    session, _ = begun(ndim)
    model = cleft.load_model(MODELS[ndim], precision="float32")
    image = session._items[0].image.standard()
    scaled = ScaledImage.of(image.data, model.card, model.factors(LazyImage.of(image), "keep"))
    whole = doubt.doubt_map(model.predictor(), scaled)
    monkeypatch.setattr(doubt, "SLAB_PIXELS", 16 * int(np.prod(SHAPES[ndim][1:])))
    np.testing.assert_allclose(doubt.doubt_map(model.predictor(), scaled), whole, atol=1e-4)


def test_doubtful_views_equal_looking_at_every_view():
    rng = np.random.default_rng(0)
    field, known = rng.random((9, 13)), (rng.random((9, 13)) < 0.3).astype(float)
    (region, mean), *_ = doubt.doubtful_views(field, known, (4, 5), 1)
    every = {(y, x): (field * (1 - known))[y : y + 4, x : x + 5].mean() for y in range(6) for x in range(9)}
    best = max(every, key=every.get)
    assert (region[0].start, region[1].start) == best
    assert mean == pytest.approx(every[best])


def test_a_region_has_the_cells_of_the_whole(ndim):
    image, _ = make_cells(SHAPES[ndim], seed=3)
    model = cleft.load_model(MODELS[ndim], precision="float32")
    region = tuple(slice(n // 4, n) for n in SHAPES[ndim])
    for diameter in ("keep", 1.4 * model.card.cell_diameter):
        whole = model.segment(image, diameter=diameter, min_size=0)
        part = model.segment(image, diameter=diameter, min_size=0, region=region)
        np.testing.assert_array_equal(part > 0, whole[region] > 0)


def test_kept_and_opened_again_it_is_the_same(tmp_path, ndim):
    session, _ = begun(ndim)
    session.learn(seconds=0.1)
    session.keep(tmp_path / "kept")
    again = Session.open(tmp_path / "kept")
    np.testing.assert_array_equal(again.annotation(0), session.annotation(0))
    np.testing.assert_array_equal(again.segment(0), session.segment(0))
    (pair,) = find_pairs(tmp_path / "kept")
    assert read_labels(pair.labels).data.min() == -1
    assert again.learn(seconds=0.1).steps >= 1


def test_what_is_kept_can_be_trained_from(tmp_path):
    session, _ = begun(2)
    session.keep(tmp_path)
    model = cleft.train(tmp_path, steps=2, width=4, patch_size=(32, 32), batch_size=2)
    assert model.card.trained_on["images"] == 1


def test_a_file_that_cleft_did_not_write_is_not_replaced(tmp_path):
    session, _ = begun(2)
    (tmp_path / "model.safetensors").write_text("mine")
    with pytest.raises(DataError, match=r"model\.safetensors"):
        session.keep(tmp_path)
    with pytest.raises(DataError, match=r"model\.safetensors"):
        session.save(tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").read_text() == "mine"


def test_axes_in_another_order_come_back_in_it():
    image, truth = make_cells(SHAPES[3], seed=1)
    turned = Image(image.data.transpose(2, 1, 0), "XYZ")
    session = Session("cells3d")
    session.add(turned)
    session.annotate(0, np.where(truth > 0, truth, -1).transpose(2, 1, 0).astype(np.int32))
    session.learn(seconds=0.1)
    found = session.segment(0)
    assert found.shape == turned.data.shape
    assert (found[session.annotation(0) > 0] > 0).all()
    place = session.next(size=(32, 32, 16), count=1)[0]
    assert [s.stop - s.start for s in place.region] == [32, 32, 16]


labels = arrays.arrays(np.int32, (6, 7), elements=st.integers(0, 5))


@given(labels, arrays.arrays(np.int32, (6, 7), elements=st.integers(-1, 4)))
def test_with_annotation_is_the_annotation_where_known(found, annotation):
    both = with_annotation(found, annotation)
    known = annotation >= 0
    np.testing.assert_array_equal(both[known], annotation[known])
    assert not np.isin(both[~known], annotation[annotation > 0]).any()
    for label in np.unique(found[found > 0]):
        its = found == label
        rest = both[its & ~known]
        gone = 2 * (its & ~known).sum() <= its.sum()
        assert len(np.unique(rest)) <= 1
        assert (rest == 0).all() if gone else (rest > 0).all()


@pytest.mark.long
def test_a_minute_finds_more_t_cells(shared_data):
    (pair,) = [p for p in find_pairs(shared_data / "tcells" / "train") if "Position8_CD3" in p.name]
    (other,) = [p for p in find_pairs(shared_data / "tcells" / "train") if "Position9" in p.name]
    image, truth = cleft.read_image(pair.image), read_labels(pair.labels).data.astype(np.int32)
    session = Session("cells2d")
    session.add(image)
    known = np.full(truth.shape, -1, np.int32)
    known[400:552, 500:652] = truth[400:552, 500:652]
    session.annotate(0, known)
    unseen = cleft.read_image(other.image).data[:512, :512]
    unseen_truth = read_labels(other.labels).data[:512, :512]
    before = cleft.score(unseen_truth, session.model.segment(unseen)).pq
    session.learn(60)
    assert cleft.score(unseen_truth, session.model.segment(unseen)).pq > before + 0.1


def test_cells_cut_by_a_view_dont_tell_how_large_cells_are(ndim):
    shape, diameter = ((200, 200), 24) if ndim == 2 else ((40, 80, 80), 16)
    image, truth = make_cells(shape, 3, CellSettings(diameter=diameter))
    session = Session(MODELS[ndim])
    index = session.add(image)
    known = np.full(shape, -1)
    view = tuple(slice(n // 8, n // 8 + 3 * diameter) for n in shape)
    known[view] = truth[view]
    session.annotate(index, known, shown=truth)  # with the rims of the cells around
    _, card = session._prepared()
    assert card.cell_diameter == pytest.approx(cell_diameter([truth]), rel=0.2)


def test_one_small_cell_on_a_second_image_changes_no_size():
    session, _ = begun(2, known=1.0)
    image, truth = make_cells(SHAPES[2], seed=2)
    speck = np.full(truth.shape, -1, np.int32)
    speck[10:20, 10:20] = 0
    speck[14:16, 14:16] = 1
    session.annotate(session.add(image), speck)
    session.learn(seconds=0.2)
    # not taken for images of two magnifications: each would be brought to a size that one cell tells
    assert session.model.card.default_diameter is None
    assert session.model.card.shrink == (1, 1)


def test_a_round_depends_on_what_is_annotated_not_on_what_was():
    session, truth = begun(2)
    stop = threading.Event()
    stop.set()  # after a single step

    def steps() -> int:
        session.learn(seconds=60, stop=stop)
        return session.model.card.training["steps"]

    assert [steps(), steps()] == [1, 2]  # nothing was annotated between
    session.annotate(0, session.annotation(0))
    assert steps() == 3
    session.annotate(0, truth)
    assert [steps(), steps()] == [1, 2]

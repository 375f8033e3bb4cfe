"""Scores against hand-worked arrays, obvious references and StarDist."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import stardist.matching
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from cleft.core.errors import DataError
from cleft.labels.scores import THRESHOLDS, Scores, average, matching, pool, score
from references import scores as reference

RATIOS = ("p05", "rq", "sq", "pq", "seg", "aji")


def pair(data: st.DataObject, ndim: int, low: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random cells and a prediction that shares some of them, so that every IoU occurs."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    blocks = rng.integers(low, 5, (2,) * ndim)
    truth = np.kron(blocks, np.ones((3,) * ndim, int))
    changed = rng.random(truth.shape) < data.draw(st.sampled_from([0.0, 0.2, 0.5, 1.0]))
    labels = np.where(changed, rng.integers(0, 7, truth.shape), truth)
    return truth, np.maximum(labels, 0)


def assert_same(ours: tuple, theirs: tuple) -> None:
    assert ours._fields == theirs._fields
    for name in ours._fields:
        a, b = getattr(ours, name), getattr(theirs, name)
        # StarDist divides in float32
        assert a == b if isinstance(a, str | int) else a == pytest.approx(b, abs=1e-6), name


def test_scores_worked_by_hand() -> None:
    truth = np.array([[1, 1, 1, 1, 0, 2, 2, 0, 3, 3]])
    labels = np.array([[4, 4, 4, 0, 0, 5, 5, 5, 0, 0]])
    s = score(truth, labels)
    assert (s.n_true, s.n_pred, s.tp, s.fp, s.fn) == (3, 2, 2, 0, 1)
    assert s.p05 == 1.0
    assert s.rq == pytest.approx(4 / 5)
    assert s.sq == pytest.approx((3 / 4 + 2 / 3) / 2)
    assert s.pq == pytest.approx(4 / 5 * (3 / 4 + 2 / 3) / 2)
    assert s.seg == pytest.approx((3 / 4 + 2 / 3 + 0) / 3)
    assert s.aji == pytest.approx((3 + 2) / (4 + 3 + 2))
    # five cells, less one for every pair: 2/3 reaches .65, 3/4 reaches .75
    assert list(s.ap.values()) == [2 / 3] * 4 + [1 / 4] * 2 + [0.0] * 4


def test_iou_of_one_half_matches_in_ap_but_not_in_pq() -> None:
    truth, labels = np.array([1, 1]), np.array([1, 0])
    s = score(truth, labels)
    assert (s.tp, s.pq, s.ap[0.5], s.ap[0.55]) == (0, 0.0, 1.0, 0.0)


@pytest.mark.parametrize(("truth", "labels"), [([1, 1, 2, 2], [1, 1, 1, 1]), ([1, 1, 1, 1], [1, 1, 2, 2])])
def test_exact_halves_match_once(truth: list[int], labels: list[int]) -> None:
    s = score(np.array(truth), np.array(labels))
    assert s.ap[0.5] == 1 / 2
    assert s.seg == (0.5 if truth[-1] == 2 else 0.0)  # half of a cell is not most of it


def test_aji_counts_a_prediction_once_as_unused_but_may_use_it_twice() -> None:
    truth = np.array([1, 1, 2, 2, 0, 0, 0])
    labels = np.array([5, 5, 5, 5, 0, 6, 6])
    # both cells take 5: (2 + 2) / (4 + 4), then 6 adds its two pixels
    assert score(truth, labels).aji == 4 / 10


@pytest.mark.parametrize("ndim", [2, 3])
@given(data=st.data())
def test_equals_the_obvious_forms(ndim: int, data: st.DataObject) -> None:
    truth, labels = pair(data, ndim, low=-1)
    truth.flat[0] = 1
    s = score(truth, labels)
    for name, value in reference.panoptic(truth, labels).items():
        assert getattr(s, name) == pytest.approx(value), name
    assert s.seg == pytest.approx(reference.seg(truth, labels))
    assert s.aji == pytest.approx(reference.aji(truth, labels))


@pytest.mark.parametrize("ndim", [2, 3])
@given(data=st.data())
def test_equals_stardist_field_by_field(ndim: int, data: st.DataObject) -> None:
    truth, labels = pair(data, ndim)
    theirs = stardist.matching.matching(truth, labels, thresh=THRESHOLDS)
    s = score(truth, labels)
    for thresh, expected in zip(THRESHOLDS, theirs):
        assert_same(s.matching(thresh), expected)
        assert_same(matching(truth, labels, thresh), expected)
        if truth.any() or labels.any():
            assert s.ap[thresh] == pytest.approx(expected.accuracy)


@pytest.mark.parametrize("thresh", [0.05, 0.3, 0.45, 1.0])
def test_equals_stardist_below_one_half_where_matches_compete(ndim: int, thresh: float) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        truth, labels = rng.integers(0, 9, (2, *(5,) * ndim))
        ours, theirs = matching(truth, labels, thresh), stardist.matching.matching(truth, labels, thresh)
        assert_same(ours, theirs)


@pytest.mark.parametrize(("truth", "labels"), [([0, 0], [0, 0]), ([1, 0], [0, 0]), ([0, 0], [0, 3])])
@pytest.mark.parametrize("thresh", [0.3, 0.5])
def test_equals_stardist_on_empty_images(truth: list[int], labels: list[int], thresh: float) -> None:
    a, b = np.array([truth]), np.array([labels])
    assert_same(matching(a, b, thresh), stardist.matching.matching(a, b, thresh))


@pytest.mark.parametrize(
    ("truth", "labels", "value"), [([0, 0], [0, 0], 1.0), ([1, 0], [0, 0], 0.0), ([0, 0], [0, 3], 0.0)]
)
def test_ratios_of_empty_images(truth: list[int], labels: list[int], value: float) -> None:
    s = score(np.array(truth), np.array(labels))
    assert {getattr(s, name) for name in RATIOS} == {value}
    assert set(s.ap.values()) == {value}


def test_an_empty_array_scores_like_an_empty_image(ndim: int) -> None:
    nothing = np.zeros((0,) * ndim, np.uint8)
    assert score(nothing, nothing).pq == 1.0


def test_a_perfect_prediction_scores_one_whatever_its_labels(ndim: int, rng: np.random.Generator) -> None:
    truth = rng.integers(0, 9, (6,) * ndim)
    names = np.concatenate([[0], 10 + rng.permutation(8)])
    s = score(truth, names[truth])
    assert [getattr(s, name) for name in RATIOS] == [1.0] * 6
    assert set(s.ap.values()) == {1.0}


@pytest.mark.parametrize("ndim", [2, 3])
@given(data=st.data())
def test_what_is_not_annotated_takes_part_in_nothing(ndim: int, data: st.DataObject) -> None:
    """But for which finds count, it doesn't matter what was found there."""
    truth, labels = pair(data, ndim, low=-1)
    truth[0] = -1
    other = labels.copy()
    other[truth == -1] = np.random.default_rng(0).integers(0, 99, (truth == -1).sum())
    one, two = score(truth, other), score(truth, labels)
    for name in ("n_true", "tp", "iou_sum", "seg_sum", "aji_intersection"):
        assert getattr(one, name) == pytest.approx(getattr(two, name)), name


def test_a_find_mostly_where_nobody_annotated_counts_only_if_it_is_matched() -> None:
    truth = np.array([[1, 1, -1, -1, -1, 0, -1, -1, 0, 0, -1]])
    labels = np.array([[4, 4, 4, 4, 4, 5, 5, 5, 6, 6, 6]])
    s = score(truth, labels)
    # 4 has a match, 5 lies on -1 for more than half, 6 does not
    assert (s.tp, s.n_pred, s.fp) == (1, 2, 1)
    assert (s.aji_union, s.ap[0.5]) == (4, 0.5)
    assert score(truth, np.where(labels == 5, 0, labels)).to_dict() == s.to_dict()


def test_a_cell_partly_outside_the_annotation_is_judged_by_its_part_inside() -> None:
    truth = np.array([[1, 1, 1, -1, -1, -1, 0, -1]])
    labels = np.array([[4, 4, 4, 4, 4, 4, 0, 5]])
    s = score(truth, labels)
    assert (s.pq, s.seg, s.aji, s.n_pred, s.fp) == (1.0, 1.0, 1.0, 1, 0)


@pytest.mark.parametrize("ndim", [2, 3])
@given(data=st.data())
def test_pooled_equals_the_images_side_by_side(ndim: int, data: st.DataObject) -> None:
    images = [pair(data, ndim, low=-1) for _ in range(3)]
    beside = [
        np.concatenate(
            [np.where(image[i] > 0, image[i] + 10 * n, image[i]) for n, image in enumerate(images)]
        )
        for i in (0, 1)
    ]
    pooled, whole = pool([score(*image) for image in images]), score(*beside)
    for name in (*RATIOS, "n_true", "n_pred", "tp", "fp", "fn"):
        assert getattr(pooled, name) == pytest.approx(getattr(whole, name)), name
    assert pooled.ap == pytest.approx(whole.ap)
    assert_same(pooled.matching(0.7), whole.matching(0.7))


def test_average_counts_images_alike_and_pool_counts_cells_alike() -> None:
    many, one = np.arange(1, 10), np.array([1])
    scores = [score(many, many), score(one, np.array([0]))]
    assert average(scores)["rq"] == 0.5
    assert average(scores)["ap"] == dict.fromkeys(THRESHOLDS, 0.5)
    assert pool(scores).rq == pytest.approx(18 / 19)


def test_json_holds_every_number() -> None:
    truth = np.array([1, 1, 2])
    s = score(truth, truth, thresholds=(0.5, 0.9))
    told = json.loads(json.dumps(s.to_dict()))
    assert told["pq"] == 1.0
    assert told["ap"] == {"0.5": 1.0, "0.9": 1.0}
    assert (told["n_true"], told["tp"], told["fp"], told["fn"]) == (2, 2, 0, 0)
    assert told["matching"][1] == s.matching(0.9)._asdict()


def test_seventy_thousand_cells_need_no_dense_table() -> None:
    side = 265
    truth = np.kron(np.arange(1, side**2 + 1).reshape(side, side), np.ones((4, 4), np.int64)).astype(
        np.uint32
    )
    labels = np.roll(truth, 1, axis=1)
    tracemalloc.start()
    s = score(truth, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (s.n_true, s.n_pred, s.tp) == (70225, 70225, 70225)
    assert s.pq == pytest.approx(12 / 20, abs=1e-3)  # but where the roll wraps around
    assert peak < 200e6  # a dense table of counts would take 40 GB


def test_thresholds_are_the_written_ones() -> None:
    assert THRESHOLDS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
    assert tuple(score(np.array([1]), np.array([1])).ap) == THRESHOLDS


@pytest.mark.parametrize("thresh", [0, -0.1, 1.01, float("nan")])
def test_refuses_thresholds_that_are_no_iou(thresh: float) -> None:
    with pytest.raises(DataError, match="thresh: found"):
        score(np.array([1]), np.array([1]), thresholds=(thresh,))
    with pytest.raises(DataError, match="thresh: found"):
        matching(np.array([1]), np.array([1]), thresh)


def test_refuses_what_cannot_be_pooled() -> None:
    one = np.array([1])
    with pytest.raises(DataError, match="found none"):
        pool([])
    with pytest.raises(DataError, match="found none"):
        average([])
    with pytest.raises(DataError, match="can't be pooled"):
        pool([score(one, one, (0.5,)), score(one, one, (0.6,))])
    with pytest.raises(DataError, match=r"thresh: found 0\.7"):
        score(one, one, (0.5,)).matching(0.7)


def test_real_cells_shifted_by_a_pixel(shared_data: Path) -> None:
    paths = sorted((shared_data / "tcells/test/masks").glob("*.tif"))
    truth = tifffile.imread(paths[0]).astype(np.int32)
    labels = np.roll(truth, 1, axis=0)
    s: Scores = score(truth, labels)
    assert s.n_true == 2687
    assert_same(s.matching(0.8), stardist.matching.matching(truth, labels, 0.8))

"""Patches depend on the seed and their number alone; rare classes are seen; ranks share the numbers."""

import itertools

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from cleft.core.settings import TrainSettings
from cleft.labels.classes import CELL, GAP, IGNORE, TOUCHING, ClassRule, classes_by_rule
from cleft.labels.weights import WEIGHT_MAPS, balance_weights
from cleft.synthetic import CellSettings, make_cells
from cleft.training.dataset import Example, Patches, PatchSampler

RULE = ClassRule(4, 2, 3)
PLAIN = TrainSettings()


def example(shape: tuple[int, ...], seed: int = 0, group: int = 0, n_channels: int = 1) -> Example:
    image, labels = make_cells(shape, seed)
    channels = np.repeat(image.data[None].astype(np.float32) / 1000, n_channels, 0)
    return Example(f"made {seed}", channels, labels, None, group)


def patches(ndim: int, seed: int = 0, n_channels: int = 1) -> Patches:
    edge = 48 if ndim == 2 else 24
    made = [example((edge + 8 * i,) * ndim, i, n_channels=n_channels) for i in range(2)]
    return Patches(made, RULE, (16,) * ndim, TrainSettings(seed=seed))


def test_items(ndim: int) -> None:
    image, classes = patches(ndim, n_channels=3)[5]
    assert (image.shape, image.dtype) == ((3, *(16,) * ndim), torch.float32)
    assert (classes.shape, classes.dtype) == ((16,) * ndim, torch.uint8)
    assert set(classes.unique().tolist()) <= {0, 1, 2, 3, IGNORE}
    assert torch.isfinite(image).all()


def test_a_patch_is_fixed_by_its_number_and_the_seed(ndim: int) -> None:
    first, again, other = patches(ndim, 4), patches(ndim, 4), patches(ndim, 5)
    order = [9, 0, 7, 0, 3]
    seen = {i: first[i] for i in order}
    for i in sorted(seen):  # in another order, after other patches
        for a, b in zip(again[i], seen[i], strict=True):
            assert torch.equal(a, b)
    assert not torch.equal(other[9][0], seen[9][0])
    assert not torch.equal(seen[9][0], seen[7][0])


def test_patches_of_workers_are_the_same(ndim: int) -> None:
    made = patches(ndim)
    sampler = PatchSampler(6)
    sampler.set_epoch(2)
    for workers in (1, 2):
        loader = DataLoader(made, 2, sampler=sampler, num_workers=workers)
        seen = [pair for image, classes in loader for pair in zip(image, classes, strict=True)]
        assert len(seen) == 6
        for i, (image, classes) in enumerate(seen, start=12):
            assert torch.equal(image, made[i][0])
            assert torch.equal(classes, made[i][1])


def test_the_chance_of_others_does_not_matter() -> None:
    made = patches(2)
    before = made[3][0]
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 (shows that it doesn't matter)
    assert torch.equal(made[3][0], before)


def test_rare_classes_are_drawn(ndim: int) -> None:
    """Two touching cells in a wide empty field: uniform patches would hardly meet the edge between them."""
    edge = 160 if ndim == 2 else 48
    labels = np.zeros((edge,) * ndim, np.int32)
    labels[(slice(6, 14),) * ndim] = 1
    labels[(slice(6, 14),) * (ndim - 1) + (slice(14, 22),)] = 2
    field = Example("rare", np.zeros((1, *labels.shape), np.float32), labels)
    found = Patches([field], RULE, (16,) * ndim, PLAIN)
    blind = Patches([field], RULE, (16,) * ndim, PLAIN)
    blind.examples[0] = Example("rare", field.channels, field.labels)
    assert not blind.examples[0].spots

    def share(of: Patches) -> float:
        return np.mean([bool((of[i][1] == TOUCHING).any()) for i in range(60)])

    assert share(found) > 0.3
    assert share(blind) < 0.2
    # and the empty field isn't forgotten
    assert np.mean([bool((found[i][1] == 0).all()) for i in range(60)]) > 0.1


def test_spots_lie_in_their_class(ndim: int) -> None:
    made = example((40,) * ndim)
    made.find_spots(RULE, np.random.default_rng(0))
    classes = classes_by_rule(made.labels, RULE).reshape(-1)
    assert set(made.spots) == {CELL, TOUCHING, GAP} & set(classes.tolist())
    for kind, spots in made.spots.items():
        assert (classes[spots] == kind).all()
        assert len(set(spots.tolist())) == len(spots) == min(20_000, (classes == kind).sum())


def test_groups_share_evenly_and_images_by_the_root_of_their_size() -> None:
    """A folder of one image counts as much as one of three; four times the pixels count twice."""
    several = [example((32, 32), i, group=0) for i in range(3)] + [example((32, 32), 3, group=7)]
    np.testing.assert_allclose(Patches(several, RULE, (16, 16), PLAIN).chances, [1 / 6, 1 / 6, 1 / 6, 1 / 2])
    asked = TrainSettings(sampling_weights=(1, 9, 9, 9, 9, 9, 9, 0.5))
    chances = Patches(several, RULE, (16, 16), asked).chances
    np.testing.assert_allclose(chances, [2 / 9, 2 / 9, 2 / 9, 1 / 3])
    sizes = [example((32, 32), 0), example((64, 64), 1)]
    np.testing.assert_allclose(Patches(sizes, RULE, (16, 16), PLAIN).chances, [1 / 3, 2 / 3])


@pytest.mark.parametrize("shape", [(5, 40), (7, 6), (1, 1), (40, 3, 9), (2, 2, 2), (1, 30, 30)])
def test_images_smaller_than_a_patch(shape: tuple[int, ...]) -> None:
    """The image is mirrored to fill the patch, and around it nothing is known."""
    labels = np.ones(shape, np.int32)
    made = Patches(
        [Example("small", np.ones((1, *shape), np.float32), labels)], RULE, (16,) * len(shape), PLAIN
    )
    for i in range(8):
        image, classes = made[i]
        assert image.shape[1:] == classes.shape == (16,) * len(shape)
        assert set(classes.unique().tolist()) <= {CELL, IGNORE}
        assert (classes == IGNORE).any()
        assert image.std() < 0.15  # noise at most: mirrored, not 0, outside


@pytest.mark.parametrize("shape", [(33, 47), (16, 17), (20, 19, 33)])
def test_every_part_of_an_image_is_drawn(shape: tuple[int, ...]) -> None:
    """Also its corners, and where it has an odd length."""
    made = Patches(
        [Example("x", np.zeros((1, *shape), np.float32), np.ones(shape, np.int32))],
        RULE,
        (8,) * len(shape),
        PLAIN,
    )
    rng = np.random.default_rng(0)
    centres = np.array([made._centre(made.examples[0], rng) for _ in range(600)])
    assert (centres.min(0) == 4).all()
    assert (centres.max(0) >= np.array(shape) - 5).all()
    assert (centres.max(0) <= np.array(shape) - 4).all()


def test_not_annotated_is_carried(ndim: int) -> None:
    """One half isn't annotated: no patch claims to know anything there."""
    made = example((48,) * ndim)
    made.labels[...] = 1
    made.labels[..., :24] = -1
    made.channels[..., :24], made.channels[..., 24:] = 0, 1
    share = []
    for i in range(12):
        _, classes = Patches([made], RULE, (16,) * ndim, PLAIN)[i]
        assert set(classes.unique().tolist()) <= {CELL, IGNORE}
        share.append((classes == IGNORE).float().mean().item())
    assert max(share) > 0.5
    assert min(share) < 0.5


def test_nothing_annotated_at_all() -> None:
    made = Patches(
        [Example("x", np.ones((1, 20, 20), np.float32), np.full((20, 20), -1))], RULE, (16, 16), PLAIN
    )
    assert (made[0][1] == IGNORE).all()


def test_classes_fit_the_image_they_come_with(ndim: int) -> None:
    """Where cells are bright, cell pixels are brighter than background in nearly every patch."""
    made = Patches(
        [
            Example("x", (labels > 0).astype(np.float32)[None], labels)
            for _, labels in [make_cells((40,) * ndim, 2, CellSettings(diameter=14))]
        ],
        RULE,
        (16,) * ndim,
        PLAIN,
    )
    agree = []
    for i in range(40):
        image, classes = made[i]
        if (classes == CELL).sum() > 20 and (classes == 0).sum() > 20:
            agree.append((image[0][classes == CELL].mean() > image[0][classes == 0].mean() + 0.4).item())
    assert len(agree) >= 8
    assert np.mean(agree) > 0.9


@pytest.mark.parametrize("name", WEIGHT_MAPS)
def test_weights_come_with_the_same_patches(name: str, ndim: int) -> None:
    plain, weighed = patches(ndim), patches(ndim)
    weighed.weigh = WEIGHT_MAPS[name]
    emphasis = []
    for i in range(6):
        image, classes, weights = weighed[i]
        for a, b in zip(plain[i], (image, classes), strict=True):
            assert torch.equal(a, b)
        assert (weights.shape, weights.dtype) == (classes.shape, torch.float32)
        assert torch.equal(weights == 0, classes == IGNORE)
        emphasis += (weights[classes == TOUCHING] > 5).tolist()
    assert np.mean(emphasis) > 0.9


def test_weights_see_beyond_the_patch_and_nothing_outside_the_image() -> None:
    """They are made of what the classes are made of, and then cut."""
    seen = []

    def watch(labels: np.ndarray, classes: np.ndarray, spacing: object) -> np.ndarray:
        seen.append((labels, classes, spacing))
        return balance_weights(classes)

    made = Patches([example((20, 24))], RULE, (16, 16), PLAIN, weigh=watch)
    made.examples[0].spacing = (0.5, 0.5)
    _, classes, weights = made[1]
    (labels, wide, spacing), margin = seen[0], made._margin(made.examples[0])
    middle = tuple(slice(m, m + 16) for m in margin)
    assert labels.shape == wide.shape == tuple(16 + 2 * m for m in margin)
    assert spacing == (0.5, 0.5)
    assert (labels[labels < 0] == -2).all()
    assert (wide[labels < 0] == IGNORE).all()
    assert (labels < 0).any()
    np.testing.assert_array_equal(classes, wide[middle])
    np.testing.assert_array_equal(weights, balance_weights(wide)[middle])


def test_three_classes_have_no_gap(ndim: int) -> None:
    made = patches(ndim)
    made.rule = ClassRule(3, 2, 3)
    assert not any((made[i][1] == GAP).any() for i in range(10))
    made.rule = RULE
    assert any((made[i][1] == GAP).any() for i in range(10))


def test_rescaled_examples_keep_their_group_and_their_size_in_micrometres() -> None:
    made = Example("a", np.ones((1, 8, 9), np.float32), np.ones((8, 9), np.int32), (0.5, 0.25), 3)
    small = made.rescaled((1, 3))
    assert small.channels.shape == (1, 8, 3)
    assert small.labels.shape == (8, 3)
    assert (small.spacing, small.group, small.name) == ((0.5, 0.75), 3, "a")


# numbers


@pytest.mark.parametrize(("devices", "per_epoch"), [(1, 5), (2, 4), (3, 7)])
def test_numbers_are_shared_over_devices_and_go_on_over_epochs(devices: int, per_epoch: int) -> None:
    seen = []
    for epoch in range(4):
        for rank in range(devices):
            sampler = PatchSampler(per_epoch, rank, devices)
            sampler.set_epoch(epoch)
            numbers = list(sampler)
            assert len(sampler) == len(numbers) == per_epoch
            assert numbers == sorted(numbers)
            seen += numbers
    assert sorted(seen) == list(range(4 * devices * per_epoch))


def test_an_epoch_can_be_drawn_twice() -> None:
    sampler = PatchSampler(3)
    assert list(sampler) == list(sampler) == [0, 1, 2]
    epochs = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
    assert list(itertools.chain(*epochs)) == list(range(9))


def test_three_and_four_classes_see_the_same_patches(ndim: int) -> None:
    edge = 48 if ndim == 2 else 24
    three, four = (
        Patches([example((edge,) * ndim)], ClassRule(n, 2, 3), (16,) * ndim, PLAIN) for n in (3, 4)
    )
    gaps = 0
    for i in range(20):
        (image, classes), (same, with_gap) = three[i], four[i]
        assert torch.equal(image, same)
        assert torch.equal(classes, torch.where(with_gap == GAP, 0, with_gap))
        gaps += int((with_gap == GAP).sum())
    assert gaps > 0


# what is asked for beside the usual


def test_dark_for_bright(ndim: int) -> None:
    """All patches, none, or some, and everything else about them is as it was."""
    made = [example((48,) * ndim)]
    plain, dark, some = (
        Patches(made, RULE, (16,) * ndim, TrainSettings(p_invert=share)) for share in (0.0, 1.0, 0.5)
    )
    turned = 0
    for i in range(12):
        (image, classes), (inverse, same) = plain[i], dark[i]
        assert torch.equal(classes, same)
        torch.testing.assert_close(inverse, image.max() + image.min() - image)
        turned += torch.equal(some[i][0], inverse) and not torch.equal(some[i][0], image)
    assert 1 < turned < 11


def test_cells_of_patches_are_as_much_larger_or_smaller_as_asked(ndim: int) -> None:
    """Of one cell across the image, the widest and the narrowest that patches show."""
    edge = 96 if ndim == 2 else 48
    middle = np.indices((edge,) * ndim) - edge // 2
    labels = (np.sqrt((middle**2).sum(0)) < edge / 12).astype(np.int32)
    field = Example("ball", labels[None].astype(np.float32), labels)
    widths = {}
    for scale in (1.15, 2.0):
        asked = TrainSettings(max_scale=scale, foreground_oversampling=1.0)
        made = Patches([field], RULE, (edge // 2,) * ndim, asked)
        shares = [float((made[i][1] == CELL).float().sum() / labels.sum()) for i in range(40)]
        widths[scale] = np.array([min(shares), max(shares)]) ** (1 / ndim)
    assert (np.abs(np.log(widths[1.15])) < np.log(1.15) + 0.08).all()
    assert widths[2.0][0] < 0.7
    assert widths[2.0][1] > 1.4
    assert (np.abs(np.log(widths[2.0])) < np.log(2) + 0.08).all()

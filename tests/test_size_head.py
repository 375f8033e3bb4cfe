"""How large cells are: what a network learns to tell, and how views of an image are put together."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import cleft
from cleft.core.image import Image
from cleft.core.settings import ModelCard, NetSettings
from cleft.io.lazy import LazyImage
from cleft.models.size_head import LOG2_SIZES, size_targets
from cleft.prediction.diameter import estimate_diameter
from cleft.prediction.scale import choose_factors

KNOWN = 16.0


def discs(shape: tuple[int, ...], diameter: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Bright balls on a noisy ground, none touching, and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int32)
    steps = [np.arange(0.75 * diameter, n - 0.5 * diameter, 1.5 * diameter) for n in shape]
    grid = np.indices(shape)
    for i, centre in enumerate(np.stack(np.meshgrid(*steps, indexing="ij"), -1).reshape(-1, len(shape)), 1):
        far = np.sqrt(sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)))
        labels[far <= diameter / 2] = i
    image = 100 + 900 * (labels > 0) + rng.normal(0, 20, shape)
    return image.astype(np.float32), labels


class Measuring:
    """A predictor that measures bright balls by their area, as sure as a network may be."""

    asked = 0  # for classes

    def __init__(self, ndim: int, taken_for: float = 1.0) -> None:
        self.taken_for = taken_for  # times as large as they are
        self.settings = NetSettings(strides=((2,) * ndim,) * 3, size_head=True)
        self.card = ModelCard(
            cleft="0", net=self.settings, axes="ZYX"[-ndim:], shrink=(1,) * ndim, percentiles=(1, 99.8),
            cell_diameter=KNOWN, touching_radius=2, gap_radius=2, roundtrip_pq=1,
        )  # fmt: skip

    def sizes(self, batch: torch.Tensor) -> torch.Tensor:
        from skimage.measure import label

        bright = batch[0, 0].numpy() > 0.5
        parts = np.bincount(label(bright).reshape(-1))[1:]
        inside = parts[parts > 4]
        places = 16
        result = torch.zeros(places, len(LOG2_SIZES) + 1)
        if not inside.size or bright.mean() > 0.9:
            result[:, -1] = 1
            return result
        unit = {2: np.pi / 4, 3: np.pi / 6}[bright.ndim]
        diameter = self.taken_for * (np.median(inside) / unit) ** (1 / bright.ndim)
        result[:] = size_targets(torch.tensor([float(np.log2(diameter / KNOWN))]))
        return result

    def predict(self, channels: np.ndarray, what: str) -> np.ndarray:
        """Classes: balls of about the size it knows, and specks on whatever is larger."""
        from skimage.measure import label

        self.asked += 1
        bright = channels[0] > 0.5
        parts = label(bright)
        across = np.bincount(parts.reshape(-1)) ** (1 / bright.ndim)
        known = (across > 0.5 * KNOWN) & (across < 1.7 * KNOWN)
        specks = np.random.default_rng(self.asked).random(bright.shape) < 0.1
        return (bright & (known[parts] | specks)).astype(np.uint8)[None]


@pytest.mark.parametrize("diameter", [6, 16, 40, 90])
def test_the_size_is_told_at_any_scale(diameter: float) -> None:
    image, _ = discs((400, 400), diameter)
    found = estimate_diameter(Measuring(2), LazyImage.of(Image(image, "YX")))  # type: ignore[arg-type]
    assert found == pytest.approx(diameter, rel=0.25)


def test_the_size_is_told_in_stacks() -> None:
    image, _ = discs((48, 96, 96), 24)
    found = estimate_diameter(Measuring(3), LazyImage.of(Image(image, "ZYX")))  # type: ignore[arg-type]
    assert found == pytest.approx(24, rel=0.3)


@pytest.mark.parametrize("taken_for", [0.35, 0.45])
def test_a_size_at_which_the_model_finds_other_cells_each_time_is_mended(taken_for: float) -> None:
    image, _ = discs((400, 400), 32)
    predictor = Measuring(2, taken_for)
    found = estimate_diameter(predictor, LazyImage.of(Image(image, "YX")))  # type: ignore[arg-type]
    assert found == pytest.approx(32, rel=0.35)
    assert found > 1.5 * taken_for * 32


def test_a_size_at_which_it_finds_the_same_cells_is_believed() -> None:
    image, _ = discs((400, 400), 32)
    predictor = Measuring(2)
    told = estimate_diameter(predictor, LazyImage.of(Image(image, "YX")))  # type: ignore[arg-type]
    assert predictor.asked == 3
    assert told == pytest.approx(32, rel=0.25)


def test_no_size_where_no_cell_is_seen(rng: np.random.Generator) -> None:
    predictor = Measuring(2)
    predictor.sizes = lambda batch: torch.eye(len(LOG2_SIZES) + 1)[[-1] * 9]  # type: ignore[method-assign]
    image = Image(rng.normal(0, 1, (64, 80)), "YX")
    assert estimate_diameter(predictor, LazyImage.of(image)) is None  # type: ignore[arg-type]


def test_targets_are_probabilities() -> None:
    found = size_targets(torch.tensor([-3.0, 0.1, 3.0, torch.nan]))
    torch.testing.assert_close(found.sum(1), torch.ones(4))
    assert found.argmax(1).tolist() == [0, 12, 24, 25]


@pytest.mark.parametrize(
    ("default", "diameter", "estimated", "factor"),
    [
        (None, None, None, 1.0), ("auto", None, 41.6, 2.0), ("auto", "keep", 40.0, 1.0),
        ("auto", "auto", 8.0, 0.65),
        (None, "auto", 40.0, 2.5), ("auto", None, None, 1.0), ("auto", None, 17.0, 1.0),
        ("auto", 32.0, 8.0, 2.0),
    ],
)  # fmt: skip
def test_what_is_done_where_no_diameter_is_given(
    default: str | None, diameter: float | str | None, estimated: float | None, factor: float
) -> None:
    card = Measuring(2).card.model_copy(update={"default_diameter": default})
    assert choose_factors(card, diameter, None, estimated) == (factor, factor)


@pytest.fixture(scope="module")
def of_two_sizes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of discs of 10 and of 40 pixels, shortly trained."""
    path = tmp_path_factory.mktemp("sizes") / "m.safetensors"
    pairs: Sequence[tuple[np.ndarray, np.ndarray]] = [
        discs((12 * d, 12 * d), d, seed) for seed, d in enumerate((10, 10, 40, 40))
    ]
    cleft.train(pairs, path, steps=100, width=4, levels=3, patch_size=(48, 48), batch_size=4, size_views=200)
    return path


def test_images_of_two_sizes_are_learnt_as_one(of_two_sizes: Path) -> None:
    model = cleft.load_model(of_two_sizes)
    assert model.card.net.size_head
    assert model.card.default_diameter == "auto"
    assert model.card.shrink == (1, 1)
    for diameter in (10, 20, 40):
        image, truth = discs((240, 240), diameter, 9)
        labels = cleft.segment(image, model)
        assert abs(int(labels.max()) - int(truth.max())) <= 0.2 * truth.max()
        found = estimate_diameter(model.predictor(), LazyImage.of(Image(image, "YX")))
        assert found == pytest.approx(diameter, rel=0.5)


def test_the_size_head_goes_through_a_file_and_an_ensemble(of_two_sizes: Path) -> None:
    image = LazyImage.of(Image(discs((200, 200), 20)[0], "YX"))
    one, both = (cleft.load_model(names) for names in (of_two_sizes, [of_two_sizes, of_two_sizes]))
    assert both.card.net.size_head
    found = estimate_diameter(one.predictor(), image)
    assert found is not None
    assert estimate_diameter(both.predictor(), image) == pytest.approx(found)


def test_a_model_that_begins_with_it_has_none_of_its_own(of_two_sizes: Path) -> None:
    pair = discs((120, 120), 12)
    model = cleft.train([pair], pretrained=str(of_two_sizes), steps=1, patch_size=(48, 48))
    assert not model.card.net.size_head
    assert model.card.default_diameter is None


@pytest.mark.long
def test_size_views_are_those_of_the_seed(of_two_sizes: Path) -> None:
    """The same training gives the same file."""
    again = of_two_sizes.with_name("again.safetensors")
    pairs = [discs((12 * d, 12 * d), d, seed) for seed, d in enumerate((10, 10, 40, 40))]
    cleft.train(pairs, again, steps=100, width=4, levels=3, patch_size=(48, 48), batch_size=4, size_views=200)
    first, second = (cleft.load_model(path).net.size_head for path in (of_two_sizes, again))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a, b)

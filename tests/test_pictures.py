"""The script behind the pages' pictures, in small."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image as Picture
from PIL.PngImagePlugin import PngInfo

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script, writing elsewhere."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delitem(sys.modules, "pictures", raising=False)
    script = importlib.import_module("pictures")
    monkeypatch.setattr(script, "IMAGES", tmp_path)
    return script


def test_the_square_with_most_cells_is_shown(pictures: ModuleType) -> None:
    cells = np.zeros((6, 8), bool)
    cells[4, 5:8] = cells[0, 0] = True
    rows, columns = pictures.fullest(cells, 3)
    assert cells[rows, columns].sum() == 3
    assert pictures.fullest(cells, 100) == (slice(0, 6), slice(2, 8))


def test_figures_by_a_palette_look_the_same_in_fewer_bytes(pictures: ModuleType, tmp_path: Path) -> None:
    figure = np.full((200, 300, 4), 255, np.uint8)
    figure[50:60, :, :3] = (0, 114, 178)
    figure[:, 100:102, :3] = (213, 94, 0)
    made_by = PngInfo()
    made_by.add_text("Software", "cleft paper")
    Picture.fromarray(figure).save(tmp_path / "fig.png", compress_level=0, pnginfo=made_by)
    before = (tmp_path / "fig.png").stat().st_size
    pictures.small()
    assert (tmp_path / "fig.png").stat().st_size < before / 4
    with Picture.open(tmp_path / "fig.png") as small:
        assert small.text == {"Software": "cleft paper"}
        np.testing.assert_array_equal(np.asarray(small.convert("RGB")), figure[..., :3])
    made = (tmp_path / "fig.png").read_bytes()
    pictures.small()
    assert (tmp_path / "fig.png").read_bytes() == made

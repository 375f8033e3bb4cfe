"""Labels, image and table as SpatialData, read by its own reader."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cleft
from cleft import Conversion
from cleft.core.errors import DataError
from cleft.core.image import Image
from cleft.io import read_labels, write_image, write_labels
from cleft.io.made import made_of
from cleft.io.outputs import written_by_cleft

needs_spatialdata = pytest.mark.skipif(
    importlib.util.find_spec("spatialdata") is None, reason="spatialdata isn't installed"
)
# of the libraries below spatialdata
quietly = pytest.mark.filterwarnings(
    "default::DeprecationWarning", "default::FutureWarning", "default::UserWarning"
)


def boxes(ndim: int) -> np.ndarray:
    labels = np.zeros((6, 20, 30)[-ndim:], np.int32)
    labels[..., 2:6, 3:9] = 4
    labels[..., 2:6, 9:14] = 7
    labels[..., 12:19, 20:28] = -1
    return labels


def saved(folder: Path, ndim: int, spacing: tuple[float, ...] | None) -> tuple[Path, Path]:
    labels, axes = boxes(ndim), "ZYX"[-ndim:]
    write_labels(folder / "a.tif", labels, axes, spacing)
    channels = np.stack([np.maximum(labels, 0), 10 * np.maximum(labels, 0) + 1]).astype(np.uint16)
    write_image(folder / "i.tif", Image(channels, "C" + axes, spacing))
    return folder / "a.tif", folder / "i.tif"


@needs_spatialdata
@quietly
@pytest.mark.parametrize("known", [True, False])
def test_its_own_reader_finds_everything(ndim: int, known: bool, tmp_path: Path) -> None:
    import spatialdata

    spacing = (2.0, 0.5, 0.25)[-ndim:] if known else None
    source, image = saved(tmp_path, ndim, spacing)
    path = cleft.convert(source, "spatialdata", options=Conversion(image=image))
    assert path == tmp_path / "a.spatialdata.zarr"
    found: Any = spatialdata.read_zarr(path)
    labels = np.maximum(boxes(ndim), 0)
    assert np.array_equal(found.labels["cells"].to_numpy(), labels)
    assert np.array_equal(found.images["image"].to_numpy(), np.stack([labels, 10 * labels + 1]))
    table = found.tables["table"]
    expected = cleft.measure(source, image)
    assert table.uns["spatialdata_attrs"] == {
        "region": "cells",
        "region_key": "region",
        "instance_key": "label",
    }
    assert table.obs["label"].tolist() == [4, 7]
    for name in table.var_names:
        np.testing.assert_allclose(table[:, name].X[:, 0], expected[name].astype(float), err_msg=name)
    assert {*table.var_names, *table.obs} == {*expected, "region"}
    # what it computes itself: cells are where the table says, in micrometres
    centres = spatialdata.get_centroids(found.labels["cells"], coordinate_system="global").compute()
    centres = centres.loc[[4, 7], list("xyz"[:ndim])]
    np.testing.assert_allclose(table.obsm["spatial"], centres)
    np.testing.assert_allclose(centres["x"], np.array([6.0, 11.5]) * (0.25 if known else 1))
    joined, rows = spatialdata.join_spatialelement_table(found, "cells", table_name="table")
    assert "cells" in joined
    assert len(rows) == 2


@needs_spatialdata
@quietly
def test_labels_come_back_and_say_what_made_them(ndim: int, tmp_path: Path) -> None:
    source, _ = saved(tmp_path, ndim, None)
    path = cleft.convert(source, "spatialdata", tmp_path / "a.zarr", Conversion(name="nuclei"))
    assert np.array_equal(read_labels(path / "labels" / "nuclei").data, np.maximum(boxes(ndim), 0))
    assert written_by_cleft(path, "convert")
    assert made_of(path)["labels"] == str(source)
    with pytest.raises(DataError, match="exists already"):
        cleft.convert(source, "spatialdata", path)
    cleft.convert(source, "spatialdata", path, Conversion(overwrite=True))
    assert not (path / "labels" / "nuclei").exists()


@needs_spatialdata
@quietly
def test_no_cells_at_all(tmp_path: Path) -> None:
    import spatialdata

    write_labels(tmp_path / "a.tif", np.zeros((5, 6), np.uint8), "YX")
    found: Any = spatialdata.read_zarr(cleft.convert(tmp_path / "a.tif", "spatialdata"))
    assert found.tables["table"].n_obs == 0
    assert found.labels["cells"].shape == (5, 6)


@needs_spatialdata
@quietly
def test_what_is_refused(tmp_path: Path) -> None:
    source, image = saved(tmp_path, 2, None)
    for name in ("table", "image", "../a"):
        with pytest.raises(DataError, match="as the name of labels"):
            cleft.convert(source, "spatialdata", options=Conversion(name=name))
    write_image(image, Image(np.zeros((5, 6), np.uint8), "YX"))
    with pytest.raises(DataError, match="expected that of"):
        cleft.convert(source, "spatialdata", options=Conversion(image=image))
    assert {path.name for path in tmp_path.iterdir()} == {"a.tif", "i.tif"}


def test_a_folder_of_somebody_else_stays(tmp_path: Path) -> None:
    source, _ = saved(tmp_path, 2, None)
    (tmp_path / "mine.zarr").mkdir()
    (tmp_path / "mine.zarr" / "zarr.json").write_text('{"attributes": {"spatialdata_attrs": {}}}')
    with pytest.raises(DataError, match="cleft didn't write"):
        cleft.convert(source, "spatialdata", tmp_path / "mine.zarr", Conversion(overwrite=True))


def test_a_sentence_where_it_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, _ = saved(tmp_path, 2, None)
    monkeypatch.setitem(sys.modules, "spatialdata", None)
    with pytest.raises(DataError, match=r"pip install cleft\[spatialdata\]"):
        cleft.convert(source, "spatialdata")
    assert not (tmp_path / "a.spatialdata.zarr").exists()

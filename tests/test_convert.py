"""Labels in other programs' formats, read by the other side's own readers, and back."""

import contextlib
import io
import json
import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import roifile
import shapely
import shapely.geometry
import tifffile
import trimesh
import yaozarrs
import zarr
from scipy import ndimage

import cleft
from cleft import Conversion
from cleft.core.errors import DataError
from cleft.core.image import Image
from cleft.formats.ctc import tracks_of
from cleft.formats.geojson import Shown
from cleft.io import read_labels, write_image, write_labels
from cleft.io.outputs import written_by_cleft
from cleft.io.zarr_labels import write_zarr_labels

Says = Callable[..., Any]


def blobs(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Cells of noise, with holes, some in pieces."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    labels, n = ndimage.label(noise > 0)
    labels[labels == n] = 1
    return labels.astype(np.int32)


def saved(folder: Path, labels: np.ndarray, spacing: tuple[float, ...] | None = None) -> Path:
    write_labels(folder / "cells.tif", labels, "ZYX"[-labels.ndim :], spacing)
    return folder / "cells.tif"


def test_geojson_and_back(ndim: int, tmp_path: Path) -> None:
    labels = blobs((5, 40, 50)[-ndim:])
    spacing = (1.0, 0.5, 0.5)[-ndim:]
    source = saved(tmp_path, labels, spacing)
    image = tmp_path / "image.tif"
    write_image(image, Image(np.arange(labels.size, dtype=np.uint16).reshape(labels.shape), "ZYX"[-ndim:]))
    path = cleft.convert(source, "geojson", options=Conversion(image=image, shown=Shown(classes="Tumour")))
    found = json.loads(path.read_text())
    assert found["type"] == "FeatureCollection"
    table = cleft.measure(labels, image, spacing)
    rows = {str(label): i for i, label in enumerate(table["label"].tolist())}
    assert len({f["id"] for f in found["features"]}) == len(found["features"])
    for feature in found["features"]:
        stated = feature["properties"]
        shape = shapely.geometry.shape(feature["geometry"])
        plane = labels[feature["geometry"]["plane"]["z"]] if ndim == 3 else labels
        assert shape.is_valid
        assert shape.area == np.count_nonzero(plane == int(stated["name"]))
        assert stated["objectType"] == "cell"
        assert stated["classification"]["name"] == "Tumour"
        assert set(stated["measurements"]) == set(table) - {"label"}
        mean = table["intensity_mean"][rows[stated["name"]]]
        assert stated["measurements"]["intensity_mean"] == pytest.approx(mean, rel=1e-6)
    back = cleft.convert(path, "labels", tmp_path / "back.tif", Conversion(image=source))
    again = read_labels(back)
    np.testing.assert_array_equal(again.data, labels)
    assert again.spacing == spacing


def test_what_is_not_known_is_nan_as_qupath_has_it(tmp_path: Path) -> None:
    source = saved(tmp_path, np.array([[0, 7, 7]]))
    found = json.loads(cleft.convert(source, "geojson").read_text())
    assert found["features"][0]["properties"]["measurements"]["nearest_px"] == "NaN"
    assert "classification" not in found["features"][0]["properties"]


def test_what_others_write_as_geojson(tmp_path: Path) -> None:
    """QuPath's list of annotations: names of people's, decimals, a hole, a plane."""
    square = [[1.2, 1.1], [6.1, 1.1], [6.1, 5.8], [1.2, 5.8], [1.2, 1.1]]
    hole = [[3, 3], [3, 4], [4, 4], [4, 3], [3, 3]]
    features = [
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [square, hole]}, "properties": {}},
        {
            "type": "Feature",
            "geometry": {"type": "MultiPolygon", "coordinates": [[[[8, 0], [9, 0], [9, 2], [8, 0]]]]},
            "properties": {"name": "odd one"},
        },
    ]
    (tmp_path / "a.geojson").write_text(json.dumps(features))
    path = cleft.convert(tmp_path / "a.geojson", "labels", options=Conversion(shape=(8, 10)))
    labels = read_labels(path).data
    expected = np.zeros((8, 10), int)
    expected[1:5, 1:6] = 1
    expected[5, 1:6] = 1  # the middle of a pixel decides
    expected[3, 3] = 0
    expected[0, 8] = 2
    np.testing.assert_array_equal(labels, expected)


def test_rois_and_back(ndim: int, tmp_path: Path) -> None:
    labels = blobs((4, 40, 50)[-ndim:], 1)
    path = cleft.convert(saved(tmp_path, labels), "roi", tmp_path / "a.zip")
    rois = roifile.roiread(path)
    planes = labels if ndim == 3 else labels[None]
    assert len(rois) == sum(len(np.unique(p)) - 1 for p in planes)
    assert len({roi.name for roi in rois}) == len(rois)
    for roi in rois:
        z, _, label = roi.name.rpartition("-")
        rings = [shapely.Polygon(r) for r in roi.coordinates(multi=True)]
        area = rings[0].area
        for ring in rings[1:]:  # even-odd, as ImageJ fills them
            area += ring.area if not any(o.contains(ring) for o in rings if o is not ring) else -ring.area
        plane = planes[int(z) - 1 if z else 0]
        assert area == np.count_nonzero(plane == int(label))
        assert roi.z_position == (int(z) if z else 0)
    back = cleft.convert(path, "labels", tmp_path / "back.tif", Conversion(shape=labels.shape))
    np.testing.assert_array_equal(read_labels(back).data, labels)


def test_rois_that_imagej_made(tmp_path: Path) -> None:
    """A polygon with decimals and a rectangle, under names of ImageJ's."""
    outline = np.array([[1.5, 1.5], [4.5, 1.5], [4.5, 3.5], [1.5, 3.5]], np.float32)
    box = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, left=6, top=0, right=8, bottom=3, name="0002-0007")
    with zipfile.ZipFile(tmp_path / "RoiSet.zip", "w") as archive:
        archive.writestr("0002-0003.roi", roifile.ImagejRoi.frompoints(outline).tobytes())
        archive.writestr("0002-0007.roi", box.tobytes())
    path = cleft.convert(tmp_path / "RoiSet.zip", "labels", options=Conversion(shape=(5, 9)))
    labels = read_labels(path).data
    assert sorted(np.unique(labels)) == [0, 3, 7]
    assert (labels == 7).sum() == 6
    point = roifile.ImagejRoi.frompoints(outline)
    point.roitype = roifile.ROI_TYPE.POINT
    (tmp_path / "p.roi").write_bytes(point.tobytes())
    with pytest.raises(DataError, match="found POINT, expected areas"):
        cleft.convert(tmp_path / "p.roi", "labels", options=Conversion(shape=(5, 9)))
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(DataError, match="can't be read as ImageJ's ROIs"):
        cleft.convert(tmp_path / "bad.zip", "labels", options=Conversion(shape=(5, 9)))


def test_outlines_as_text(tmp_path: Path) -> None:
    labels = np.zeros((9, 9), int)
    labels[2:4, 3:7] = 8
    labels[6, 6] = 2
    path = cleft.convert(saved(tmp_path, labels), "outlines")
    assert path.read_text() == "6,6,7,6,7,7,6,7\n3,2,7,2,7,4,3,4\n"
    assert path.name == "cells_outlines.txt"
    assert written_by_cleft(path, "convert")
    stack = saved(tmp_path / "s", np.stack([labels, labels]))
    with pytest.raises(DataError, match="found a stack"):
        cleft.convert(stack, "outlines")
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == ["cells.tif"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:trimesh")
@pytest.mark.parametrize("suffix", [".obj", ".stl"])
def test_meshes_are_closed_and_in_micrometres(suffix: str, tmp_path: Path) -> None:
    spacing = (0.5, 0.25, 0.2)
    z, y, x = np.indices((28, 48, 60))
    labels = np.where(((z - 14) * 0.5) ** 2 + ((y - 22) * 0.25) ** 2 + ((x - 28) * 0.2) ** 2 < 25, 3, 0)
    labels[0, 0, :4] = 9  # at the edge of the image
    path = cleft.convert(saved(tmp_path, labels, spacing), "mesh", tmp_path / f"a{suffix}")
    mesh = trimesh.load(path, force="mesh")
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    bodies = sorted(mesh.split(), key=lambda body: body.volume)
    assert len(bodies) == 2
    assert bodies[1].volume == pytest.approx(4 / 3 * np.pi * 125, rel=0.03)
    np.testing.assert_allclose(bodies[1].centroid, [28 * 0.2, 22 * 0.25, 14 * 0.5], atol=0.02)
    assert written_by_cleft(path, "convert")
    with pytest.raises(DataError, match="expected --spacing"):
        cleft.convert(saved(tmp_path / "b", labels), "mesh")
    with pytest.raises(DataError, match="meshes are of stacks"):
        cleft.convert(saved(tmp_path / "c", labels[14], spacing[1:]), "mesh")


def test_every_random_cell_is_closed(tmp_path: Path) -> None:
    from cleft.formats.mesh import surfaces

    for seed in range(5):
        labels = np.random.default_rng(seed).integers(0, 3, (6, 7, 8))
        for label, places, faces in surfaces(labels, (1, 1, 1)):
            edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
            _, counts = np.unique(edges, axis=0, return_counts=True)
            assert (counts % 2 == 0).all(), label
            mesh = trimesh.Trimesh(places, faces, process=False)
            assert mesh.is_winding_consistent
            assert mesh.volume > 0


def ome_image(path: Path, shape: tuple[int, ...], version: str = "0.5") -> Path:
    """An image as OME-Zarr, with a channel, by hand."""
    group = zarr.create_group(path, zarr_format=3 if version == "0.5" else 2)
    names: Any = {"dimension_names": list("czyx"[:1] + "zyx"[-len(shape) :])} if version == "0.5" else {}
    group.create_array("0", data=np.ones((1, *shape), np.uint16), chunks=(1, *shape), **names)
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"[-len(shape) :]]
    scale = [{"type": "scale", "scale": [1.0] * (len(shape) - 1) + [0.5, 0.5]}]
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}], "name": "image"}
    if version == "0.5":
        group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    else:
        group.attrs["multiscales"] = [{**image, "version": version}]
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_inside_an_ome_zarr(ndim: int, version: str, tmp_path: Path) -> None:
    labels = blobs((4, 40, 50)[-ndim:], 2)
    image = ome_image(tmp_path / "i.ome.zarr", labels.shape, version)
    source = saved(tmp_path, labels)
    for name in ("cells", "nuclei"):
        place = cleft.convert(source, "ome-zarr", options=Conversion(image=image, name=name))
        assert place == image / "labels" / name
        again = read_labels(place)
        np.testing.assert_array_equal(again.data, labels)
        assert again.spacing == (1.0, 0.5, 0.5)[-ndim:]
    listed, label = (zarr.open_group(image / "labels" / name).attrs for name in ("", "cells"))
    if version == "0.5":
        listed, label = listed["ome"], label["ome"]
    assert listed["labels"] == ["cells", "nuclei"]
    assert label["image-label"]["source"]["image"] == "../../"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yaozarrs.validate_zarr_store(str(image))
        if version == "0.5":  # a list alone says no version in 0.4
            yaozarrs.validate_zarr_store(str(image / "labels"))
        yaozarrs.validate_zarr_store(str(place))
    with pytest.raises(DataError, match="exists already"):
        cleft.convert(source, "ome-zarr", options=Conversion(image=image))
    cleft.convert(source, "ome-zarr", options=Conversion(image=image, overwrite=True))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cells.tif", "i.ome.zarr"]


def test_images_that_take_no_labels(tmp_path: Path) -> None:
    source = saved(tmp_path, blobs((20, 20)))
    old = ome_image(tmp_path / "old.zarr", (20, 20), "0.3")
    with pytest.raises(DataError, match=r"found OME-Zarr 0\.3"):
        cleft.convert(source, "ome-zarr", options=Conversion(image=old))
    other = ome_image(tmp_path / "other.zarr", (20, 21))
    with pytest.raises(DataError, match="expected that of"):
        cleft.convert(source, "ome-zarr", options=Conversion(image=other))
    with pytest.raises(DataError, match="as the name of labels"):
        cleft.convert(source, "ome-zarr", options=Conversion(image=other, name="../up"))
    with pytest.raises(DataError, match="is no OME-Zarr image, expected the folder of one"):
        cleft.convert(source, "ome-zarr", options=Conversion(image=tmp_path))
    zarr.create_array(tmp_path / "bare.zarr", shape=(20, 20), dtype=np.uint16)
    with pytest.raises(DataError, match="can't be read as an OME-Zarr image"):
        cleft.convert(source, "ome-zarr", options=Conversion(image=tmp_path / "bare.zarr"))
    assert not (other / "labels").exists()
    alone = cleft.convert(source, "ome-zarr", tmp_path / "alone.ome.zarr")
    np.testing.assert_array_equal(read_labels(alone).data, read_labels(source).data)


def test_time_series_as_the_challenge_names_them(tmp_path: Path) -> None:
    frames = np.zeros((4, 20, 20), np.uint8)
    frames[:, 2:6, 2:6] = 1
    frames[[0, 1, 3], 10:14, 10:14] = 2  # gone for a frame
    tifffile.imwrite(tmp_path / "s.tif", frames, photometric="minisblack")
    path = cleft.convert(tmp_path / "s.tif", "ctc", tmp_path / "01_RES", Conversion(axes="TYX"))
    assert (path / "res_track.txt").read_text() == "1 0 3 0\n2 0 1 0\n3 3 3 0\n"
    masks = [tifffile.imread(path / f"mask{t:03d}.tif") for t in range(4)]
    assert all(mask.dtype == np.uint16 for mask in masks)
    assert np.unique(masks[3]).tolist() == [0, 1, 3]
    from ctc_metrics.metrics import valid
    from ctc_metrics.utils.filesystem import parse_directories, parse_masks, read_tracking_file
    from ctc_metrics.utils.handle_results import print_results  # noqa: F401  # it imports

    tracks = read_tracking_file(str(path / "res_track.txt"))
    assert tracks.tolist() == [[1, 0, 3, 0], [2, 0, 1, 0], [3, 3, 3, 0]]
    assert len(parse_masks(str(path))) == 4
    assert callable(parse_directories)
    labels = [np.unique(mask[mask > 0]).tolist() for mask in masks]
    assert valid(masks, tracks, labels)
    for t, frame in enumerate(frames):
        write_labels(tmp_path / "t" / f"t{t}.tif", frame, "YX")
    again = cleft.convert(sorted((tmp_path / "t").iterdir()), "ctc", tmp_path / "02_RES")
    assert tifffile.imread(again / "mask002.tif").tolist() == masks[2].tolist()
    with pytest.raises(DataError, match="is a folder that cleft didn't write"):
        cleft.convert(tmp_path / "s.tif", "ctc", path, Conversion(axes="TYX"))
    with pytest.raises(DataError, match="expected integer labels over time"):
        cleft.convert(tmp_path / "t" / "t0.tif", "ctc", tmp_path / "03_RES")


def test_no_more_tracks_than_16_bits(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((2, 3, 3), 70_000, np.int32))
    with pytest.raises(DataError, match="masks have 16 bits"):
        cleft.convert(tmp_path / "a.npy", "ctc", tmp_path / "01_RES", Conversion(axes="TYX"))
    assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]
    assert tracks_of([]) == ([], [])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_cellpose_seg(ndim: int, protocol: int, tmp_path: Path) -> None:
    masks = blobs((3, 20, 30)[-ndim:], 3).astype(np.uint16)
    content = {
        "outlines": masks * 0, "colors": np.zeros((4, 3)), "masks": np.asfortranarray(masks),
        "chan_choose": [0, 0], "ismanual": np.zeros(4, bool), "filename": "a.tif", "diameter": np.float64(17),
        "flows": [np.zeros((2, 2)), None, [np.float32(3.5)]], "tuple": (1, 2.5, "x", b"y", {1: True}),
    }  # fmt: skip
    with (tmp_path / "a_seg.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        pickle.dump(np.array(content, dtype=object), file, protocol)
    np.testing.assert_array_equal(read_labels(cleft.convert(tmp_path / "a_seg.npy", "labels")).data, masks)
    assert (tmp_path / "a.tif").exists()
    np.save(tmp_path / "b_seg.npy", content)  # type: ignore[arg-type]
    np.testing.assert_array_equal(read_labels(cleft.convert(tmp_path / "b_seg.npy", "labels")).data, masks)
    np.savez(tmp_path / "c.npz", masks=masks)
    np.testing.assert_array_equal(read_labels(cleft.convert(tmp_path / "c.npz", "labels")).data, masks)


class Evil:
    """What a pickle may do."""

    def __init__(self, told: str) -> None:
        self.told = told

    def __reduce__(self) -> Any:
        return os.system, (self.told,)


def test_nothing_in_a_seg_file_is_run(tmp_path: Path) -> None:
    told = f"touch {tmp_path}/run"
    masks = np.ones((4, 4), np.uint8)
    for i, content in enumerate(({"masks": Evil(told)}, {"masks": masks, "other": Evil(told)}, [Evil(told)])):
        path = tmp_path / f"{i}_seg.npy"
        np.save(path, content)  # type: ignore[arg-type]
        if i == 1:  # what isn't wanted isn't looked at
            np.testing.assert_array_equal(read_labels(cleft.convert(path, "labels")).data, masks)
        else:
            with pytest.raises(DataError, match=r"expected integers|without running"):
                cleft.convert(path, "labels")
    assert not (tmp_path / "run").exists()


def test_damaged_seg_files_are_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.save(file, {"masks": np.ones((4, 5), np.int32)})  # type: ignore[arg-type]
    whole, path = file.getvalue(), tmp_path / "a_seg.npy"
    rng = np.random.default_rng(0)
    for cut in [*range(0, len(whole), 7), *(-1,) * 300]:
        content = bytearray(whole if cut < 0 else whole[:cut])
        if cut < 0:
            content[rng.integers(8, len(content))] = rng.integers(256)
        path.write_bytes(content)
        with contextlib.suppress(DataError):  # nothing else is raised
            labels = read_labels(cleft.convert(path, "labels", options=Conversion(overwrite=True))).data
            assert labels.size == 20
    np.save(path, np.ones((4, 5)))
    with pytest.raises(DataError, match="holds an array"):
        cleft.convert(path, "labels", tmp_path / "x.tif")


def test_coco(tmp_path: Path) -> None:
    rle = {"size": [4, 5], "counts": [4, 2, 2, 2, 10]}  # column by column
    content = {
        "images": [
            {"id": 3, "file_name": "sub/a.png", "height": 4, "width": 5},
            {"id": 9, "file_name": "b.png", "height": 2, "width": 2},
        ],
        "annotations": [
            {"image_id": 3, "segmentation": rle, "iscrowd": 0},
            {"image_id": 3, "segmentation": [[3, 0, 5, 0, 5, 2, 3, 2], [3, 3, 4, 3, 4, 4, 3, 4]]},
            {"image_id": 9, "segmentation": {"size": [2, 2], "counts": "13"}, "iscrowd": 1},
        ],
    }  # fmt: skip
    (tmp_path / "c.json").write_text(json.dumps(content))
    folder = cleft.convert(tmp_path / "c.json", "labels", tmp_path / "masks")
    assert read_labels(folder / "a.tif").data.tolist() == [
        [0, 1, 1, 2, 2],
        [0, 1, 1, 2, 2],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 2, 0],
    ]
    assert read_labels(folder / "b.tif").data.tolist() == [[0, -1], [-1, -1]]
    content["annotations"][0]["segmentation"] = [[0, 0, 4, 4, 4, 0, 0, 4]]  # type: ignore[index]
    (tmp_path / "d.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="annotation 1: its outline crosses itself"):
        cleft.convert(tmp_path / "d.json", "labels", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_bad_input(tmp_path: Path) -> None:
    source = saved(tmp_path, blobs((20, 20)))
    bow = [[[1, 1], [5, 5], [5, 1], [1, 5], [1, 1]]]
    far = [[[100, 1], [105, 1], [105, 5], [100, 1]]]

    def feature(coordinates: Any, kind: str = "Polygon") -> str:
        geometry = {"type": kind, "coordinates": coordinates}
        return json.dumps({"type": "Feature", "geometry": geometry, "properties": None})

    files = {
        "bow.geojson": (feature(bow), "feature 1: its outline crosses itself near x 3, y 3"),
        "far.geojson": (feature(far), "outside an image of shape"),
        "point.geojson": (feature([1, 1], "Point"), "found Point, expected Polygon"),
        "none.geojson": ('{"a": 1}', "JSON without features"),
        "deep.geojson": ("[" * 100_000, "can't be read as JSON"),
        "odd.geojson": (feature([["a", "b"]]), "no list of points"),
        "flat.geojson": (feature([[1, 2], [3, 4]]), "no list of points"),
        "number.geojson": (feature(7), "no lists of points"),
        "text.txt": ("x", r"is none of \.geojson"),
    }
    for name, (text, said) in files.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=said):
            cleft.convert(tmp_path / name, "labels", tmp_path / "out.tif", Conversion(shape=(20, 20)))
    (tmp_path / "good.geojson").write_text(feature([[[1, 1], [5, 1], [5, 5], [1, 1]]]))
    with pytest.raises(DataError, match="doesn't say how large its image is"):
        cleft.convert(tmp_path / "good.geojson", "labels", tmp_path / "out.tif")
    with pytest.raises(DataError, match="of memory are available"):
        cleft.convert(tmp_path / "good.geojson", "labels", options=Conversion(shape=(10**7, 10**7)))
    with pytest.raises(DataError, match='found "qupath", expected one of geojson'):
        cleft.convert(source, "qupath")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="as the type of objects"):
        cleft.convert(source, "geojson", options=Conversion(shown=Shown("tile")))
    with pytest.raises(DataError, match="expected one"):
        cleft.convert([source, source], "geojson")
    write_image(tmp_path / "image.tif", Image(np.zeros((20, 21), np.uint8), "YX"))
    with pytest.raises(DataError, match="expected that of"):
        cleft.convert(source, "geojson", tmp_path / "out.tif", Conversion(image=tmp_path / "image.tif"))
    assert not (tmp_path / "out.tif").exists()


def test_from_the_shell(cleft_says: Says, tmp_path: Path) -> None:
    labels = blobs((30, 30), 5)
    source = saved(tmp_path, labels)
    said = cleft_says("convert", source, "--to", "geojson", "--type", "annotation", "--class", "Cell")
    assert said.code == 0, said.err
    assert "cells.geojson: written" in said.out
    found = json.loads((tmp_path / "cells.geojson").read_text())["features"][0]["properties"]
    assert (found["objectType"], found["classification"]["name"]) == ("annotation", "Cell")
    command = (
        "convert",
        tmp_path / "cells.geojson",
        "--to",
        "labels",
        "--image",
        source,
        "-o",
        tmp_path / "b.tif",
    )
    assert cleft_says(*command).code == 0
    np.testing.assert_array_equal(read_labels(tmp_path / "b.tif").data, labels)
    said = cleft_says("convert", source, "--to", "qupath")
    assert said.code == 1
    assert said.err.startswith("error: found")


def test_a_zarr_of_labels_is_converted_as_any_file(tmp_path: Path) -> None:
    labels = blobs((30, 30), 6)
    write_zarr_labels(tmp_path / "l.zarr", labels.astype(np.uint32), (0.5, 0.5))
    path = cleft.convert(tmp_path / "l.zarr", "geojson", tmp_path / "a.geojson")
    assert len(json.loads(path.read_text())["features"]) == len(np.unique(labels)) - 1
    assert struct.calcsize("i") == 4

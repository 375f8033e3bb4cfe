"""GeoJSON as QuPath writes and reads it: a feature for each cell."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cleft.core.errors import DataError
from cleft.formats.planes import Placed, cells_by_plane, checked_polygon
from cleft.io.made import About
from cleft.io.outputs import MARK, software_tag

__all__ = ["QUPATH_TYPES", "Shown", "geojson_text", "read_geojson"]

QUPATH_TYPES = ("cell", "detection", "annotation")
COLOURS = ([31, 119, 180], [255, 127, 14], [44, 160, 44], [214, 39, 40], [148, 103, 189], [140, 86, 75])
LARGEST_LABEL = 2**53  # a number in JSON may be a float on the other side


@dataclass(frozen=True)
class Shown:
    """How QuPath is to show cells.

    Args:
        kind: of its objects: ``"cell"``, ``"detection"`` or ``"annotation"``.
        classes: the name of a class for all, or one by label.
    """

    kind: str = "cell"
    classes: str | Mapping[int, str] | None = None

    def of(self, label: int) -> str | None:
        """The class of a cell."""
        return self.classes.get(label) if isinstance(self.classes, Mapping) else self.classes


def geojson_text(
    labels: np.ndarray,
    table: Mapping[str, np.ndarray],
    shown: Shown,
    source: str,
    verb: str = "",
    about: About | None = None,
) -> Iterator[str]:
    """The pieces of a GeoJSON file: a feature for each cell, in a stack for each cell in each plane.

    Args:
        labels: (Y, X) or (Z, Y, X) integer.
        table: columns of numbers, the label among them, which become measurements; of cells in the order of
            the labels.
        shown: types and classes.
        source: what the labels came from; identifiers follow from it and the label.
        verb: of the command line whose result it is.
        about: what made it, see ``cleft.io.made``.

    Example:
        >>> text = "".join(geojson_text(np.array([[5, 5]]), {"label": np.array([5])}, Shown(), "a.tif"))
        >>> json.loads(text)["features"][0]["geometry"]
        {'type': 'Polygon', 'coordinates': [[[0, 0], [2, 0], [2, 1], [0, 1], [0, 0]]]}
    """
    stack = labels.ndim > 2
    rows = _measurements(table)
    family = uuid.uuid5(uuid.NAMESPACE_URL, source)
    names = sorted({shown.of(int(i)) or "" for i in table["label"]})
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    yield f'{{"{MARK}":{json.dumps(software_tag(verb))},"type":"FeatureCollection",'
    yield f'"made":{json.dumps(about or {})},"features":['
    before = "\n"
    for z, label, pieces in cells_by_plane(labels):
        polygons = [[ring.tolist() for ring in polygon.rings] for polygon in pieces]
        for polygon in polygons:
            for ring in polygon:
                ring.append(ring[0])
        several = len(polygons) > 1
        geometry: dict[str, Any] = {"type": "MultiPolygon" if several else "Polygon"}
        geometry["coordinates"] = polygons if several else polygons[0]
        if stack:
            geometry["plane"] = {"c": -1, "z": z, "t": 0}
        identity = uuid.uuid5(family, f"{label}/{z}" if stack else str(label))
        kind = ""
        if name := shown.of(label):
            kind = f',"classification":{json.dumps({"name": name, "color": colours[name]})}'
        shape = json.dumps(geometry, separators=(",", ":"))
        yield (
            f'{before}{{"type":"Feature","id":"{identity}","geometry":{shape},'
            f'"properties":{{"objectType":"{shown.kind}","name":"{label}"{kind},"measurements":{rows[label]}}}}}'
        )
        before = ",\n"
    yield "\n]}\n"


def _measurements(table: Mapping[str, np.ndarray]) -> dict[int, str]:
    """The JSON object of each cell's numbers; what isn't known is "NaN", as QuPath has it."""
    names = [name for name in table if name != "label"]
    formats = ", ".join(f"{json.dumps(name)}: %s".replace("%", "%%").replace("%%s", "%s") for name in names)
    columns = []
    for name in names:
        column = table[name]
        if column.dtype.kind == "f":
            columns.append([f"{v:.7g}" if v - v == 0 else '"NaN"' for v in column.tolist()])
        else:
            columns.append([str(int(v)) for v in column.tolist()])
    labels = table["label"].tolist()
    if not names:
        return dict.fromkeys(labels, "{}")
    return {label: "{" + formats % row + "}" for label, row in zip(labels, zip(*columns))}


def read_geojson(path: Path) -> list[Placed]:
    """The polygons of a GeoJSON file, as QuPath, CVAT, Label Studio and others write them.

    Args:
        path: a feature collection, a list of features, or one.

    Returns:
        Polygons with their planes. Labels are the objects' names where all are different whole numbers above
        0, otherwise 1, 2, ... in their order.

    Raises:
        DataError: it is no GeoJSON, holds something else than areas, or an outline crosses itself.
    """
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: can't be read as JSON ({error})") from error
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror})") from error
    if isinstance(found, dict):
        found = found.get("features", [found])
    if not isinstance(found, list) or not all(isinstance(f, dict) and "geometry" in f for f in found):
        raise DataError(f"{path}: found JSON without features, expected GeoJSON")
    labels = _labels(found)
    return [
        (z, checked_polygon(label, rings, source))
        for feature, label, source in zip(
            found, labels, (f"{path}: feature {i}" for i in range(1, len(found) + 1))
        )
        for z, rings in _areas(feature, source)
    ]


def _labels(features: list[dict[str, Any]]) -> list[int]:
    """The label of each feature; in a stack one is a feature in each of its planes."""
    names = [(f.get("properties") or {}).get("name") for f in features]
    planes = [json.dumps((f["geometry"] or {}).get("plane")) for f in features]
    numbers = [int(n) if isinstance(n, str) and n.isdecimal() and len(n) < 16 else 0 for n in names]
    if all(0 < n < LARGEST_LABEL for n in numbers) and len(set(zip(numbers, planes))) == len(numbers):
        return numbers
    return list(range(1, len(features) + 1))


def _areas(feature: dict[str, Any], source: str) -> Iterator[tuple[int, list[Any]]]:
    """The polygons of a feature, each with its plane."""
    geometry = feature["geometry"]
    kind = geometry.get("type") if isinstance(geometry, dict) else geometry
    if kind not in ("Polygon", "MultiPolygon"):
        raise DataError(f"{source}: found {kind}, expected Polygon or MultiPolygon, the area of a cell")
    plane = geometry.get("plane") or {}
    z = plane.get("z", 0) if isinstance(plane, dict) else 0
    polygons = geometry.get("coordinates")
    polygons = [polygons] if kind == "Polygon" else polygons
    if (
        not isinstance(polygons, list)
        or not all(isinstance(p, list) for p in polygons)
        or not isinstance(z, int)
    ):
        raise DataError(
            f"{source}: found coordinates that are no lists of points, or a plane that is no number"
        )
    for rings in polygons:
        yield z, rings

"""Labels, image and measurements as one SpatialData zarr, which scverse's programs read."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from cleft.core.errors import DataError
from cleft.core.image import Image
from cleft.formats.omezarr import check_name
from cleft.io.files import atomic_path
from cleft.io.made import About, made
from cleft.io.outputs import MARK
from cleft.io.table import obs_and_var
from cleft.io.zarr_labels import remove_labels
from cleft.labels.table import CellTable

__all__ = ["spatialdata", "write_spatialdata"]

IMAGE, TABLE = "image", "table"  # names of the elements beside the labels
SYSTEM = "global"  # the coordinate system that every reader expects


def spatialdata() -> ModuleType:
    """The package that knows the format.

    Raises:
        DataError: it isn't installed.
    """
    try:
        import spatialdata as found
    except ModuleNotFoundError as error:
        raise DataError(
            "SpatialData needs spatialdata, which isn't installed: pip install cleft[spatialdata]"
        ) from error
    return found


def write_spatialdata(
    path: Path,
    labels: Image,
    table: CellTable,
    image: Image | None = None,
    name: str = "cells",
    verb: str = "convert",
    about: About | None = None,
) -> None:
    """Write labels, what was measured of them, and their image, whole or not at all.

    Coordinates are micrometres where the labels know their pixel size, otherwise pixels. As everywhere in
    SpatialData the corner of the first pixel is 0, while it is its middle in columns such as ``x_um``.

    Args:
        path: of the folder; the caller has asked ``check_outputs`` whether it may be written.
        labels: (Y, X) or (Z, Y, X) unsigned integer.
        table: with a row for each of them; one without rows is stored as belonging to no labels.
        image: of the same pixels, (C, *S).
        name: of the labels.
        verb: of the command line whose result it is.
        about: what made it, see ``cleft.io.made``.

    Raises:
        DataError: spatialdata isn't installed, the name is none, or the folder can't be written.

    Source:
        SpatialData documentation, "Models", version 0.7.3.
    """
    package = spatialdata()
    check_name(name)
    if name in (IMAGE, TABLE):
        raise DataError(f'found "{name}" as the name of labels, which the {name} beside them has')
    from spatialdata import models
    from spatialdata.transformations import Identity, Scale

    dims = tuple(labels.axes.lower())
    where = {SYSTEM: Identity() if labels.spacing is None else Scale(list(labels.spacing), axes=dims)}
    three = len(dims) > 2
    images = {}
    if image is not None:
        model = models.Image3DModel if three else models.Image2DModel
        names = list(image.names) if all(image.names) and len({*image.names}) == len(image.data) else None
        images[IMAGE] = model.parse(image.data, ("c", *dims), c_coords=names, transformations=where)
    model = models.Labels3DModel if three else models.Labels2DModel
    cells = model.parse(labels.data, dims, transformations=where)
    # a table without rows can't belong to labels
    belongs = {"region": name, "region_key": "region", "instance_key": "label"} if len(table) else {}
    rows = models.TableModel.parse(_annotations(table, labels, name), **belongs)
    data = package.SpatialData(
        images=images, labels={name: cells}, tables={TABLE: rows}, attrs={MARK: made(verb, about)}
    )
    with atomic_path(path) as beside:
        data.write(beside, update_sdata_path=False)
        remove_labels(path)


def _annotations(table: CellTable, labels: Image, name: str) -> Any:
    """The table as AnnData, as ``.h5ad`` has it; the places are in the coordinates of the labels."""
    import anndata
    import pandas

    obs, var = obs_and_var(table)
    rows = pandas.DataFrame({column: table[column] for column in obs}, index=table["label"].astype(str))
    rows["region"] = pandas.Categorical([name] * len(table), [name])
    places = np.stack([table[f"{a}_px"] for a in reversed(labels.axes.lower())], 1) + 0.5
    found = anndata.AnnData(
        np.stack([np.asarray(table[column], np.float64) for column in var], 1),
        rows,
        pandas.DataFrame(index=var),
    )
    found.obsm["spatial"] = places * (1.0 if labels.spacing is None else labels.spacing[::-1])
    return found

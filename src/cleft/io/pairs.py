"""Which files are images, and which mask belongs to which image."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from cleft.core.errors import DataError
from cleft.io.files import is_file
from cleft.io.hdf5 import is_hdf5
from cleft.io.inside import VENDOR_SUFFIXES, images_inside, name_inside, split_inside
from cleft.io.outputs import written_by_cleft
from cleft.io.read import is_zarr

__all__ = [
    "OVERLAYS", "PROBABILITIES", "TABLES", "Pair", "base_name", "by_name", "find_images", "find_named",
    "find_pairs", "find_tree",
]  # fmt: skip

READABLE = (
    ".tif",
    ".tiff",
    ".btf",
    ".lsm",
    ".png",
    ".jpg",
    ".jpeg",
    ".npy",
    ".h5",
    ".hdf5",
    *VENDOR_SUFFIXES,
)
# Paired all the same, so that the reader can say what is wrong with them.
REFUSED = (".jp2", ".gif", ".bmp", ".webp")
SEGMENT = "segment"  # the verb whose results are no images to segment
# folders that it writes beside labels
PROBABILITIES, OVERLAYS, TABLES = "probabilities", "overlays", "measurements"
CELLPOSE_MASKS = ("_cp_masks", "_masks")
CELLPOSE_OTHERS = re.compile(r".*(_seg|_flows|_flows_\d+|_outlines|_outlines_cp)$")
LAYOUTS = (
    "images/ and masks/ with equal names, x.tif beside x_masks.tif (Cellpose), or "
    "01/t000.tif with 01_GT/SEG/man_seg000.tif or 01_ST/SEG (Cell Tracking Challenge)"
)


@dataclass(frozen=True)
class Pair:
    """An image and the mask that belongs to it.

    Args:
        name: what the two have in common, without folder and suffix; unique in its folder.
        image: the image file, or the folder of an OME-Zarr image.
        labels: the mask file or folder.
    """

    name: str
    image: Path
    labels: Path


def base_name(path: str | Path) -> str:
    """The name of an image without folder and suffix, ``.ome`` taken with the suffix.

    Args:
        path: of a file or an OME-Zarr folder; the name of a position inside a file begins with the file's.

    Example:
        >>> base_name("scans/ovule.7.ome.tif"), base_name("a.zarr"), base_name("t000.tif")
        ('ovule.7', 'a', 't000')
    """
    return name_inside(Path(path)) or Path(path).stem.removesuffix(".ome")


def find_images(inputs: Sequence[str | Path]) -> list[Path]:
    """The images among files and folders.

    Args:
        inputs: files, OME-Zarr folders (each an image) and folders, of which every image directly inside is
            taken, in natural order; hidden files aren't. Each position of a file that holds several is an
            image.

    Returns:
        The paths in the order of the inputs, each once.

    Raises:
        DataError: an input doesn't exist, a folder holds no image, or there are no inputs.

    Example:
        >>> find_images([])
        Traceback (most recent call last):
        cleft.core.errors.DataError: no images given, expected files or folders
    """
    found: dict[Path, None] = {}
    for path in map(Path, inputs):
        if not os.path.exists(path) and not is_hdf5(path) and split_inside(path) is None:
            raise DataError(f"{path}: no such file or folder")
        if os.path.isdir(path) and not is_zarr(path):
            images = _listing(path, READABLE)
            if not images:
                raise DataError(f"{path}: no image in this folder; {_contents(path)}")
            found.update(dict.fromkeys(images))
        else:
            found |= dict.fromkeys(images_inside(path))
    if not found:
        raise DataError("no images given, expected files or folders")
    return list(found)


def find_tree(inputs: Sequence[str | Path], output: Path) -> dict[Path, Path]:
    """The images among files and folders with all folders inside, and the subfolder that each lies in.

    Args:
        inputs: files (taken as they are), OME-Zarr folders (each an image) and folders, of which every image
            is taken, and of every folder inside. Left out are hidden files and folders, links to folders,
            ``masks/`` beside ``images/``, ``output`` where it lies inside, and what ``cleft segment`` wrote.
        output: where results go.

    Returns:
        The images in natural order, each once; below its input the folder of each, ``.`` if it has none.

    Raises:
        DataError: as ``find_images``.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, "day1").mkdir()
        ...     for name in ("a.tif", "day1/a.tif"):
        ...         Path(folder, name).touch()
        ...     found = find_tree([folder], Path(folder, "out"))
        ...     [(path.name, str(within)) for path, within in found.items()]
        [('a.tif', '.'), ('a.tif', 'day1')]
    """
    found: dict[Path, Path] = {}
    for path in map(Path, inputs):
        if os.path.isdir(path) and not is_zarr(path):
            found = _tree(path, output) | found
        else:
            found |= dict.fromkeys(find_images([path]), Path())
    return found or dict.fromkeys(find_images([]), Path())


def find_named(inputs: Sequence[str | Path], labels: bool = True) -> dict[str, Path]:
    """The images among files and folders with all folders inside, by name, to find what belongs together.

    Args:
        inputs: as for ``find_tree``; what lies in a folder inside is named after that, too.
        labels: whether labels are looked for, those of ``cleft segment`` among them, and not the pictures
            and probabilities that it wrote into folders beside them; or images, and nothing that it wrote.

    Returns:
        The paths by name, in natural order.

    Raises:
        DataError: as ``find_images``, or two of one name.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for inner in ("day1", "day1/overlays"):
        ...         Path(folder, inner).mkdir()
        ...         Path(folder, inner, "a.tif").touch()
        ...     list(find_named([folder]))
        ['day1/a']
    """
    found: dict[Path, Path] = {}
    for path in map(Path, inputs):
        if os.path.isdir(path) and not is_zarr(path):
            found = _tree(path, None, labels) | found
        else:
            found |= dict.fromkeys(find_images([path]), Path())
    named: dict[str, Path] = {}
    for path, within in (found or dict.fromkeys(find_images([]), Path())).items():
        _enter(named, (within / base_name(path)).as_posix(), path)
    return named


def _tree(folder: Path, output: Path | None, labels: bool = False) -> dict[Path, Path]:
    """The images of a folder and of those inside, and the place of each below it."""
    images = dict(_walk(folder, Path(), output, labels))
    if not images:
        raise DataError(f"{folder}: no image in this folder or those inside; {_contents(folder)}")
    return images


def _walk(folder: Path, within: Path, output: Path | None, labels: bool) -> Iterator[tuple[Path, Path]]:
    for image in _listing(folder, READABLE):
        if labels or not written_by_cleft(image, SEGMENT):
            yield image, within
    inner = [path for path in _natural(_entries(folder)) if os.path.isdir(path) and not is_zarr(path)]
    names = {path.name for path in inner}
    for path in inner:
        mask = path.name == "masks" and "images" in names
        unfinished = path.suffix in (".work", ".run")  # of runs and trainings, beside their results
        beside = labels and path.name in (PROBABILITIES, OVERLAYS, TABLES)
        left_out = path.name.startswith(".") or unfinished or path.is_symlink() or mask or beside
        if not left_out and (output is None or not _same(path, output)):
            yield from _walk(path, within / path.name, output, labels)


def _same(path: Path, other: Path) -> bool:
    return os.path.realpath(path) == os.path.realpath(other)


def find_pairs(folder: str | Path) -> list[Pair]:
    """The images of a folder with their masks, in natural order.

    Three layouts are known: ``images/`` and ``masks/`` with equal base names (suffixes may differ);
    Cellpose's ``x.tif`` beside ``x_masks.tif`` or ``x_cp_masks.png``; the Cell Tracking Challenge's
    ``01/t000.tif`` with ``01_GT/SEG/man_seg000.tif`` or ``01_ST/SEG/man_seg000.tif``, where frames without a
    mask are left out and GT wins over ST.

    Args:
        folder: that holds the images and the masks.

    Returns:
        At least one pair.

    Raises:
        DataError: the folder is missing, empty or of another layout, names don't match, or two files share
            one.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("t2.tif", "t2_masks.png", "t10.tif", "t10_masks.png"):
        ...         Path(folder, name).touch()
        ...     [(pair.name, pair.labels.name) for pair in find_pairs(folder)]
        [('t2', 't2_masks.png'), ('t10', 't10_masks.png')]
    """
    folder = Path(folder)
    if not os.path.isdir(folder):
        found = "not a folder" if os.path.exists(folder) else "no such folder"
        raise DataError(f"{folder}: {found}, expected {LAYOUTS}")
    inner = [folder / "images", folder / "masks"]
    if all(os.path.isdir(path) for path in inner):
        images, masks = (by_name(_listing(path, READABLE + REFUSED)) for path in inner)
        return _matched(folder, images, masks)
    sequences = [path for path in _natural(_entries(folder)) if path.name.isdecimal() and _truths(path)]
    if sequences:
        return [pair for sequence in sequences for pair in _tracking_pairs(sequence)]
    images, masks = _cellpose_files(folder)
    if masks:
        return _matched(folder, images, masks)
    raise DataError(f"{folder}: no pairs of images and masks; {_contents(folder)}, expected {LAYOUTS}")


def _matched(folder: Path, images: dict[str, Path], masks: dict[str, Path]) -> list[Pair]:
    """Pair by name; every image must have a mask and every mask an image."""
    lonely = [
        f"{len(names)} {what} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
        for what, names in (
            ("images without a mask", [p.name for n, p in images.items() if n not in masks]),
            ("masks without an image", [p.name for n, p in masks.items() if n not in images]),
        )
        if names
    ]
    if lonely:
        raise DataError(f"{folder}: found {' and '.join(lonely)}, expected the same names in both")
    if not images:
        raise DataError(f"{folder}: images/ and masks/ hold no images, expected {LAYOUTS}")
    return [Pair(name, image, masks[name]) for name, image in images.items()]


def by_name(paths: Iterable[Path], suffixes: Sequence[str] = ()) -> dict[str, Path]:
    """Paths by base name, less one of the suffixes.

    Raises:
        DataError: two of one name.

    Example:
        >>> by_name([Path("masks/a_masks.png")], ["_masks"])
        {'a': PosixPath('masks/a_masks.png')}
    """
    named: dict[str, Path] = {}
    for path in paths:
        name = base_name(path)
        name = next((name.removesuffix(s) for s in suffixes if name.endswith(s)), name)
        _enter(named, name, path)
    return named


def _enter(named: dict[str, Path], name: str, path: Path) -> None:
    """Enter a path by its name; refused if there is one already."""
    if name in named:
        raise DataError(
            f"{path.parent}: found {named[name].name} and {path.name}, expected one file for {name}"
        )
    named[name] = path


def _cellpose_files(folder: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Images and masks of a Cellpose folder by name; its other products are left out."""
    paths = [p for p in _listing(folder, READABLE + REFUSED) if not CELLPOSE_OTHERS.match(base_name(p))]
    masks = [path for path in paths if base_name(path).endswith(CELLPOSE_MASKS)]
    return by_name(p for p in paths if p not in masks), by_name(masks, CELLPOSE_MASKS)


def _truths(sequence: Path) -> list[Path]:
    """The SEG folders of a tracking sequence, silver before gold so that gold overwrites it."""
    folders = [sequence.with_name(f"{sequence.name}_{truth}") / "SEG" for truth in ("ST", "GT")]
    return [folder for folder in folders if os.path.isdir(folder)]


def _tracking_pairs(sequence: Path) -> list[Pair]:
    """The annotated frames of one Cell Tracking Challenge sequence."""
    frames = {int(p.stem[1:]): p for p in _like(sequence, "t*.tif") if p.stem[1:].isdecimal()}
    masks: dict[int, Path] = {}
    slices = 0
    for truth in _truths(sequence):
        found = {p.stem.removeprefix("man_seg"): p for p in _like(truth, "man_seg*.tif")}
        masks |= {int(number): path for number, path in found.items() if number.isdecimal()}
        slices += sum(not number.isdecimal() for number in found)
    if not masks:
        what = (
            f"only {slices} masks of single slices (man_seg_000_010.tif)" if slices else "no man_seg000.tif"
        )
        raise DataError(
            f"{sequence}: found {what} in {_truths(sequence)[-1]}, expected masks of whole frames"
        )
    lost = [masks[number].name for number in sorted(masks) if number not in frames]
    if lost:
        raise DataError(f"{sequence}: no frame t000.tif for {len(lost)} masks ({', '.join(lost[:5])})")
    return [Pair(f"{sequence.name}_{frames[n].stem}", frames[n], masks[n]) for n in sorted(masks)]


def _like(folder: Path, pattern: str) -> list[Path]:
    """The entries of a folder whose names fit a pattern."""
    return [path for path in _entries(folder) if fnmatchcase(path.name, pattern)]


def _listing(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """The images directly in a folder, by suffix or as a zarr store, in natural order."""
    visible = (path for path in _entries(folder) if not path.name.startswith("."))
    images = _natural(p for p in visible if is_zarr(p) or (is_file(p) and p.suffix.lower() in suffixes))
    return [inside for path in images for inside in images_inside(path)]


def _entries(folder: Path) -> list[Path]:
    """What lies directly in a folder."""
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: the folder can't be read ({error.strerror})") from error


def _natural(paths: Iterable[Path]) -> list[Path]:
    """Sorted by name, numbers by their value: t2 before t10."""
    return sorted(
        paths, key=lambda path: [_rank(chunk) for chunk in re.split(r"([0-9]+)", path.name) if chunk]
    )


def _rank(chunk: str) -> tuple[bool, int, str]:
    """Digits before letters, as in any listing, and digits by their value."""
    return (False, int(chunk), chunk) if chunk.isdecimal() else (True, 0, chunk)


def _contents(folder: Path) -> str:
    """What a folder holds, for a message."""
    names = [path.name for path in _natural(_entries(folder))]
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"found {shown}" if names else "it is empty"

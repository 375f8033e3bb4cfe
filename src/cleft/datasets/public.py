"""Public sets of annotated images: where they are, and how they are laid out to train on."""

from __future__ import annotations

import errno
import glob
import lzma
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from skimage.color import rgb2gray
from skimage.measure import label
from skimage.util import img_as_ubyte

from cleft.core.errors import CleftError, DataError
from cleft.core.image import Image
from cleft.core.units import format_bytes
from cleft.datasets.download import Progress, download
from cleft.io.files import exclusive_lock
from cleft.io.read import read_image
from cleft.io.write import write_image, write_labels

__all__ = ["SETS", "PublicSet", "fetch"]

BROAD = "https://data.broadinstitute.org/bbbc"
CELL_TRACKING = "https://data.celltrackingchallenge.net/training-datasets"
MARK = "cleft-data-fetch.txt"  # in every folder that may be removed
# The sets here unpack to about ten times their size, as masks are mostly nothing; a bomb to a thousand times.
MAX_EXPANSION = 50
ALWAYS_ALLOWED = 1_000_000_000  # bytes that any archive may hold
MAX_FILES = 200_000  # the largest, bbbc038, holds 30,000
# what zipfile raises of encrypted, strange and damaged members, beside BadZipFile
DAMAGED = (RuntimeError, NotImplementedError, zlib.error, lzma.LZMAError, EOFError, ValueError)
UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO}


@dataclass(frozen=True)
class PublicSet:
    """A set that can be fetched.

    Args:
        description: what it shows.
        licence: under which it may be used.
        archives: addresses of zip files, with their SHA-256; ``None`` where nobody has said.
        layout: from the folder of the unpacked archives to the folder to train on.
    """

    description: str
    licence: str
    archives: dict[str, str | None]
    layout: Callable[[Path, Path], None]


def fetch(name: str, folder: Path, progress: Progress = lambda done, of: None) -> Path:
    """Download a public set and lay it out for ``cleft train``.

    Archives stay in ``folder/archives``, so that nothing is downloaded twice; an interrupted download goes
    on. A set that is there already is left as it is: only a whole one has its name. Nothing is removed or
    replaced but what this function has made itself.

    Args:
        name: of ``SETS``.
        folder: gets a folder of the set's name.
        progress: of each archive, bytes done and in all.

    Returns:
        The set's folder.

    Raises:
        DataError: no such set, the server can't be reached, an archive isn't what it should be or wants more
            room than there is, or another process is fetching the same set.
    """
    if name not in SETS:
        raise DataError(f'found "{name}", expected a set of {", ".join(SETS)}')
    out, archives = folder / name, folder / "archives"
    if os.path.lexists(out) and not out.is_dir():
        raise DataError(f"{out}: is no folder, expected the set or nothing")
    if out.is_dir():
        return out
    with exclusive_lock(archives / f".{name}.lock", name):
        if not out.is_dir():  # else another process has fetched it meanwhile
            _remove_leftovers(archives, name)
            _fetch(name, archives, out, progress)
    return out


def _fetch(name: str, archives: Path, out: Path, progress: Progress) -> None:
    """Download the archives, unpack them in a fresh folder, and move what is made of them to its place."""
    paths = []
    for url, sha256 in SETS[name].archives.items():
        paths.append(archives / f"{name}-{url.rsplit('/', 1)[1]}")
        download(url, paths[-1], sha256, progress)
    try:
        with tempfile.TemporaryDirectory(
            prefix=f".{name}.", dir=archives, ignore_cleanup_errors=True
        ) as work:
            mark, unpacked, whole = Path(work, MARK), Path(work, "unpacked"), Path(work, "whole")
            mark.write_text("cleft data fetch unpacks here, and removes what a stopped command has left\n")
            for path in paths:
                _unpack(name, path, unpacked)
            _lay_out(name, paths, unpacked, whole)
            whole.rename(out)
    except OSError as error:
        raise DataError(f"{out}: can't be written ({error.strerror or error})") from error


def _remove_leftovers(archives: Path, name: str) -> None:
    """Remove what a command that was killed has left; it is known by its mark."""
    for left in archives.glob(f".{glob.escape(name)}.*"):
        if left.is_dir() and not left.is_symlink() and (left / MARK).is_file():
            shutil.rmtree(left, ignore_errors=True)


def _unpack(name: str, path: Path, folder: Path) -> None:
    """Unpack an archive that isn't damaged and doesn't claim more than it may, or than there is room for."""
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = [member.file_size for member in archive.infolist()]
            limit = max(MAX_EXPANSION * path.stat().st_size, ALWAYS_ALLOWED)
            if sum(sizes) > limit or len(sizes) > MAX_FILES:
                raise DataError(
                    f"{name}: {path} says that it holds {len(sizes)} files of {format_bytes(sum(sizes))}, "
                    f"expected at most {MAX_FILES} of {format_bytes(limit)}"
                )
            if sum(sizes) > (free := shutil.disk_usage(path.parent).free):
                raise DataError(
                    f"{name}: {path} takes {format_bytes(sum(sizes))} unpacked, and on its disk "
                    f"{format_bytes(free)} are free"
                )
            archive.extractall(folder)
    except zipfile.BadZipFile as error:
        raise DataError(f"{path}: isn't a zip file ({error}); remove it to fetch it again") from error
    except (*DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno in UNWRITABLE:
            raise
        raise DataError(f"{name}: {path} can't be unpacked ({error or type(error).__name__})") from error


def _lay_out(name: str, paths: list[Path], unpacked: Path, whole: Path) -> None:
    """Lay a set out. Whatever is raised here is about what the archives hold, which is not ours."""
    try:
        SETS[name].layout(unpacked, whole)
        if not whole.is_dir():
            raise DataError("found no image")
    except Exception as error:
        kind = "" if isinstance(error, CleftError) else f"{type(error).__name__}: "
        archives = ", ".join(map(str, paths))
        raise DataError(f"{name}: can't be laid out from {archives} ({kind}{error})") from error


# Layouts ---------------------------------------------------------------------------------------------------


def _mask_per_nucleus(unpacked: Path, out: Path) -> None:
    """ID/images/ID.png and a mask of each nucleus in ID/masks/."""
    folders = sorted(path for path in unpacked.iterdir() if (path / "images").is_dir())
    if not folders:
        raise DataError("found no folder with images/, expected one for each image")
    for folder in folders:
        pictures = sorted((folder / "images").glob("*.png"))
        if len(pictures) != 1:
            raise DataError(f"found {len(pictures)} PNG files in {folder.name}/images, expected 1")
        picture = read_image(pictures[0])
        grey = img_as_ubyte(rgb2gray(picture.data)) if "C" in picture.axes else picture.data
        labels = np.zeros(grey.shape, np.int32)
        for number, mask in enumerate(sorted((folder / "masks").glob("*.png")), start=1):
            labels[_first_channel(mask) > 0] = number
        _write_pair(out / "train", folder.name, Image(grey, "YX"), labels)


def _listed_splits(unpacked: Path, out: Path) -> None:
    """images/X.tif, masks/X.png whose red channel tells neighbours apart, and lists of names."""
    for split, listed in (("train", "training"), ("val", "validation"), ("test", "test")):
        for line in (unpacked / "metadata" / f"{listed}.txt").read_text().split():
            name = Path(line).stem
            labels = label(_first_channel(unpacked / "masks" / f"{name}.png"), connectivity=2)
            image = read_image(unpacked / "images" / f"{name}.tif", "YX")
            _write_pair(out / split, name, image, labels.astype(np.int32))


def _sequences(unpacked: Path, out: Path) -> None:
    """NAME/01, 01_GT, ..., which is read as it is."""
    found = sorted(unpacked.iterdir())
    folders = [path for path in found if path.is_dir()]
    if len(folders) != 1 or not any(folders[0].glob("[0-9][0-9]_GT")):
        names = ", ".join(path.name for path in found)
        raise DataError(f"found {names}, expected one folder with 01 and 01_GT in it")
    folders[0].rename(out)


def _first_channel(path: Path) -> np.ndarray:
    return read_image(path).channels_first()[0]


def _write_pair(folder: Path, name: str, image: Image, labels: np.ndarray) -> None:
    write_image(folder / "images" / f"{name}.tif", image)
    write_labels(folder / "masks" / f"{name}.tif", labels, "YX", None)


# The sets --------------------------------------------------------------------------------------------------


def _tracked(name: str, description: str, sha256: str) -> tuple[str, PublicSet]:
    """A set of the Cell Tracking Challenge that should have masks of whole frames."""
    licence = "for research, to be cited (Ulman et al. 2017)"
    return name, PublicSet(description, licence, {f"{CELL_TRACKING}/{name}.zip": sha256}, _sequences)


# Checksums as others have published them: the servers say none. That of bbbc038 stands in several public
# repositories that don't know each other.
SETS: dict[str, PublicSet] = {
    "bbbc038": PublicSet("nuclei of many kinds, Data Science Bowl 2018, 670 images", "CC0", {
        f"{BROAD}/BBBC038/stage1_train.zip":
        "dcb6edc2690f137406638b2309581a71522c4dff19157d118453b448dcddcb68",
    }, _mask_per_nucleus),
    "bbbc039": PublicSet("U2OS nuclei, Hoechst, 200 images", "CC0", {
        f"{BROAD}/BBBC039/images.zip": "6f30a5d4fe38c928ded972704f085975f8dc0d65d9aa366df00e5a9d449fddd7",
        f"{BROAD}/BBBC039/masks.zip": "f9e6043d8ca56344a4886f96a700d804d6ee982f31e2b2cd3194af2a053c2710",
        f"{BROAD}/BBBC039/metadata.zip": "a2c1f900bed9ba92a99553efd4c2ae98598433691c7401d818653ab61110deb2",
    }, _listed_splits),
    **dict([
        _tracked("BF-C2DL-HSC", "blood stem cells in wells, brightfield, 1.6 GB",
                 "0aa68ec37a9b06e72a5dfa07d809f56e1775157fb674bb75ff904936149657b1"),
        _tracked("BF-C2DL-MuSC", "muscle stem cells, brightfield, 1.2 GB",
                 "ca72b59042809120578a198ba236e5ed3504dd6a122ef969428b7c64f0a5e67d"),
        _tracked("DIC-C2DH-HeLa", "HeLa cells on glass, DIC, 37 MB",
                 "832fed2d05bb7488cf9c51a2994b75f8f3f53b3c3098856211f2d39023c34e1a"),
        _tracked("Fluo-C2DL-Huh7", "liver cancer cells, YFP, 36 MB",
                 "1912658c1b3d8b38b314eb658b559e7b39c256917150e9b3dd8bfdc77347617d"),
        _tracked("Fluo-C2DL-MSC", "mesenchymal stem cells, GFP, 72 MB",
                 "a083521f0cb673ae02d4957c5e6580c2e021943ef88101f6a2f61b944d671af2"),
        _tracked("Fluo-N2DH-GOWT1", "mouse stem cell nuclei, GFP, 53 MB",
                 "1a7bd9a7d1d10c4122c7782427b437246fb69cc3322a975485c04e206f64fc2c"),
        _tracked("Fluo-N2DH-SIM+", "simulated HL60 nuclei, 91 MB",
                 "3e809148c87ace80c72f563b56c35e0d9448dcdeb461a09c83f61e93f5e40ec8"),
        _tracked("Fluo-N2DL-HeLa", "HeLa nuclei, H2B-GFP, 182 MB",
                 "35dd99d58e071aba0b03880128d920bd1c063783cc280f9531fbdc5be614c82e"),
        _tracked("PhC-C2DH-U373", "glioblastoma cells, phase contrast, 40 MB",
                 "b18185c18fce54e8eeb93e4bbb9b201d757add9409bbf2283b8114185a11bc9e"),
        _tracked("PhC-C2DL-PSC", "pancreatic stem cells, phase contrast, 124 MB",
                 "9d54bb8febc8798934a21bf92e05d92f5e8557c87e28834b2832591cdda78422"),
        _tracked("Fluo-C3DH-A549", "lung cancer cells in a matrix, stacks, 244 MB",
                 "46be7a5403f98070218414e5b71a302f29f697ffcae68f45ecaea5d737076026"),
        _tracked("Fluo-C3DH-A549-SIM", "simulated lung cancer cells, stacks, 314 MB",
                 "321bd505854a4e3c9b8255cb903ecc48f43f14abd444448ef6945fc1ec9fa4cf"),
        _tracked("Fluo-C3DH-H157", "lung cancer cells in a matrix, stacks, 7 GB",
                 "9540984397dfb7129b5bff8177b7da11c497708421e6de2713c186b5b15a3c9b"),
        _tracked("Fluo-C3DL-MDA231", "breast carcinoma cells in a matrix, stacks, 182 MB",
                 "b1044eeaac644f1abfbf91d9b6c97bebfb02f4dee2b2a4aed60d0039a375aa84"),
        _tracked("Fluo-N3DH-CE", "nuclei of worm embryos, stacks, 3.1 GB",
                 "eb3d37cacb3b51d3a427a0c43deaaf1d60cf2eba009f12569e720c2c2fd1e04c"),
        _tracked("Fluo-N3DH-CHO", "nuclei of hamster ovary cells, stacks, 98 MB",
                 "48d7e32b6408dddd04f1b6e4153e91f19181b405f4c75610629a25e05d40fe77"),
        _tracked("Fluo-N3DH-SIM+", "simulated HL60 nuclei, stacks, 3.1 GB",
                 "f874a297a97ba2b144f2cbe9f06f66f57996251e89b17f7d5ef96a5d99d0fd11"),
    ]),
}  # fmt: skip

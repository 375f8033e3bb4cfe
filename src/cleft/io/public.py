"""Public sets of annotated images: where they are, and how they are laid out to train on."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from skimage.color import rgb2gray
from skimage.measure import label
from skimage.util import img_as_ubyte

from cleft.base.errors import DataError
from cleft.base.image import Image
from cleft.io.download import Progress, download
from cleft.io.formats import load_png
from cleft.io.read import read_image
from cleft.io.write import write_image, write_labels

__all__ = ["SETS", "PublicSet", "fetch"]

BROAD = "https://data.broadinstitute.org/bbbc"
TRACKING = "https://data.celltrackingchallenge.net/training-datasets"
CITED = "for research, to be cited (Ulman et al. 2017)"
ARCHIVES = "archives"


@dataclass(frozen=True)
class PublicSet:
    """A set that can be fetched.

    Args:
        says: what it is.
        terms: under which it may be used.
        archives: addresses of zip files, with their SHA-256 where it is known.
        arrange: from the folder of the unpacked archives to the folder to train on.
    """

    says: str
    terms: str
    archives: dict[str, str | None]
    arrange: Callable[[Path, Path], None]


def fetch(name: str, folder: Path, progress: Progress = lambda done, of: None) -> Path:
    """Download a public set and lay it out for ``cleft train``.

    Archives stay in ``folder/archives``, so that nothing is downloaded twice; an interrupted download goes
    on. A set that is there already is left as it is: only a whole one has its name.

    Args:
        name: of ``SETS``.
        folder: gets a folder of the set's name.
        progress: of each archive, bytes done and in all.

    Returns:
        The set's folder.

    Raises:
        DataError: no such set, the server can't be reached, or an archive isn't what it should be.
    """
    if name not in SETS:
        raise DataError(f'found "{name}", expected a set of {", ".join(SETS)}')
    found, out = SETS[name], folder / name
    if out.is_dir():
        return out
    unpacked, whole = folder / ARCHIVES / name, folder / ARCHIVES / f"{name}.whole"
    for part in filter(Path.exists, (unpacked, whole)):
        shutil.rmtree(part)  # of a command that was stopped
    for url, sha256 in found.archives.items():
        path = folder / ARCHIVES / f"{name}-{url.rsplit('/', 1)[1]}"
        download(url, path, sha256, progress)
        try:
            with zipfile.ZipFile(path) as archive:
                archive.extractall(unpacked)
        except zipfile.BadZipFile as error:
            raise DataError(f"{path}: isn't a zip file ({error}); remove it to fetch it again") from error
    found.arrange(unpacked, whole)
    whole.rename(out)
    shutil.rmtree(unpacked)
    return out


def _bowl(unpacked: Path, out: Path) -> None:
    """ID/images/ID.png and a mask of each nucleus in ID/masks/."""
    folders = sorted(path for path in unpacked.iterdir() if (path / "images").is_dir())
    if not folders:
        raise DataError(f"{unpacked}: found no folder with images/, expected one for each image")
    for folder in folders:
        (picture,) = (folder / "images").glob("*.png")
        data = np.asarray(load_png(picture).data)
        grey = img_as_ubyte(rgb2gray(data[..., :3])) if data.shape[2:] else data
        labels = np.zeros(grey.shape, np.int32)
        for number, path in enumerate(sorted((folder / "masks").glob("*.png")), start=1):
            labels[_plane(path) > 0] = number
        _write_pair(out / "train", folder.name, Image(grey, "YX"), labels)


def _hoechst(unpacked: Path, out: Path) -> None:
    """images/X.tif, masks/X.png whose red channel tells neighbours apart, and lists of names."""
    for split, listed in (("train", "training"), ("val", "validation"), ("test", "test")):
        names = (unpacked / "metadata" / f"{listed}.txt").read_text().split()
        for name in (Path(line).stem for line in names):
            labels = label(_plane(unpacked / "masks" / f"{name}.png"), connectivity=2)
            image = read_image(unpacked / "images" / f"{name}.tif", "YX")
            _write_pair(out / split, name, image, labels.astype(np.int32))


def _sequences(unpacked: Path, out: Path) -> None:
    """NAME/01, 01_GT, ..., which is read as it is."""
    (folder,) = (path for path in unpacked.iterdir() if path.is_dir())
    folder.rename(out)


def _plane(path: Path) -> np.ndarray:
    data = np.asarray(load_png(path).data)
    return data[..., 0] if data.shape[2:] else data


def _write_pair(folder: Path, name: str, image: Image, labels: np.ndarray) -> None:
    write_image(folder / "images" / f"{name}.tif", image)
    write_labels(folder / "masks" / f"{name}.tif", labels, "YX", None)


# of the Cell Tracking Challenge, what should have masks of whole frames: what each shows, size, SHA-256
_TRACKED = {
    "BF-C2DL-HSC": (
        "blood stem cells in wells, brightfield, 1.6 GB",
        "0aa68ec37a9b06e72a5dfa07d809f56e1775157fb674bb75ff904936149657b1",
    ),
    "BF-C2DL-MuSC": (
        "muscle stem cells, brightfield, 1.2 GB",
        "ca72b59042809120578a198ba236e5ed3504dd6a122ef969428b7c64f0a5e67d",
    ),
    "DIC-C2DH-HeLa": (
        "HeLa cells on glass, DIC, 37 MB",
        "832fed2d05bb7488cf9c51a2994b75f8f3f53b3c3098856211f2d39023c34e1a",
    ),
    "Fluo-C2DL-Huh7": (
        "liver cancer cells, YFP, 36 MB",
        "1912658c1b3d8b38b314eb658b559e7b39c256917150e9b3dd8bfdc77347617d",
    ),
    "Fluo-C2DL-MSC": (
        "mesenchymal stem cells, GFP, 72 MB",
        "a083521f0cb673ae02d4957c5e6580c2e021943ef88101f6a2f61b944d671af2",
    ),
    "Fluo-N2DH-GOWT1": (
        "mouse stem cell nuclei, GFP, 53 MB",
        "1a7bd9a7d1d10c4122c7782427b437246fb69cc3322a975485c04e206f64fc2c",
    ),
    "Fluo-N2DH-SIM+": (
        "simulated HL60 nuclei, 91 MB",
        "3e809148c87ace80c72f563b56c35e0d9448dcdeb461a09c83f61e93f5e40ec8",
    ),
    "Fluo-N2DL-HeLa": (
        "HeLa nuclei, H2B-GFP, 182 MB",
        "35dd99d58e071aba0b03880128d920bd1c063783cc280f9531fbdc5be614c82e",
    ),
    "PhC-C2DH-U373": (
        "glioblastoma cells, phase contrast, 40 MB",
        "b18185c18fce54e8eeb93e4bbb9b201d757add9409bbf2283b8114185a11bc9e",
    ),
    "PhC-C2DL-PSC": (
        "pancreatic stem cells, phase contrast, 124 MB",
        "9d54bb8febc8798934a21bf92e05d92f5e8557c87e28834b2832591cdda78422",
    ),
    "Fluo-C3DH-A549": (
        "lung cancer cells in a matrix, stacks, 244 MB",
        "46be7a5403f98070218414e5b71a302f29f697ffcae68f45ecaea5d737076026",
    ),
    "Fluo-C3DH-A549-SIM": (
        "simulated lung cancer cells, stacks, 314 MB",
        "321bd505854a4e3c9b8255cb903ecc48f43f14abd444448ef6945fc1ec9fa4cf",
    ),
    "Fluo-C3DH-H157": (
        "lung cancer cells in a matrix, stacks, 7 GB",
        "9540984397dfb7129b5bff8177b7da11c497708421e6de2713c186b5b15a3c9b",
    ),
    "Fluo-C3DL-MDA231": (
        "breast carcinoma cells in a matrix, stacks, 182 MB",
        "b1044eeaac644f1abfbf91d9b6c97bebfb02f4dee2b2a4aed60d0039a375aa84",
    ),
    "Fluo-N3DH-CE": (
        "nuclei of worm embryos, stacks, 3.1 GB",
        "eb3d37cacb3b51d3a427a0c43deaaf1d60cf2eba009f12569e720c2c2fd1e04c",
    ),
    "Fluo-N3DH-CHO": (
        "nuclei of hamster ovary cells, stacks, 98 MB",
        "48d7e32b6408dddd04f1b6e4153e91f19181b405f4c75610629a25e05d40fe77",
    ),
    "Fluo-N3DH-SIM+": (
        "simulated HL60 nuclei, stacks, 3.1 GB",
        "f874a297a97ba2b144f2cbe9f06f66f57996251e89b17f7d5ef96a5d99d0fd11",
    ),
}

# checksums as others have published them; where none was found, what is downloaded is taken as it is
SETS: dict[str, PublicSet] = {
    "bbbc038": PublicSet(
        "nuclei of many kinds, Data Science Bowl 2018, 670 images", "CC0",
        {f"{BROAD}/BBBC038/stage1_train.zip": None}, _bowl,
    ),
    "bbbc039": PublicSet(
        "U2OS nuclei, Hoechst, 200 images", "CC0",
        {
            f"{BROAD}/BBBC039/images.zip": "6f30a5d4fe38c928ded972704f085975f8dc0d65d9aa366df00e5a9d449fddd7",
            f"{BROAD}/BBBC039/masks.zip": "f9e6043d8ca56344a4886f96a700d804d6ee982f31e2b2cd3194af2a053c2710",
            f"{BROAD}/BBBC039/metadata.zip":
            "a2c1f900bed9ba92a99553efd4c2ae98598433691c7401d818653ab61110deb2",
        }, _hoechst,
    ),
    **{
        name: PublicSet(says, CITED, {f"{TRACKING}/{name}.zip": sha256}, _sequences)
        for name, (says, sha256) in _TRACKED.items()
    },
}  # fmt: skip

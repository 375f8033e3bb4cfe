"""How well ``--diameter auto`` estimates: crops of train images at half, once and twice their size.

    python benchmarks/diameter.py      some five minutes on one core

Prints the estimate of the shipped cells2d beside the median diameter of the masks. The images are looked
for in ../shared/data, or where CLEFT_DATA says.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from skimage.transform import resize

from cleft.base.image import Image
from cleft.infer.model import load_model
from cleft.infer.size import diameter_in
from cleft.io import find_pairs, read_image, read_labels
from cleft.labels.rule import cell_diameter

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("CLEFT_DATA", ROOT.parent / "shared" / "data"))
SETS = {
    "nuclei-dsb": 4,
    "bacteria-phase": 2,
    "hela-fluo": 2,
    "tcells": 1,
    "nuclei-bbbc039": 1,
}  # images of each
CROP = (slice(512), slice(512))


def main() -> None:
    model = load_model("cells2d", "cpu")
    for name, count in SETS.items():
        pairs = find_pairs(DATA / name / "train")
        for pair in pairs[:: max(1, len(pairs) // count)][:count]:
            image = read_image(pair.image).data[CROP].astype(np.float32)
            true = cell_diameter([read_labels(pair.labels).data[CROP]])
            for zoom in (0.5, 1, 2):
                shape = [round(n * zoom) for n in image.shape]
                shown = resize(image, shape, order=1, anti_aliasing=zoom < 1, preserve_range=True)
                found = diameter_in(model, Image(shown, "YX").standard()) or 0.0
                ratio = found / (zoom * true)
                print(
                    f"{name:16} x {zoom:<4} true {zoom * true:5.1f} estimated {found:5.1f} ratio {ratio:.2f}"
                )


if __name__ == "__main__":
    main()

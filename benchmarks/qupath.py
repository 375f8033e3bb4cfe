"""What a model exported for QuPath finds, beside the same model in cleft.

    python benchmarks/qupath.py DATA

For each public set of planes in DATA (a folder with ``test/``): images are brought to the model's size of
cells by their truth's median diameter, as ``--diameter`` does, and cut to 512 pixels. Intensities are
scaled as cleft does it, and as QuPath's InstanSeg extension does; both are segmented by what is exported.
Reported are the PQ of each against the truth, the PQ of the labels made in TorchScript against
``to_labels`` of the same probabilities, and the seconds of both steps, in turns, on one thread. Writes
docs/results/qupath.json.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import scipy
import torch
from bench import RESULTS, command, machine, write_json

from cleft.core.errors import DataError
from cleft.core.intensity import normalise
from cleft.export.instanseg import PERCENTILES, Cells
from cleft.io.pairs import find_pairs
from cleft.io.read import read_image, read_labels
from cleft.labels.instances import drop_small, to_labels
from cleft.labels.rule import cell_diameter
from cleft.labels.scores import score
from cleft.models.card import find_model
from cleft.models.file import read_model

REPORT = RESULTS / "qupath.json"
SIDE = 512  # pixels of the network
CUT = (-0.5, 1.5)  # by the extension


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("-m", "--model", default="cells2d")
    parser.add_argument("--images", type=int, default=3, help="of each set")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")  # torch's, of the future of TorchScript
    torch.set_num_threads(1)
    net, card = read_model(find_model(asked.model))
    cells = Cells(net, card).eval().requires_grad_(False)
    with torch.inference_mode():
        cells.probabilities.net = torch.jit.trace(cells.probabilities.net, torch.zeros(1, 1, 64, 64))
        network = torch.jit.script(cells.probabilities)
        labelling = torch.jit.script(cells.labelling)
        rows = {}
        for folder in sorted(asked.data.iterdir()):
            found = [one(pair, network, labelling, card) for pair in find_planes(folder)[: asked.images]]
            if found:
                rows[folder.name] = {
                    "images": len(found),
                    **{
                        name: round(fmean(f[name] for f in found), 4) for name in found[0] if "_s" not in name
                    },
                    **{name: round(median(f[name] for f in found), 3) for name in found[0] if "_s" in name},
                }
                print(folder.name, rows[folder.name], flush=True)
    write_json(REPORT, {"command": command(), "machine": machine(), "model": asked.model, "sets": rows})


def find_planes(folder: Path) -> list[Any]:
    """The test images of a set of planes of one channel."""
    if not (folder / "test").is_dir():
        return []
    pairs = find_pairs(folder / "test")
    try:
        axes = read_image(pairs[0].image).spatial_axes
    except DataError:  # three axes without names: no planes
        return []
    return pairs if axes == "YX" else []


def one(pair: Any, network: Any, labelling: Any, card: Any) -> dict[str, float]:
    """The numbers of an image."""
    truth = read_labels(pair.labels).data
    factor = card.cell_diameter / cell_diameter(truth)
    side = int(SIDE / factor)
    truth = truth[:side, :side]
    image = read_image(pair.image).channels_first()[:1].astype(np.float32)
    here = scipy.ndimage.zoom(normalise(image, card.percentiles, card.noise_floor)[:, :side, :side],
                              (1, factor, factor), order=1)  # fmt: skip
    there = scipy.ndimage.zoom(np.clip(normalise(image, PERCENTILES), *CUT)[:, :side, :side],
                               (1, factor, factor), order=1)  # fmt: skip
    result = {}
    for name, scaled in (("cleft", here), ("qupath", there)):
        start = time.perf_counter()
        likely = network(torch.from_numpy(scaled)[None])[0]
        between = time.perf_counter()
        classes = likely[:3].argmax(0).to(torch.uint8)
        labels = labelling(classes).numpy().astype(np.uint32)
        result |= {
            f"network_seconds_{name}": between - start,
            f"labels_seconds_{name}": time.perf_counter() - between,
        }
        expected = drop_small(to_labels(likely.numpy()), *card.min_sizes())
        result[f"labels_against_to_labels_{name}"] = score(expected, labels).pq if expected.any() else 1.0
        result[f"pq_{name}"] = score(truth, resized(labels, truth.shape)).pq
    return result


def resized(labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Labels at other pixels, each that of the nearest."""
    nearest = [np.minimum(np.arange(n) * m // n, m - 1) for n, m in zip(shape, labels.shape)]
    return labels[np.ix_(*nearest)]


if __name__ == "__main__":
    main()

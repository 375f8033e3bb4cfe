"""What ``--unlabeled-as cells`` brings on dic-hela-weak, where half of the cells are marked as not annotated.

    python benchmarks/unlabeled.py --work runs/unlabeled      half an hour on one core

Learnt from the first 45 frames of ``train``, measured on its last ten: detection on the markers, PQ and SEG
on the masks, all pooled, by the likeliest class, by JCell's biases, and each with ``--tta``. Width 16, 5000
steps, seed 0. The images are looked for in ../shared/data, or where CLEFT_DATA says.
"""

from __future__ import annotations

import torch
from bench import DATA, announce, parser

from cleft.api import train
from cleft.io import read_image, read_labels
from cleft.labels.scores import MarkerScores, pool, score, score_markers
from cleft.prediction.model import Model, load_model

TRAIN = DATA / "dic-hela-weak" / "train"
LEARNT = 45


def main() -> None:
    work = parser(__doc__, "unlabeled").parse_args().work
    announce("seed 0")
    torch.set_num_threads(1)
    names = sorted(path.name for path in (TRAIN / "images").iterdir())
    learn = [tuple(read(TRAIN / kind / name) for kind, read in KINDS.items()) for name in names[:LEARNT]]
    for unlabeled_as in ("anything", "cells"):
        path = work / f"{unlabeled_as}.safetensors"
        if not path.exists():
            train(learn, path, width=16, steps=5000, seed=0, val_fraction=0.0, unlabeled_as=unlabeled_as)
        for tta in (False, True):
            for method in ("map", "biased"):
                found = evaluate(load_model(path, "cpu", tta), method, names[LEARNT:])
                print(f"{unlabeled_as:9} {method:7} {'tta' * tta:4} {found}", flush=True)


KINDS = {"images": read_image, "masks": read_labels}


def evaluate(model: Model, method: str, names: list[str]) -> str:
    """Scores of the frames as one line."""
    markers, scores = MarkerScores(0, 0, 0), []
    for name in names:
        labels = model.segment(read_image(TRAIN / "images" / name), method=method)  # type: ignore[arg-type]
        markers += score_markers(read_labels(TRAIN / "markers" / name).data, labels)
        scores.append(score(read_labels(TRAIN / "masks" / name).data, labels))
    whole = pool(scores)
    return f"marker F1 {markers.f1:.3f}  PQ {whole.pq:.3f}  SEG {whole.seg:.3f}"


if __name__ == "__main__":
    main()

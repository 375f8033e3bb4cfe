"""Make a shipped model again, from public sets and made images, by one command.

    python models/make.py cells2d                       on two cores, with the images in ../shared/data
    python models/make.py cells2d --folder /data/runs   where its data and checkpoints go; --resume goes on

What is learnt from, in which shares, and which images are held out to choose by stands below; how, in
models/NAME.yaml. Test images take no part. Images are linked, not copied; CLEFT_DATA says where they are.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader

import cleft
from cleft.cli.score import make_files
from cleft.core.settings import ModelCard, TrainSettings, read_settings
from cleft.io import find_pairs
from cleft.labels.classes import ClassRule
from cleft.models.card import read_card
from cleft.models.file import halved, read_model, write_model
from cleft.models.unet import UNet
from cleft.training.configure import choose_factors
from cleft.training.dataset import Example, Patches, load_examples
from cleft.training.pretrained import Pretrained
from cleft.training.size_head import learn_size_head

HERE = Path(__file__).resolve().parent
SETTINGS = HERE  # NAME.yaml
DATA = Path(os.environ.get("CLEFT_DATA", HERE.parents[1] / "shared" / "data"))


@dataclass(frozen=True)
class Part:
    """What a model learns from one folder.

    Args:
        folder: a public set's, below DATA, or the style of made images.
        share: of the patches; shares go by kind of image, not by how many images there are.
        held_out: images to choose by; of a set of less than four none can be spared.
        only: the images to take, by their names; all if there are none.
        count, shape: of made images.
    """

    folder: str
    share: float
    held_out: int = 0
    only: tuple[str, ...] = ()
    count: int = 0
    shape: tuple[int, ...] = (256, 256)


PLANES = [
    # nuclei in culture, and in tissue
    Part("nuclei-dsb/train", 0.15, 6),
    Part("mnfinder-nuclei/train", 0.08, 3),
    Part("bitdepth-nucseg/train", 0.10, 4),
    # membranes
    Part("polarityjam-endothelium/train", 0.08, 1),
    Part("zo1-mdck/train", 0.09, 2),
    Part("zebrafish-epithelium/train", 0.04),
    # whole cells in phase contrast, and relief
    Part("usiigaci-phase/train", 0.12, 2),
    Part("yeast-phase/train", 0.07, 1),
    Part("bacteria-phase/train", 0.05, only=("e1t1_crop",)),
    Part("scratch-dic/train", 0.03),
    # made cells, and what isn't a cell
    Part("any", 0.13, 6, count=1200),
    Part("empty", 0.06, 4, count=600),
]
STACKS = [
    Part("ovule-nuclei-3d/train", 0.20),
    Part("ovule-cells-3d/train", 0.16),
    Part("any", 0.56, 6, count=240, shape=(48, 128, 128)),
    Part("empty", 0.08, 1, count=60, shape=(48, 128, 128)),
]
SHARES_OF_CELLS2D = (0.15, 0.11, 0.11, 0.09, 0.09, 0.05, 0.12, 0.07, 0.04, 0.02, 0.10, 0.05)


@dataclass(frozen=True)
class Recipe:
    """What a model is made of.

    Args:
        parts: what it learns from.
        begins_with: the model, and the commit of this repository that has its file.
        kept: of the trained weights; the rest is those of the beginning. Chosen by images held out and of
            kinds never trained on.
        batches: over which what normalisation takes for usual is measured anew for that average.
        axes: of the images learnt from.
        auto: whether the model estimates the size of the cells where no diameter is given. In a large stack
            that is empty nearly everywhere its estimate can be far off.
    """

    parts: list[Part]
    begins_with: str
    kept: float
    batches: int = 0
    axes: str = "YX"
    auto: bool = True


MODELS = {
    "cells2d": Recipe(
        [replace(part, share=share) for part, share in zip(PLANES, SHARES_OF_CELLS2D, strict=True)],
        "72820da:cells2d",
        kept=0.7,
    ),
    "cells2d-small": Recipe(PLANES, "b46d3d3:cells2d-small", kept=0.7, batches=200),
    "cells3d": Recipe(STACKS, "7863a5b:cells3d", kept=0.7, axes="ZYX", auto=False),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("model", choices=list(MODELS))
    options.add_argument("--folder", type=Path, default=HERE.parent / "runs")
    options.add_argument("--without", nargs="*", default=[], help="sets to leave out, such as zo1-mdck")
    options.add_argument("--steps", type=int, help="instead of the recipe's")
    options.add_argument("--resume", action="store_true")
    asked = options.parse_args()
    made, config = MODELS[asked.model], SETTINGS / f"{asked.model}.yaml"
    parts = [part for part in made.parts if part.folder.split("/")[0] not in asked.without]
    place = asked.folder / asked.model
    shutil.rmtree(place / "data", ignore_errors=True)
    learn, before = [link(part, place / "data") for part in parts], beginning(made.begins_with, place)
    given: dict[str, Any] = {"sampling_weights": [part.share for part in parts]}
    if asked.steps is not None:
        given["steps"] = asked.steps
    trained, held_out = place / "trained.safetensors", place / "data" / "held out"
    # the sizes of cells it learns after its weights are averaged
    its = {**given, "pretrained": str(before), "size_head": False, "axes": made.axes}
    cleft.train(learn, trained, val=held_out, config=config, resume=asked.resume, overwrite=True, **its)
    recipe = read_settings(config, **given)
    learnt = [
        replace(example, group=group)
        for group, folder in enumerate(learn)
        for example in load_examples(folder, recipe, axes=made.axes)
    ]
    net, card = average(trained, before, learnt, recipe, made)
    net.load_state_dict(halved(net.eval().state_dict()))
    net.size_head = learn_size_head(net, learnt, card, recipe)
    told = {**recipe.flat(), "minutes": card.training["minutes"]}
    network = card.net.model_copy(update={"size_head": True})
    card = card.model_copy(update={"net": network, "training": told})
    if not made.auto:
        card = card.model_copy(update={"default_diameter": None})
    write_model(place / f"{asked.model}.safetensors", net, card, half=True)


def average(
    trained: Path, before: Path, learnt: list[Example], recipe: TrainSettings, made: Recipe
) -> tuple[UNet, ModelCard]:
    """The average of the trained weights and those they began with, and the card.

    It keeps what the training forgot of kinds that it wasn't shown (Wortsman et al. 2022, Robust fine-tuning
    of zero-shot models). What normalisation takes for usual may be measured anew for it (Izmailov et al.
    2018, Averaging weights leads to wider optima).
    """
    net, card = read_model(trained)
    began = Pretrained(str(before), read_card(before)).network(card.net).state_dict()
    mixed = {
        name: torch.lerp(began[name], weight, made.kept) if weight.is_floating_point() else weight
        for name, weight in net.state_dict().items()
    }
    net.load_state_dict(mixed)
    if not made.batches:
        return net, card
    _, factors = choose_factors(learnt, recipe.data)
    brought = [example.rescaled(factor) for example, factor in zip(learnt, factors, strict=True)]
    rule = ClassRule(card.net.n_classes, card.touching_radius, card.gap_radius)
    patches = Patches(brought, rule, recipe.data.auto_patch_edge[:1] * len(card.axes), recipe)
    numbers = range(made.batches * (recipe.data.batch_size or 1))
    update_bn(DataLoader(patches, recipe.data.batch_size, sampler=numbers), net)
    return net, card


def beginning(begins_with: str, place: Path) -> Path:
    """The model that a recipe begins with, from this repository's history."""
    commit, _, model = begins_with.rpartition(":")
    kept = place / f"{model}-before.safetensors"
    if not kept.exists():
        name = f"{commit}:src/cleft/models/shipped/{model}.safetensors"
        found = subprocess.run(["git", "show", name], cwd=HERE, check=True, stdout=subprocess.PIPE)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(found.stdout)
    return kept


def link(part: Part, place: Path) -> Path:
    """A folder of links to the images learnt from; those held out go to a folder of their own."""
    name = part.folder.replace("/", "-")
    source = DATA / part.folder
    if part.count:
        source = place.parents[1] / f"made-{len(part.shape)}d" / name
        if not source.exists():
            style = None if part.folder == "any" else part.folder
            make_files(source, part.count, part.shape, 1, style=style, diameter=None)
    pairs = [p for p in find_pairs(source) if not part.only or any(o in p.name for o in part.only)]
    chosen = pairs[:: max(1, len(pairs) // part.held_out)][: part.held_out] if part.held_out else []
    for pair in pairs:
        for kind, path in (("images", pair.image), ("masks", pair.labels)):
            held = pair in chosen
            target = place / ("held out" if held else name) / kind / f"{name}-{path.name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                target.symlink_to(path)
    return place / name


if __name__ == "__main__":
    main()

"""JCell 0.0.4: the paper's first author's package, through its own trainer, network, loss and steps after it.

Its defaults: ``unetpad`` (31 million weights) or ``unet3pad3``, ``wce_j`` with lambda 0.5, Adam 1e-4, a patch
at a time; percentiles 1 and 99 of the image; any turns, flips, crops of 256 x 256 or 64 x 64 x 64, and in
the plane a thin-plate warp; classes by its ``inst2sem`` with touching radius 0 and gap radius 7; four turns
averaged, in tiles of the size it takes without a card (512 x 512, 64 x 64 x 64); ``MAP_post``.
What differs: epochs end with the clock; its validation, which decides nothing, sees one image; no pictures
are made; the loader has no process of its own. -1 is unknown to it and becomes background. torchvision, of
which it uses ``Compose`` alone, doesn't load beside a CPU build of torch: this file has one. The imageio that
it pins recurses without end on Python 3.11; a newer one reads the same. Its command line for inference gives
no times and swallows errors, so its functions are called in its order.

    python benchmarks/rivals/jcell/rival.py train DATA/tcells/train MODEL --minutes 20
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

sys.path.append(str(Path(__file__).parents[1]))
from common import Clock, Job, Segment, Stopwatch, TimeUp, annotated, cores, main, read_pairs

TOUCHING, GAP = 0, 7  # radii, the defaults of its jcell-dataproc
MEMORY = 1024  # megabytes it reckons with where there is no card


class Compose:
    """torchvision's, for one."""

    def __init__(self, transforms: list) -> None:
        self.transforms = transforms

    def __call__(self, sample: Any) -> Any:
        for transform in self.transforms:
            sample = transform(sample)
        return sample

    def __repr__(self) -> str:  # its data set looks here for how images are normalised
        return f"Compose({self.transforms})"


def prepare(home: Path) -> Path:
    """Make its modules importable, its remembered defaults a fresh folder's; where its trainer lies."""
    home.mkdir(parents=True, exist_ok=True)
    os.environ["HOME"] = str(home)
    vision, transforms = types.ModuleType("torchvision"), types.ModuleType("torchvision.transforms")
    transforms.Compose = Compose  # type: ignore[attr-defined]
    vision.transforms = transforms  # type: ignore[attr-defined]
    sys.modules |= {"torchvision": vision, "torchvision.transforms": transforms}
    found = importlib.util.find_spec("jcell")
    assert found
    assert found.submodule_search_locations
    source = Path(found.submodule_search_locations[0]) / "train" / "src"
    sys.path.insert(0, str(source))
    return source


class Until:
    """A loader that ends with the clock."""

    def __init__(self, loader: Any, clock: Clock) -> None:
        self.loader, self.clock, self.steps = loader, clock, 0

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        for sample in self.loader:
            if self.clock.over:
                return
            self.steps += 1
            yield sample


def train(job: Job, clock: Clock) -> dict[str, Any]:
    """Its trainer on files as it expects them."""
    model = job.model.resolve()
    source = prepare(model / "home")
    import torch

    torch.set_num_threads(job.threads)
    torch.manual_seed(job.seed)
    np.random.seed(job.seed)  # noqa: NPY002  its augmentation draws from it
    write_data(job, model / "data")
    prepared = clock.elapsed
    os.chdir(source)
    from netutil.SegmentNet import SegmentNet

    class Clocked(SegmentNet):
        def validation(self, epoch: int) -> Any:
            if clock.over:
                raise TimeUp
            return super().validation(epoch)

        def valid_visualization(self, *given: Any, **named: Any) -> int:
            return 1

    asked = f"--dataset_folder={model / 'data'} --output_path={model} --experiment=run --train_worker=0"
    asked += " --dev_worker=0 --epochs=1000000 --save_rate=0" + (" --3D" if job.ndim == 3 else "")
    sys.argv = ["train.py", *asked.split()]
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-h", "--help", action="store_true")
    trainer = Clocked("defaults", parser, str(model))
    trainer.train_loader = until = Until(trainer.train_loader, clock)
    try:
        trainer.do_train()
    except TimeUp:
        trainer.savemodel(str(model / "model.t7"))
    return {"steps": until.steps, "epochs": trainer.current_epoch, "prepared_seconds": round(prepared, 1)}


def write_data(job: Job, root: Path) -> None:
    """Images and classes as files, volumes in its order Y, X, Z; the first one to validate on, too."""
    import jcell

    inst2sem = jcell.jcell_inst2sem2D if job.ndim == 2 else jcell.jcell_inst2sem3D
    for i, pair in enumerate(read_pairs(job.data)):
        classes = inst2sem(annotated(pair.mask), TOUCHING, GAP)
        for split in ("train", "dev") if i == 0 else ("train",):
            for kind, array in (("images", pair.image), ("labels", classes)):
                folder = root / split / kind
                folder.mkdir(parents=True, exist_ok=True)
                write(folder / pair.name, array)


def write(path: Path, array: np.ndarray) -> None:
    """PNG of planes, which its reader would take for stacks as TIFF; TIFF of stacks."""
    if array.ndim == 2:
        from imageio.v2 import imwrite

        imwrite(path.with_name(f"{path.name}.png"), array)
    else:
        stack = np.ascontiguousarray(array.transpose(1, 2, 0))
        tifffile.imwrite(path.with_name(f"{path.name}.tif"), stack, photometric="minisblack")


def load(model: Path, axes: str) -> Segment:
    prepare(model.resolve() / "home")
    import torch
    from jcell.evaluation.src import MAP_post, get_architecture, loadnet

    torch.set_num_threads(cores())
    state, name, _ = loadnet(str(model / "model.t7"))
    net = get_architecture(name, 3, state["final.weight"].shape[0])[0]
    net.load_state_dict(state)
    volume = len(axes) == 3

    def segment(image: np.ndarray, watch: Stopwatch) -> np.ndarray:
        with watch("network"), torch.no_grad():
            order = (1, 2, 0) if volume else (0, 1)
            probabilities = averaged(net, name, image.transpose(order), volume)
        with watch("post"):
            labels = MAP_post()(output=probabilities)[0]
            return labels.transpose(2, 0, 1) if volume else labels

    return segment


def averaged(net: Any, name: str, image: np.ndarray, volume: bool) -> np.ndarray:
    """Probabilities (..., classes) in tiles, of four turns, as its ``test`` makes them."""
    import torch
    from jcell.evaluation.src import NormalizePercentile, SplitImage, ToTensorImage, get_size
    from jcell.evaluation.src.test import input_channels

    given = input_channels(image, 3, volume)
    split = SplitImage(get_size(name, given.shape, MEMORY, volume), is_3D=volume)
    tiles = ToTensorImage(volume)(split(NormalizePercentile(is_3D=volume)(given)))
    plane = [3, 4] if volume else [2, 3]
    logits = []
    for tile in tiles:
        turned = [torch.rot90(net(torch.rot90(tile[None], t, plane)), -t, plane) for t in range(4)]
        logits.append(torch.stack(turned).mean(0))
    merged = torch.softmax(split.uncall(torch.cat(logits).numpy().astype(float)), 1)[0].numpy()
    return merged.transpose((2, 3, 1, 0) if volume else (1, 2, 0))


def perfect(labels: np.ndarray) -> Callable[[], np.ndarray]:
    """Its own classes as probabilities of 1, then ``MAP_post``."""
    prepare(Path(tempfile.mkdtemp()))
    import jcell
    from jcell.evaluation.src import MAP_post

    classes = jcell.jcell_inst2sem2D(labels, TOUCHING, GAP)
    probabilities = np.stack([classes == k for k in range(4)], -1).astype(np.float32)
    return lambda: MAP_post()(output=probabilities)[0]


if __name__ == "__main__":
    main(train, load, perfect)

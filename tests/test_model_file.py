"""A model file comes back bit for bit, and whatever else is given is refused by name and reason."""

import contextlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from cleft.base.config import ModelCard, NetSettings
from cleft.base.errors import DataError, ModelError
from cleft.model.file import read_card, read_model, write_model
from cleft.model.unet import make_unet


def card_of(net: NetSettings) -> ModelCard:
    ndim = len(net.strides[0])
    return ModelCard(
        cleft="0.1.0",
        net=net,
        axes="ZYX"[-ndim:],
        spacing_um=(0.1,) * ndim,
        shrink=(1,) * ndim,
        k=3.0,
        gap_radius=2.5,
        percentiles=(1.0, 99.8),
        cell_diameter=20.5,
        ceiling_pq=0.97,
        trained_on={"images": 3, "names": ["a", "é"]},
        scores={"val_pq": 0.5},
    )


def network(settings: NetSettings, seed: int = 0) -> nn.Module:
    """A network whose batch normalisation has seen something, so that nothing is at its start."""
    torch.manual_seed(seed)
    net = make_unet(settings).train()
    stride = 8
    net(torch.randn(2, settings.channels, *(stride,) * len(settings.strides[0])))
    return net.eval()


@pytest.fixture
def settings(ndim: int) -> NetSettings:
    return NetSettings(channels=2, n_classes=3, width=2, strides=((2,) * ndim,) * 2)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good file, to spoil copies of."""
    settings = NetSettings(width=2, strides=((2, 2), (2, 2)))
    path = tmp_path_factory.mktemp("model") / "good.safetensors"
    write_model(path, network(settings), card_of(settings))
    return path


@pytest.fixture
def path(small: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(small, tmp_path / "m.safetensors"))


def rewrite(
    path: Path,
    change_card: Callable[[dict], object] = lambda card: card,
    change_weights: Callable[[dict], object] = lambda weights: None,
) -> None:
    """The same file with another card or other weights."""
    with safe_open(path, "pt") as stored:
        card = json.loads(stored.metadata()["cleft"])
        weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a dict)
    found = change_card(card)
    change_weights(weights)
    save_file(weights, path, {"cleft": json.dumps(card if found is None else found)})


def test_there_and_back_bit_for_bit(settings: NetSettings, tmp_path: Path) -> None:
    net, card = network(settings), card_of(settings)
    write_model(tmp_path / "m.safetensors", net, card)
    back, back_card = read_model(tmp_path / "m.safetensors")
    assert back_card == card == read_card(tmp_path / "m.safetensors")
    assert not back.training
    assert back.state_dict().keys() == net.state_dict().keys()
    for name, tensor in net.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name
    x = torch.randn(1, 2, *(16,) * len(settings.strides[0]))
    with torch.inference_mode():
        assert torch.equal(back(x), net(x))


def test_half_as_large_and_as_good(settings: NetSettings, tmp_path: Path) -> None:
    net = network(settings.model_copy(update={"width": 16}))
    card = card_of(settings.model_copy(update={"width": 16}))
    for half in (False, True):
        write_model(tmp_path / str(half), net, card, half)
    whole, less = ((tmp_path / name).stat().st_size for name in ("False", "True"))
    assert less < 0.6 * whole
    back, _ = read_model(tmp_path / "True")
    for name, tensor in net.state_dict().items():
        assert back.state_dict()[name].dtype == tensor.dtype
        rounded = tensor.half().to(tensor.dtype) if tensor.ndim > 1 else tensor
        assert torch.equal(back.state_dict()[name], rounded), name
    write_model(tmp_path / "again", back, card, half=True)
    assert (tmp_path / "again").read_bytes() == (tmp_path / "True").read_bytes()


def test_the_same_model_gives_the_same_file(settings: NetSettings, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_model(tmp_path / name, network(settings), card_of(settings))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_weights_are_stored_once(small: Path) -> None:
    """MONAI's U-Net knows most of its layers under two names."""
    net, _ = read_model(small)
    size = sum(t.numel() * t.element_size() for t in [*net.parameters(), *net.buffers()])
    assert size < small.stat().st_size < 1.2 * size + 20_000


def test_reading_does_not_depend_on_the_seed(small: Path) -> None:
    """A model read twice is the same, whatever was drawn before."""
    torch.manual_seed(1)
    first, _ = read_model(small)
    torch.manual_seed(2)
    second, _ = read_model(small)
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def refused(path: Path) -> str:
    """What read_model says of a file; read_card must not fail in any other way."""
    with contextlib.suppress(ModelError):
        read_card(path)
    with pytest.raises(ModelError) as told:
        read_model(path)
    message = str(told.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def test_no_such_file(tmp_path: Path) -> None:
    assert "no such model file" in refused(tmp_path / "m.safetensors")


def test_a_folder(tmp_path: Path) -> None:
    assert refused(tmp_path) == f"{tmp_path}: is a folder, expected a model file"


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.999])
def test_a_truncated_file(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert "damaged" in refused(path)


def test_random_bytes(path: Path) -> None:
    path.write_bytes(torch.randint(0, 256, (5000,), dtype=torch.uint8).numpy().tobytes())
    assert "damaged or not a safetensors file" in refused(path)


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, fuse: Path) -> None:
        self.fuse = fuse

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.fuse),)


@pytest.mark.parametrize("write", [pickle.dump, lambda what, file: torch.save(what, file)])
def test_nothing_is_ever_unpickled(path: Path, write: Callable) -> None:
    fuse = path.with_name("it went off")
    with path.open("wb") as file:
        write({"state_dict": Bomb(fuse)}, file)
    assert "damaged or not a safetensors file" in refused(path)
    assert not fuse.exists()
    with path.open("rb") as file:  # it is one: the test can fail
        torch.load(file, weights_only=False) if path.read_bytes()[:2] == b"PK" else pickle.load(file)
    assert fuse.exists()


def test_a_foreign_safetensors_file(path: Path) -> None:
    save_file({"conv.weight": torch.zeros(3)}, path, {"format": "pt"})
    assert "not a model of cleft (it has no card)" in refused(path)
    save_file({"conv.weight": torch.zeros(3)}, path)
    assert "not a model of cleft (it has no card)" in refused(path)


def test_a_newer_format(path: Path) -> None:
    rewrite(path, lambda card: card | {"format": 2, "something new": 1})
    assert "model format 2, this version of cleft reads format 1" in refused(path)


def test_a_card_that_is_no_json(path: Path) -> None:
    save_file({"a": torch.zeros(3)}, path, {"cleft": "{'cleft': "})
    assert "its card is damaged" in refused(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda card: [1, 2], "not understood"),
        (lambda card: card.pop("k"), "k is"),
        (lambda card: card.update(extra=1), "extra is 1"),
        (lambda card: card["net"].update(n_classes=5), "net is 5"),
        (lambda card: card["net"].update(strides=[]), "net is"),
        (lambda card: card["net"].update(strides=[[2, 2], [2, 2, 2]]), "net is"),
        (lambda card: card["net"].update(strides=[[2], [2]]), "net is"),
        (lambda card: card["net"].update(strides=[[2, 2], [0, 2]]), "net is 0"),
        (lambda card: card["net"].update(width=-1), "net is -1"),
    ],
)
def test_a_card_that_makes_no_sense(path: Path, change: Callable, reason: str) -> None:
    rewrite(path, lambda card: found if isinstance(found := change(card), list) else None)
    message = refused(path)
    assert "its card is not understood" in message
    assert reason in message


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: weights.pop(next(iter(weights))),
        lambda weights: weights.update(more=torch.zeros(1)),
        lambda weights: weights.update({(name := next(iter(weights))): weights[name][:1]}),
    ],
    ids=["missing", "more", "another shape"],
)
def test_weights_that_do_not_fit(path: Path, change: Callable) -> None:
    rewrite(path, change_weights=change)
    assert "its weights don't fit its card" in refused(path)


def test_weights_of_another_width(path: Path) -> None:
    rewrite(path, lambda card: card["net"].update(width=3))
    assert "its weights don't fit its card" in refused(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(path: Path, value: float) -> None:
    def spoil(weights: dict[str, torch.Tensor]) -> None:
        name = next(n for n, t in weights.items() if t.ndim == 4)
        weights[name].view(-1)[-1] = value

    rewrite(path, change_weights=spoil)
    assert "its weights hold NaN or infinity" in refused(path)


def test_a_failed_write_leaves_what_was_there(path: Path) -> None:
    before = path.read_bytes()
    settings = NetSettings(width=2, strides=((2, 2), (2, 2)))
    folder = path.with_name("folder")
    (folder / "inner").mkdir(parents=True)
    with pytest.raises(DataError, match="folder: can't be written"):
        write_model(folder, network(settings), card_of(settings))
    with pytest.raises(DataError, match="its folder can't be made"):
        write_model(path / "below" / "m.safetensors", network(settings), card_of(settings))
    assert sorted(p.name for p in path.parent.iterdir()) == ["folder", path.name]
    assert path.read_bytes() == before


LIMITED = """
import resource, sys
from pathlib import Path
from cleft.base.errors import CleftError
from cleft.model.file import read_model, write_model
net, card = read_model(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    write_model(Path(sys.argv[2]), net, card)
except CleftError as error:
    print(error)
"""


def test_a_file_that_may_not_grow(path: Path, tmp_path: Path) -> None:
    """As on a full disk: half of the file is written, then nothing more."""
    pytest.importorskip("resource", reason="file size limits need a Unix")
    assert path.stat().st_size > 10_000
    target = tmp_path / "out" / "new.safetensors"
    run = [sys.executable, "-c", LIMITED, str(path), str(target)]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{target}: can't be written (File too large)")
    assert not list(target.parent.iterdir())

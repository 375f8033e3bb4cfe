"""A model file comes back bit for bit, and whatever else is given is refused by name and reason."""

import contextlib
import copy
import json
import os
import pickle
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from cleft.cli.models import described, models_in
from cleft.core.errors import DataError, ModelError
from cleft.core.settings import ModelCard, NetSettings
from cleft.models.card import find_model, read_card
from cleft.models.file import dynunet_name, read_model, write_model
from cleft.models.unet import UNet


def card_of(net: NetSettings) -> ModelCard:
    ndim = len(net.strides[0])
    return ModelCard(
        cleft="0.1.0",
        net=net,
        axes="ZYX"[-ndim:],
        spacing_um=(0.1,) * ndim,
        shrink=(1,) * ndim,
        touching_radius=3.0,
        gap_radius=2.5,
        percentiles=(1.0, 99.8),
        cell_diameter=20.5,
        roundtrip_pq=0.97,
        trained_on={"images": 3, "names": ["a", "é"]},
        scores={"val_pq": 0.5},
    )


def network(settings: NetSettings, seed: int = 0) -> nn.Module:
    """A network whose batch normalisation has seen something, so that nothing is at its start."""
    torch.manual_seed(seed)
    net = UNet(settings).train()
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
    net, _ = read_model(small)
    size = sum(t.numel() * t.element_size() for t in [*net.parameters(), *net.buffers()])
    assert size < small.stat().st_size < 1.2 * size + 20_000


def test_names_of_before_are_read(settings: NetSettings, tmp_path: Path) -> None:
    """Files whose tensors have the names of MONAI's DynUNet; what is mixed of both is refused."""
    net, card, path = network(settings), card_of(settings), tmp_path / "m.safetensors"
    state, levels = net.state_dict(), len(settings.strides) + 1
    before = {dynunet_name(name, levels): tensor for name, tensor in state.items()}
    assert len(before) == len(state)
    assert not before.keys() & state.keys()
    save_file(before, path, {"cleft": card.model_dump_json()})
    for name, tensor in read_model(path)[0].state_dict().items():
        assert torch.equal(tensor, state[name]), name
    first, *_ = state
    for mixed in (
        {**before, first: state[first].clone()},
        {**state, dynunet_name(first, levels): state[first].clone()},
    ):
        save_file(mixed, path, {"cleft": card.model_dump_json()})
        assert "its weights don't fit its card" in refused(path)


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
    assert refused(tmp_path) == f"{tmp_path}: found a folder, expected a model file"


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
        (lambda card: card.pop("touching_radius"), "touching_radius is"),
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
from cleft.core.errors import CleftError
from cleft.models.file import read_model, write_model
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


# --- what a file may ask for ------------------------------------------------------------------------------


def header_of(path: Path) -> tuple[dict, bytes]:
    """The header of a file and what follows it."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def with_header(path: Path, header: dict | str | bytes, rest: bytes) -> None:
    text = header if isinstance(header, (str, bytes)) else json.dumps(header)
    written = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(len(written).to_bytes(8, "little") + written + rest)


def edited(path: Path, change: Callable[[dict], object]) -> None:
    """The same file with another header."""
    header, rest = header_of(path)
    change(header)
    with_header(path, header, rest)


def recarded(path: Path, change: Callable[[dict], object]) -> None:
    """The same file with another card, which need not be one that Python would write."""

    def put(header: dict) -> None:
        card = json.loads(header["__metadata__"]["cleft"])
        found = change(card)
        text = found if isinstance(found, str) else json.dumps(card)
        header["__metadata__"]["cleft"] = text

    edited(path, put)


def nested(depth: int) -> dict:
    tree: dict = {}
    for _ in range(depth):
        tree = {"from": tree}
    return tree


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda net: net.update(strides=[[2, 2]] * 9), "net is [[2, 2], "),
        (lambda net: net.update(strides=[[2, 2]] * 1000), "net is [[2, 2], "),
        (lambda net: net.update(strides=[[1, 1]] * 60), "at most 6 items"),
        (lambda net: net.update(strides=[[4, 4]] * 4), "whose product is at most 64"),
        (lambda net: net.update(strides=[[1, 5]] * 2), "net is 5"),
        (lambda net: net.update(strides=[[10**30, 2]] * 2), "net is 1"),
        (lambda net: net.update(channels=10**8), "net is 100000000"),
        (lambda net: net.update(channels=0), "net is 0"),
        (lambda net: net.update(width=10**9), "net is 1000000000"),
    ],
)
def test_networks_that_no_file_could_fill(path: Path, change: Callable, reason: str) -> None:
    recarded(path, lambda card: change(card["net"]))
    message = refused(path)
    assert "its card is not understood" in message
    assert reason in message
    assert len(message) < 500 + len(str(path))


def test_a_large_network_takes_no_memory_before_it_is_compared(path: Path) -> None:
    """Its weights would take 29 GB and more."""
    resource = pytest.importorskip("resource", reason="peak memory needs a Unix")
    recarded(path, lambda card: card["net"].update(width=256, strides=[[2, 2]] * 6, channels=4096))
    refused(path)  # whatever is loaded on first use is
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "its weights don't fit its card" in refused(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("axes", "foo", "axes is 'foo': value error, expected YX or ZYX"),
        ("axes", "ZYX", "axes is 'ZYX': value error, expected one for each of the network's 2 axes"),
        ("shrink", [1, 1, 1], "shrink is [1, 1, 1]: value error, expected one for each"),
        ("shrink", [1], "shrink is [1]: value error, expected one for each"),
        ("shrink", [0, 1], "shrink is 0: input should be greater than or equal to 1"),
        ("shrink", [-2, 1], "shrink is -2: input should be greater than or equal to 1"),
        ("shrink", [10**6, 1], "shrink is 1000000: input should be less than or equal to 256"),
        ("shrink", [1.5, 1], "shrink is 1.5: input should be a valid integer"),
        ("spacing_um", [0.1], "spacing_um is [0.1]: value error, expected one for each"),
        ("spacing_um", [0.1, 0], "spacing_um is 0: input should be greater than or equal to"),
        ("spacing_um", [0.1, float("inf")], "spacing_um is inf: input should be "),
        ("spacing_um", [1e-5, 1], "spacing_um is [1e-05, 1]: value error, expected no pixel more than"),
        ("spacing_um", [], "spacing_um is []: value error, expected one for each"),
        ("touching_radius", float("nan"), "touching_radius is nan: input should be a finite number"),
        ("touching_radius", 0, "touching_radius is 0: input should be greater than or equal to 1"),
        ("touching_radius", 1e300, "touching_radius is 1e+300: input should be less than or equal to 10000"),
        ("gap_radius", -1, "gap_radius is -1: input should be greater than or equal to 1"),
        ("percentiles", [float("nan"), 99], "percentiles is nan: input should be a finite number"),
        ("percentiles", [1, 200], "percentiles is [1, 200]: value error, expected two rising numbers from 0"),
        ("percentiles", [99, 1], "percentiles is [99, 1]: value error, expected two rising numbers from 0"),
        ("cell_diameter", float("nan"), "cell_diameter is nan: input should be a finite number"),
        ("cell_diameter", 0, "cell_diameter is 0: input should be greater than 0"),
        ("diameters", [9, 3], "diameters is [9, 3]: value error, expected two positive numbers"),
        ("diameters", [0, 3], "diameters is [0, 3]: value error, expected two positive numbers"),
        ("min_size", -1, "min_size is -1: input should be greater than or equal to 0"),
        ("min_size_at_border", 1e200, "min_size_at_border is 1e+200: input should be less than or equal to"),
        ("roundtrip_pq", 1.5, "roundtrip_pq is 1.5: input should be less than or equal to 1"),
        ("scores", {"val_pq": float("nan")}, "scores is nan: input should be a finite number"),
        ("trained_on", {"cells": float("nan")}, "value error, found nan, expected finite numbers"),
        ("trained_on", {"cells": 10**30}, "value error, found a whole number of more than 64 bits"),
        ("trained_on", {"\ud800": 1}, "value error, a text is no Unicode"),
        ("trained_on", nested(200), "value error, expected at most 100 dicts and lists in each other"),
        ("training", {"a": [0] * 100_000}, "value error, expected at most 50,000 values and"),
        ("training", {"a": "x" * 2_000_000}, "value error, expected at most 50,000 values and 1,000,000"),
        ("notes", "x" * 200_000, "string should have at most 100000 characters"),
        ("licence", "x" * 3000, "string should have at most 2000 characters"),
        ("notes", "\ud800", "notes is '\\ud800': input should be a valid string"),
        ("format", [[]] * 1000, "model format [[], [], "),
        ("x\n\x1b[31m" * 1000, 1, r"x\n\x1b[31m"),
    ],
)  # fmt: skip
def test_values_that_no_model_has(path: Path, field: str, value: object, told: str) -> None:
    recarded(path, lambda card: card.update({field: value}))
    message = refused(path)
    assert told in message
    assert len(message) < 500 + len(str(path))
    assert message.isprintable()


def test_many_mistakes_are_not_all_told(path: Path) -> None:
    recarded(path, lambda card: card.update({f"more{i}": i for i in range(10_000)}))
    message = refused(path)
    assert "more4 is 4: extra inputs are not permitted; and 9995 more" in message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[" * 100_000, "JSON with too many brackets in each other"),
        ('{"k": ' + "9" * 5000 + "}", "JSON with a whole number of 5000 digits"),
        ("", "Expecting value"),
    ],
)
def test_cards_that_json_stumbles_over(path: Path, text: str, told: str) -> None:
    recarded(path, lambda card: text)
    message = refused(path)
    assert "its card is damaged" in message
    assert told in message


def test_a_number_of_many_digits_is_not_repeated(path: Path) -> None:
    recarded(path, lambda card: card.update(touching_radius=10**300, shrink=[10**300, 1]))
    assert "shrink is a whole number of about 301 digits: input should be" in refused(path)


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("[" * 100_000, "its header is no JSON object"),
        ('{"a":' * 100_000, "JSON with too many brackets in each other"),
        ('{"a": ' + "9" * 5000 + "}", "JSON with a whole number of 5000 digits"),
        (b'{"\xff": 1}', "can't decode byte 0xff"),
        ("{}".encode("utf-16"), "can't decode byte 0xff"),
        ('{"__metadata__": 5}', "its metadata are no texts"),
        ('{"__metadata__": {"cleft": 5}}', "its metadata are no texts"),
        ('{"a": 5}', "tensor 'a' is 5, expected its dtype, shape and data_offsets"),
        ('{"a": {"dtype": "F7", "shape": [], "data_offsets": [0, 4]}}', "has the unknown dtype 'F7'"),
        ('{"a": {"dtype": ["F32"], "shape": [], "data_offsets": [0, 4]}}', "unknown dtype ['F32']"),
        ('{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}', "has shape [-1]"),
        ('{"a": {"dtype": "F32", "shape": [true], "data_offsets": [0, 4]}}', "has shape [True]"),
        ('{"a": {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]}}', "has shape [1.0]"),
        ('{"a": {"dtype": "F32", "shape": 4, "data_offsets": [0, 4]}}', "has shape 4"),
        (f'{{"a": {{"dtype": "F32", "shape": {[1] * 99}, "data_offsets": [0, 4]}}}}', "has shape [1, 1,"),
        (f'{{"a": {{"dtype": "F32", "shape": [{2**64}], "data_offsets": [0, 4]}}}}', "has shape [1844674"),
        (f'{{"a": {{"dtype": "F32", "shape": [{2**62}, 4], "data_offsets": [0, 0]}}}}', "takes 0 bytes, exp"),
        ('{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}', "takes 4 bytes, expected 8"),
        ('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}', "begins at byte "),
        ('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [8, 4]}}', "takes -4 bytes, expected 4"),
        ('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}', "has data_offsets [0]"),
        ('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}', "its tensors end at byte "),
        ('{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, '
         '"b": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}', "tensor 'b' begins at byte "),
        ("{}", "its tensors end at byte "),
    ],
)  # fmt: skip
def test_headers_that_do_not_hold_together(path: Path, header: str | bytes, told: str) -> None:
    with_header(path, header, bytes(12))
    message = refused(path)
    assert "damaged or not a safetensors file" in message
    assert told in message
    assert len(message) < 500 + len(str(path))


def test_headers_longer_than_the_file_or_than_any_model_has(path: Path) -> None:
    for length in (len(path.read_bytes()), 2**40, 2**64 - 1):
        path.write_bytes(length.to_bytes(8, "little") + path.read_bytes()[8:])
        assert f"a header of {length} bytes in a file of" in refused(path)
    with path.open("wb") as file:
        file.write((50 << 20).to_bytes(8, "little"))
        file.truncate(100 << 20)
    assert "expected at most 8388608" in refused(path)


@pytest.mark.parametrize("dtype", ["F16", "BF16", "I16"])
def test_weights_of_other_types(path: Path, dtype: str) -> None:
    """Half a kernel's bytes are a number of 16 bits; of those, one kind is read."""

    def change(weights: dict[str, torch.Tensor]) -> None:
        kinds = {"F16": torch.float16, "BF16": torch.bfloat16, "I16": torch.int16}
        name = next(name for name in weights if name.endswith("conv1.weight"))
        weights[name] = weights[name].to(kinds[dtype])

    rewrite(path, change_weights=change)
    if dtype == "F16":
        read_model(path)
    else:
        assert f"conv1.weight is {dtype}, expected F32 or F16" in refused(path)


def test_a_variance_below_zero(path: Path) -> None:
    """A network that has one answers NaN."""
    rewrite(path, change_weights=lambda w: w[next(n for n in w if n.endswith("running_var"))].fill_(-1))
    assert "its weights hold a variance below 0" in refused(path)


def test_reading_draws_nothing(small: Path) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    read_model(small)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_no_regular_file_is_refused_without_opening_it(tmp_path: Path) -> None:
    """Opening a pipe waits until somebody writes to it: this test would not end."""
    pipe, loop, nowhere = (tmp_path / f"{name}.safetensors" for name in ("pipe", "loop", "nowhere"))
    loop.symlink_to(loop)
    nowhere.symlink_to(tmp_path / "none")
    assert "loop.safetensors: can't be opened (" in refused(loop)
    assert refused(nowhere) == f"{nowhere}: a link to what isn't there"
    assert "no such model file" in refused(nowhere / "below")
    if hasattr(os, "mkfifo"):
        os.mkfifo(pipe)
        assert refused(pipe) == f"{pipe}: found a named pipe, expected a model file"
        assert refused(Path("/dev/zero")) == "/dev/zero: found a device, expected a model file"
    for name, told in {"x" * 5000: "can't be opened (", "a\0b": "is no name of a file ("}.items():
        with pytest.raises(ModelError, match=re.escape(told)):
            read_model(tmp_path / name)


@pytest.mark.parametrize("name", ["x" * 5000, "x/" * 3000, "a\0b", "a\ud800b", ""])
def test_names_that_no_file_can_have(name: str) -> None:
    with pytest.raises(ModelError):
        find_model(name)


def test_find_model_says_what_it_found(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="found a folder, expected a model"):
        find_model(tmp_path)
    with pytest.raises(ModelError, match="no such model; expected a file or one of cells2d, cells2d-small"):
        find_model(tmp_path / "none")


def test_a_folder_of_all_kinds_is_listed_a_line_each(path: Path, tmp_path: Path) -> None:
    for name in ("bad", "half"):
        (tmp_path / f"{name}.safetensors").write_bytes(path.read_bytes()[: {"bad": 5, "half": 5000}[name]])
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "nowhere.safetensors").symlink_to(tmp_path / "none")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.safetensors")
    lines = list(models_in([tmp_path]))
    said = {line.split("  ")[0].strip(): line for line in lines}
    assert set(said) >= {str(p) for p in tmp_path.iterdir() if p.suffix == ".safetensors"}
    told = {"bad": "damaged", "half": "damaged", "folder": "found a folder", "nowhere": "a link to what"}
    for name, reason in told.items():
        assert reason in said[str(tmp_path / f"{name}.safetensors")]
    assert "cells of about" in said[str(path)]
    for folder in (tmp_path / "none", path, tmp_path / ("x" * 5000), tmp_path / "a\0b"):
        with pytest.raises(ModelError, match=r"no such folder|can't be looked into"):
            list(models_in([folder]))


@pytest.mark.parametrize(
    "making",
    [
        {"trained_on": {"folders": [1], "cells": "many", "images": None, "from": "x"}},
        {"trained_on": {"folders": {"a": "b", "\x1b[31m": {}}, "from": {"model": 5}}},
        {"training": {"minutes": "long"}},
        {"training": {"steps": [1], "minutes": 1.5, "seed": 1.5}},
        {"notes": "[red]a[/red]\n\x1b[31m\u202e", "licence": "[bold]", "scores": {"[x]": 1e308}},
    ],
)
def test_whatever_a_card_says_of_its_making_is_shown(path: Path, making: dict) -> None:
    recarded(path, lambda card: card.update(making))
    lines = described(path)
    assert making.get("notes", "") in lines
    assert yaml.safe_load(described(path, everything=True))["format"] == 1
    assert any(line.startswith(str(path)) for line in models_in([path.parent]))


def test_a_long_line_of_ancestors_fits(path: Path) -> None:
    """A model begun with a model begun with a model: a card holds the cards' making one in the other."""
    ancestors: dict = {}
    for _ in range(45):
        names = [f"made{i:04}" for i in range(100)]
        ancestors = {"images": 3, "names": names, "from": {"model": "m.safetensors", "trained_on": ancestors}}
    recarded(path, lambda card: card.update(trained_on=ancestors))
    net, card = read_model(path)
    write_model(path, net, card)
    assert read_card(path) == card
    assert "began with" in described(path)
    assert yaml.safe_load(described(path, everything=True))["trained_on"] == ancestors


def test_cards_are_read_without_torch() -> None:
    """So that listing models takes a moment."""
    code = (
        "import sys, cleft.cli.models as m; from cleft.models.card import find_model\n"
        "list(m.models_in([])), m.described(find_model('cells3d'))\n"
        "print([name for name in ('torch', 'lightning') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_model_is_loaded_with_torch_and_little_else() -> None:
    """Each of these takes a tenth of importing torch, or more."""
    code = (
        "import sys; from cleft import load_model; load_model('cells2d')\n"
        "heavy = 'numba', 'scipy.ndimage', 'skimage.measure', 'lightning', 'zarr', 'sympy', 'torch._dynamo'\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --- mutants ------------------------------------------------------------------------------------------------

ODD = [
    None, True, 0, -1, 1, 2, 7, 64, 10**6, 10**18, 10**30, 2**63, 2**64, 0.5, -0.0, 1e308, float("nan"),
    float("inf"), "", "x", "YX", "ZYX", "F32", "F64", "\x1b[31m", "\ud800", "x" * 100_000, [], {}, [[]],
    [0, 8], [1] * 50, [[2, 2]] * 60, {"cleft": 1}, {"a": {"b": []}}, nested(50), nested(300),
]  # fmt: skip


def places(tree: object, path: tuple = ()) -> list[tuple]:
    """The path of every value in a tree."""
    parts = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(place for key, value in parts for place in places(value, (*path, key)))]


def altered(tree: dict, draw: random.Random) -> dict:
    """One value of a tree replaced, removed, doubled or moved."""
    *above, last = draw.choice(places(tree)[1:])
    holder = tree
    for key in above:
        holder = holder[key]
    action = draw.randrange(5)
    if action == 0:
        del holder[last]
    elif action == 1 and isinstance(holder, dict):
        holder[str(draw.choice(ODD))[:50]] = holder.pop(last)
    elif action == 2 and type(holder[last]) in (int, float):
        holder[last] = draw.choice([-holder[last], holder[last] + 1, holder[last] - 1, holder[last] * 1000])
    else:
        holder[last] = copy.deepcopy(draw.choice(ODD))
    return tree


def mutant(data: bytes, draw: random.Random) -> bytes:
    """The file with something wrong in it, most often where it says what it is."""
    length = int.from_bytes(data[:8], "little")
    way = draw.randrange(6)
    if way < 3:
        header = json.loads(data[8 : 8 + length])
        if way == 0:
            altered(header, draw)
        else:
            card = json.loads(header["__metadata__"]["cleft"])
            for _ in range(draw.randint(1, 2)):
                altered(card, draw)
            header["__metadata__"]["cleft"] = json.dumps(card)
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + data[8 + length :]
    spoilt = bytearray(data)
    if way == 3:
        del spoilt[draw.randrange(len(data)) :]
    elif way == 4:
        for _ in range(draw.randint(1, 20)):
            spoilt[draw.randrange(8 + length)] = draw.randrange(256)
    else:
        begin, end = sorted(draw.randrange(len(data)) for _ in range(2))
        spoilt[begin:end] = bytes(draw.choice([end - begin, 0, 1]))
    return bytes(spoilt)


def test_of_any_mutant_a_model_or_a_sentence(path: Path) -> None:
    """Several hundred files with something wrong; whatever else than ModelError comes is a failure."""
    resource = pytest.importorskip("resource", reason="peak memory needs a Unix")
    good, draw, read = path.read_bytes(), random.Random(0), 0
    told: list[str] = []
    read_model(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(400):
        path.write_bytes(mutant(good, draw))
        try:
            net, card = read_model(path)
            described(path)
            net(torch.zeros(1, card.net.channels, *(16,) * len(card.axes)))
            read += 1
        except ModelError as error:
            told.append(str(error))
    assert all(said.startswith(str(path)) and said.isprintable() for said in told)
    assert max(map(len, told)) < 1500 + len(str(path))
    assert 10 < read < 300  # some harm nothing
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000

"""Checkpoints come back as they were, and unpickle nothing."""

import json
import math
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from cleft.core.errors import DataError, ModelError
from cleft.training.run_folder import SafeCheckpoints


def there_and_back(tree: dict[str, Any], path: Path) -> dict[str, Any]:
    SafeCheckpoints().save_checkpoint(tree, path)
    return SafeCheckpoints().load_checkpoint(path)


def same(a: Any, b: Any) -> bool:
    """Equal in value and in type all the way down."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and a.tolist() == b.tolist()
    if isinstance(a, dict):
        return (
            list(a) == list(b)
            and all(type(k) is type(j) for k, j in zip(a, b))
            and all(same(a[k], b[k]) for k in a)
        )
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


numbers = st.integers() | st.floats(allow_nan=False) | st.booleans() | st.none() | st.text(max_size=4)
leaves = numbers | st.sampled_from(
    [torch.arange(6.0).reshape(2, 3), torch.tensor(3), torch.tensor([True]), torch.zeros(0, 2)]
)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.integers() | st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(tree=st.dictionaries(st.text(max_size=4), trees, max_size=4))
def test_any_tree_comes_back(tree: dict, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert same(there_and_back(tree, tmp_path_factory.mktemp("tree") / "a.ckpt"), tree)


def test_what_json_and_safetensors_are_touchy_about(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    tree = {
        "infinite": [math.inf, -math.inf],
        "turned": base.T,
        "shared": [base, base, base[0]],
        "half": torch.tensor([1.5], dtype=torch.bfloat16),
        "numbers as keys": {0: "a", 1: {2: "b"}},
        "small": 5e-324,
        "third": 1 / 3,
        "keys like ours": {"tensor": "0", "dict": [], "list": ["x"]},
    }
    assert same(there_and_back(tree, tmp_path / "a.ckpt"), tree)
    assert math.isnan(there_and_back({"x": math.nan}, tmp_path / "b.ckpt")["x"])


def test_paths_become_text(tmp_path: Path) -> None:
    assert there_and_back({"best": tmp_path}, tmp_path / "a.ckpt") == {"best": str(tmp_path)}


def test_an_optimiser_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    """What Lightning keeps of a training: weights, Adam's moments and the learning rate's course."""

    def start() -> tuple[torch.nn.Module, Any, Any]:
        torch.manual_seed(0)
        net = torch.nn.Linear(3, 2)
        adam = torch.optim.Adam(net.parameters())
        return net, adam, torch.optim.lr_scheduler.OneCycleLR(adam, 0.1, total_steps=8)

    def go(parts: tuple, first: int, last: int) -> None:
        net, adam, course = parts
        for i in range(first, last):
            adam.zero_grad()
            net(torch.full((1, 3), float(i))).square().sum().backward()
            adam.step()
            course.step()

    straight, broken, resumed = start(), start(), start()
    go(straight, 0, 6)
    go(broken, 0, 3)
    states = there_and_back({str(i): part.state_dict() for i, part in enumerate(broken)}, tmp_path / "a.ckpt")
    for i, part in enumerate(resumed):
        part.load_state_dict(states[str(i)])
    go(resumed, 3, 6)
    assert torch.equal(resumed[0].weight, straight[0].weight)
    assert not torch.equal(broken[0].weight, straight[0].weight)


def test_what_it_cannot_keep_is_said(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="a checkpoint holds a set, which is not saved"):
        SafeCheckpoints().save_checkpoint({"a": {1, 2}}, tmp_path / "a.ckpt")
    assert not list(tmp_path.iterdir())


def test_an_older_one_is_replaced_whole_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "a.ckpt"
    for i in range(2):
        assert there_and_back({"step": i}, path) == {"step": i}
    assert [p.name for p in path.parent.iterdir()] == ["a.ckpt"]
    SafeCheckpoints().remove_checkpoint(path)
    SafeCheckpoints().remove_checkpoint(path)
    assert not path.exists()


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt" / "inner").mkdir(parents=True)
    with pytest.raises(DataError, match=r"a.ckpt: can't be written"):
        SafeCheckpoints().save_checkpoint({"step": 1}, tmp_path / "a.ckpt")
    assert [p.name for p in tmp_path.iterdir()] == ["a.ckpt"]


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, fuse: Path) -> None:
        self.fuse = fuse

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.fuse),)


def test_nothing_is_ever_unpickled(tmp_path: Path) -> None:
    fuse = tmp_path / "it went off"
    for write in (pickle.dump, lambda what, file: torch.save(what, file)):
        with (tmp_path / "a.ckpt").open("wb") as file:
            write({"state_dict": Bomb(fuse)}, file)
        with pytest.raises(ModelError, match=r"a.ckpt: not a checkpoint that can be resumed from"):
            SafeCheckpoints().load_checkpoint(tmp_path / "a.ckpt")
    assert not fuse.exists()


@pytest.mark.parametrize(
    "tree",
    ["{", "null", '{"tensor": "9"}', '{"set": []}', '{"dict": 5}', '{"dict": [], "list": []}', '{"list": 5}'],
)
def test_a_tree_that_is_none(tmp_path: Path, tree: str) -> None:
    path = tmp_path / "a.ckpt"
    save_file({"0": torch.zeros(1)}, path, {"tree": tree})
    with pytest.raises(ModelError, match=r"a.ckpt: not a checkpoint that can be resumed from"):
        SafeCheckpoints().load_checkpoint(path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file(tmp_path: Path, share: float) -> None:
    path = tmp_path / "a.ckpt"
    SafeCheckpoints().save_checkpoint({"x": torch.zeros(100)}, path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ModelError, match=r"a.ckpt: not a checkpoint"):
        SafeCheckpoints().load_checkpoint(path)


def test_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    with pytest.raises(ModelError, match=r"a.ckpt: not a checkpoint"):
        SafeCheckpoints().load_checkpoint(path)
    save_file({"conv": torch.zeros(3)}, path)
    with pytest.raises(ModelError, match=r"a.ckpt: not a checkpoint"):
        SafeCheckpoints().load_checkpoint(path)
    path.write_text("not a checkpoint")
    with pytest.raises(ModelError, match=r"a.ckpt: not a checkpoint"):
        SafeCheckpoints().load_checkpoint(path)


def edited(path: Path, change: Callable[[dict], object]) -> None:
    """The same file with another header."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def nested(depth: int, inner: str = "1") -> str:
    return '{"list": [' * depth + inner + "]}" * depth


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        ("[" * 100_000, "JSON with too many brackets in each other"),
        ('{"dict": [["x", ' + nested(100) + "]]}", "more than 100 dicts and lists in each other"),
        ('{"dict": [["x", ' + "9" * 5000 + "]]}", "JSON with a whole number of 5000 digits"),
        ('{"dict": [["x", [1, 2]]]}', "a list without its kind"),
        ('{"dict": [["x", {"tensor": ["0"]}]]}', "unhashable type"),
        ('{"dict": [[{"list": []}, 1]]}', "unhashable type"),
        ('{"dict": [["a", {"tensor": "0"}], ["b", {"tensor": "0"}]]}', "its tree is none of cleft's ('0')"),
        ('{"list": [1, 2]}', "its tree is a list, expected a dict"),
        ("5", "its tree is a int, expected a dict"),
    ],
)
def test_trees_that_ask_for_more_than_there_is(tmp_path: Path, tree: str, told: str) -> None:
    path = tmp_path / "a.ckpt"
    save_file({"0": torch.zeros(1)}, path, {"tree": tree})
    with pytest.raises(ModelError) as error:
        SafeCheckpoints().load_checkpoint(path)
    message = str(error.value)
    assert message.startswith(f"{path}: not a checkpoint that can be resumed from (")
    assert told in message
    assert message.isprintable()


def test_a_deep_tree_comes_back(tmp_path: Path) -> None:
    tree: Any = torch.ones(2)
    for _ in range(45):
        tree = {"deeper": [tree]}
    assert same(there_and_back(tree, tmp_path / "a.ckpt"), tree)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header["0"].update(shape=[10**12]),
        lambda header: header["0"].update(data_offsets=[0, 10**12]),
        lambda header: header["0"].update(dtype="F1"),
        lambda header: header.update(__metadata__={"tree": 5}),
        lambda header: header.update(__metadata__=None),
        lambda header: header.pop("0"),
    ],
)
def test_a_header_that_does_not_hold_together(tmp_path: Path, change: Callable) -> None:
    path = tmp_path / "a.ckpt"
    SafeCheckpoints().save_checkpoint({"x": torch.zeros(100)}, path)
    edited(path, change)
    with pytest.raises(ModelError, match=r"a.ckpt: not a checkpoint .* \(damaged or not a safetensors file"):
        SafeCheckpoints().load_checkpoint(path)


def test_what_is_no_regular_file_is_refused_without_opening_it(tmp_path: Path) -> None:
    """Opening a pipe waits until somebody writes to it: this test would not end."""
    with pytest.raises(ModelError, match="found a folder, expected a checkpoint"):
        SafeCheckpoints().load_checkpoint(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "a.ckpt")
        with pytest.raises(ModelError, match="found a named pipe, expected a checkpoint"):
            SafeCheckpoints().load_checkpoint(str(tmp_path / "a.ckpt"))


EVERY = [
    torch.bool, torch.uint8, torch.int8, torch.uint16, torch.int16, torch.uint32, torch.int32, torch.uint64,
    torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64,
    torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu,
]  # fmt: skip


@pytest.mark.parametrize("dtype", EVERY, ids=str)
def test_every_type_of_number_comes_back(tmp_path: Path, dtype: torch.dtype) -> None:
    sent = {
        "some": torch.ones(3, 2).to(dtype),
        "one": torch.ones(()).to(dtype),
        "none": torch.ones(0).to(dtype),
    }
    back = there_and_back(sent, tmp_path / "a.ckpt")
    for name, tensor in sent.items():
        assert (back[name].dtype, back[name].shape) == (dtype, tensor.shape)
        wide = torch.complex64 if dtype.is_complex else torch.float32
        assert torch.equal(back[name].to(wide), tensor.to(wide))

"""The fused kernels, numba's and Triton's, equal the plain definition in value and gradient."""

import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._pytree import tree_map_only

from cleft.core.errors import DataError
from cleft.losses import cpu
from cleft.losses import statistics as fused
from cleft.losses.statistics import class_statistics, plain_statistics
from cleft.losses.youden import JCLoss, JLoss
from references import losses as reference

ORDERS = ["planes", "channels last", "slice of more classes", "one image for all"]
ATOL = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}


@pytest.fixture(params=["numba", "triton"])
def kernels(request: pytest.FixtureRequest) -> ModuleType:
    """Each module of kernels; Triton's interpreted where there is no card, or on the card."""
    if request.param == "numba":
        return cpu
    pytest.importorskip("triton", reason="Triton comes for Linux only")
    from cleft.losses import cuda

    return _on_card(cuda) if torch.cuda.is_available() else cuda


def _on_card(module: ModuleType) -> ModuleType:
    """The same functions for tensors in memory, which are brought to the card and back."""

    def brought(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given: tree_map_only(
            Tensor, Tensor.cpu, function(*tree_map_only(Tensor, Tensor.cuda, given))
        )

    there = ModuleType(module.__name__)
    there.statistics, there.gradient = brought(module.statistics), brought(module.gradient)  # type: ignore
    return there


@pytest.fixture
def only(kernels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Losses take these kernels whatever the device."""
    monkeypatch.setattr(fused, "compiled_kernels", lambda logits: kernels)
    return kernels


def batch(k: int, shape: tuple[int, ...], seed: int = 0, order: str = "planes") -> tuple[Tensor, Tensor]:
    """Two images of logits in some order of memory, and classes of which a fifth is ignored."""
    source = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn((2, k + 2, *shape), generator=source)
    if order == "channels last":
        logits = logits.movedim(1, -1).contiguous().movedim(-1, 1)
    logits = logits[:, :k]
    if order == "one image for all":
        logits = logits[:1].expand(2, *logits.shape[1:])
    elif order != "slice of more classes":
        logits = logits.clone(memory_format=torch.preserve_format)
    classes = torch.randint(0, k, (2, *shape), generator=source)
    classes[torch.rand(classes.shape, generator=source) < 0.2] = -1
    return logits, classes


def value_and_gradient(loss: JLoss, logits: Tensor, *rest: Tensor | None) -> tuple[Tensor, Tensor]:
    logits = logits.detach().requires_grad_()
    value = loss(logits, *rest)
    value.backward()
    assert logits.grad is not None
    return value.detach(), logits.grad


def assert_close(found: Tensor, expected: Tensor, tolerance: float = 1e-5, rounding: float = 0.0) -> None:
    """Equal to a share of the largest number, and to what single precision can't hold."""
    error = (found.double() - expected.double()).abs().max().item() if found.numel() else 0
    share = tolerance * max(expected.abs().max().item() if expected.numel() else 0, 1e-3)
    assert error <= share + rounding


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("reduction", ["batch", "image"])
@pytest.mark.parametrize(
    ("k", "shape"), [(2, (7,)), (3, (33, 31)), (4, (5, 6, 7)), (9, (40, 20)), (20, (9, 11))]
)
def test_value_and_gradient_are_those_of_the_definition(
    only: ModuleType, k: int, shape: tuple[int, ...], reduction: str, weighted: bool, order: str
) -> None:
    logits, classes = batch(k, shape, order=order)
    weight = torch.rand(classes.shape) if weighted else None
    loss = JCLoss(0.5, ignore_index=-1, reduction=reduction)  # type: ignore[arg-type]
    found = value_and_gradient(loss, logits, classes, weight)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "compiled_kernels", lambda logits: None)
        expected = value_and_gradient(loss, logits.double(), classes, weight)
    for ours, plain in zip(found, expected, strict=True):
        assert_close(ours, plain)
    assert found[0].dtype == torch.float32


@given(
    k=st.integers(2, 12),
    pixels=st.integers(1, 1500),
    seed=st.integers(0, 1000),
    scale=st.sampled_from([1e-3, 1.0, 30.0, 1e4]),
    kind=st.sampled_from([torch.uint8, torch.int16, torch.int32, torch.int64]),
    per_image=st.booleans(),
)
@example(k=2, pixels=2, seed=1, scale=30.0, kind=torch.uint8, per_image=False)
def test_statistics_are_those_of_one_hot(
    k: int, pixels: int, seed: int, scale: float, kind: torch.dtype, per_image: bool
) -> None:
    source = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn((2, k, pixels), generator=source)
    classes = torch.randint(0, k, (2, pixels), generator=source).to(kind)
    classes[torch.rand(classes.shape, generator=source) < 0.3] = 100
    found = class_statistics(logits, classes, 100, per_image=per_image)
    expected = reference.statistics(logits.double(), classes.long(), 100, per_image)
    # log(1 + p) is 0 where p is less than 1 can tell
    rounding = classes.numel() * torch.finfo(torch.float32).eps
    for ours, obvious in zip(found, expected, strict=True):
        assert_close(ours, obvious, rounding=rounding)
    if per_image:
        of_batch = class_statistics(logits, classes, 100)
        for each, whole in zip(found, of_batch, strict=True):
            assert_close(each.sum(0, keepdim=True), whole)


@pytest.mark.long
def test_triton_compiles_the_kernels(tmp_path: Path) -> None:
    """For a card that needn't be there; interpreted, a kernel may run that can't be compiled."""
    pytest.importorskip("triton", reason="Triton comes for Linux only")
    real = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    script = Path(__file__).with_name("compile_for_a_card.py")
    ran = subprocess.run(
        [sys.executable, script],
        env={**real, "TRITON_CACHE_DIR": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_is_read_and_written(only: ModuleType, kind: torch.dtype) -> None:
    logits, classes = batch(4, (30, 40))
    found = value_and_gradient(JCLoss(0.5, -1), logits.to(kind), classes)
    expected = value_and_gradient(JCLoss(0.5, -1), logits.to(kind).float(), classes)
    assert_close(found[0], expected[0])
    assert found[1].dtype == kind
    assert_close(found[1], expected[1], ATOL[kind])


@pytest.mark.parametrize(
    ("k", "shape", "jcell"),
    [
        (3, (6, 7), 4.648227691650391),
        (4, (6, 7), 4.330680847167969),
        (6, (6, 7), 7.528892993927002),
        (3, (3, 4, 5), 3.8190555572509766),
        (4, (3, 4, 5), 4.3153157234191895),
        (6, (3, 4, 5), 6.648697853088379),
    ],
)
def test_the_number_jcell_gives(only: ModuleType, k: int, shape: tuple[int, ...], jcell: float) -> None:
    """Printed by JCell 0.0.4's ``WCE_JReg()`` for these logits; of 4 and 6 classes some are absent."""
    n = 2 * int(np.prod(shape))
    logits = 2 * torch.sin(1.7 * torch.arange(n * k, dtype=torch.float32)).reshape(2, k, *shape)
    classes = (torch.arange(n) ** 2 % 7 % k).reshape(2, *shape)
    assert JCLoss(0.5)(logits, classes).item() == pytest.approx(jcell, rel=1e-6)


@pytest.mark.parametrize("per_image", [False, True], ids=["batch", "image"])
def test_ignored_pixels_may_hold_anything(kernels: ModuleType, per_image: bool) -> None:
    logits, classes = batch(3, (50,))
    hidden = (classes == -1)[:, None].expand_as(logits)
    by = (torch.ones(1 + per_image, 3, 3), torch.ones(1 + per_image, 3))
    clean = kernels.statistics(logits, classes, None, -1, per_image)
    for anything in (torch.nan, torch.inf, -torch.inf, 1e30):
        odd = logits.masked_fill(hidden, anything)
        for ours, expected in zip(kernels.statistics(odd, classes, None, -1, per_image), clean, strict=True):
            assert torch.equal(ours, expected)
        slope = kernels.gradient(odd, classes, None, -1, *by)
        assert not slope[hidden].any()
        assert torch.isfinite(slope).all()


def test_a_nan_that_counts_is_not_hidden(only: ModuleType) -> None:
    logits, classes = batch(3, (50,))
    logits[0, 1, 3], classes[0, 3] = torch.nan, 1
    value, slope = value_and_gradient(JCLoss(0.5, -1), logits, classes)
    assert value.isnan()
    assert slope[0, :, 3].isnan().all()


def test_saturated_logits_give_exact_cross_entropy(only: ModuleType) -> None:
    """exp of less than -87 is no float32, but the cross entropy of such a pixel is."""
    logits = torch.tensor([[[0.0, 500.0, 3e4], [300.0, 0.0, 0.0]]])
    value, slope = value_and_gradient(JCLoss(0.0), logits, torch.zeros(1, 3, dtype=torch.long))
    assert value.item() == pytest.approx(100)
    torch.testing.assert_close(slope[0, :, 0], torch.tensor([-1 / 3, 1 / 3]))
    assert torch.isfinite(slope).all()


@pytest.mark.parametrize("wrong", [-2, 3, 77])
def test_a_class_that_can_not_be(kernels: ModuleType, wrong: int) -> None:
    """Named on a processor; NaN on a card, which is not waited for."""
    logits, classes = batch(3, (50,))
    classes[1, 20] = wrong
    for part in kernels.statistics(logits, classes, None, -1, False):
        assert part.isnan().any()
    for form in (class_statistics, plain_statistics):
        with pytest.raises(DataError, match=f"found {wrong}, expected 0 to 2"):
            form(logits, classes, -1)


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit: chunks are added in order, however many threads have made them."""
    logits, classes = batch(4, (300, 300))
    assert classes[0].numel() > cpu.CHUNK
    found = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found.append(value_and_gradient(JCLoss(0.5, -1), logits, classes))
    for value, slope in found[1:]:
        assert torch.equal(value, found[0][0])
        assert torch.equal(slope, found[0][1])


def test_called_from_several_threads_at_once() -> None:
    logits, classes = batch(4, (200, 200))
    expected = value_and_gradient(JCLoss(0.5, -1), logits, classes)
    found: list[tuple[Tensor, Tensor]] = []

    def work() -> None:
        found.extend(value_and_gradient(JCLoss(0.5, -1), logits, classes) for _ in range(5))

    several = [threading.Thread(target=work) for _ in range(4)]
    for thread in several:
        thread.start()
    for thread in several:
        thread.join()
    assert len(found) == 20
    assert all(torch.equal(a, expected[0]) and torch.equal(b, expected[1]) for a, b in found)


def _in_a_child(queue: multiprocessing.Queue, logits: Tensor, classes: Tensor) -> None:
    queue.put(cpu.statistics(logits, classes, None, -1, False)[2].tolist())


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a loader's worker is: the parent's threads are not there, and must not be waited for."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    logits, classes = (part.flatten(2 - i) for i, part in enumerate(batch(4, (200, 200))))
    expected = cpu.statistics(logits, classes, None, -1, False)[2].tolist()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_a_child, args=(queue, logits, classes))
    child.start()
    assert queue.get(timeout=60) == expected
    child.join()


def test_nothing_as_large_as_the_logits_is_kept() -> None:
    """Between forward and backward: what was given, and K x K numbers."""
    logits, classes = batch(4, (64, 64))
    logits.requires_grad_()
    given, kept = {logits.data_ptr(), classes.data_ptr()}, []

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in given:
            kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        JCLoss(0.5, -1)(logits, classes)
    assert max(kept) <= 4 * 4


def test_second_derivatives_are_those_of_the_definition(only: ModuleType) -> None:
    logits, classes = batch(3, (6, 7))
    ways = torch.randn(logits.shape)

    def curvature(z: Tensor) -> Tensor:
        z = z.detach().requires_grad_()
        (slope,) = torch.autograd.grad(JCLoss(0.5, -1)(z, classes), z, create_graph=True)
        return torch.autograd.grad((slope * ways.to(slope)).sum(), z)[0]

    found = curvature(logits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "compiled_kernels", lambda logits: None)
        expected = curvature(logits.double())
    assert found.abs().max() > 1e-4
    assert_close(found, expected, 1e-4)


def test_compiled_without_a_break() -> None:
    logits, classes = batch(4, (12, 13))
    loss = JCLoss(0.5, -1)
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    expected = value_and_gradient(loss, logits, classes)
    for ours, plain in zip(value_and_gradient(compiled, logits, classes), expected, strict=True):
        assert_close(ours, plain)


def test_which_form_takes_what() -> None:
    one = torch.zeros(1, 2, 3)
    assert fused.compiled_kernels(one) is cpu
    assert fused.compiled_kernels(one.bfloat16()) is cpu
    assert fused.compiled_kernels(one.half()) is cpu
    for other in (one.double(), one[:0], one.to("meta")):
        assert fused.compiled_kernels(other) is None


def test_exp_and_log_to_the_last_digits() -> None:
    """Of pixels with logits 0 and -x: the probability of the second, and the nll of the first."""
    x = np.concatenate([np.linspace(0, 80, 20001), np.geomspace(1e-30, 1, 2001)]).astype(np.float32)
    logits = torch.from_numpy(np.stack([np.zeros_like(x), -x], 1))[..., None]
    sums, _, nll = cpu.statistics(logits, torch.zeros(len(x), 1, dtype=torch.uint8), None, 255, True)
    exact = 1 / (1 + np.exp(x.astype(np.float64)))
    assert np.abs(sums[:, 0, 1].numpy() / exact - 1).max() < 5e-6
    assert np.abs(nll[:, 0].numpy() - np.log1p(np.exp(-x.astype(np.float64)))).max() < 1e-6


@pytest.mark.parametrize("logit", [float("nan"), float("inf"), 1e30, -1e30])
def test_what_is_no_number_stays_none(logit: float) -> None:
    logits = torch.tensor([[[0.0], [logit]]])
    found = cpu.statistics(logits, torch.zeros(1, 1, dtype=torch.uint8), None, 255, False)
    expected = plain_statistics(logits, torch.zeros(1, 1, dtype=torch.uint8))
    for ours, plain in zip((found[0][0, 0], found[2][0, :1]), (expected.sums[0, 0], expected.nll[0, :1])):
        assert torch.equal(ours.isfinite(), plain.isfinite())
        torch.testing.assert_close(ours[ours.isfinite()], plain[plain.isfinite()])


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_as_torch_does(half: torch.dtype) -> None:
    logits, classes = batch(4, (300,))
    logits = logits.to(half)
    given = classes.to(torch.uint8), None, 255, torch.rand(1, 4, 4), torch.rand(1, 4)
    found = cpu.gradient(logits, *given)
    assert torch.equal(found, cpu.gradient(logits.float(), *given).to(half))

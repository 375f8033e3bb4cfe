"""What computes: devices by name, the precision that is fastest on one, and OpenVINO as a runtime."""

from __future__ import annotations

import ctypes
import importlib.util
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from cleft.core.errors import ModelError
from cleft.core.settings import NetSettings
from cleft.models.unet import net_stride

__all__ = [
    "OpenVINONetwork", "Precision", "bfloat16_is_native", "choose_precision", "device_of",
    "openvino_is_faster",
]  # fmt: skip

Precision = Literal["float32", "bfloat16"]


def device_of(name: str) -> torch.device:
    """The device of a name: ``"cpu"``, ``"cuda"``, ``"mps"``, or ``"auto"``, the fastest there is.

    Raises:
        ModelError: there is no such device, or not here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(f'device is "{name}", expected cpu, cuda, mps or auto') from error
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if device.type not in counts:
        raise ModelError(f'device is "{name}", expected cpu, cuda, mps or auto')
    if (device.index or 0) >= counts[device.type]:
        raise ModelError(f'device "{name}" is not available here, expected cpu, cuda, mps or auto')
    return device


def bfloat16_is_native(device: torch.device) -> bool:
    """Whether a device computes bfloat16 by itself: two to three times as fast as float32.

    Example:
        >>> bfloat16_is_native(torch.device("mps"))
        False
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return (
        device.type == "cpu"
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and torch.cpu._is_avx512_bf16_supported()
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def choose_precision(device: torch.device, asked: Precision | Literal["auto"]) -> Precision:
    """The precision asked for, or the fastest on a device.

    Example:
        >>> choose_precision(torch.device("cpu"), "float32")
        'float32'
    """
    if asked != "auto":
        return asked
    return "bfloat16" if bfloat16_is_native(device) else "float32"


def openvino_is_faster(device: torch.device) -> bool:
    """Whether OpenVINO is installed and computes on this device."""
    return device.type == "cpu" and importlib.util.find_spec("openvino") is not None


class OpenVINONetwork(nn.Module):
    """A network compiled by OpenVINO for inputs of any extent, on as many threads as torch has.

    Args:
        net: on the processor, in float32, ready to predict.
        settings: that made it.
        precision: to compute in, ``"float32"`` or ``"bfloat16"``.

    Shape:
        (N, C, *S) float32 to (N, K, *S) float32.

    Raises:
        ModelError: OpenVINO isn't installed.
    """

    def __init__(self, net: nn.Module, settings: NetSettings, precision: str) -> None:
        super().__init__()
        try:
            from openvino import Core, PartialShape, Type
            from openvino.frontend import FrontEndManager
            from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
        except ModuleNotFoundError as error:
            raise ModelError(
                "this run was begun with OpenVINO, which isn't installed; pip install 'cleft[openvino]'"
            ) from error
        axes = len(settings.strides[0])
        example = torch.zeros((1, settings.channels, *(2 * s for s in net_stride(settings))))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tracing: this network has no branches that depend on pixels
            # the converter's own door reports its use over the network; this one doesn't
            front = FrontEndManager().load_by_framework("pytorch")
            # without the check, which runs the network thrice more: it has no branches
            script = torch.jit.trace(net, example, check_trace=False)
            traced = TorchScriptPythonDecoder(script, example_input=(example,))  # must outlive the conversion
            graph = front.convert(front.load(traced))
        graph.inputs[0].get_node().set_element_type(Type.f32)
        graph.inputs[0].get_node().set_partial_shape(PartialShape([1, settings.channels, *(-1,) * axes]))
        graph.validate_nodes_and_infer_types()
        options = {
            "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(), "PERFORMANCE_HINT": "LATENCY",
        }  # fmt: skip
        with _signal_stack_kept():
            self._request = Core().compile_model(graph, "CPU", options).create_infer_request()

    def forward(self, x: Tensor) -> Tensor:
        # one by one, as the graph takes them; the request's own result is overwritten by the next
        found = [
            next(iter(self._request.infer({0: one.numpy()}).values())).copy()
            for one in x.contiguous().split(1)
        ]
        return torch.from_numpy(np.concatenate(found) if len(found) > 1 else found[0])


class _SignalStack(ctypes.Structure):
    """What Linux calls stack_t: where a thread's signal handlers run."""

    _fields_ = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


@contextmanager
def _signal_stack_kept() -> Iterator[None]:
    """Undo what OpenVINO does to this thread's signal stack.

    It puts one of its own, and frees that with the compiled network: the next signal, a child that ends or
    Ctrl-C, would then kill the process.
    """
    if sys.platform != "linux":
        yield
        return
    libc, before = ctypes.CDLL(None), _SignalStack()
    libc.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        libc.sigaltstack(ctypes.byref(before), None)

"""Compile the Triton kernels for a card that needn't be there.

Run by test_fused in a process of its own, since tests interpret them.
"""

from itertools import product

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from cleft.losses import on_cuda

CARD = GPUTarget("cuda", 90, 32)
ALIGNED = [["tt.divisibility", 16]]  # what Triton is told of tensors as torch allocates them
STRIDES = ("stride_n", "stride_k", "stride_p")


def sources(k: int, logits: str, classes: str, weighted: bool) -> list[ASTSource]:
    """Both kernels for contiguous planes."""
    weight = "*fp32" if weighted else classes
    whole = dict.fromkeys(("n_pixels", "ignore"), "i32")
    strides = dict.fromkeys(STRIDES, "i32")
    given = {"logits": logits, "classes": classes, "weight": weight}
    add = {**given, **dict.fromkeys(("sums", "counts", "missed"), "*fp32"), **strides, **whole}
    out = dict.fromkeys(("out_n", "out_k", "out_p", "of_group"), "i32")
    slope = {**given, "table": "*fp32", "by_missed": "*fp32", "out": logits, **strides, **out, **whole}
    fixed = {**on_cuda._shape(k), "WEIGHTED": weighted, "stride_p": 1}
    return [
        source(on_cuda._add, add, {**fixed, "COMPARE": k <= on_cuda.FEW}),
        source(on_cuda._slope, slope, fixed),
    ]


def source(kernel: object, signature: dict[str, str], fixed: dict[str, object]) -> ASTSource:
    signature = {**signature, **dict.fromkeys(fixed, "constexpr")}
    aligned = [name.startswith("*") or name == "i32" for name in signature.values()]
    attrs = {(i,): ALIGNED for i, yes in enumerate(aligned) if yes}
    return ASTSource(fn=kernel, signature=signature, constexprs=fixed, attrs=attrs)


for kind, weighted in product((("*bf16", "*u8"), ("*fp32", "*i64")), (False, True)):
    for kernel in (*sources(3, *kind, weighted), *sources(20, *kind, weighted)):
        triton.compile(kernel, target=CARD)

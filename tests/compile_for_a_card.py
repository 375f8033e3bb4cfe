"""Compile the Triton kernels for a card that needn't be there.

Run by test_fused in a process of its own, since tests interpret them.
"""

from itertools import product
from typing import Any

ALIGNED = [["tt.divisibility", 16]]  # what Triton is told of tensors as torch allocates them
STRIDES = ("stride_n", "stride_k", "stride_p")


def main() -> None:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    for kind, weighted in product((("*bf16", "*u8"), ("*fp32", "*i64")), (False, True)):
        for k in (3, 20):
            for asked in signatures(k, *kind, weighted):
                triton.compile(ASTSource(**asked), target=GPUTarget("cuda", 90, 32))


def signatures(k: int, logits: str, classes: str, weighted: bool) -> list[dict[str, Any]]:
    """What both kernels are given, for contiguous planes."""
    from cleft.losses import cuda

    weight = "*fp32" if weighted else classes
    whole = dict.fromkeys(("n_pixels", "ignore"), "i32")
    strides = dict.fromkeys(STRIDES, "i32")
    given = {"logits": logits, "classes": classes, "weight": weight}
    add = {**given, **dict.fromkeys(("sums", "counts", "nll"), "*fp32"), **strides, **whole}
    out = dict.fromkeys(("out_n", "out_k", "out_p", "of_group"), "i32")
    slope = {**given, "by_sums": "*fp32", "by_nll": "*fp32", "out": logits, **strides, **out, **whole}
    fixed = {**cuda._shape(k), "WEIGHTED": weighted, "stride_p": 1}
    return [
        signature(cuda._add, add, {**fixed, "COMPARE": k <= cuda.FEW}),
        signature(cuda._slope, slope, fixed),
    ]


def signature(kernel: object, types: dict[str, str], fixed: dict[str, Any]) -> dict[str, Any]:
    """As a call would give it: what is known beforehand, and which numbers are whole multiples of 16."""
    types = {**types, **dict.fromkeys(fixed, "constexpr")}
    aligned = [kind.startswith("*") or kind == "i32" for kind in types.values()]
    attrs = {(i,): ALIGNED for i, yes in enumerate(aligned) if yes}
    return {"fn": kernel, "signature": types, "constexprs": fixed, "attrs": attrs}


if __name__ == "__main__":
    main()

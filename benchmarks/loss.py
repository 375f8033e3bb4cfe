"""What losses cost, forward and backward: ours beside PyTorch's, MONAI's, the naive form and JCell's.

    python benchmarks/loss.py                       all, thirteen minutes on two cores
    python benchmarks/loss.py --classes 4 --reps 3  a part
    python benchmarks/loss.py --device cuda         on a card: times, and the share of its bandwidth
    python benchmarks/loss.py --table               the table of what has been measured

The first run makes an environment for JCell and segmentation-models-pytorch in runs/rivals; their losses are
measured in a process of its own, in turn with the others. Time: the median of the repetitions, each from a
trimmed heap; a loss that has taken ten seconds is not repeated more than thrice. Memory: the highest
resident set during one call less the one before it, gradient included. Classes are drawn at random for
each pixel. Writes docs/results/loss.json, and the table into docs/losses.md.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import statistics
import subprocess
import sys
import time
import venv
from argparse import SUPPRESS, Namespace
from collections.abc import Callable
from pathlib import Path

import torch
from bench import (
    DOCS,
    RESULTS,
    RUNS,
    command,
    insert,
    machine,
    parser,
    peak_bytes,
    read_json,
    reset_peak,
    write_json,
)
from torch import Tensor
from torch.nn import functional

REPORT = RESULTS / "loss.json"
RIVALS = RUNS / "rivals"
PACKAGES = ("jcell==0.0.4", "segmentation-models-pytorch==0.6.0")

CLASSES = (3, 4, 8, 16, 64)
SHAPES = {"2D": (8, 512, 512), "3D": (1, 128, 128, 128)}
ENOUGH = 10.0  # seconds for a loss and a case: the slowest are repeated three times only
NAIVE_UNTIL = 16  # classes: its cost grows with their square, and 64 would take minutes a call
Loss = Callable[[Tensor, Tensor], Tensor]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--classes", type=int, nargs="*", default=CLASSES)
    options.add_argument("--shapes", nargs="*", choices=SHAPES, default=list(SHAPES))
    options.add_argument("--reps", type=int, default=15)
    options.add_argument("--device", default="cpu")
    options.add_argument("--report", type=Path, default=REPORT)
    options.add_argument("--table", action="store_true", help="measure nothing")
    options.add_argument("--serve", action="store_true", help=SUPPRESS)
    asked = options.parse_args()
    if asked.serve:
        serve(asked.device)
        return
    if not asked.table:
        measure_all(asked)
    if asked.report == REPORT:
        insert(DOCS / "losses.md", "loss", table(read_json(REPORT)["cases"]))


def measure_all(asked: Namespace) -> None:
    """Every shape and number of classes, a line printed for each."""
    rivals = Rivals(asked.device)
    report = {"command": command(), "machine": on(asked.device), "cases": []}
    for shape in asked.shapes:
        for k in (2, *asked.classes):
            case = measure(SHAPES[shape], k, asked.reps, asked.device, rivals)
            report["cases"].append({"shape": shape, "classes": k, **case})
            print(row(report["cases"][-1]), flush=True)
    write_json(asked.report, report)


def measure(shape: tuple[int, ...], k: int, reps: int, device: str, rivals: Rivals) -> dict:
    """Milliseconds and extra bytes over the bytes of the logits, of every loss that takes so many classes."""
    ours, logits, classes = _ours(k), *batch(shape, k, device)
    rivals.ask({"shape": shape, "k": k})
    seconds: dict[str, list[float]] = {}
    for _ in range(reps + 1):
        for name in (*ours, *rivals.names(k)):
            times = seconds.setdefault(name, [])
            if len(times) <= 3 or sum(times) < ENOUGH:
                asked = {"time": name}
                times.append(timed(ours[name], logits, classes) if name in ours else rivals.ask(asked))
    size = logits.numel() * logits.element_size()
    extra = {name: peak(loss, logits, classes) / size for name, loss in ours.items()}
    extra.update({name: rivals.ask({"peak": name}) / size for name in rivals.names(k)})
    median = {name: statistics.median(times[1:]) for name, times in seconds.items()}
    found = {name: {"ms": round(1e3 * median[name], 2), "extra": round(extra[name], 3)} for name in median}
    if device != "cpu":
        seconds_of_ours = median[BINARY if k == 2 else JC]
        found["bandwidth"] = {
            "share of a copy's": round(_moved(size, k) / seconds_of_ours / _copy_rate(logits), 3)
        }
    return {"losses": found}


CE, JC, BINARY = "cross entropy (PyTorch)", "JCLoss", "BinaryJLoss"
NAIVE, JCELL, MCC = "JC by its definition", "JCell wce_j", "MCCLoss (smp)"


def _ours(k: int) -> dict[str, Loss]:
    """The losses that live in this environment; for two classes those of one channel."""
    from monai.losses import DiceCELoss, TverskyLoss

    from cleft.losses.youden import BinaryJLoss, JCLoss

    if k == 2:
        return {BINARY: lambda z, h: BinaryJLoss()(z[:, 0], h)}
    dice_ce = DiceCELoss(to_onehot_y=True, softmax=True)
    tversky = TverskyLoss(to_onehot_y=True, softmax=True)
    losses: dict[str, Loss] = {
        CE: functional.cross_entropy,
        JC: JCLoss(),
        "DiceCELoss (MONAI)": lambda z, h: dice_ce(z, h[:, None]),
        "TverskyLoss (MONAI)": lambda z, h: tversky(z, h[:, None]),
    }
    return losses | ({NAIVE: naive} if k <= NAIVE_UNTIL else {})


def naive(logits: Tensor, classes: Tensor) -> Tensor:
    """Eq. 3 as it is printed: one-hot classes, and a pass over the pixels for each pair."""
    k = logits.shape[1]
    z = torch.softmax(logits, 1)
    y = functional.one_hot(classes, k).movedim(-1, 1).to(z)
    phi = [y[:, i] / y[:, i].sum() for i in range(k)]
    loss = functional.cross_entropy(logits, classes)
    for i in range(k):
        for other in range(k):
            if i != other:
                loss = loss - 0.05 * torch.log(0.5 + (z[:, i] * (phi[i] - phi[other]) / 2).sum())
    return loss


def batch(shape: tuple[int, ...], k: int, device: str) -> tuple[Tensor, Tensor]:
    """Random logits and classes; of two classes one channel of logits."""
    source = torch.Generator().manual_seed(0)
    logits = torch.randn(shape[0], 1 if k == 2 else k, *shape[1:], generator=source)
    classes = torch.randint(0, k, shape, generator=source)
    return logits.to(device).requires_grad_(), classes.to(device)


def timed(loss: Loss, logits: Tensor, classes: Tensor) -> float:
    """Seconds of one forward and backward."""
    _clear(logits)
    start = time.perf_counter()
    loss(logits, classes).backward()
    _wait(logits)
    return time.perf_counter() - start


def peak(loss: Loss, logits: Tensor, classes: Tensor) -> int:
    """Bytes beyond those held before, at the worst moment of one forward and backward."""
    _clear(logits)
    if logits.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        loss(logits, classes).backward()
        return torch.cuda.max_memory_allocated() - before
    before = reset_peak()
    loss(logits, classes).backward()
    return peak_bytes() - before


def _clear(logits: Tensor) -> None:
    """The same start for all: nothing kept from the call before, nothing still running."""
    logits.grad = None
    if logits.device.type == "cuda":
        gc.collect()
        torch.cuda.synchronize()
    else:
        reset_peak()


def _wait(logits: Tensor) -> None:
    if logits.device.type == "cuda":
        torch.cuda.synchronize()


def _moved(size: int, k: int) -> int:
    """Bytes that must move: logits read twice, their gradient written, int64 classes read twice."""
    return 3 * size + 2 * 8 * size // (4 * k)


def _copy_rate(logits: Tensor) -> float:
    """Bytes a second of a copy on the device, read and written."""
    source = torch.empty(1 << 28, device=logits.device)
    target = torch.empty_like(source)
    times = []
    for _ in range(10):
        _wait(logits)
        start = time.perf_counter()
        target.copy_(source)
        _wait(logits)
        times.append(time.perf_counter() - start)
    return 2 * 4 * source.numel() / statistics.median(times)


class Rivals:
    """A process of the rivals' environment, asked line by line."""

    def __init__(self, device: str) -> None:
        python = environment()
        self.process = subprocess.Popen(
            [str(python), __file__, "--serve", "--device", device],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def names(self, k: int) -> list[str]:
        return [MCC] if k == 2 else [JCELL]

    def ask(self, question: dict) -> float:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit("the rivals' process stopped; its message stands above")
        return float(json.loads(answer))


def serve(device: str) -> None:
    """Answer the other process: make a batch, time a loss, or measure its memory."""
    losses: dict[str, Loss] = {JCELL: _jcell(), MCC: _mcc()}
    logits = classes = torch.empty(0)
    answer: float = 0
    for line in sys.stdin:
        question = json.loads(line)
        if "shape" in question:
            logits, classes = batch(tuple(question["shape"]), question["k"], device)
            answer = 0
        elif "time" in question:
            answer = timed(losses[question["time"]], logits, classes)
        else:
            answer = peak(losses[question["peak"]], logits, classes)
        print(json.dumps(answer), flush=True)


def _jcell() -> Loss:
    """JCell's default loss; its files expect to be found at the top of the path."""
    found = importlib.util.find_spec("jcell")
    assert found
    assert found.submodule_search_locations
    sys.path.insert(0, str(Path(found.submodule_search_locations[0]) / "train" / "src"))
    from loss.lossfunc import WCE_JReg

    return WCE_JReg()


def _mcc() -> Loss:
    """segmentation-models-pytorch's, of one class; loaded alone, without the networks of that package."""
    found = importlib.util.find_spec("segmentation_models_pytorch")
    assert found
    assert found.origin
    spec = importlib.util.spec_from_file_location("mcc", Path(found.origin).parent / "losses" / "mcc.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    loss = module.MCCLoss()
    return lambda z, h: loss(torch.sigmoid(z), h)


def environment() -> Path:
    """The rivals' own environment, which sees this one's torch."""
    python = RIVALS / "bin" / "python"
    if not python.exists():
        venv.create(RIVALS, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", *PACKAGES], check=True)
        seen = next((RIVALS / "lib").glob("python*/site-packages")) / "torch.pth"
        seen.write_text(str(Path(torch.__file__).parents[1]) + "\n")
    return python


def row(case: dict) -> str:
    """A line of Markdown: each loss's time over cross entropy's, its memory in units of the logits."""
    losses = {name: found for name, found in case["losses"].items() if "ms" in found}
    base = losses.get(CE, next(iter(losses.values())))["ms"]
    cells = [
        f"{name} {f['ms']:.0f} ms = {f['ms'] / base:.2f} x, {f['extra']:.1f}" for name, f in losses.items()
    ]
    return f"| {case['shape']} | {case['classes']} | " + " | ".join(cells) + " |"


def table(cases: list[dict]) -> str:
    """A row for each case of more than two classes: times over cross entropy's, in brackets the memory."""
    names = list(dict.fromkeys(name for case in cases for name in case["losses"] if CE in case["losses"]))
    others = [name for name in names if name not in (CE, "bandwidth")]
    lines = ["| shape | K | " + " | ".join([f"{CE}, ms", *others]) + " |", "|---" * (len(others) + 3) + "|"]
    for case in cases:
        losses = case["losses"]
        if CE in losses:
            shape = " x ".join(map(str, SHAPES[case["shape"]]))
            cells = [f"{losses[CE]['ms']:.0f} ({losses[CE]['extra']:.1f})"]
            for name in others:
                f = losses.get(name)
                cells.append(f"{f['ms'] / losses[CE]['ms']:.2f} ({f['extra']:.1f})" if f else "")
            lines.append(f"| {shape} | {case['classes']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def on(device: str) -> str:
    """The card, or the processor and its threads."""
    if device != "cpu":
        return torch.cuda.get_device_name()
    return f"{torch.get_num_threads()} threads, {machine('torch')}"


if __name__ == "__main__":
    main()

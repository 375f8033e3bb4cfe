"""What the page is served with: the shipped models as ONNX, and the runtime that runs them, packed.

`make web` runs it after the sources are bundled: python web/pack.py
"""

from __future__ import annotations

import json
from pathlib import Path

import imagecodecs

from cleft.export import portable
from cleft.export.export import export
from cleft.models.card import find_model, read_card, shipped_models

HERE = Path(__file__).parent
SITE = HERE.parent / "src" / "cleft" / "web" / "site"
DIST = HERE / "node_modules" / "onnxruntime-web" / "dist"
# for every browser, and for those that know WebGPU
RUNTIMES = {
    "wasm": DIST / "ort-wasm-simd-threaded.wasm",
    "webgpu": DIST / "ort-wasm-simd-threaded.jspi.wasm",
}
LEVEL = 22  # the strongest: a third less than what browsers unpack by themselves


def write_models(folder: Path) -> None:
    """Each shipped model as ``cleft export`` writes it, and a list of them."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = []
    for name in shipped_models():
        path, card = folder / f"{name}.onnx", read_card(find_model(name))
        if outdated(path, find_model(name), Path(portable.__file__)):
            export(name, "onnx", path, overwrite=True)
        about = card.notes.split(";")[0]
        listed.append(
            {
                "name": name, "axes": card.axes, "bytes": path.stat().st_size,
                "about": f"{about[:1].upper()}{about[1:]}.",
            }
        )  # fmt: skip
    (folder / "models.json").write_text(json.dumps(listed, indent=1) + "\n")


def write_runtimes(folder: Path) -> None:
    """The runtime's programs, packed by zstandard."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, program in RUNTIMES.items():
        path = folder / f"{name}.wasm.zst"
        if outdated(path, program):
            path.write_bytes(imagecodecs.zstd_encode(program.read_bytes(), level=LEVEL))


def outdated(path: Path, *sources: Path) -> bool:
    """Whether a file isn't there, or is older than what it is made of."""
    return not path.exists() or any(s.stat().st_mtime > path.stat().st_mtime for s in sources)


if __name__ == "__main__":
    write_models(SITE / "models")
    write_runtimes(SITE / "runtime")

"""The napari window, in a real viewer: each file of ``window/`` in a process and on a screen of its own."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "window"
WINDOWS = sorted(HERE.glob("window_*.py"))
EXAMPLES = HERE.parents[1] / "src" / "cleft" / "napari"
LIMIT = 600  # seconds


def run(places: list[Path], marked: str, home: Path) -> str:
    """Run tests on a screen that exists in memory only."""
    if importlib.util.find_spec("napari") is None:
        pytest.skip("napari isn't installed; pip install cleft[napari] pyside6")
    if shutil.which("xvfb-run") is None:
        pytest.skip("there is no xvfb-run; apt-get install xvfb xauth libxcb-icccm4 libxcb-keysyms1")
    command = ["xvfb-run", "-a", "-s", "-screen 0 1280x960x24", sys.executable, "-m", "pytest"]
    addopts = "addopts=--doctest-modules --strict-markers -q"
    options = ["-p", "no:cacheprovider", "-o", addopts, "-o", "python_files=window_*.py", "-m", marked]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        "HOME": str(home),
        "LIBGL_ALWAYS_SOFTWARE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # or all of napari is rewritten for its assertions
        "QT_API": "pyside6",
        "XDG_RUNTIME_DIR": str(home),
    }
    done = subprocess.run(
        [*command, *options, *map(str, places)],
        env=environment, capture_output=True, text=True, timeout=LIMIT, cwd=HERE.parents[1],
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-8000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def test_the_window(tmp_path: Path) -> None:
    assert " passed" in run([*WINDOWS, EXAMPLES], "not long", tmp_path)


@pytest.mark.long
def test_the_window_at_length(tmp_path: Path) -> None:
    assert " passed" in run(WINDOWS, "long", tmp_path)

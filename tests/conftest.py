"""Fixtures every test may use."""

import os
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(params=[2, 3], ids=["2D", "3D"])
def ndim(request: pytest.FixtureRequest) -> int:
    """Every array test runs in both dimensions."""
    return request.param


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real annotated images, beside the checkout or where CLEFT_DATA says."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("CLEFT_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"real images not found at {folder}; set CLEFT_DATA to run this test")
    return folder

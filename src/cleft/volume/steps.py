"""The steps of an image on disk: those of every image, then the coarser levels of its labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cleft.io.zarr_labels import fill_level, level_grid
from cleft.labels.blockwise import STEPS, Step
from cleft.volume.store import RunStore

__all__ = ["Downsample", "steps_of"]


@dataclass(frozen=True)
class Downsample(Step):
    """Fill a level of the labels' pyramid from the level before it."""

    level: int

    @property
    def name(self) -> str:  # type: ignore[override]  # each level has records of its own
        return f"level{self.level}"

    title = "coarser levels"

    def count(self, store: RunStore) -> int:
        return len(level_grid(store.labels, self.level))

    def run(self, store: RunStore, block: int) -> str | None:
        group = store.labels
        part = level_grid(group, self.level).slices(block)
        fine = [-(-n // m) for n, m in zip(store.plan.shape, group[str(self.level)].shape)]
        region = tuple(
            slice(s.start * f, min(s.stop * f, n)) for s, f, n in zip(part, fine, store.plan.shape)
        )
        blank = store.table("blank")
        if not all(blank[i] for i, _ in store.grid.within(region)):
            with store.guarded():
                fill_level(group, self.level, part)
        store.save(self.name, block)
        return None


def steps_of(store: RunStore) -> Iterator[Step]:
    """The steps in their order; the levels are known once those before are done."""
    yield from STEPS
    for level in range(1, len(list(store.labels.array_keys()))):
        yield Downsample(level)

"""Scores of a rival's labels: ours beside StarDist's ``matching``, which must agree; and the table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from common import tiffs

from cleft.labels.scores import Scores, pool, score, score_markers

THRESHOLDS = (0.5, 0.75)
COUNTS = ("fp", "tp", "fn", "n_true", "n_pred")
COLUMNS = ("PQ", "F1 .5", "F1 .75", "SEG", "P05", "RQ", "SQ")
COSTS = ("network s/Mpx", "post s/Mpx", "peak GB", "trained min", "GB in training")
HEAD = ("set", "rival", *COLUMNS, "marker F1", *COSTS)


def judge(truth: Path, found: Path, markers: Path | None = None) -> dict[str, Any]:
    """Scores pooled over images and averaged; of markers too, if there are any."""
    scores, marked = [], []
    for path in tiffs(truth):
        cells, labels = (tifffile.imread(folder / path.name).astype(np.int32) for folder in (truth, found))
        scores.append(score(cells, labels))
        agree(scores[-1], cells, labels, path.name)
        if markers is not None:
            marked.append(score_markers(tifffile.imread(markers / path.name), labels))
    result: dict[str, Any] = {"pooled": row_of(pool(scores)), "mean": mean_of(scores), "images": len(scores)}
    if marked:
        whole = sum(marked[1:], marked[0])
        result["markers"] = {
            "f1": round(whole.f1, 4), "recall": round(whole.recall, 4),
            "precision": round(whole.precision, 4), "tp": whole.tp,
        }  # fmt: skip
    return result


def agree(ours: Scores, cells: np.ndarray, labels: np.ndarray, name: str) -> None:
    """Counts and quality of StarDist's own function, without what PQ's paper takes out.

    That is: pixels that aren't annotated, and finds that match nothing and lie on these for more than half.
    """
    from stardist.matching import matching

    known = cells >= 0
    sizes, seen = np.bincount(labels.ravel()), np.bincount(labels[known], minlength=labels.max() + 1)
    cells, every = cells * known, labels * known
    for thresh in THRESHOLDS:
        first = matching(cells, every, thresh=thresh, report_matches=True)
        matched = [first.matched_pairs[n][1] for n in first.matched_tps]
        counted = 2 * seen >= sizes
        counted[matched] = True
        theirs, mine = matching(cells, every * counted[every], thresh=thresh), ours.matching(thresh)
        same = all(getattr(theirs, field) == getattr(mine, field) for field in COUNTS)
        if not same or abs(theirs.panoptic_quality - mine.panoptic_quality) > 1e-5:
            raise SystemExit(f"{name} at {thresh}: StarDist says {theirs}, cleft says {mine}")


def row_of(s: Scores) -> dict[str, float]:
    """The numbers of the table; F1 is that of StarDist's matching."""
    f1 = [s.matching(thresh).f1 for thresh in THRESHOLDS]
    values = (s.pq, *f1, s.seg, s.p05, s.rq, s.sq)
    return {name: round(float(value), 4) for name, value in zip(COLUMNS, values)}


def mean_of(scores: Sequence[Scores]) -> dict[str, float]:
    """Each number averaged over the images."""
    rows = [row_of(s) for s in scores]
    return {name: round(float(np.mean([row[name] for row in rows])), 4) for name in COLUMNS}


def table(results: Sequence[dict[str, Any]], kind: str = "pooled") -> str:
    """A Markdown table, a line for each set and rival, the best of a set first."""
    results = sorted(results, key=lambda one: (one["set"], -one["scores"][kind][COLUMNS[0]]))
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    lines += ["| " + " | ".join(cells_of(result, kind)) + " |" for result in results]
    return "\n".join(lines)


def cells_of(result: dict[str, Any], kind: str) -> list[str]:
    cells = [result["set"], result["rival"]]
    cells += [f"{result['scores'][kind][name]:.3f}" for name in COLUMNS]
    cells.append(f"{result['scores']['markers']['f1']:.3f}" if "markers" in result["scores"] else "")
    cells += [f"{result[name]:.2f}" for name in ("network_s_per_mpx", "post_s_per_mpx")]
    cells += [f"{result['peak_bytes'] / 1e9:.2f}", f"{result['train']['minutes']:.1f}"]
    return [*cells, f"{result['train']['peak_bytes'] / 1e9:.2f}"]


def scaling_tables(entries: Sequence[dict[str, Any]]) -> str:
    """One for cells of a fixed size, one for cells that fill the image."""
    kinds = {"cells of 12 pixels": False, "cells that fill the image": True}
    parts = {title: [e for e in entries if e["filling"] == filling] for title, filling in kinds.items()}
    return "\n\n".join(f"{title}\n\n{scaling_table(part)}" for title, part in parts.items() if part)


def scaling_table(entries: Sequence[dict[str, Any]]) -> str:
    """Seconds of post-processing: a line for each rival, a column for each number of cells."""
    counts = sorted({entry["cells"] for entry in entries})
    lines = ["| rival | " + " | ".join(f"{n:,} cells" for n in counts) + " |", "|---|" + "---|" * len(counts)]
    for rival in dict.fromkeys(entry["rival"] for entry in entries):
        texts = {e["cells"]: seconds_text(e) for e in entries if e["rival"] == rival}
        lines.append(f"| {rival} | " + " | ".join(texts.get(n, "") for n in counts) + " |")
    return "\n".join(lines)


def seconds_text(entry: dict[str, Any]) -> str:
    return entry["skipped"] if "skipped" in entry else f"{entry['seconds']:.2f} s"

"""Scores written the obvious way: loops over cells and sets of pixels. Slow on purpose."""

import numpy as np


def cells(labels: np.ndarray, known: np.ndarray) -> dict[int, set[tuple[int, ...]]]:
    """The known pixels of each cell."""
    found: dict[int, set[tuple[int, ...]]] = {}
    for position in np.ndindex(labels.shape):
        if known[position] and labels[position] > 0:
            found.setdefault(int(labels[position]), set()).add(position)
    return dict(sorted(found.items()))


def both(truth: np.ndarray, labels: np.ndarray) -> tuple[list[set], list[set]]:
    """True and predicted cells, without what isn't annotated."""
    known = truth != -1
    return list(cells(truth, known).values()), list(cells(labels, known).values())


def iou(a: set, b: set) -> float:
    return len(a & b) / len(a | b)


def counted(truth: np.ndarray, labels: np.ndarray) -> list[set]:
    """Predicted cells but for those without a match of which more than half lies on what isn't annotated."""
    everywhere = np.ones(truth.shape, bool)
    true, known = cells(truth, truth != -1).values(), cells(labels, truth != -1)
    whole = cells(labels, everywhere)
    return [
        p
        for label, p in known.items()
        if 2 * len(p) >= len(whole[label]) or any(iou(t, p) > 0.5 for t in true)
    ]


def panoptic(truth: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """P05, RQ, SQ and PQ with matches of IoU > 0.5; at least one cell must be there."""
    true, pred = both(truth, labels)[0], counted(truth, labels)
    hits = [iou(t, p) for t in true for p in pred if iou(t, p) > 0.5]
    tp, fp, fn = len(hits), len(pred) - len(hits), len(true) - len(hits)
    sq = sum(hits) / tp if tp else 0.0
    rq = tp / (tp + fp / 2 + fn / 2)
    return {"p05": tp / (tp + fp) if tp else 0.0, "rq": rq, "sq": sq, "pq": rq * sq}


def seg(truth: np.ndarray, labels: np.ndarray) -> float:
    """SEG of the Cell Tracking Challenge; at least one true cell must be there."""
    true, pred = both(truth, labels)
    values = []
    for t in true:
        most = [p for p in pred if len(t & p) > len(t) / 2]
        values.append(iou(t, most[0]) if most else 0.0)
    return sum(values) / len(values)


def aji(truth: np.ndarray, labels: np.ndarray) -> float:
    """Algorithm 1 of Kumar et al. 2017; at least one cell must be there."""
    true, pred = both(truth, labels)
    intersection, union, used = 0, 0, set()
    for t in true:
        values = [iou(t, p) for p in pred]
        if not values or max(values) == 0:
            union += len(t)
            continue
        best = values.index(max(values))
        used.add(best)
        intersection += len(t & pred[best])
        union += len(t | pred[best])
    these = counted(truth, labels)
    union += sum(len(p) for i, p in enumerate(pred) if i not in used and p in these)
    return intersection / union


def found_markers(markers: np.ndarray, labels: np.ndarray) -> int:
    """Markers of which one predicted cell covers most, and of no other."""
    spots, pred = both(markers, labels)
    covers = [[i for i, m in enumerate(spots) if len(m & p) > len(m) / 2] for p in pred]
    return sum(len(covered) == 1 for covered in covers)

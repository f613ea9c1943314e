"""Comparisons: contenders in turn, round after round, and the cosines of their embeddings."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from cells import OURS
from contenders import Contender, ContenderError, Turn

# Threads of a contender that just ended may spin for a moment before they sleep.
PAUSE_S = 0.5
# A worker is kept between its turns while this much memory stays free beside as much as the largest one holds.
MEMORY_RESERVE_BYTES = 1 << 30


def in_turn(
    contenders: Sequence[Contender],
    rounds: int,
    seconds: float,
    pause: Callable[[float], None] = time.sleep,
    free_bytes: Callable[[], int | None] | None = None,
) -> dict[str, Any]:
    """Measures all contenders in each of the rounds, in an order that rotates, and returns the cell's figures: what
    compare returns, and under "failed" the message of each contender that could not be measured. Ours must not fail."""
    turns: dict[str, list[Turn]] = {c.name: [] for c in contenders}
    failed: dict[str, str] = {}
    try:
        for r in range(rounds):
            start = r % len(contenders)
            for c in [*contenders[start:], *contenders[:start]]:
                if c.name in failed:
                    continue
                try:
                    turns[c.name].append(c.turn(seconds))
                except ContenderError as err:
                    if c.name == OURS:
                        raise
                    failed[c.name] = str(err)
                    print(f"peers: {err}", file=sys.stderr)
                    c.close()
                    continue
                pause(PAUSE_S)
                if not room_for_more(contenders, (free_bytes or memory_free_bytes)()):
                    c.close()
    finally:
        for c in contenders:
            c.close()
    told = {c.name: c.told for c in contenders if c.name not in failed}
    return {**compare({name: t for name, t in turns.items() if name not in failed}, told), "failed": failed}


def room_for_more(contenders: Sequence[Contender], free: int | None) -> bool:
    """Tells whether another worker as large as the largest would fit; also where the system does not tell."""
    return free is None or free > MEMORY_RESERVE_BYTES + max(c.memory_bytes() for c in contenders)


def memory_free_bytes() -> int | None:
    """Returns the memory that a new process may take, None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), None)


def compare(turns: dict[str, list[Turn]], told: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Returns the figures of a cell: of each contender its rounds and their median, and of each peer how many times as
    fast ours was. A ratio is the median of the ratios within a round, whose two sides ran within a minute of each other:
    the machine's own speed drifts over a longer time."""
    ours = turns[OURS]
    contenders = []
    for name, series in turns.items():
        entry: dict[str, Any] = {
            "name": name,
            "items_per_s": median(t.items_per_s for t in series),
            "rounds": [t.items_per_s for t in series],
            "calls": [t.calls for t in series],
            "told": told[name],
        }
        if name != OURS:
            ratios = [a.items_per_s / b.items_per_s for a, b in zip(ours, series, strict=True)]
            entry["ratio"] = {"median": median(ratios), "least": min(ratios), "most": max(ratios)}
        contenders.append(entry)
    return {"contenders": contenders}


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the cosine of each row of a, [N, D], with that row of b, [N]."""
    if a.shape != b.shape:
        raise ContenderError(f"embeddings of shape {a.shape} and {b.shape}: expected the same")
    x, y = a.astype(np.float64), b.astype(np.float64)
    return (x * y).sum(1) / np.sqrt((x * x).sum(1) * (y * y).sum(1))

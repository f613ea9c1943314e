"""How close arrays of tia2-engine are to a reference's, what is close enough, and the table of it."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Limits:
    """What counts as the same."""

    difference: float  # most of any value
    likeness: float  # least cosine of an embedding, or correlation of rewards


ANY = float("inf")

# In types below f32 only likeness counts. Random models give much the same reward to every pair, so that rounding weighs
# more in the correlation of their rewards than in that of trained models.
EMBEDDINGS = {
    "f32": Limits(2e-5, 0.999999),
    "f16": Limits(ANY, 0.99999),
    "bf16": Limits(ANY, 0.9995),
    "int8": Limits(ANY, 0.995),
}
REWARDS = {"f32": Limits(1e-3, 0.999999), "f16": Limits(ANY, 0.9999), "bf16": Limits(ANY, 0.998), "int8": Limits(ANY, 0.98)}


@dataclass(frozen=True)
class Figures:
    """One array in one type."""

    model: str
    array: str  # with the flags before it
    dtype: str
    spread: float  # standard deviation of the reference's rewards; NaN of embeddings
    difference: float  # largest absolute
    likeness: float  # least cosine of an embedding; correlation of rewards
    agrees: bool


def compare(model: str, array: str, dtype: str, got: np.ndarray, want: np.ndarray) -> Figures:
    """Compares embeddings [..., D] row by row, rewards [N, M] as a whole. Values that are not finite never agree."""
    embeddings = array.endswith("_embeds")
    if got.size != want.size or (not embeddings and got.shape != want.shape):
        raise ValueError(f"{array} has shape {list(got.shape)}: expected {list(want.shape)}")
    got, want = got.reshape(want.shape).astype(np.float64), want.astype(np.float64)
    difference = float(np.abs(got - want).max())
    if embeddings:
        lengths = np.linalg.norm(got, axis=-1) * np.linalg.norm(want, axis=-1)
        spread, likeness = np.nan, float(((got * want).sum(-1) / lengths).min())
    else:
        spread, likeness = float(want.std()), float(np.corrcoef(got.ravel(), want.ravel())[0, 1])
    limits = (EMBEDDINGS if embeddings else REWARDS)[dtype]
    agrees = difference <= limits.difference and likeness >= limits.likeness
    return Figures(model, array, dtype, spread, difference, likeness, agrees)


HEAD = ("model", "compared", "type", "spread", "max abs diff", "least cosine / correlation", "")


def row(figures: Figures) -> tuple[str, ...]:
    """Returns the cells of a line of the table."""
    f = figures
    spread = "" if np.isnan(f.spread) else f"{f.spread:.3g}"
    verdict = "agrees" if f.agrees else "DIFFERS"
    return (f.model, f.array, f.dtype, spread, f"{f.difference:.2e}", f"{f.likeness:.7f}", verdict)


def table(all_figures: list[Figures]) -> str:
    """Returns the figures as a Markdown table that reads well as text."""
    rows = [HEAD, *map(row, all_figures)]
    width = [max(len(r[i]) for r in rows) for i in range(len(HEAD))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(r, width, strict=True)) + " |" for r in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in width) + "|", *lines[1:]])

"""Picture: the charts of a verdict as a PNG, for where mermaid is not drawn."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

CHARTS = 4
INCHES = (9.0, 2.4)  # of one metric
DOTS_PER_INCH = 100


def picture(
    names: Sequence[str], series: Mapping[str, Sequence[tuple[float, float, float, float]]], threshold: float
) -> bytes:
    """A PNG with a row per metric: what was seen and tolerated, and the evidence.

    Args:
        names: The metrics, the most important first.
        series: Minutes since the release, seen and tolerated percent, and the evidence as a power of ten.
        threshold: The evidence that convicts.
    """
    drawn = [name for name in names if len(series.get(name, ())) > 1][:CHARTS]
    figure = Figure(figsize=(INCHES[0], INCHES[1] * max(1, len(drawn))), layout="constrained")
    for row, name in enumerate(drawn):
        minutes, seen, tolerated, evidence = zip(*series[name], strict=True)
        shares, proof = (figure.add_subplot(len(drawn), 2, 2 * row + column) for column in (1, 2))
        shares.fill_between(minutes, 0, tolerated, color="#22c55e", alpha=0.25, label="tolerated")
        shares.plot(minutes, seen, color="#ef4444", label="seen")
        shares.set_title(name, fontsize=8)
        shares.set_ylabel("%")
        shares.legend(fontsize=7)
        proof.plot(minutes, [10**value for value in evidence], color="#ef4444")
        proof.axhline(threshold, color="#f59e0b", linestyle="--")
        proof.set_yscale("log")
        proof.set_title("evidence, and where it convicts", fontsize=8)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DOTS_PER_INCH)
    return file.getvalue()

"""How to read the numbers of a report, in a few sentences."""

from __future__ import annotations

import numpy as np

from ..evaluation.statistics import wilson_interval
from .report_rows import Report, summarise


def no_test_split(whose: str = "") -> str:
    """What to think of figures on images by which something was chosen in training."""
    return f"No independent test split{whose}: whatever was chosen on the validation images makes figures optimistic."


def caveats(report: Report) -> list[str]:
    """How to read the numbers of this report, in a few sentences."""
    lines = reading(report)
    if report.scored != "test":
        lines.append(no_test_split())
    return lines


def reading(report: Report) -> list[str]:
    """What the seeds, the images and the number of rows of this report make of its numbers."""
    summaries = summarise(report)
    lines = []
    single = [summary.seeds == 1 for summary in summaries]
    if any(single):
        start = "One seed" if all(single) else "Where there is one seed"
        lines.append(
            f"{start}: the interval covers the choice of {report.scored} images, not the luck of a training run; "
            "another seed gives other values."
        )
    if any(summary.seeds > 1 for summary in summaries):
        row = next(row for row in report.rows if len(row.top1) > 1)
        counts = {summary.seeds for summary in summaries}
        seeds = f"{counts.pop()} seeds" if len(counts) == 1 else "Several seeds"
        low, high = wilson_interval(round(float(np.mean(row.top1)) * row.test_images), row.test_images)
        images = f"{row.test_images:,} {report.scored} images"
        lines.append(
            f"{seeds}: mean and 95 % t-interval over seeds, differences paired seed by seed. All rows share the "
            f"{images}, whose choice alone is worth about ±{50 * (high - low):.1f} points."
        )
    if sum(not summary.baseline for summary in summaries) > 3:
        lines.append("Many rows are compared: even if none differed, one in twenty would exclude zero by luck alone.")
    return lines

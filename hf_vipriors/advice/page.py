"""The answer of ``evaluate.py --advise`` in the terminal."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ..data.columns import some
from ..data.image_files import LEFT_OUT
from ..data.label_sets import DOUBT
from ..data.protocol import CARVED
from ..reports.report import rich_table
from ..reports.report_text import duration
from ..terminal import Console
from .findings import Advice, Group
from .rules import FEW, TOO_FEW, UNEQUAL

CLASSES_SHOWN, GROUPS_SHOWN, LINES_SHOWN = 20, 5, 5
BAR = 24
# A test split is worth this many points either way (95 %, near 80 % top-1) before it is said to be small.
NOISY = 4.0
OBLONG = 1.5


def show(advice: Advice, console: Console) -> None:
    """Print the page: the answer, the images, what is wrong with them, what to do next."""
    found = advice.recommendation
    console.print()
    console.print(Panel(found.enough, title="Do I have enough images?", title_align="left", expand=False))
    console.print(images_line(advice))
    if advice.per_class:
        headed("Images by class" + cut_note(advice), class_table(advice), console)
    if advice.duplicates:
        headed("The same image twice", duplicate_table(advice), console)
        for line in group_lines(advice):
            console.print(f"  {line}", soft_wrap=True)
    lines = remarks(advice)
    if lines:
        headed("Mend or mind", bullets(lines), console)
    if advice.compared is not None:
        console.print()
        console.print(rich_table(advice.compared.report))
    headed(f"Recommended: {found.method}", Padding(found.reason, (0, 0, 0, 2)), console)
    console.print(settings_table(advice))
    commands(advice, console)


def headed(title: str, body: RenderableType, console: Console) -> None:
    console.print(Text(f"\n{title}", style="bold"))
    console.print(body)


def bullets(lines: list[str]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1))
    for line in lines:
        table.add_row(Text("!", style="yellow"), line)
    return table


def cut_note(advice: Advice) -> str:
    classes = len(advice.per_class)
    return f": the {CLASSES_SHOWN} smallest of {classes}" if classes > CLASSES_SHOWN else ""


def images_line(advice: Advice) -> str:
    """Counts, sizes and colours in a line."""
    counts = ", ".join(f"{count:,} {name}" for name, count in advice.counts.items())
    low, median, high = advice.shorter_side
    sides = f"{low} px" if low == high else f"{low} to {high} px (median {median})"
    gray = {0.0: "colour", 1.0: "gray"}.get(advice.gray, f"{100 * advice.gray:.0f} % gray, the others colour")
    return f"Images: {counts}. Shorter side {sides}; {gray}."


def class_table(advice: Advice) -> Table:
    """Images by class and split, the smallest classes first where they do not all fit."""
    splits = list(next(iter(advice.per_class.values())))
    rows = list(advice.per_class.items())
    if len(rows) > CLASSES_SHOWN:
        rows = sorted(rows, key=lambda row: row[1]["train"])[:CLASSES_SHOWN]
    table = Table()
    table.add_column("class")
    for split in splits:
        table.add_column(split, justify="right")
    table.add_column("")
    largest = max(1, *(counts["train"] for _, counts in rows))
    for name, counts in rows:
        bar = "█" * max(1, round(BAR * counts["train"] / largest))
        style = "red" if counts["train"] < TOO_FEW else "cyan"
        table.add_row(name, *(str(counts[split]) for split in splits), Text(bar, style=style))
    return table


def duplicate_table(advice: Advice) -> Table:
    table = Table()
    for column, justify in (("where", "left"), ("equal pixels", "right"), ("look the same", "right"), ("", "left")):
        table.add_column(column, justify=justify)
    meaning: str | Text
    for overlap in advice.duplicates:
        evaluated = overlap.second in ("validation", "test")
        if overlap.first == overlap.second:
            where, meaning = f"within {overlap.first}", "counted more than once"
        else:
            where, meaning = f"{overlap.second}, and in {overlap.first}", "phase 1 meets it twice"
        if evaluated and overlap.first != overlap.second:
            seen = "seen without its label" if overlap.first == "unlabelled" else "known before it is asked"
            why = "validation decides on test" if overlap.first == "validation" else seen
            meaning = Text.assemble(("leak", "red"), f": {why}")
        near = str(overlap.near) if advice.near_duplicates_searched else "not searched"
        table.add_row(where, str(overlap.exact), near, meaning)
    return table


def group_lines(advice: Advice) -> list[str]:
    """The first groups by name."""
    lines = [_group_line(group, root_of(advice)) for group in advice.groups[:GROUPS_SHOWN]]
    more = len(advice.groups) - GROUPS_SHOWN
    return [*lines, f"and {more} groups more: --output FILE.json names them all"] if more > 0 else lines


def root_of(advice: Advice) -> str:
    """What all paths begin with, where the data is a folder."""
    return str(Path(advice.source).absolute()) + os.sep


def _group_line(group: Group, root: str) -> str:
    places = [
        image["place"].replace(root, "") + (f" = {image['label']}" if group.labels_disagree and image["label"] else "")
        for image in group.images[:LINES_SHOWN]
    ]
    more = len(group.images) - LINES_SHOWN
    kind = "LABELS DISAGREE" if group.labels_disagree else "equal" if group.exact else "alike"
    return f"{kind}: {' | '.join(places)}" + (f" and {more} more" if more > 0 else "")


def remarks(advice: Advice) -> list[str]:
    """What deserves attention, one sentence each."""
    return [*_label_remarks(advice), *_duplicate_remarks(advice), *_image_remarks(advice)]


def _label_remarks(advice: Advice) -> list[str]:
    lines = [note.removeprefix(DOUBT) for note in advice.notes if note.startswith(DOUBT)]
    trained = {name: counts["train"] for name, counts in advice.per_class.items()}
    few = [name for name, count in trained.items() if count < TOO_FEW]
    if few:
        lines.append(f"fewer than {TOO_FEW} training images: {some(few)}")
    if trained and max(trained.values()) >= UNEQUAL * max(1, min(trained.values())):
        lines.append("the classes are unequal: look at the balanced accuracy, top-1 hides the small ones")
    for split in ("validation", "test"):
        missing = [name for name, counts in advice.per_class.items() if counts.get(split) == 0]
        if missing and not (split == "test" and advice.test_is_validation):
            lines.append(f"no {split} image of {some(missing)}: add some, or no score tells how well they are known")
    if advice.test_is_validation:
        lines.append("no test split: set some labelled images aside (test/CLASS/), or every score will flatter")
    carved = any(note.startswith(CARVED) for note in advice.notes)
    if carved and (count := advice.counts.get("train", 0)) < FEW * len(trained):
        aside = advice.counts.get("validation", 0)
        lines.append(
            f"validation takes {aside} of the {count + aside} labels: once you know which method, "
            "--validation_share 0 learns from these too"
        )
    scored = "validation" if advice.test_is_validation else "test"
    if trained and not {"validation", "test"} & advice.counts.keys():
        lines.append("no images are set apart: nothing will tell how good a model is, or which method is the best one")
    count = advice.counts.get(scored, 0)
    points = 196 * (0.8 * 0.2 / count) ** 0.5 if count else 0.0
    if points > NOISY:
        lines.append(
            f"{scored} has {count} images: a top-1 near 80 % will be known to ±{points:.0f} points, not better"
        )
    return lines


def _duplicate_remarks(advice: Advice) -> list[str]:
    lines = []
    disagreeing = sum(group.labels_disagree for group in advice.groups)
    if disagreeing:
        lines.append(f"images with different labels in different places: {disagreeing}; look which is right")
    for overlap in advice.duplicates:
        if overlap.second in ("validation", "test") and overlap.first == "train":
            count, of = overlap.exact + overlap.near, advice.counts[overlap.second]
            lines.append(
                f"training images among the {of} of {overlap.second}: {count}; look, and keep each on one side"
            )
    if not advice.near_duplicates_searched:
        lines.append("so many images: only those of equal pixels were compared, not those that look the same")
    return lines


def _image_remarks(advice: Advice) -> list[str]:
    lines = [note for note in advice.notes if note.startswith(LEFT_OUT)]
    for split, bad in advice.unreadable.items():
        more = f" and {len(bad) - LINES_SHOWN} more" if len(bad) > LINES_SHOWN else ""
        named = "; ".join(line.replace(root_of(advice), "") for line in bad[:LINES_SHOWN])
        lines.append(f"unreadable in {split}: {len(bad)} ({named}{more})")
    if advice.aspect > OBLONG:
        lines.append(
            f"half of the images are {advice.aspect:.1f} times as long as wide, or more: only their central square "
            "is looked at"
        )
    return lines


def settings_table(advice: Advice) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2))
    for setting in advice.recommendation.settings:
        table.add_row(setting.name, Text(setting.value, style="bold"), setting.reason)
    return table


def commands(advice: Advice, console: Console) -> None:
    """What to run next, each with the time it should take; lines to be copied stay whole."""
    for number, step in enumerate(advice.steps, start=1):
        time = "" if step.seconds is None else f", about {duration(step.seconds)} here"
        console.print(Text.assemble((f"\n{number}. {step.name}", "bold"), time))
        console.print(step.command, soft_wrap=True)
    if any(step.seconds is not None for step in advice.steps):
        console.print("\nTimes are of the training steps alone; evaluations and checkpoints come on top.", style="dim")

"""From what was timed to ``benchmark.json``, and from that alone to the tables that people read."""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table

from ..machine import usable_cores
from ..training.run_files import versions
from .runs import PARTS

END_TO_END, CEILING = "end_to_end", "ceiling"
NAMES = {END_TO_END: "end to end", CEILING: "ceiling", "lightly": "lightly", "loop": "plain loop"}


class PaperRun(NamedTuple):
    """A training that a paper reports."""

    title: str
    method: str
    backbone: str
    teacher: str | None
    image_size: int
    images: int
    epochs: int


PAPER_RUNS = (
    PaperRun(
        "phase 1 of 2008.00261: ResNet-50, 50,000 images, 800 epochs", "moco", "resnet50", None, 224, 50_000, 800
    ),
    PaperRun(
        "SEED, 2101.04731: ResNet-18 from ResNet-50, ImageNet, 200 epochs",
        *("seed", "resnet18", "resnet50", 224, 1_281_167, 200),
    ),
)


def machine(device: torch.device) -> dict[str, Any]:
    """What decides the figures: processor, GPU, cores, versions, and how busy the machine was."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        models = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = models[0] if models else cpu
    return {
        "device": "CPU" if device.type == "cpu" else torch.cuda.get_device_name(device),
        "cpu": cpu,
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "versions": versions() | {"torchvision": version("torchvision"), "cuda": torch.version.cuda},
    }


def ratio(ours: Sequence[float], others: Sequence[float]) -> dict[str, Any]:
    """How many times as fast as another we were, round by round, from the seconds of a step.

    Example:
        >>> ratio([2.0, 1.0, 4.0], [1.0, 1.0, 3.0])
        {'rounds': [0.5, 1.0, 0.75], 'median': 0.75, 'lowest': 0.5, 'highest': 1.0}
    """
    rounds = [other / our for our, other in zip(ours, others, strict=True)]
    return {"rounds": rounds, "median": statistics.median(rounds), "lowest": min(rounds), "highest": max(rounds)}


def of_ceiling(ratios: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The speed of each as a share of the ceiling's, from how many times as fast we were.

    Example:
        >>> of_ceiling({"ceiling": {"median": 0.9}, "lightly": {"median": 3.0}})
        {'end_to_end': 0.9, 'ceiling': 1.0, 'lightly': 0.3}
    """
    ours = ratios[CEILING]["median"]
    return {END_TO_END: ours} | {name: ours / found["median"] for name, found in ratios.items()}


def case_figures(
    seconds: Mapping[str, Sequence[float]], images_per_step: int, split: Mapping[str, float], peak_bytes: int
) -> dict[str, Any]:
    """The figures of one image size.

    Args:
        seconds: of a step, by contestant, one a round; ours is ``end_to_end``.
        images_per_step: data-set images, over all processes.
        split: seconds of each part of a step.
        peak_bytes: most memory in use.
    """
    return {
        "images_per_step": images_per_step,
        "seconds_per_step": {name: list(rounds) for name, rounds in seconds.items()},
        "images_per_second": {name: images_per_step / statistics.median(rounds) for name, rounds in seconds.items()},
        "ratios": {name: ratio(seconds[END_TO_END], rounds) for name, rounds in seconds.items() if name != END_TO_END},
        "split": dict(split),
        "peak_bytes": peak_bytes,
    }


def matching_paper_runs(method: str, backbone: str, backbone_args: dict, teacher: str, sizes: Sequence[int]):
    """The papers' runs that these settings train a step of."""
    return [
        run
        for run in PAPER_RUNS
        if (run.method, run.backbone) == (method, backbone)
        and not backbone_args
        and run.teacher in (None, teacher)
        and run.image_size in sizes
    ]


def estimates(
    runs: Sequence[PaperRun], cases: Sequence[Mapping[str, Any]], price: float | None
) -> list[dict[str, Any]]:
    """Hours, and with a price the cost, of the papers' runs at the speed that was measured; evaluation not included.

    Args:
        cases: with ``image_size`` and ``images_per_second``.
        price: of an hour of all that was measured on.
    """
    found = []
    for run in runs:
        (rate,) = [case["images_per_second"][END_TO_END] for case in cases if case["image_size"] == run.image_size]
        hours = run.images * run.epochs / rate / 3600
        one = {"run": run.title, "images_per_second": rate, "hours": hours}
        found.append(one | ({} if price is None else {"price_per_hour": price, "cost": hours * price}))
    return found


def shares(split: Mapping[str, float]) -> dict[str, float]:
    """Each part of a step as a share of their sum.

    Example:
        >>> shares({"data": 1.0, "views": 3.0})
        {'data': 0.25, 'views': 0.75}
    """
    total = math.fsum(split.values())
    return {part: seconds / total for part, seconds in split.items()}


def size(count: float) -> str:
    """Bytes in words.

    Example:
        >>> size(3 * 2**20), size(5.25 * 2**30)
        ('3 MiB', '5.2 GiB')
    """
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


# Without lines between columns: two ratios with their ranges fit into eighty.
_LOOK = {"title_justify": "left", "box": SIMPLE_HEAD, "pad_edge": False, "padding": (0, 1, 0, 0)}


def _speed(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def _ratio(found: Mapping[str, Any], to: str = " to ") -> str:
    return f"{found['median']:.2f} ({found['lowest']:.2f}{to}{found['highest']:.2f})"


def rival_name(benchmark: Mapping[str, Any]) -> str | None:
    """The other program in a benchmark, if there was one."""
    others = [name for name in benchmark["cases"][0]["ratios"] if name != CEILING]
    return others[0] if others else None


def rich_tables(benchmark: Mapping[str, Any]) -> list[Table]:
    """One benchmark for the terminal: speed, the parts of a step, and stores of other sizes."""
    rival = rival_name(benchmark)
    speed = Table(title=benchmark["title"], **_LOOK)
    beside = [NAMES[rival], "times that"] if rival else []
    for column in ["px", "images/s", "ceiling", "of the ceiling", *beside, "memory"]:
        speed.add_column(column, justify="right")
    parts = Table(title="A step, device waited for at each border", **_LOOK)
    for column in ["px", "ms", *PARTS]:
        parts.add_column(column, justify="right")
    for case in benchmark["cases"]:
        rates, ratios = case["images_per_second"], case["ratios"]
        beside = [_speed(rates[rival]), _ratio(ratios[rival], "–")] if rival else []
        speed.add_row(
            *(
                str(case["image_size"]),
                _speed(rates[END_TO_END]),
                _speed(rates[CEILING]),
                _ratio(ratios[CEILING], "–"),
            ),
            *(*beside, size(case["peak_bytes"])),
        )
        share = shares(case["split"])
        total = 1000 * math.fsum(case["split"].values())
        parts.add_row(str(case["image_size"]), f"{total:.1f}", *(f"{100 * share[part]:.0f} %" for part in PARTS))
    tables = [speed, parts]
    if benchmark["scaling"]:
        scaling = Table(title=f"Stores of other sizes, {benchmark['cases'][0]['image_size']} px", **_LOOK)
        for column in ("images", "images/s", "data", "peak memory"):
            scaling.add_column(column, justify="right")
        for row in benchmark["scaling"]:
            data = f"{100 * shares(row['split'])['data']:.0f} %"
            scaling.add_row(f"{row['images']:,}", _speed(row["images_per_second"]), data, size(row["peak_bytes"]))
        tables.append(scaling)
    return tables


def benchmark_markdown(found: Mapping[str, Any]) -> str:
    """``benchmark.json`` as one table and a few lines below it."""
    benchmarks = found["benchmarks"]
    parts = [f"{part} %" for part in PARTS]
    columns = ["run", "images/s", "of the ceiling", "times the other", "ms a step", *parts, "peak memory"]
    lines = [f"| {' | '.join(columns)} |", f"| --- |{' ---: |' * (len(columns) - 1)}"]
    for benchmark in benchmarks:
        rival = rival_name(benchmark)
        lines.append(f"| *{benchmark['title']}*<br>{where(benchmark)} |{' |' * (len(columns) - 1)}")
        for case in benchmark["cases"]:
            share, ratios = shares(case["split"]), case["ratios"]
            cells = [
                *(f"**{case['image_size']} px**", _speed(case["images_per_second"][END_TO_END])),
                *(_ratio(ratios[CEILING]), f"{_ratio(ratios[rival])} {NAMES[rival]}" if rival else "–"),
                f"{1000 * statistics.median(case['seconds_per_step'][END_TO_END]):.1f}",
                *(f"{100 * share[part]:.0f}" for part in PARTS),
                size(case["peak_bytes"]),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    notes = [note for benchmark in benchmarks for note in _notes(benchmark)]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes), *([""] if notes else []), REMARKS]) + "\n"


REMARKS = (
    "Medians over interleaved rounds, in brackets the least and the greatest round. The ceiling is the same method, "
    "optimizer, precision and batch in a plain loop on views that already lie on the device. An image counts once, "
    "however many views it has. The parts of a step are from a training of its own."
)


def where(benchmark: Mapping[str, Any]) -> str:
    """The machine and what was set, in a few words."""
    machine, settings = benchmark["machine"], benchmark["settings"]
    device = machine["cpu"] if machine["device"] == "CPU" else machine["device"]
    several = f"{settings['processes']} processes" if settings["processes"] > 1 else ""
    compiled = "compiled" if settings["torch_compile"] else ""
    words = [f"{device}, {machine['cores']} cores", f"torch {machine['versions']['torch']}", several, compiled]
    return ", ".join(word for word in words if word)


def _notes(benchmark: Mapping[str, Any]) -> list[str]:
    notes = []
    if benchmark["scaling"]:
        rows = ", ".join(
            f"{row['images']:,}: {_speed(row['images_per_second'])} ({size(row['peak_bytes'])})"
            for row in benchmark["scaling"]
        )
        notes.append(
            f"{benchmark['title']}, {benchmark['cases'][0]['image_size']} px, images in the store: images/s (peak "
            f"memory): {rows}"
        )
    return notes + [estimate_line(one, benchmark) for one in benchmark["estimate"]]


def estimate_line(one: Mapping[str, Any], benchmark: Mapping[str, Any]) -> str:
    """One paper's run in words."""
    hours = f"{one['hours']:.1f} hours" if one["hours"] < 72 else f"{one['hours'] / 24:.1f} days"
    cost = f", {one['cost']:,.0f} at {one['price_per_hour']:g} an hour" if "cost" in one else ""
    return (
        f"estimate, {one['run']}: {hours}{cost}, at the {_speed(one['images_per_second'])} images/s measured on "
        f"{where(benchmark)}; evaluation not included"
    )

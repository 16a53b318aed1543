"""From ``results.json`` to what people read: Markdown, CSV, and the tables between the marks of other pages."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ..benchmark.report import benchmark_markdown
from ..errors import InputError, one_line
from ..evaluation.without_duplicates import WITHOUT
from ..files import read_json, write_file, write_json
from ..reports.figure_files import to_png
from ..reports.report import Report, RunRow, grouped_table, results_table, verdict_lines
from ..reports.report_remarks import no_test_split, reading
from ..reports.table_figures import plot_figures, plot_name
from .headline import DRAWN_FROM, HEADLINE, PICTURE, gain_figure, headline, source
from .results_index import INDEX, results_index
from .table_jobs import JOBS
from .table_results import report
from .tables import read_table

METRIC_WORDS = {"balanced_accuracy": "balanced accuracy in place of top-1"}
PER_SEED = ("top1", "top5", "calibration_error", "trials", "parameters", "seconds", "p_values")


def results_markdown(found: dict[str, Any], *, verdict: bool = False) -> str:
    """``results.json`` as one table, made from the JSON alone; with ``verdict`` what each row shows in words too."""
    if not found["groups"]:
        return "No row shows these runs.\n"
    reports = [report(group["title"], group["rows"]) for group in found["groups"]]
    headings = [_heading(group) for group in found["groups"]]
    parts = [grouped_table(list(zip(headings, reports, strict=True)))]
    if verdict:
        for each in reports:
            parts += [f"**{each.title}**", "\n".join(f"- {line}" for line in verdict_lines(each))]
    return "\n\n".join([*parts, " ".join(remarks(found, reports))]) + "\n"


def remarks(found: dict[str, Any], reports: Sequence[Report]) -> list[str]:
    """How to read the table, in a few sentences."""
    lines = made_otherwise(found) + reading(max(reports, key=lambda each: len(each.rows)))
    rows = [row for group in found["groups"] for row in group["rows"]]
    if any("seconds" in row for row in rows):
        lines.append("Time is that of the run and of all runs it needs.")
    if any("p_values" in row for row in rows):
        lines.append(
            "McNemar p: against the baseline on the same images, of several seeds the largest; it knows nothing "
            "of the luck of a training run."
        )
    if any("published" in row for row in rows):
        lines.append(
            "Published: what the paper in brackets reports of its own runs, on the same data set where no other is "
            "named."
        )
    if any(row["score"] == WITHOUT for row in rows):
        lines.append(
            "Of CIFAR-10's test images those are left out that ciFAIR lists as duplicates [1902.00423]; ciFAIR itself "
            "has new images in their place."
        )
    if any("trials" in row for row in rows):
        lines.append("Trials: the budget of the search for a row's settings, chosen on validation.")
    return lines


def made_otherwise(found: dict[str, Any]) -> list[str]:
    """What keeps these figures from being those of the table: its length, its images, its test split.

    Example:
        >>> made_otherwise({"groups": [], "length": 0.01})
        ["Trained for 1 % of the table's length, at least one epoch or step."]
    """
    lines = []
    if "length" in found:
        least = ", at least one epoch or step" if found["length"] < 1 else ""
        lines.append(f"Trained for {100 * found['length']:.4g} % of the table's length{least}.")
    if "dataset" in found:
        name = Path(found["dataset"]).name or found["dataset"]
        lines.append(f"Made on {name}: counts of images in titles and notes are those of the table's own images.")
    rows = [row for group in found["groups"] for row in group["rows"]]
    marked = [row for row in rows if row.get("test_is_validation")]
    if marked:
        names = ", ".join(dict.fromkeys(row["name"] for row in marked))
        whose = "" if len(marked) == len(rows) else f" for {names}"
        lines.append(no_test_split(whose))
    if others := [row["name"] for row in rows if row.get("other_images")]:
        names = ", ".join(dict.fromkeys(others))
        lines.append(
            f"Scored on other images than the baseline: {names}. Their differences are not those of the runs alone; "
            "where all were to have the same images, remove the folders of the older runs to make them again."
        )
    return lines


def _heading(group: dict[str, Any]) -> str:
    words = METRIC_WORDS.get(group["rows"][0].get("metric", "top1"))
    lines = [f"*{group['title']}*", group["about"], f"({words})" if words else ""]
    return "<br>".join(line for line in lines if line).replace("|", "\\|")


def results_csv(found: dict[str, Any]) -> str:
    """One line a row and seed, with the values of all axes; what is not known is empty."""
    rows = [(group, row) for group in found["groups"] for row in group["rows"]]
    axes = list(dict.fromkeys(axis for _, row in rows for axis in row.get("values", {})))
    out = io.StringIO()
    names = [("p_value" if name == "p_values" else name) for name in PER_SEED]
    names += ["test_images", *(("published", "source") if any("published" in row for _, row in rows) else ())]
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["group", "row", "run", *axes, "baseline", "score", "metric", "seed", *names])
    for group, row in rows:
        values = row.get("values", {})
        for number, seed in enumerate(row.get("seeds", found["seeds"])):
            table.writerow(
                [
                    *(group["title"], row["name"], row["run"]),
                    *(values.get(axis, "") for axis in axes),
                    *(row["baseline"], row["score"], row.get("metric", "top1"), seed),
                    *(_value(row.get(name), number) for name in PER_SEED),
                    row["test_images"],
                    *(row.get("published", {}).get(key, "") for key in ("percent", "source") if "source" in names),
                ]
            )
    return out.getvalue()


def _value(values: Sequence[Any] | None, number: int) -> Any:
    """Of a row that is made once, p-values may still be one a seed: they stand in results.json."""
    return "" if values is None or number >= len(values) else values[number]


def read_results(path: Path | str, flag: str = "--results") -> dict[str, Any]:
    """The figures of an earlier run.

    Raises:
        InputError: no such file, or not one that this command wrote.
    """
    try:
        found = read_json(Path(path))
    except (OSError, ValueError) as error:
        raise InputError(f"{flag} {path} cannot be read: {one_line(error, None)}") from None
    if not isinstance(found, dict) or not {"table", "groups"} <= found.keys():
        raise InputError(f"{flag} {path} is no results.json of this command")
    return found


def mark_lines(name: str) -> tuple[str, str]:
    """The two lines between which a table is drawn."""
    return f"<!-- {name} -->", f"<!-- /{name} -->"


def check_marks(name: str, files: Iterable[Path | str]) -> None:
    """Refuse a page between whose marks nothing can be drawn.

    Raises:
        InputError: a file without the marks, or with more than one pair of them.
    """
    first, last = mark_lines(name)
    for file in files:
        text = Path(file).read_text(encoding="utf-8") if Path(file).is_file() else ""
        if text.count(first) != 1 or text.count(last) != 1 or text.index(first) > text.index(last):
            raise InputError(f"{file}: to be drawn into, it needs one line {first} and, below it, one line {last}")


def draw(name: str, drawn: str, files: Iterable[Path | str]) -> None:
    """Replace what stands between the marks of a name in each file.

    Raises:
        InputError: a file without the marks; then none is touched.
    """
    files = list(files)
    check_marks(name, files)
    first, last = mark_lines(name)
    for file in map(Path, files):
        text = file.read_text(encoding="utf-8")
        head, tail = text.split(first)[0], text.split(last)[1]
        write_file(file, f"{head}{first}\n{drawn}{last}{tail}")


def drawn_results(path: Path) -> str | None:
    """What ``model_cards/results/NAME.json`` looks like in Markdown: a table of this command, the quickstart's, or
    benchmarks. None where it holds figures of another kind, which no page shows as a table.

    Raises:
        InputError: it is no JSON object.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise InputError(f"{path} is no results.json of reproduce.py, report.json of quickstart.py or benchmark.json")
    if {"table", "groups"} <= found.keys():
        return results_markdown(found)
    if "benchmarks" in found:
        return benchmark_markdown(found)
    if not {"rows", "title"} <= found.keys():
        return None
    rows = [RunRow(**{key: value for key, value in row.items() if key != "summary"}) for row in found["rows"]]
    return results_table(Report(found["title"], found["subtitle"], rows)) + "\n"


def take_published(path: Path, tables: Path) -> None:
    """Give the rows of a measured table what its YAML file now says was ``published`` of them: nobody measured that.

    Args:
        path: of a ``results.json``; files of another kind, and of a table that is not there, stay as they are.
        tables: folder of the tables.

    Raises:
        InputError: a file that is damaged.
    """
    found = read_json(path)
    if not isinstance(found, dict) or not {"table", "groups"} <= found.keys():
        return
    if not (tables / f"{found['table']}.yaml").is_file():
        return
    table = read_table(found["table"], tables, list(JOBS))
    known = {(group["title"], row["name"]): row["published"] for group in table.groups for row in group["rows"]}
    before = json.dumps(found)
    for group in found["groups"]:
        for row in group["rows"]:
            row.pop("published", None)
            published = known.get((group["title"], row["name"]))
            row |= {} if published is None else {"published": published}
    if json.dumps(found) != before:
        write_json(path, found)


def linked_plots(results: Sequence[Path], pages: Iterable[str]) -> list[tuple[Path, Path, Figure]]:
    """The plots of tables that a page shows: (their file, the results they are drawn from, figure)."""
    text, found = "\n".join(pages), []
    for path in results:
        measured = read_json(path)
        asked = [each for each in measured.get("plots", []) if f"plots/{_picture(path, each)}" in text]
        for plot in asked:
            for _, figure in plot_figures({**measured, "plots": [plot]}).values():
                found.append((path.parent.parent / "plots" / _picture(path, plot), path, figure))
    return found


def _picture(results: Path, plot: dict[str, Any]) -> str:
    return f"{results.stem}-{plot_name(plot['title'])}.png"


def render(root: Path) -> list[tuple[str, Path]]:
    """Draw every ``model_cards/results/*.json`` that holds a table into the README and the cards that have its marks.

    A plot that its table asks for is drawn as ``model_cards/plots/NAME-PLOT.png`` where a page links to that file.
    What was published of a row is taken anew from the table's YAML file, see :func:`take_published`.

    Args:
        root: the project's folder.

    Returns:
        What was drawn where.

    Raises:
        InputError: nothing to draw, a file that cannot be drawn, or one that no page has marks for; then no page is
            touched.
    """
    results = sorted((root / "model_cards" / "results").glob("*.json"))
    pages = [root / "README.md", *sorted((root / "model_cards").glob("*.md"))]
    if not results:
        raise InputError(f"no model_cards/results/*.json in {root}: --render is run in the project's folder")
    for path in results:
        take_published(path, root / "scripts" / "recipes" / "tables")
    texts = {page: page.read_text(encoding="utf-8") for page in pages if page.is_file()}
    drawn = {path.stem: text for path in results if (text := drawn_results(path)) is not None}
    places = [(name, page) for name in drawn for page, text in texts.items() if mark_lines(name)[0] in text]
    for name in drawn.keys() - {name for name, _ in places}:
        raise InputError(f"no page has the line {mark_lines(name)[0]}: README.md or a card must show {name}.json")
    for name, page in places:
        check_marks(name, [page])
    for name, page in places:
        draw(name, drawn[name], [page])
    write_json(results[0].parent / INDEX, results_index(results[0].parent))
    for picture, path, figure in linked_plots(results, texts.values()):
        picture.parent.mkdir(exist_ok=True)
        places.append((path.stem, write_file(picture, to_png(figure, Source=source(path)))))
    if mark_lines(HEADLINE)[0] in texts.get(root / "README.md", ""):
        draw(HEADLINE, headline(results[0].parent), [root / "README.md"])
        figure = gain_figure(results[0].parent)
        picture = write_file(root / PICTURE, to_png(figure, Source=source(results[0].with_name(f"{DRAWN_FROM}.json"))))
        places += [(HEADLINE, root / "README.md"), (HEADLINE, picture)]
    return places

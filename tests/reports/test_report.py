"""The report as it is shown: the terminal, the three files, and a page that needs nothing else."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import stat
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from hf_vipriors.evaluation.statistics import wilson_interval
from hf_vipriors.reports import report as module
from hf_vipriors.reports.page import Section
from hf_vipriors.reports.report import Curve, Report, RunRow, html, markdown, rich_table, write_report


def row(name, top1, *, images=2000, **options):
    return RunRow(name, options.pop("note", ""), list(top1), options.pop("top5", None), images, [60.0], **options)


def small(*rows, **options):
    return Report("Title", "subtitle", list(rows), **options)


@pytest.fixture
def full():
    """A report with every section filled."""
    rng = np.random.default_rng(0)
    gray = rng.integers(0, 256, (28, 28), dtype=np.uint8)
    colour = rng.integers(0, 256, (300, 200, 3), dtype=np.uint8)
    rows = [
        RunRow(
            "supervised", "mixup, EMA", [0.80, 0.81, 0.82], [0.98, 0.97, 0.99], 2000, [100, 110, 120], 704_000, True
        ),
        RunRow("student <b>", "a | b & c", [0.83, 0.85, 0.85], [0.99, 0.99, 0.99], 2000, [400, 410, 420], 704_000),
        RunRow("loser", "", [0.70, 0.72, 0.71], [0.9, 0.9, 0.9], 2000, [5, 5, 5], 704_000),
    ]
    return Report(
        title="Fashion & friends",
        subtitle="3 seeds",
        rows=rows,
        curves=[[Curve("MoCo", [0, 1, 2], [9.0, 8.0, 7.0], "contrastive loss", chance=8.24)]],
        class_names=["T-shirt/top", "Coat", "Bag"],
        confusion=np.array([[8, 1, 1], [3, 7, 0], [0, 0, 10]]),
        per_class={"T-shirt/top": 0.8, "Coat": 0.7, "Bag": None},
        feature_map=(rng.normal(size=(30, 2)), np.arange(30) % 3),
        neighbours=[(gray, 0, [(gray, 0, 0.9), (colour, 2, 0.5), (gray[..., None], -1, 0.1)])],
        mistakes=[(colour, 1, 0, 0.987)],
        settings={"lambda": 1e-4, "a|b": "<x>"},
        verdict=["Seeds 0 to 2."],
        commands=["accelerate launch scripts/quickstart.py --full"],
        environment={"torch": "2.15"},
    )


@pytest.mark.parametrize("image", [np.zeros((4, 4)), np.zeros((4,), np.uint8), np.zeros((4, 4, 4), np.uint8)])
def test_an_image_of_another_kind_is_refused(image):
    with pytest.raises(ValueError, match="uint8"):
        html(small(row("a", [0.8]), mistakes=[(image, 0, 1, 0.9)]))


# --- terminal and Markdown ------------------------------------------------------------------------------------------


def shown(report, width):
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None).print(rich_table(report))
    return stream.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_table_fits_and_holds_every_number(full, width):
    text = shown(full, width)
    assert max(map(len, text.splitlines())) <= width
    for part in ("81.0", "78.5 to 83.5", "84.3", "▲ +3.3", "+1.9 to +4.8", "▼ -10.0", "99.0", "6 min 50 s", "0.70 M"):
        assert part in text, part
    assert "…" not in text  # nothing was cut


@pytest.mark.parametrize(
    ("width", "left_out"), [(80, []), (72, ["params"]), (60, ["params", "time"]), (50, ["params", "time", "top-5 %"])]
)
def test_a_narrow_terminal_keeps_the_names(full, width, left_out):
    """Rich takes the room from the one column that may be folded."""
    full.rows[2].name = "a network that loses"
    text = shown(full, width)
    assert max(map(len, text.splitlines())) <= width and "…" not in text
    table = text.split("• ")[0]
    for part in ("supervised", "student <b>", "a network that", "loses", "84.3", "78.5 to 83.5", "+1.9 to +4.8"):
        assert part in table, part
    columns = {"params": "0.70 M", "time": "6 min 50 s", "top-5 %": "99.0"}
    assert [name for name, value in columns.items() if value not in table] == left_out
    said = " ".join(text.split())
    assert (f"as the terminal is narrow: {', '.join(left_out)}." in said) == bool(left_out)


def test_names_with_brackets_are_not_taken_for_markup():
    assert "net[red]" in shown(small(row("net[red]", [0.8])), 80)


def test_columns_without_values_are_left_out():
    report = small(RunRow("a", "", [0.8], None, 10, []))
    for text in (shown(report, 100), markdown(report), html(report)):
        assert "top-5" not in text and "params" not in text


def test_markdown_tables_are_whole(full):
    text = markdown(full)
    assert text.startswith(
        "# Fashion & friends\n\n3 seeds\n\n## Verdict\n\n- student <b> beats supervised by 3.3 points"
    )
    assert r"a \| b & c" in text
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(columns) == 1, table
    assert "| Coat | 70.0 |\n| T-shirt/top | 80.0 |" in text
    assert "- Coat taken for T-shirt/top: 3 of 10" in text
    assert "```bash\naccelerate launch scripts/quickstart.py --full\n```" in text


# --- JSON -----------------------------------------------------------------------------------------------------------


def test_json_holds_every_number(full, tmp_path):
    found = json.loads(write_report(full, tmp_path)["json"].read_text(encoding="utf-8"))
    assert [r["top1"] for r in found["rows"]] == [r.top1 for r in full.rows]
    assert [r["seconds"] for r in found["rows"]] == [r.seconds for r in full.rows]
    assert found["rows"][1]["summary"]["difference"] == pytest.approx(0.1 / 3)
    assert found["rows"][1]["summary"]["outcome"] == "better"
    assert found["confusion"] == full.confusion.tolist()
    assert found["curves"][0][0]["values"] == [9.0, 8.0, 7.0] and found["curves"][0][0]["chance"] == 8.24
    assert found["per_class"] == full.per_class
    assert np.allclose(found["feature_map"]["positions"], full.feature_map[0])
    assert found["neighbours"][0]["query"] == "T-shirt/top"
    assert [near["label"] for near in found["neighbours"][0]["found"]] == ["T-shirt/top", "Bag", "unlabelled"]
    assert found["mistakes"] == [{"true": "Coat", "predicted": "T-shirt/top", "confidence": 0.987}]
    assert found["settings"]["lambda"] == 1e-4 and found["environment"] == {"torch": "2.15"}


def test_json_of_a_diverged_run_is_still_json(tmp_path):
    curve = Curve("loss", [0, 1], [1.0, float("nan")], "loss")
    path = write_report(small(row("a", [0.8]), curves=[[curve]]), tmp_path)["json"]
    found = json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert found["curves"][0][0]["values"] == [1.0, None]


# --- files ----------------------------------------------------------------------------------------------------------


def test_files_are_written_whole_and_readable_by_all(full, tmp_path):
    mask = os.umask(0o022)
    try:
        paths = write_report(full, tmp_path / "deep" / "folder")
    finally:
        os.umask(mask)
    assert {key: path.name for key, path in paths.items()} == {
        "json": "report.json",
        "markdown": "report.md",
        "html": "report.html",
    }
    # No temporary file is left beside them.
    assert sorted(os.listdir(tmp_path / "deep" / "folder")) == ["report.html", "report.json", "report.md"]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o644 for path in paths.values())


def test_a_failing_drawing_loses_no_number_and_no_older_page(full, tmp_path, monkeypatch):
    page = write_report(full, tmp_path)["html"].read_text(encoding="utf-8")
    full.rows[1].top1 = [0.9, 0.9, 0.9]

    def fail(report):
        raise RuntimeError("no fonts")

    monkeypatch.setattr(module, "html", fail)
    with pytest.raises(RuntimeError):
        write_report(full, tmp_path)
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["rows"][1]["top1"] == [0.9, 0.9, 0.9]
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page


def test_a_write_that_fails_halfway_keeps_the_older_file(full, tmp_path, monkeypatch):
    path = write_report(full, tmp_path)["json"]
    before = path.read_bytes()

    def fail(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(module.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(full, tmp_path)
    assert path.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["report.html", "report.json", "report.md"]


# --- the page -------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Collects elements and checks that they nest."""

    VOID = {"meta", "img", "br", "link", "input", "hr"}

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, (tag, self.open[-3:])
        self.open.pop()

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def test_the_page_needs_nothing_else(full):
    text = html(full)
    page = Page(text)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed"}
    for _, attrs in page.elements:
        for name in ("src", "href", "xlink:href", "srcset", "data"):
            value = attrs.get(name)
            assert value is None or value.startswith(("data:image/png;base64,", "#")), value
    assert "@import" not in text and not re.search(r"url\((?!#)", text)
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    assert "prefers-color-scheme: dark" in text and "@media print" in text


def test_the_page_shows_every_section(full):
    page = Page(html(full))
    for heading in (
        "What the numbers say",
        "Results",
        "Training",
        "Which classes, which confusions",
        "A map of the features",
        "Nearest neighbours",
        "The worst mistakes",
        "Do it again",
        "Settings and environment",
    ):
        assert heading in page.text, heading
    assert "84.3" in page.text and "▼ −10.0" in page.text and "Coat taken for T-shirt/top: 3 of 10" in page.text


def test_pictures_are_described_and_true_to_the_pixels(full):
    page = Page(html(full))
    images = page.all("img")
    assert [image["alt"] for image in images] == [
        "query: T-shirt/top",
        "neighbour: T-shirt/top, cosine 0.90",
        "neighbour: Bag, cosine 0.50",
        "neighbour: unlabelled, cosine 0.10",
        "Coat, predicted T-shirt/top with 99 %",
    ]
    pictures = [Image.open(io.BytesIO(base64.b64decode(image["src"].split(",")[1]))) for image in images]
    assert np.array_equal(np.asarray(pictures[0]), full.neighbours[0][0])
    # A photograph is shrunk to a thumbnail, in its proportions and colours.
    assert pictures[4].mode == "RGB" and max(pictures[4].size) <= 128
    assert pictures[4].size[1] / pictures[4].size[0] == pytest.approx(1.5, abs=0.05)
    drawings = page.all("svg")
    assert len(drawings) == 4
    assert all(drawing["role"] == "img" and len(drawing["aria-label"]) > 20 for drawing in drawings)
    assert "chance level 8.24" in drawings[0]["aria-label"]


def test_a_mistake_stands_above_its_overlay_and_every_one_has_one(full):
    overlay = np.full((8, 8, 3), 7, np.uint8)
    images = Page(html(full, overlays=[overlay])).all("img")
    assert images[-2]["alt"].startswith("Coat, predicted") and images[-1]["alt"] == "the pixels it hangs on"
    shown = Image.open(io.BytesIO(base64.b64decode(images[-1]["src"].split(",")[1])))
    assert np.array_equal(np.asarray(shown), overlay)
    assert "the pixels" not in html(full)
    with pytest.raises(ValueError, match="2 overlays for 1"):
        html(full, overlays=[overlay, overlay])


def test_further_sections_come_before_the_commands(full):
    text = html(full, [Section("Corrupted", "rain & fog", ["<drawn>"])])
    assert text.index("The worst mistakes") < text.index("<h2>Corrupted</h2>") < text.index("Do it again")
    assert "rain &amp; fog" in text and "&lt;drawn&gt;" in text


def test_ids_are_unique_on_the_page(full):
    ids = [attrs["id"] for _, attrs in Page(html(full)).elements if "id" in attrs]
    assert ids and len(ids) == len(set(ids))
    used = re.findall(r'(?:xlink:href="|url\()#([^")]+)', html(full))
    assert used and set(used) <= set(ids)


def test_names_cannot_break_the_page(full):
    full.class_names = ["<script>alert(1)</script>", 'a"b', "c&d"]
    text = html(full)
    assert "<script>" not in text and "<b>" not in re.sub(r"<b>[^<]*</b>", "", text)
    assert "student &lt;b&gt;" in text
    Page(text)


def test_neighbours_are_marked_right_wrong_or_neither(full):
    found = [attrs.get("class") for attrs in Page(html(full)).all("figure")]
    assert found == ["query", "right", "wrong", "note", None]


def test_the_bars_stand_where_the_numbers_are():
    report = small(row("base", [0.80], baseline=True), row("new", [0.90]))
    text = html(report)
    ticks = [
        (float(at), float(label)) for at, label in re.findall(r'<span style="left:([\d.]+)%">([\d.]+)</span>', text)
    ]
    (at0, value0), (at1, value1) = ticks[0], ticks[-1]
    assert (at0, at1) == (0, 100)
    dots = [float(at) for at in re.findall(r'class="dot" style="left:([\d.]+)%"', text)]
    values = [value0 + (value1 - value0) * at / 100 for at in dots]
    assert values == pytest.approx([80, 90], abs=0.01)
    spans = re.findall(r'class="span" style="left:([\d.]+)%;width:([\d.]+)%"', text)
    low = value0 + (value1 - value0) * float(spans[0][0]) / 100
    assert low == pytest.approx(100 * wilson_interval(1600, 2000)[0], abs=0.01)


@pytest.mark.parametrize("values", [[0.0], [1.0], [0.5, 0.5]], ids=str)
def test_extreme_values_still_make_a_page(values):
    Page(html(small(row("a", values, images=1, baseline=True), row("b", values, images=1))))


def test_an_empty_report_is_a_page_without_empty_sections():
    page = Page(html(Report("Title", "subtitle", [])))
    for heading in ("Results", "Training", "Nearest neighbours", "Do it again"):
        assert heading not in page.text


def test_the_page_is_the_same_when_made_again(full):
    assert html(full) == html(full)

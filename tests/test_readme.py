"""No number in the README was typed: the quickstart's table is the one in model_cards/results."""

import json
import re
from pathlib import Path

import pytest

from hf_vipriors.commands.tables import results_markdown

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_quickstart_table_is_the_measured_one():
    report = json.loads((ROOT / "model_cards" / "results" / "quickstart.json").read_text(encoding="utf-8"))
    section = README.split("## What the quickstart measured")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| **")]
    assert len(lines) == len(report["rows"]) >= 6
    for row, line in zip(report["rows"], lines, strict=True):
        mean = sum(row["top1"]) / len(row["top1"])
        name, top1 = (cell.strip() for cell in line.split("|")[1:3])
        assert name.startswith(f"**{row['name']}**") and top1 == f"{100 * mean:.1f}", line


@pytest.mark.parametrize("table", ["relatives"])
def test_a_table_is_drawn_from_its_results(table):
    found = json.loads((ROOT / "model_cards" / "results" / f"{table}.json").read_text(encoding="utf-8"))
    drawn = README.split(f"<!-- {table} -->\n")[1].split(f"<!-- /{table} -->")[0]
    assert drawn == results_markdown(found) and len(found["seeds"]) >= 3


def test_the_two_commands_stand_on_top():
    first = re.search(r"```\n(.*?)```", README, flags=re.S).group(1).splitlines()
    assert first == ["pip install uv && uv run accelerate launch scripts/quickstart.py", "uv run --extra test pytest"]


def test_every_script_and_recipe_that_is_named_exists():
    for path in set(re.findall(r"scripts/[\w/]+\.(?:py|yaml)", README)):
        assert (ROOT / path).is_file(), path
    for recipe in re.findall(r"`(\w+\.yaml)`", README):
        assert (ROOT / "scripts" / "recipes" / recipe).is_file(), recipe

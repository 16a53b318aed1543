import io

import pytest
from rich.table import Table
from rich.text import Text

from hf_vipriors.terminal import Console


@pytest.mark.parametrize("name", ["n/a [/]", "shirt [red]", ":cat:", "[bold]x[/bold]"])
def test_markup_in_a_name_is_text_everywhere(name):
    out = io.StringIO()
    console = Console(file=out, width=80)
    table = Table(title=f"on {name}", caption=name)
    table.add_column(name)
    table.add_row(name)
    console.print(table)
    console.print(name)
    console.rule(name)
    assert out.getvalue().count(name) == 6


@pytest.mark.parametrize("text", ["\x1b[31mred", Text("\x1b[31mred"), "\x9b31mred", "\x07red", "\u202ered"])
def test_a_terminal_obeys_no_name(text):
    out = io.StringIO()
    table = Table(title=text)
    table.add_row(text)
    Console(file=out, width=80).print(table, text)
    assert not set("\x1b\x9b\x07\u202e") & set(out.getvalue())
    assert out.getvalue().count("re") == 3, "a character in Text has no width when the table is laid out"

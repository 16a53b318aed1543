"""The results of a report for a terminal, in as many columns as it has room for."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderResult
from rich.table import Table
from rich.text import Text

from ..terminal import printable
from .report_columns import optional_columns
from .report_remarks import caveats
from .report_rows import Report, summarise
from .report_text import all_verdicts, difference, difference_interval, interval, percent

_STYLES = {"better": "green", "worse": "red", "unclear": "yellow", None: ""}
_LEAST_NAME = 14  # letters of a row's name in one line
# Columns that a narrow terminal does not get, in this order.
_LEFT_OUT_FIRST = ("params", "time", "top-5 %", "seeds")


def rich_table(report: Report) -> ConsoleRenderable:
    """The results for a terminal, with the verdict and how to read it below; 80 columns suffice.

    In fewer the columns that matter least are left out, and named.
    """
    return _Fitted(report)


class _Fitted:
    """The table of a report, in as many columns as a terminal has room for."""

    def __init__(self, report: Report):
        self.report = report

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        left_out: list[str] = []
        table = _terminal_table(self.report, left_out)
        for heading in _LEFT_OUT_FIRST:
            if _least_width(table, self.report, console) <= options.max_width:
                break
            if heading in (column.header for column in table.columns):
                left_out.append(heading)
                table = _terminal_table(self.report, left_out)
        yield table


def _least_width(table: Table, report: Report, console: Console) -> int:
    """What it needs: names may be folded, numbers not, and Rich would take their room from the names."""
    anywhere = console.options.update_width(10_000)
    longest = max((cell_len(printable(row.name)) for row in report.rows), default=0)
    return console.measure(table, options=anywhere).maximum - max(0, longest - _LEAST_NAME)


def _terminal_table(report: Report, left_out: Sequence[str]) -> Table:
    summaries = summarise(report)
    notes = [Text(f"{row.name}: {row.note}", style="dim") for row in report.rows if row.note]
    narrow = [Text(f"Left out, as the terminal is narrow: {', '.join(left_out)}.", style="dim")] if left_out else []
    footer = Text("\n").join(
        [Text(f"• {line}") for line in all_verdicts(report)]
        + [
            Text("\nWhat was run, and how to read it", style="bold"),
            *notes,
            *(Text(line, style="dim") for line in caveats(report)),
            *narrow,
        ]
    )
    title = Text(report.title, style="bold").append(f"\n{report.subtitle}", style="not bold dim")
    style = {"box": box.SIMPLE_HEAD, "title_style": "", "caption_style": "", "pad_edge": False}
    table = Table(title=title, title_justify="left", caption=footer, caption_justify="left", **style)
    table.add_column("run", min_width=_LEAST_NAME, overflow="fold")
    table.add_column("top-1 %\n95 % interval", justify="right", no_wrap=True)
    columns = {name: cell for name, cell in optional_columns(report.rows, summaries).items() if name not in left_out}
    compare = any(summary.difference is not None for summary in summaries)
    if compare:
        table.add_column("to baseline\n95 % interval", justify="right", no_wrap=True)
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for row, summary in zip(report.rows, summaries, strict=True):
        top1 = Text(percent(summary.top1), style="bold")
        cells = [
            Text(printable(row.name), style="bold"),
            top1.append(f"\n{interval(summary.interval)}", style="not bold"),
        ]
        if compare:
            text = f"{difference(summary)}\n{difference_interval(summary)}"
            cells.append(Text(text, style=_STYLES[summary.outcome]))
        table.add_row(*cells, *(column(row, summary) for column in columns.values()), end_section=row.baseline)
    return table

"""A report for people: tables in a terminal, and the same ones in Markdown."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.report import Bar, Column, Report, Section, Table

BARS = (
    Column("name", "bar"),
    Column("value", "measured"),
    Column("limit", "wanted"),
    Column("met", "met"),
)


def print_section(section: Section, console: Console) -> None:
    """Prints the tables of a section and the bars under them."""
    for table in _tables(section):
        drawn = RichTable(title=table.title, title_justify="left", box=None, title_style="bold")
        for i, column in enumerate(table.columns):
            drawn.add_column(column.heading, justify="left" if i == 0 else "right")
        for row in table.rows:
            drawn.add_row(*(column.show(row) for column in table.columns))
        console.print(drawn)
        if table.note:
            console.print(table.note, style="dim", highlight=False)
        console.print()


def to_markdown(report: Report) -> str:
    """Returns the report in Markdown, a second-level heading for each section."""
    return "\n".join(_markdown_section(section) for section in report.sections.values())


def _markdown_section(section: Section) -> str:
    about = section.environment
    lines = [f"## {section.name.capitalize()}", ""]
    lines += [f"*{about['processor']}, {about['cores']} cores, {about['threads']} threads, "]
    lines += [f"{about['memory'] / 2**30:.0f} GiB, torch {about['torch']}, {about['date']}: "]
    lines += [f"`{about['command']}`*", ""]
    if section.figure:
        lines += [f"![{section.name}]({section.figure})", ""]
    for table in _tables(section):
        lines += [f"### {table.title}", "", *_markdown_table(table), ""]
        lines += [table.note, ""] if table.note else []
    return "\n".join(lines)


def _markdown_table(table: Table) -> Iterable[str]:
    yield _line(column.heading for column in table.columns)
    yield _line("---" if i == 0 else "--:" for i in range(len(table.columns)))
    for row in table.rows:
        yield _line(column.show(row) for column in table.columns)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _tables(section: Section) -> list[Table]:
    """Returns the tables of a section, its bars as the last one."""
    if not section.bars:
        return list(section.tables)
    return [*section.tables, Table(f"Bars of {section.name}", BARS, [*map(_bar, section.bars)])]


def _bar(bar: Bar) -> dict[str, str]:
    sign = "≥" if bar.at_least else "≤"
    return {
        "name": bar.name,
        "value": _with_unit(bar.value, bar.unit),
        "limit": f"{sign} {_with_unit(bar.limit, bar.unit)}",
        "met": "yes" if bar.is_met else "no",
    }


def _with_unit(value: float, unit: str) -> str:
    if unit == "%":
        return f"{value:.1%}"
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"

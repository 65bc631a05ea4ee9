"""The table model, words for numbers, and tables on a terminal."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from orchestrator.tables import Bullets, Paragraph, Section, Table, TableCell, TableColumn, label, number, row
from orchestrator.tables.document import tables_of
from orchestrator.tables.terminal import render
from orchestrator.tables.words import (
    accuracy,
    configuration,
    duration,
    integer,
    partition,
    share,
    short_duration,
    short_integer,
    short_share,
    signed,
)


def shown(document: Section, width: int = 100, *, colour: bool = False) -> str:
    target = Console(
        file=io.StringIO(), width=width, force_terminal=colour, color_system="standard" if colour else None
    )
    target.print(render(document, width))
    text = target.file.getvalue()  # type: ignore[attr-defined]
    assert colour or all(len(line) <= width for line in text.splitlines())
    return str(text).replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("std", "full", "close"),
    [(0.007, "50.5 ± 0.7", "50.5±0.7"), (0.178, "50.5 ± 17.8", "50.5±18"), (None, "50.5", "50.5")],
)
def test_an_accuracy_is_as_wide_as_there_is_room(std: float | None, full: str, close: str) -> None:
    cell = TableCell.accuracy(0.505, std)
    assert (cell.full, cell.close) == (full, close) and len(cell.close) <= 8
    assert cell.value == pytest.approx(50.5)


def test_a_mark_stands_behind_the_number() -> None:
    assert (TableCell("−2.9", mark="≈").full, TableCell("−2.9", mark="≈").close) == ("−2.9 ≈", "−2.9≈")
    assert TableCell("129 744", short="129.7k").close == "129.7k"


def test_rows_are_as_wide_as_the_columns() -> None:
    with pytest.raises(AssertionError):
        Table(columns=(label("a"), number("b")), blocks=((row("one"),),))


def test_a_table_of_things_has_a_row_each_and_no_empty_block() -> None:
    fields = [(label("name"), str), (number("length"), len), (label("none"), lambda _: None)]
    found = Table.of(fields, ["a", "bb"], [], ["ccc"], look=lambda word: "strong" if word == "bb" else None)
    assert [[cell.text for cell in line] for line in found.rows] == [
        ["a", "1", "–"],
        ["bb", "2", "–"],
        ["ccc", "3", "–"],
    ]
    assert [len(block) for block in found.blocks] == [2, 1]
    assert [line[0].look for line in found.rows] == [None, "strong", None]
    assert [line[1].value for line in found.rows] == [1, 2, 3]


def test_tables_are_found_in_inner_sections() -> None:
    one, two = Table.facts(("a", "b")), Table.facts(("c", "d"))
    assert list(tables_of(Section("", (one, Section("x", (Paragraph("…"), two)))))) == [one, two]


def test_blocks_are_apart_by_one_empty_line_and_the_best_is_marked_without_colour() -> None:
    table = Table.of(
        [
            (label("name"), lambda pair: pair[0]),
            (number("value"), lambda pair: TableCell(pair[1], look=pair[2])),
        ],
        [("a", "1.0", "best"), ("b", "0.5", None)],
        title="Results",
        about="in %",
        notes=["A note."],
    )
    lines = shown(Section("", (Paragraph("First."), table, Bullets(("Last.",))))).splitlines()
    assert [line.strip() for line in lines] == [
        *("First.", "", "Results  in %", "", "name   value"),
        *("────────────", "a       ▸1.0", "b        0.5", "", "A note.", "", "Last."),
    ]


def test_what_does_not_fit_beside_the_title_stands_below_it() -> None:
    table = Table.facts(("a", "b"), title="Title", about="x" * 95)
    assert shown(Section("", (table,))).splitlines()[:2] == ["Title", "x" * 95]
    assert shown(Section("", (table,)), 110).splitlines()[0] == "Title  " + "x" * 95


def test_spare_columns_are_left_out_where_a_line_has_little_room() -> None:
    table = Table(
        columns=(label("name"), TableColumn("device", spare=True)), blocks=((row("a", "61 s"),),), title="t"
    )
    assert "device" in shown(Section("", (table,)), 100) and "61 s" not in shown(Section("", (table,)), 80)


def narrow(columns: int) -> Table:
    groups = ["", *["Single-task"] * (columns // 2), *["Multi-task"] * (columns - columns // 2)]
    return Table(
        columns=tuple(
            TableColumn(f"Method-{i:02d}", number=bool(i), group=group) for i, group in enumerate(groups)
        ),
        blocks=(
            (row("task", *(TableCell.accuracy(i / 100, 0.01) for i in range(columns))),),
            (row("empty", *[None] * columns), row("rate", *["0.1"] * columns)),
        ),
        narrow=True,
    )


@pytest.mark.parametrize("width", [60, 100, 200])
def test_columns_that_do_not_fit_side_by_side_go_on_below(width: int) -> None:
    text = shown(Section("", (narrow(14),)), width)
    for i in range(14):
        assert text.count(f"{i}.0±1.0") >= 1
    assert text.count("Multi-task") >= 1 and text.count("task ") >= (1 if width == 200 else 2)
    assert "empty" not in text
    first = next(part for part in text.split("\n\n") if "Single-task" in part)
    assert ("Multi-task" in first) == (width == 200)


@pytest.mark.parametrize("make", [lambda t: Table.facts((t, t), title=t, about=t), lambda t: Paragraph(t)])
def test_what_others_named_steers_no_terminal(make: Callable[[str], Table | Paragraph]) -> None:
    text = shown(Section("", (make("class \x1b[31mred\x07 [bold]x[/]"),)))
    assert "\x1b" not in text and "\x07" not in text and "[bold]x[/]" in text


def test_looks_have_colours_where_there_are_any() -> None:
    table = Table.facts(("check", TableCell("ok", look="good")), ("other", TableCell("error", look="bad")))
    text = shown(Section("", (table,)), colour=True)
    assert "\x1b[32mok" in text and "\x1b[31merror" in text


def test_numbers_have_short_forms() -> None:
    def plain(*values: str) -> list[str]:
        return [value.replace("\N{NO-BREAK SPACE}", " ") for value in values]

    counts = (8_192, 129_744, 4_776_960, None)
    assert plain(*map(short_integer, counts)) == ["8 192", "129.7k", "4.78M", "–"]
    assert [short_share(value) for value in (0.00087, 0.026, 1.0, 0)] == ["0.087%", "2.6%", "100%", "–"]
    assert [short_duration(value) for value in (3.42, 173, 750, 1200, 11_160, 0)] == [
        *("3.4 s", "173 s", "750 s", "20 min", "3.1 h", "–")
    ]
    assert [signed(value) for value in (0.003, -0.012, -0.0001, None)] == ["+0.3", "−1.2", "0.0", "–"]


def test_numbers_as_people_read_them() -> None:
    def plain(value: str) -> str:
        return value.replace("\N{NO-BREAK SPACE}", " ")

    assert plain(integer(129_744)) == "129 744"
    assert plain(share(129_744 / 149_620_737)) == "0.087 %"
    assert accuracy(0.4567, 0.0123) == "45.7 ± 1.2"
    assert [duration(s) for s in (0.4, 59, 185, 7_620, 270_000, None)] == [
        "0.4 s",
        "59 s",
        "3 min 05 s",
        "2 h 07 min",
        "3 d 3 h",
        "–",
    ]
    assert (
        plain(configuration({"similarity": "dot", "groups": None, "augment": False}))
        == "dot, G auto, augment no"
    )
    assert partition([[0, 3], [1, 2]], ["a", "b", "c", "d"]) == "a+d | b+c"
    assert partition([[0, 1]]) == "0+1"

"""Formats of reports: what each writes, and that a new one is one file."""

from __future__ import annotations

import csv
import io
import re
import string
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from mmap_model.errors import ConfigurationError
from orchestrator.tables import (
    Bullets,
    Figure,
    Paragraph,
    Section,
    Span,
    Table,
    TableCell,
    TableColumn,
    label,
    number,
    row,
)
from orchestrator.tables import formats as package
from orchestrator.tables.document import marked
from orchestrator.tables.formats import latex
from orchestrator.tables.registry import formats, get_format

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "html_format.py"
TABLE = Table(
    title="Results & more",
    about="in %",
    columns=(label("Method"), number("Accuracy"), number("From best")),
    blocks=(
        (row("A|B", TableCell.accuracy(0.844, 0.005, "best"), "best"),),
        (
            row(
                "100 % <b>", TableCell.accuracy(0.6, 0.178, "second"), TableCell("−2.9", value=-2.9, mark="≈")
            ),
        ),
    ),
    notes=("A note.",),
    legend=("≈ alike.",),
)
DOCUMENT = Section(
    "Everything",
    (
        Paragraph(marked("`symbols` is drawn."), caution=True),
        Paragraph((*marked("It *holds*, see "), Span("claims.md", "document", "claims"), ".")),
        Section("Tables", (TABLE,)),
        Section("Figures", (Figure("figures/a.png", "a figure"),)),
        Bullets(("first", ("see ", Span("above", "section", "Tables")))),
    ),
)


def test_markdown_page() -> None:
    assert (
        formats()["md"].write(DOCUMENT)
        == """# Everything

> `symbols` is drawn.

It *holds*, see [claims.md](claims.md).

## Tables

### Results & more

| Method | Accuracy | From best |
|---|--:|--:|
| A\\|B | **84.4 ± 0.5** | best |
| 100 % \\<b> | <ins>60.0 ± 17.8</ins> | −2.9 ≈ |

- in %.
- A note.

## Figures

![a figure](figures/a.png)

- first
- see [above](#tables)
"""
    )


def test_latex_float_has_its_sentences_in_the_caption() -> None:
    text = formats()["tex"].write(DOCUMENT)
    assert r"\begin{tabular}{@{}lrr@{}}" in text
    assert (
        r"\textbf{84.4 $\pm$ 0.5} & best" in text
        and r"\underline{60.0 $\pm$ 17.8} & $-$2.9 $\approx$" in text
    )
    assert r"\caption{Results \& more. in \%. $\approx$ alike. A note.}" in text
    assert text.count(r"\midrule") == 2 and text.isascii()


def test_latex_sets_narrow_tables_close_under_their_groups() -> None:
    columns = (label("Task"), *(TableColumn(name, number=True, group=name[0]) for name in ("a1", "a2", "b1")))
    cells = row(
        "x",
        TableCell.accuracy(0.5, 0.1, "best"),
        TableCell("129 744", short="129.7k"),
        TableCell("1", mark="?"),
    )
    text = latex.table(Table(title="t", columns=columns, blocks=((cells,),), narrow=True))
    assert r" & \multicolumn{2}{c}{a} & \multicolumn{1}{c}{b} \\" in text
    assert r"\cmidrule(lr){2-3} \cmidrule(lr){4-4}" in text
    assert r"x & \textbf{50.0}{\scriptsize$\pm$10.0} & 129.7k & 1? \\" in text


def test_latex_escapes_what_would_not_compile() -> None:
    assert latex.escape("50% & a_b ±0.1 −2 #$ ~^") == (
        r"50\% \& a\_b $\pm$0.1 $-$2 \#\$ \textasciitilde{}\textasciicircum{}"
    )


def test_csv_has_values_and_a_column_for_spreads() -> None:
    head, first, second = csv.reader(io.StringIO(formats()["csv"].write(DOCUMENT)))
    assert head == ["Method", "Accuracy", "Accuracy std", "From best"]
    assert first == ["A|B", "84.39999999999999", "0.5", "best"]
    assert second[0] == "100 % <b>" and float(second[2]) == pytest.approx(17.8) and second[3] == "-2.9"


TEXTS = st.text(alphabet=string.ascii_letters + " \\`*_{}[]()<>#+-.!|~&;:'\"/?=^%$0123456789", max_size=30)


@settings(deadline=None, max_examples=300)
@given(TEXTS, TEXTS)
@example("ends with \\", r"\_ \| [a](b) `c` **d** ~~e~~ &amp; <i>")
@example("* first", "* first")
@example("in* between * stars", "in* between * stars")
def test_any_text_in_a_cell_is_text_on_a_markdown_page(first: str, second: str) -> None:
    table = Table(
        columns=(label("one"), label("two")), blocks=((row(TableCell(first, look="best"), second),),)
    )
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    tokens = reader.parse(formats()["md"].write(Section("", (table,))))
    cells = [token.children or [] for token in tokens if token.type == "inline"][2:]
    one, two = ([child for child in children if child.type != "text" or child.content] for children in cells)
    if first.strip(" "):
        assert (one[0].type, one[-1].type) == ("strong_open", "strong_close")
        one = one[1:-1]
    for children, text in ((one, first), (two, second)):
        assert {child.type for child in children} <= {"text", "text_special"}
        assert "".join(child.content for child in children) == text.strip(" ")


@settings(deadline=None, max_examples=200)
@given(TEXTS)
def test_any_text_in_latex_has_balanced_braces_and_no_command_of_its_own(text: str) -> None:
    escaped = latex.escape(text)
    plain = escaped.replace(r"\{", "").replace(r"\}", "")
    assert plain.count("{") == plain.count("}")
    assert not re.search(r"(?<!\\)[#%&_]", escaped.replace(r"\textbackslash{}", ""))


def test_a_format_is_found_by_lying_in_the_package() -> None:
    modules = [path.stem for path in Path(package.__file__).parent.glob("*.py") if path.stem != "__init__"]
    assert len(formats()) == len(modules) and {"csv", "md", "tex"} <= set(formats())


@pytest.mark.parametrize("name", [*formats(), f"{EXAMPLE}:FORMAT"])
def test_every_format_writes_every_number_of_a_document_once(name: str) -> None:
    form = get_format(name)
    text = form.write(DOCUMENT)
    assert form.layout in ("page", "paper", "records") and text.endswith("\n")
    for cell in ("84.4" if form.layout != "records" else "84.39", "17.8", "2.9", "Method", "A|B"):
        assert text.replace("\\|", "|").replace(r"$\mid$", "|").count(cell) == 1, cell
    assert isinstance(form.write(Section("", ())), str)


def test_a_custom_format_is_one_file() -> None:
    html = get_format(f"{EXAMPLE}:FORMAT")
    page = html.write(DOCUMENT)
    assert html.layout == "page" and html.suffix == "html"
    assert "<h3>Results &amp; more</h3>" in page and "100 % &lt;b&gt;" in page and "<b>84.4 ± 0.5</b>" in page


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mdd", "did you mean 'md'"),
        ("nowhere.py:FORMAT", "does not exist"),
        (f"{EXAMPLE}:write", "FORMAT = Format"),
    ],
)
def test_an_unknown_format_is_an_input_error(name: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match="--format") as error:
        get_format(name)
    assert said in str(error.value)

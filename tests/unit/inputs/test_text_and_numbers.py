"""What people type and write: every row is an input and what has to be said of it.

``works`` rows give what is then printed, the others exit with 2 and say these words.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.study.load import build_study
from orchestrator.study.source import override, parse

if TYPE_CHECKING:
    from tests.unit.inputs.conftest import Answer, Ask

WORKS = "works"

OPTION_VALUES = {
    # what stands behind --scale-init, and the answer
    "1e-3": (WORKS, '"scale_init": 0.001'),
    "2.5e-2": (WORKS, '"scale_init": 0.025'),
    ".5": (WORKS, '"scale_init": 0.5'),
    "+1E-2": (WORKS, '"scale_init": 0.01'),
    "0x1": (WORKS, '"scale_init": 1.0'),
    "null": (WORKS, '"prompt_length": 14'),
    "010": ("--scale-init", "010 is 8 in YAML 1.1 and 10 in YAML 1.2"),
    "-012": ("--scale-init", "-012 is -10 in YAML 1.1 and -12 in YAML 1.2"),
    "08": ("08 is the text '08' in YAML 1.1 and 8 in YAML 1.2", "write 8"),
    "007": ("007 is the number 7 in YAML, without its zeros", 'quote the text: "007"'),
    "1:30": ("1:30 is 90 in YAML 1.1 and the text '1:30' in YAML 1.2",),
    "1_000": ("1_000 is 1000 in YAML 1.1 and the text '1_000' in YAML 1.2",),
    "0b11": ("0b11 is 3 in YAML 1.1",),
    "yes": ("yes is true in YAML 1.1 and the text 'yes' in YAML 1.2",),
    ".inf": (".inf is not a finite number",),
    "-.INF": ("-.INF is not a finite number",),
    ".nan": (".nan is not a finite number",),
    "1e999": ("1e999 is not a finite number",),
    "nan": ("expected float, got 'nan'",),
    "٣": ("expected float, got '٣'",),
    "-1": ("scale_init=-1.0", "positive standard deviation"),
    "9" * 5000: ("a number of 5000 characters",),
    "9" * 99: (WORKS, '"scale_init": 1e+99'),
    "1 # a comment": ("'# a comment' is a comment in YAML and would be lost",),
    "[" * 3000: ("more than 50 levels",),
    "a\0b": ("character U+0000 is not allowed",),
    '"a\\0b"': ("holds the control character",),
    '"\\e[31m"': ("holds the control character '\\x1b'",),
    "\udcff": ("character U+DCFF is not allowed",),
    "!!python/object/apply:os.getcwd []": ("the tag !!python/object/apply:os.getcwd is not taken",),
    "!!int abc": ("the tag !!int is not taken",),
    "{1: 2": ("this is not YAML",),
    "*x": ("undefined alias",),
}


@pytest.mark.parametrize("value", OPTION_VALUES, ids=lambda v: ascii(v[:20]))
def test_a_value_of_an_option_is_read_as_it_is_meant_or_refused(value: str, ask: Ask) -> None:
    expected = OPTION_VALUES[value]
    answer = ask(
        "params",
        "--method",
        "mmap",
        f"--scale-init={value}",
        "--prompt-length",
        "14",
        "--source-cols=4",
        "--json",
    )
    assert answer.code == (0 if expected[0] == WORKS else 2), answer.text
    for words in expected[expected[0] == WORKS :]:
        assert words in answer.text


OVERRIDES = {
    # an override of a plain study, and the answer
    "recipe.lr=1e-3": (WORKS, "recipe.lr", 1e-3),
    "search.seed=0x10": (WORKS, "search.seed", 16),
    "name=2024-01-01": (WORKS, "name", "2024-01-01"),
    "name=n": (WORKS, "name", "n"),
    "name='010'": (WORKS, "name", "010"),
    "dataset.root=/data/#1": (WORKS, "dataset.root", "/data/#1"),
    "backbone.pretrained=": (WORKS, "backbone.pretrained", None),
    "name=010": ("override name", "010 is 8 in YAML 1.1"),
    "name=on": ("override name", "on is true in YAML 1.1"),
    "recipe.augment=no": ("override recipe.augment", "write false"),
    "dataset.root=/data/a #b": ("'#b' is a comment in YAML",),
    "dataset.classes=[no, fork]": ("override dataset.classes: 0", "no is false in YAML 1.1"),
    "dataset.class_names={1: one}": ("the key '1' is of type int", 'quote it: "1"'),
    "dataset.class_names={off: switch}": ("off is false in YAML 1.1",),
    "dataset.class_names={[a]: b}": ("a list or mapping cannot be a key",),
    "recipe.lr=-1": ("-1.0 is not allowed", "positive learning rate"),
    "recipe.lr=" + "9" * 400: ("a number of 400 characters",),
    "recipe.warmup_lr=-1e-5": ("-1e-05 is not allowed", "use 0 or more"),
    "recipe.weight_decay=-1": ("-1.0 is not allowed",),
    "recipe.clip_norm=0": ("0.0 is not allowed",),
    "recipe.momentum=1": ("1.0 is not allowed",),
    "grouping.probe.recipe.warmup_lr=-1": ("grouping.probe.recipe.warmup_lr", "use 0 or more"),
    "seeds=[-1]": ("-1 is not a seed",),
    "seeds=[18446744073709551616]": ("18446744073709551616 is not a seed", "9223372036854775807 at most"),
    "search.hours=.inf": (".inf is not a finite number",),
    "search.hours=-1": ("use more than 0",),
    "slots.cpus=0": ("use more than 0",),
    "compute.max_memory_gb=-1": ("use null or a positive number",),
    "space.99999999999999999999999=x": ("has no '99999999999999999999999'",),
    "space.²=x": ("has no '²'",),
    "a" + ".a" * 3000 + "=1": ("more than 50 parts",),
    "=1": ("this is not an override",),
    "name=!": ("the tag ! is not taken",),
    "seeds=[1,: 2]": ("this is not YAML",),
    "recipe.\udcff=1": ("its key is not UTF-8", "override 'recipe."),
    "name=x\ufeff": ("a byte-order mark (U+FEFF) stands in the middle",),
    "recipe.lr=1_" + "0" * 5000: ("is a number of 5002 characters",),
}


@pytest.mark.parametrize("text", OVERRIDES, ids=lambda v: ascii(v[:30]))
def test_an_override_is_read_as_it_is_meant_or_refused(text: str, ask: Ask) -> None:
    expected = OVERRIDES[text]
    if expected[0] == WORKS:
        _, key, value = expected
        found = override(parse("name: x\nspace: []\n", "x.yaml"), [text]).data
        for part in str(key).split("."):
            found = found[part]
        assert found == value and type(found) is type(value)
        return
    Path("x.yaml").write_text("name: x\nspace: [learning_rate]\n")
    answer = ask("plan", "x.yaml", text)
    assert answer.code == 2
    for words in expected:
        assert str(words) in answer.text


STUDIES: Mapping[str, tuple[bytes, tuple[str, ...]]] = {
    "nested_lists": (b"name: " + b"[" * 3000, ("x.yaml:1", "more than 50 levels")),
    "nested_mappings": (
        b"\n".join(b" " * n + b"a:" for n in range(900)),
        ("x.yaml:51", "more than 50 levels"),
    ),
    "nested_aliases": (b"a: &a [*a]\n", ("more than 50 levels",)),
    "multiplied_aliases": (
        b"a: &a [1,1,1,1,1,1,1,1,1,1]\n"
        + b"".join(b"%c: &%c [%s]\n" % (n + 1, n + 1, b",".join([b"*%c" % n] * 9)) for n in range(97, 110)),
        ("more than 10000 values",),
    ),
    "many_values": (b"space: [" + b"a, " * 11_000 + b"]", ("more than 10000 values",)),
    "thirty_megabytes": (b"name: x\ndescription: " + b"y" * 30_000_000, ("30000", "is this the right file?")),
    "a_number_of_many_digits": (b"name: x\nsearch: {trials: " + b"9" * 5000 + b"}", ("x.yaml:2", "5000")),
    "nul": (b"name: a\0b\n", ("x.yaml is not a text file: line 1 holds a zero byte",)),
    "escape": (b'name: x\ndescription: "\\e[2J"\n', ("x.yaml:2: description", "control character")),
    "half_a_character": (b'name: "\\ud800"\n', ("x.yaml:1: name", "control character")),
    "tag": (b"name: !!python/name:os.system x\n", ("x.yaml:1", "is not taken")),
    "two_documents": (b"name: x\n---\nname: y\n", ("but found another document",)),
    "key_twice": (b"name: x\nname: y\n", ("x.yaml:2: name", "given twice, first in line 1")),
    "a_list": (b"- name: x\n", ("expected a mapping",)),
    "empty": (b"\n# nothing\n", ("the file is empty",)),
    "sexagesimal": (b"name: x\nsearch:\n  hours: 1:30\n", ("x.yaml:3: search.hours", "90 in YAML 1.1")),
    "octal": (b"name: x\nseeds: [010]\n", ("x.yaml:2: seeds.0", "8 in YAML 1.1")),
    "yes": (b"name: x\nrecipe:\n  augment: yes\n", ("x.yaml:3: recipe.augment", "true in YAML 1.1")),
    "infinite_range": (
        b"name: x\nspace:\n- {name: learning_rate, high: .inf}\n",
        ("x.yaml:3: space.0.high",),
    ),
    "negative_range": (
        b"name: x\ndataset: {name: symbols}\nspace:\n- {name: learning_rate, choices: [-1, 0.1]}\n",
        ("x.yaml:4: space.0.choices", "not all learning rates"),
    ),
    "negative_choice_of_settings": (
        b"name: x\nmethod: coop\nsettings: {prompt_length: 4}\nspace:\n"
        b"- {name: choice, key: settings.prompt_init, choices: [0.02, -1]}\n",
        ("x.yaml:5: space.0", "-1.0 is not allowed"),
    ),
    "infinite_enqueued": (b"name: x\nsearch: {enqueue: [{lr: .inf}]}\n", ("x.yaml:2: search.enqueue.0.lr",)),
}


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_that_cannot_be_meant_is_refused_with_its_line(name: str, ask: Ask) -> None:
    content, expected = STUDIES[name]
    Path("x.yaml").write_bytes(content)
    answer = ask("plan", "x.yaml")
    assert answer.code == 2
    for words in expected:
        assert words in answer.text


def test_merge_keys_and_quoted_numbers_stay_what_they_are() -> None:
    text = "name: '010'\nrecipe: &r {lr: 1e-3}\ncompare: {methods: {coop: {recipe: {<<: *r}}}}\nspace: []\n"
    study = build_study(parse(text, "x.yaml"))
    assert (study.name, study.recipe.lr, study.compare.methods["coop"].recipe) == ("010", 1e-3, {"lr": 1e-3})


ENCODINGS: Mapping[str, tuple[str, ...]] = {
    # an encoding, and what is said of a text file in it
    "utf-8": (WORKS,),
    "utf-8-sig": (WORKS,),
    "utf-16": ("is UTF-16 text, not UTF-8", "iconv -f UTF-16 -t UTF-8"),
    "utf-16-le": ("is UTF-16 text, not UTF-8",),
    "utf-16-be": ("is UTF-16 text, not UTF-8",),
    "utf-32": ("is UTF-32 text, not UTF-8",),
    "latin-1": ("is not UTF-8 text", "0xE9", "iconv -f WINDOWS-1252 -t UTF-8"),
    "cp1252": ("is not UTF-8 text", "0xE9"),
    "mac-roman": ("is not UTF-8 text", "0x8E"),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"], ids=["unix", "windows", "mac"])
def test_a_study_is_read_in_utf_8_or_refused_by_the_name_of_its_encoding(
    encoding: str, ends: str, ask: Ask, tree: Path
) -> None:
    lines = [
        "# as a laptop saved it",
        f"dataset: {{name: folder, root: {tree}}}",
        "splits: [{shots: 1}]",
        "space: []",
        "settings: {prompt_length: 2, source_rows: 2, source_cols: 4}",
        "grouping: {mode: single}",
        "recipe: {template: 'é {}.'}",
    ]
    Path("x.yaml").write_bytes(ends.join([*lines, "name: x"]).encode(encoding))
    answer = ask("plan", "x.yaml")
    _expect(answer, ENCODINGS[encoding], "is valid")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_lists_of_images_are_read_in_utf_8_or_refused_by_the_name_of_their_encoding(
    encoding: str, ask: Ask, tree: Path
) -> None:
    (tree / "photo" / "dog").rename(tree / "photo" / "café")
    (tree / "clipart" / "dog").rename(tree / "clipart" / "café")
    for task in ("clipart", "photo"):
        folder = Path("lists") / task
        folder.mkdir(parents=True)
        lines = [f"{task}\\{name}\\0.png {label}" for label, name in enumerate(("cat", "café"))]
        (folder / "train_1-shot.txt").write_bytes("\r\n".join([*lines, ""]).encode(encoding))
    answer = ask(
        "data", "draws", "import", "folder", "lists", "own", f"dataset.root={tree}", "splits=[{shots: 1}]"
    )
    _expect(answer, ENCODINGS[encoding], "photo 1-shot, seed 1: 2 train")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_published_lists_are_read_in_utf_8_or_refused_by_the_name_of_their_encoding(
    encoding: str, ask: Ask, tree: Path
) -> None:
    (tree / "splits_mini").mkdir()
    for task in ("clipart", "photo"):
        (tree / task / "dog").rename(tree / task / "café")
    (tree / "photo").rename(tree / "real")
    for task in ("clipart", "real"):
        for part, images in (("train", range(4)), ("test", range(4, 6))):
            lines = [f"{task}/{n}/{i}.png {label}" for label, n in enumerate(("cat", "café")) for i in images]
            path = tree / "splits_mini" / f"{task}_{part}.txt"
            path.write_bytes("\n".join(lines).encode(encoding))
    tasks = "dataset.tasks=[clipart, real]"
    answer = ask("data", "check", "mini_domainnet", f"dataset.root={tree}", tasks, "--shots", "2")
    _expect(answer, ENCODINGS[encoding], "24 images")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_other_files_are_read_in_utf_8_or_refused_by_the_name_of_their_encoding(
    encoding: str, ask: Ask, tree: Path
) -> None:
    excluded = '{"format": 1, "images": [{"id": "é", "size": 1}]}'
    (tree / "excluded.json").write_bytes(excluded.encode(encoding))
    answer = ask("data", "classes", "folder", f"dataset.root={tree}")
    _expect(answer, ENCODINGS[encoding], "a photo of a dog.")
    if encoding.startswith("utf-16") or encoding == "utf-32":
        Path("own.py").write_bytes("# é\n".encode(encoding))
        answer = ask("plan", "demo", "method=own.py:Own")
        _expect(answer, ENCODINGS[encoding], "")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is not a text file: line 3 holds a zero byte"),
        (b"name: x\n\0\0\n", "is not a text file: line 2 holds a zero byte"),
        (b"\xff", "is not UTF-8 text: line 1 holds the byte 0xFF"),
        ("name: x\ndescription: é"[:-1].encode() + b"\xc3", "line 2 holds the byte 0xC3"),
    ],
)
def test_what_is_no_text_is_refused(content: bytes, words: str, ask: Ask) -> None:
    Path("x.yaml").write_bytes(content)
    answer = ask("plan", "x.yaml")
    assert (answer.code, words in answer.text) == (2, True), answer.text


JSON: Mapping[str, tuple[bytes, str]] = {
    "nested": (b"[" * 200_000, "is nested too deeply"),
    "not_a_number": (b'{"format": 1, "images": [{"id": "a", "size": NaN}]}', "it holds NaN"),
    "many_digits": (b'{"format": ' + b"1" * 5000 + b"}", "is not JSON"),
    "a_list": (b"[]", "is not a record of excluded images"),
    "cut_off": (b'{"format": 1, "ima', "is not JSON"),
}


@pytest.mark.parametrize("name", JSON)
def test_a_record_beside_images_that_is_no_record_is_refused(name: str, ask: Ask, tree: Path) -> None:
    content, words = JSON[name]
    (tree / "excluded.json").write_bytes(content)
    answer = ask("data", "classes", "folder", f"dataset.root={tree}")
    assert (answer.code, words in answer.text, "dataset.excluded" in answer.text) == (2, True, True), (
        answer.text
    )


def _expect(answer: Answer, expected: tuple[str, ...], printed: str) -> None:
    assert answer.code == (0 if expected[0] == WORKS else 2), answer.text
    for words in (printed,) if expected[0] == WORKS else expected:
        assert words in answer.text

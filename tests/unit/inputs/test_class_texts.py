"""Class names and templates: what a text tower does not take is said by every command before training."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmap_model.byte_pairs import count_tokens

if TYPE_CHECKING:
    from tests.unit.inputs.conftest import Ask

COMMANDS = [("plan",), ("data", "classes"), ("data", "check"), ("run",), ("sweep",)]

MMAP = "settings: {prompt_length: 2, source_rows: 2, source_cols: 4}\ngrouping: {mode: single}\n"
COOP = "method: coop\nsettings: {prompt_length: 16}\n"

LONG = {
    # words of a class name, what the study says of its method, and whether the text fits into 32 tokens
    "ordinary": ("dog", MMAP, True),
    "just_fits": ("dog " * 25, MMAP, True),
    "one_too_many": ("dog " * 26, MMAP, False),
    "underscores": ("_".join(["dog"] * 26), MMAP, False),
    "one_word_of_many_letters": ("xqz" * 60, MMAP, False),
    "emoji": ("🐕" * 60, MMAP, False),
    "chinese": ("寫" * 60, MMAP, False),
    "a_token_of_clip": ("dog &lt;end&#95;of&#95;text&gt; cat", MMAP, False),
    "another": ("dog", f"{MMAP}recipe: {{template: '<Start_of_Text> {{}}'}}\n", False),
    "template": ("dog", f"{MMAP}recipe: {{template: '{'a photo of ' * 30}{{}}'}}\n", False),
    "coop_without_the_template": ("dog " * 13, COOP, True),
    "prompts_of_coop": ("dog " * 14, COOP, False),
    "prompts_of_maple": ("dog " * 14, COOP.replace("coop", "maple"), False),
    "original": ("dog " * 22, MMAP, True),
    "assembled": ("dog " * 22, MMAP.replace("4}", "4, positions: assembled}"), False),
    "assembled_single": ("dog " * 22, MMAP.replace("4}", "4, positions: assembled, modules: task}"), True),
}


@pytest.mark.parametrize("command", COMMANDS, ids="_".join)
@pytest.mark.parametrize("name", [n for n, row in LONG.items() if not row[2]])
def test_a_class_whose_text_is_too_long_is_named_before_anything_starts(
    name: str, command: tuple[str, ...], ask: Ask, tree: Path
) -> None:
    study = _study(tree, name)
    answer = ask(*command, str(study))
    assert answer.code == (1 if command == ("data", "check") else 2), answer.text
    assert "the text tower takes 32" in answer.text or "a token of CLIP's own" in answer.text
    assert "dataset.class_names" in answer.text
    assert not Path("runs").exists()


@pytest.mark.parametrize("command", COMMANDS[:3], ids="_".join)
@pytest.mark.parametrize("name", [n for n, row in LONG.items() if row[2]])
def test_a_class_whose_text_fits_passes(name: str, command: tuple[str, ...], ask: Ask, tree: Path) -> None:
    assert ask(*command, str(_study(tree, name))).code == 0


@pytest.mark.parametrize("command", COMMANDS[:3], ids="_".join)
@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("a {} in {domain}", "'{domain}', which nothing fills in"),
        ("a {} of {0}", "'{0}', which nothing fills in"),
        ("a {{}} photo", "'{', which nothing fills in"),
        ("a {} }", "'}', which nothing fills in"),
        ("a photo", "write {} where"),
        ("a {name}", "write {} where"),
    ],
)
def test_a_template_with_another_placeholder_is_refused(
    template: str, words: str, command: tuple[str, ...], ask: Ask, tree: Path
) -> None:
    study = _study(tree, "ordinary")
    coop = ("method=coop", "grouping=null", "settings={prompt_length: 4}")
    for key, method in (("recipe.template", ()), ("settings.template", coop)):
        answer = ask(*command, str(study), *method, f"{key}={json.dumps(template)}")
        # A method is checked against its backbone where there is one: the data commands do not ask for it.
        unasked = key == "settings.template" and "{" not in template and command[0] == "data"
        assert answer.code == (0 if unasked else 2), answer.text
        assert unasked or words in answer.text


def test_a_searched_template_and_length_are_checked_at_their_longest(ask: Ask, tree: Path) -> None:
    study = _study(tree, "coop_without_the_template")
    space = "space=[{name: choice, key: settings.prompt_length, choices: [4, 16, 17]}]"
    answer = ask("plan", str(study), space, "settings={}")
    assert (answer.code, "besides 17 of prompts" in answer.text) == (2, True), answer.text


def test_a_comparison_checks_the_texts_of_every_column(ask: Ask, tree: Path) -> None:
    study = _study(tree, "original")
    answer = ask("compare", str(study), "--methods", "coop_mt", "zero_shot")
    assert (answer.code, "besides 16 of prompts" in answer.text) == (2, True), answer.text


def test_ordinary_names_are_checked_without_importing_torch(tree: Path) -> None:
    code = "import sys; from orchestrator.study import load_plan; load_plan(sys.argv[1]); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(_study(tree, "ordinary"))],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"torch", "open_clip"} & set(done.stdout.split())


TEXTS = st.one_of(
    st.text(),
    st.text("ab' sdt<>/_1&;é", max_size=40),
    st.sampled_from(["<end_of_text>", "a &amp;amp; b", "İstanbul ﬁre", "it's I'LL", "🐕" * 9, "\ufb01", ""]),
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(TEXTS)
def test_tokens_are_counted_as_open_clip_makes_them(text: str) -> None:
    assert count_tokens(text) == len(_tokenizer().encode(text)) + 2


@functools.cache
def _tokenizer() -> Any:
    from open_clip import SimpleTokenizer

    return SimpleTokenizer()


def _study(tree: Path, name: str) -> Path:
    words, lines, _ = LONG[name]
    path = tree.parent / "x.yaml"
    data = f"{{name: folder, root: {tree}, class_names: {{dog: {json.dumps(words.strip())}}}}}"
    path.write_text(f"name: x\ndataset: {data}\nsplits: [{{shots: 1}}]\nspace: []\n{lines}")
    return path

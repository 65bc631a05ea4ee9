"""Mutated inputs of every kind: each is refused in words, or accepted as another parser reads it.

2,000 examples of a fixed seed take about a minute; ``-m slow`` runs 100,000. An example may take ten seconds
of processor time and must not make the process grow by a gigabyte.
"""

from __future__ import annotations

import io
import json
import re
import resource
import signal
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mmap_model.checkpoint import DESCRIPTION, TENSORS, read_checkpoint
from mmap_model.data import DatasetSpec
from mmap_model.data.check.images import inspect
from mmap_model.data.decoding import open_image
from mmap_model.data.generated import write_mini_domainnet
from mmap_model.data.sources import list_source
from mmap_model.errors import InputError
from mmap_model.text_files import decode_json, decode_text
from mmap_model.weights.files import read_weights
from orchestrator.ledger import Invocation
from orchestrator.ledger.documents import CorruptError, decode, decode_state, encode, encode_state
from orchestrator.ledger.trial_record import TrialRecord
from orchestrator.notation import read_value
from orchestrator.study import StudyError
from orchestrator.study.load import build_study, packaged_studies
from orchestrator.study.model import Study
from orchestrator.study.source import override, parse

SECONDS = 10
GROWTH = 2**20
"""Kilobytes."""

SHARES = {
    "study": 600,
    "override": 500,
    "value": 300,
    "list": 150,
    "weights": 150,
    "image": 150,
    "record": 150,
}
"""Examples of each kind among 2,000."""

SLOW = 50

SIZES = [pytest.param(1, id="fast"), pytest.param(SLOW, id="all", marks=pytest.mark.slow)]

WORDS = """yes no on 010 -010 1:30 1_000 0x1F 0o17 0b1 08 1e-3 1.5e3 1e999 .inf -.inf .nan nan -1 0 0.0 null ~
    true 2024-01-01 [ ] { } {} [] : # | > &a *a !!int !!str !!python/name:os.system !x --- ... name recipe lr
    space splits seeds search dataset ../.. / {}{} é 🐕 ' " \\ """.split()  # noqa: SIM905 (a literal would take a page)
TOKENS = (
    *WORDS,
    *('"\\0"', '"\\ud800"', "\0", "\x1b[2J", "\x85", "\u2028", "\ufeff", "9" * 30, "9" * 5000, "a" * 300),
    *(", ", ": ", "- ", "? ", "\n", "\n\n", "  ", "\t", " # ", "<<: *a", "%YAML 1.1\n"),
)
BYTES = tuple(b"\0 \xff \xfe\xff \xef\xbb\xbf \x80 \xc3 \r PK\3\4 \x7fELF".split(b" "))

Mutation = tuple[str, int, bytes, int]


def mutations(tokens: tuple[str, ...] = TOKENS) -> st.SearchStrategy[list[Mutation]]:
    """What is done to a text or file: where, with what, over how many bytes."""
    words = [token.encode() for token in tokens]
    pieces = st.one_of(st.sampled_from(words), st.sampled_from(BYTES), st.binary(max_size=4))
    operations = st.sampled_from(["insert", "delete", "repeat", "replace", "word"])
    one = st.tuples(operations, st.integers(0, 10**6), pieces, st.integers(0, 60))
    return st.lists(one, max_size=4)


def mutated(data: bytes, found: list[Mutation]) -> bytes:
    for operation, place, piece, length in found:
        start = place % (len(data) + 1)
        end = start + length
        if operation == "word":  # one of those between separators
            words = list(re.finditer(rb"[^\s,:\[\]{}/]+", data))
            if words:
                word = words[place % len(words)]
                start, end = word.span()
            operation = "replace"
        if operation == "insert":
            data = data[:start] + piece + data[start:]
        elif operation == "delete":
            data = data[:start] + data[end:]
        elif operation == "repeat":
            data = data[:end] + data[start:end] + data[end:]
        else:
            data = data[:start] + piece + data[end:]
    return data


LEFT = ("timestamp", "float", "value")


class Independent(yaml.CSafeLoader):
    """libyaml, with numbers as in version 1.2 and without what that has given up: dates, and ``=``."""


Independent.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in listed if tag.rpartition(":")[2] not in LEFT]
    for first, listed in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
Independent.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)


Independent.add_implicit_resolver("!octal", re.compile("^0o[0-7]+$"), ["0"])
Independent.add_constructor("!octal", lambda loader, node: int(node.value, 0))


def independently(text: str) -> Any:
    return yaml.load(text, Independent)


def fuzz(kind: str, size: int, check: Callable[..., None], *strategies: Any) -> None:
    """Run a check on examples of these strategies, within the limits of time and memory."""

    @settings(
        max_examples=SHARES[kind] * size,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.tuples(*strategies))
    def run(arguments: tuple[Any, ...]) -> None:
        with limited():
            check(*arguments)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GROWTH


@contextmanager
def limited() -> Iterator[None]:
    """Fail after ten seconds of this process's processor time."""

    def late(number: int, frame: Any) -> None:
        raise TimeoutError(f"more than {SECONDS} seconds of processor time")

    previous = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)


def said(error: InputError) -> None:
    """It names what is wrong and what to do."""
    assert error.problem.strip()
    assert error.fix is None or error.fix.strip()


@pytest.mark.parametrize("size", SIZES)
def test_a_mutated_study_is_refused_or_read_as_another_parser_reads_it(size: int) -> None:
    folder = resources.files("orchestrator.studies")
    texts = [(folder / f"{name}.yaml").read_bytes() for name in packaged_studies()]

    def check(text: bytes, found: list[Mutation]) -> None:
        data = mutated(text, found)
        try:
            decoded = decode_text(data, "x.yaml", "STUDY", StudyError)
            study = build_study(parse(decoded, "x.yaml"))
        except InputError as error:
            said(error)
            return
        assert study.to_plain() == Study.model_validate(independently(decoded)).to_plain()

    fuzz("study", size, check, st.sampled_from(texts), mutations())


OVERRIDES = (
    *("recipe.lr=0.01", "seeds=[1, 2, 3]", "space.0.low=1e-3", "splits=[{shots: 6}]", "search={trials: 3}"),
    *(
        "dataset.class_names={mug: coffee mug}",
        "recipe.template='a {}.'",
        "storage=runs",
        "name=x",
        "slots.count=auto",
    ),
)


@pytest.mark.parametrize("size", SIZES)
def test_a_mutated_override_is_refused_or_read_as_another_parser_reads_it(size: int) -> None:
    text = (resources.files("orchestrator.studies") / "demo.yaml").read_text(encoding="utf-8")
    source = parse(text, "demo.yaml")

    def check(given_: str, found: list[Mutation]) -> None:
        typed = mutated(given_.encode(), found).decode(errors="surrogateescape")  # as a shell hands it on
        try:
            changed = override(source, [typed])
        except InputError as error:
            said(error)
            return
        key, _, raw = typed.partition("=")
        value: Any = changed.data
        for part in key.split("."):
            value = value[int(part)] if isinstance(value, list) else value[part]
        assert value == independently(raw)
        try:
            build_study(changed)
        except InputError as error:
            said(error)

    fuzz("override", size, check, st.sampled_from(OVERRIDES), mutations())


@pytest.mark.parametrize("size", SIZES)
def test_a_typed_value_is_refused_or_read_as_another_parser_reads_it(size: int) -> None:
    def check(text: str) -> None:
        try:
            value = read_value(text, "--x")
        except InputError as error:
            said(error)
            return
        other = independently(text)
        assert value == other and type(value) is type(other)

    tokens = st.lists(st.sampled_from(TOKENS), max_size=4).map("".join)
    fuzz("value", size, check, st.one_of(tokens, st.text()))


@pytest.mark.parametrize("size", SIZES)
def test_a_mutated_split_list_is_refused_or_names_images_that_it_lists(size: int, tmp_path: Path) -> None:
    write_mini_domainnet(tmp_path, classes=("ant", "cat"), per_class=3, side=8)
    path = tmp_path / "splits_mini" / "clipart_train.txt"
    whole = path.read_bytes()
    tokens = ("clipart/ant/", "sketch/", " 0", " 1", " 99999999999999999999", " ²", "\t", "\\", *TOKENS)

    def check(found: list[Mutation]) -> None:
        data = mutated(whole, found)
        path.write_bytes(data)
        spec = DatasetSpec(name="mini_domainnet", root=str(tmp_path), tasks=("clipart", "sketch"))
        try:
            source = list_source(spec)
        except InputError as error:
            said(error)
            return
        listed = data.replace(b"\\", b"/")
        official = source.official("clipart")
        assert official is not None
        ids = source.ids("clipart")
        assert all(ids[i].encode() in listed for i in official.train.tolist())
        assert all(fault.problem for fault in source.faults)

    fuzz("list", size, check, mutations(tokens))


def _weights() -> list[bytes]:
    """The first kilobytes of checkpoints of several formats."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    safetensors = struct.pack("<Q", len(header)) + header + bytes(16)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
        file.writestr("archive/version", "3\n")
    arrays = io.BytesIO()
    np.savez(arrays, a=np.zeros(4, np.float32))
    legacy = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."
    return [
        safetensors,
        archive.getvalue(),
        arrays.getvalue(),
        legacy,
        b"<html>not found</html>",
        b"",
        b"\x80\x04.",
    ]


@pytest.mark.parametrize("size", SIZES)
def test_the_first_bytes_of_a_mutated_checkpoint_are_read_or_refused(size: int, tmp_path: Path) -> None:
    path = tmp_path / "clip.bin"

    def check(data: bytes, suffix: str, found: list[Mutation]) -> None:
        target = path.with_suffix(suffix)
        target.write_bytes(mutated(data, found))
        try:
            read_weights(target, "backbone.pretrained")
        except InputError as error:
            said(error)

    suffixes = st.sampled_from([".safetensors", ".pt", ".bin", ".npz", ""])
    fuzz("weights", size, check, st.sampled_from(_weights()), suffixes, mutations())


@pytest.mark.parametrize("size", SIZES)
def test_a_small_mutated_image_is_read_or_refused(size: int) -> None:
    images = []
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
        buffer = io.BytesIO()
        Image.new("RGB", (9, 7), (200, 30, 60)).save(buffer, kind)
        images.append(buffer.getvalue())

    def check(data: bytes, found: list[Mutation]) -> None:
        encoded = mutated(data, found)
        assert all(problem for _, problem in inspect(encoded))
        try:
            image = open_image(io.BytesIO(encoded), "x.png")
        except InputError as error:
            said(error)
            return
        assert image.mode == "RGB"

    fuzz("image", size, check, st.sampled_from(images), mutations())


@pytest.mark.parametrize("size", SIZES)
def test_a_mutated_record_is_read_or_known_as_damaged(size: int) -> None:
    trial = TrialRecord(number=3, cells=[{"key": "a"}], epochs=[{"epoch": 1, "mean": 0.5}]).to_dict()
    run = Invocation(command="orchestrator sweep demo").to_dict()
    prompts = {"format": 1, "configuration": {"method": "mmap"}, "tasks": [], "backbone": {}, "sha256": ""}
    state = encode_state({"epoch": 1}, b"tensors")

    def check(kind: str, found: list[Mutation]) -> None:
        if kind == "bytes":
            with _damaged():
                assert decode(mutated(encode(trial), found)) == trial
            with _damaged():
                assert decode_state(mutated(state, found)) == ({"epoch": 1}, b"tensors")
            return
        document = {"trial": trial, "run": run, "prompts": prompts}[kind]
        text = mutated(json.dumps(document).encode(), found)
        if kind == "prompts":
            with _damaged():
                read_checkpoint({DESCRIPTION: text, TENSORS: b""})
            return
        with _damaged():
            content = decode_json(decode_text(text, "x", "x", StudyError), "x", "x", StudyError)
            if isinstance(content, dict):  # as a record of ours, whole and with its checksum
                read = TrialRecord if kind == "trial" else Invocation
                read.from_dict(decode(encode({k: v for k, v in content.items() if k != "record_format"})))

    kinds = st.sampled_from(["bytes", "trial", "run", "prompts"])
    fuzz("record", size, check, kinds, mutations())


@contextmanager
def _damaged() -> Iterator[None]:
    try:
        yield
    except InputError as error:
        said(error)
    except CorruptError as error:
        assert str(error)


def test_the_examples_are_as_many_as_are_promised() -> None:
    assert sum(SHARES.values()) == 2_000
    assert SLOW * sum(SHARES.values()) == 100_000

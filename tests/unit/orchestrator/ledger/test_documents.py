"""Documents and states come back as they were written, or not at all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.ledger import (
    CorruptError,
)
from orchestrator.ledger.documents import decode, decode_state, encode, encode_state

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=8).filter(lambda k: k != "record_format"), json_values, max_size=4))
def test_documents_survive_writing(document: dict[str, Any]) -> None:
    assert decode(encode(document)) == document
    assert json.loads(encode(document)).items() >= document.items(), "other tools can read it"


@settings(deadline=None)
@given(st.binary(max_size=64), st.data())
def test_truncation_of_a_state_never_goes_unnoticed(payload: bytes, data: st.DataObject) -> None:
    whole = encode_state({"epoch": 3}, payload)
    assert decode_state(whole) == ({"epoch": 3}, payload)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(CorruptError):
        decode_state(whole[:cut])


@settings(deadline=None)
@given(st.data())
def test_truncation_of_a_record_never_goes_unnoticed(data: st.DataObject) -> None:
    whole = encode({"metrics": {"accuracy": 0.5}})
    with pytest.raises(CorruptError):
        decode(whole[: data.draw(st.integers(0, len(whole) - 1))])


def test_what_utf_8_cannot_hold_survives_writing() -> None:
    """A command line names files as the system gives them, which need not be text."""
    document = {"command": "orchestrator sweep caf\udce9.yaml", "\ud800": "\\\udcff"}
    assert decode(encode(document)) == document
    assert decode_state(encode_state(document, b"x")) == (document, b"x")


def test_numbers_that_json_lacks_become_null() -> None:
    assert decode(encode({"loss": float("nan"), "pair": (1, float("inf"))})) == {
        "loss": None,
        "pair": [1, None],
    }

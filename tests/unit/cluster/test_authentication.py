from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import connect as connect_module
from cluster.authentication import find_token, use_token
from cluster.connect import connect, travels_in_the_open
from cluster.errors import ClusterError
from cluster.secrets import VARIABLE, decrypt, decrypt_environment, encrypt

TOKEN = "0123456789abcdef"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_the_token_is_found_where_ray_looks_for_it(home: Path) -> None:
    assert find_token({}) is None
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("at-home\n")
    assert find_token({}) == "at-home"
    (home / "elsewhere").write_text("by-path\n")
    by_path = {"RAY_AUTH_TOKEN_PATH": str(home / "elsewhere")}
    assert find_token(by_path) == "by-path"
    assert find_token({**by_path, "RAY_AUTH_TOKEN": "given"}) == "given"


@pytest.mark.parametrize("content", [None, ""])
def test_a_token_file_that_is_named_must_hold_one(home: Path, content: str | None) -> None:
    if content is not None:
        (home / "token").write_text(content)
    with pytest.raises(ClusterError, match="RAY_AUTH_TOKEN_PATH"):
        find_token({"RAY_AUTH_TOKEN_PATH": str(home / "token")})


def test_authentication_is_on_unless_switched_off() -> None:
    environment = {"RAY_AUTH_TOKEN": TOKEN}
    assert use_token(environment) == TOKEN and environment["RAY_AUTH_MODE"] == "token"
    with pytest.raises(ClusterError, match=r"no token to authenticate with(.|\n)*RAY_AUTH_MODE=disabled"):
        use_token({})
    assert use_token({"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": TOKEN}) is None


@given(st.dictionaries(st.text(min_size=1), st.text()), st.text(min_size=1))
def test_encrypted_variables_open_with_the_same_token_only(variables: dict[str, str], token: str) -> None:
    text = encrypt(variables, token)
    assert decrypt(text, token) == variables
    assert encrypt(variables, token) != text, "equal variables cannot be told from their encrypted text"
    with pytest.raises(ClusterError, match="another token"):
        decrypt(text, token + "x")


def test_an_encrypted_text_that_was_changed_does_not_open() -> None:
    text = encrypt({"A": "b"}, TOKEN)
    with pytest.raises(ClusterError, match="another token"):
        decrypt(("B" if text[20] != "B" else "C").join([text[:20], text[21:]]), TOKEN)
    with pytest.raises(ClusterError, match="another token"):
        decrypt("short", TOKEN)


def test_a_process_decrypts_what_its_job_brings_and_keeps_what_the_node_has() -> None:
    encrypted = encrypt({"MLFLOW_TRACKING_PASSWORD": "theirs", "AWS_SECRET_ACCESS_KEY": "k"}, TOKEN)
    environment = {VARIABLE: encrypted, "RAY_AUTH_TOKEN": TOKEN, "MLFLOW_TRACKING_PASSWORD": "ours"}
    decrypt_environment(environment)
    assert environment["MLFLOW_TRACKING_PASSWORD"] == "ours" and environment["AWS_SECRET_ACCESS_KEY"] == "k"
    with pytest.raises(ClusterError, match="no token to decrypt them"):
        decrypt_environment({VARIABLE: encrypted})
    untouched: dict[str, str] = {}
    decrypt_environment(untouched)
    assert untouched == {}


@pytest.mark.parametrize(
    ("address", "is_open"),
    [
        ("http://127.0.0.1:8265", False),
        ("http://localhost:8265", False),
        ("http://[::1]:8265", False),
        ("https://ray.example.org", False),
        ("http://10.0.0.1:8265", True),
        ("http://head:8265", True),
    ],
)
def test_a_token_is_secret_on_loopback_and_under_tls(address: str, is_open: bool) -> None:
    assert travels_in_the_open(address) is is_open


def test_an_address_where_nobody_answers_is_an_error_at_once() -> None:
    environment = {"RAY_AUTH_TOKEN": TOKEN, "RAY_API_SERVER_ADDRESS": "127.0.0.1:1"}
    with pytest.raises(ClusterError, match=r"http://127.0.0.1:1: no Ray dashboard answers"):
        connect(None, environment)
    with pytest.raises(ClusterError, match=r"http://127.0.0.1:2: no Ray dashboard"):
        connect("127.0.0.1:2", environment)


def test_another_release_of_ray_is_refused() -> None:
    connect_module._check_version("x", "2.60.3", "2.60.0")
    with pytest.raises(ClusterError, match=r"runs Ray 2\.61\.0, this software needs Ray 2\.60"):
        connect_module._check_version("x", "2.61.0", "2.60.0")

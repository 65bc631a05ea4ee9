from __future__ import annotations

import io
import logging
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import redaction
from orchestrator.redaction import has_credentials, is_secret, redact, shown_uri


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("s3://AKIA:wJal/rXU+tn@bucket/path", "s3://bucket/path"),
        ("cannot reach http://user:pw@host:5000/x: refused", "cannot reach http://host:5000/x: refused"),
        ("postgresql://me:secret@db/mlflow", "postgresql://db/mlflow"),
        ("s3://bucket/p?access_key=AKIA&region=eu", "s3://bucket/p?access_key=***&region=eu"),
        ("https://store/x?sig=abc%2F&se=1", "https://store/x?sig=***&se=1"),
        ("Authorization: Bearer abcdef0123456789", "Authorization: Bearer ***"),
        ("http://host:5000/a@b and me@home.org", "http://host:5000/a@b and me@home.org"),
        ("sqlite:////shared/mlflow.db", "sqlite:////shared/mlflow.db"),
    ],
)
def test_credentials_of_uris_are_hidden_and_nothing_else(text: str, clean: str) -> None:
    assert redact(text, ()) == clean
    assert redact(clean, ()) == clean, "hiding twice changes nothing"


def test_values_of_secret_variables_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter22")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD_FILE", "/etc/place-of-it")
    assert redact("401 for hunter22, see /etc/place-of-it") == "401 for ***, see /etc/place-of-it"


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("RAY_AUTH_TOKEN", True),
        ("RAY_AUTH_TOKEN_PATH", False),
        ("AWS_SECRET_ACCESS_KEY", True),
        ("HF_TOKEN", True),
        ("TOKENIZERS_PARALLELISM", False),
        ("PATH", False),
    ],
)
def test_variables_are_secret_by_their_names(name: str, secret: bool) -> None:
    assert is_secret(name) is secret


@given(st.text(min_size=6, max_size=40), st.text(max_size=20), st.text(max_size=20))
def test_no_secret_survives(secret: str, before: str, after: str) -> None:
    assert secret not in redact(before + secret + after, [secret]).replace("***", "")


def test_has_credentials() -> None:
    assert has_credentials("http://u:p@host") and has_credentials("s3://k:s@bucket")
    assert not has_credentials("http://host:5000") and not has_credentials("/shared/runs")
    assert shown_uri("s3://k:s@bucket/runs?region=eu") == "s3://bucket/runs"


def test_log_records_are_redacted_with_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "t0psecret-token")
    former = logging.getLogRecordFactory(), sys.excepthook
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("test.redaction")
    logger.addHandler(handler)
    try:
        redaction.redact_logging()
        logger.error("refused %s", "t0psecret-token")
        try:
            raise ValueError("header t0psecret-token")
        except ValueError:
            logger.exception("failed")
    finally:
        logger.removeHandler(handler)
        logging.setLogRecordFactory(former[0])
        sys.excepthook = former[1]
    assert "t0psecret" not in stream.getvalue()
    assert "refused ***" in stream.getvalue() and "ValueError: header ***" in stream.getvalue()


def test_an_uncaught_error_shows_no_secret() -> None:
    code = "from orchestrator.redaction import redact_logging as r; r(); raise OSError('bad t0psecret-token')"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={"RAY_AUTH_TOKEN": "t0psecret-token", "PYTHONPATH": ":".join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 1 and "OSError: bad ***" in found.stderr and "t0psecret" not in found.stderr

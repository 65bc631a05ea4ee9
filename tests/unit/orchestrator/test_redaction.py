from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import redaction
from orchestrator.redaction import HIDDEN, has_credentials, is_secret, redact, secrets_of, shown_uri


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
        ("sqlite:///a@b.db and file:///c@d", "sqlite:///a@b.db and file:///c@d"),
        ("mysql+pymysql://me:p@ss@db:3306/x", "mysql+pymysql://db:3306/x"),
        ("http://me:p@ss@host:5000/x", "http://host:5000/x"),
        ("https://me:a/b@c@host/x", "https://host/x"),
        ("s3://AKIA:12/3@4/5@bucket/path", "s3://bucket/path"),
        ("redis://:hunter22@cache:6379/0", "redis://cache:6379/0"),
        ("[http://host:5000, http://host:5001/a@b]", "[http://host:5000, http://host:5001/a@b]"),
        ("https://token@host/x?y=1#access_token=abc", "https://host/x?y=1#access_token=***"),
        ("https://host/?author=me&auth=abc", "https://host/?author=me&auth=***"),
        (
            "jdbc:sqlserver://h:1433;user=me;password=abc;x=1",
            "jdbc:sqlserver://h:1433;user=me;password=***;x=1",
        ),
        (
            "AccountName=me;AccountKey=ab/c+d==;EndpointSuffix=x",
            "AccountName=me;AccountKey=***;EndpointSuffix=x",
        ),
        ("host=db user=me password=hunter22 dbname=x", "host=db user=me password=*** dbname=x"),
        ("Server=db;Uid=me;Pwd=hunter22;", "Server=db;Uid=me;Pwd=***;"),
        ("{'password': 'hunter22', 'user': 'me'}", "{'password': '***', 'user': 'me'}"),
        ("X-Api-Key: abcdef0123", "X-Api-Key: ***"),
        ("'api_key': 'abcdef0123'", "'api_key': '***'"),
        ("Authorization: Basic bWU6aHVudGVyMjI=", "Authorization: Basic ***"),
        ("{'Authorization': 'Basic bWU6aHVudGVyMjI='}", "{'Authorization': 'Basic ***'}"),
        ("refused Basic bWU6aHVudGVyMjI=", "refused Basic ***"),
        ("proxy-authorization: abcdefghij0123456789", "proxy-authorization: ***"),
        (f"bad ghp_{'a1' * 18}, hf_{'Ab' * 17}", "bad ***, ***"),
        ("eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.SflKxwRJSMeKKF2QT4", "***"),
        ("basic training of a key: 3; password is wrong", "basic training of a key: 3; password is wrong"),
        ("PWD=/home/me/runs, authorization: denied", "PWD=/home/me/runs, authorization: denied"),
        ("lr=0.1;tokens=77 monkey=3", "lr=0.1;tokens=*** monkey=3"),
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
        ("PWD", False),
        ("OLDPWD", False),
        ("COMPASS", False),
        ("PYTHONPATH", False),
        ("SSH_AUTH_SOCK", False),
        ("RAY_AUTH_MODE", False),
        ("PGPASSWORD", True),
        ("PGPASSFILE", False),
        ("MYSQL_PWD", True),
        ("DB_PASS", True),
        ("DBPASS", True),
        ("GITHUB_PAT", True),
        ("OPENAI_APIKEY", True),
        ("WANDB_API_KEY", True),
        ("GHTOKEN", True),
        ("REDISPASSWORD", True),
        ("GPG_PASSPHRASE", True),
        ("AZURE_STORAGE_CONNECTION_STRING", True),
        ("NPM_AUTH", True),
    ],
)
def test_variables_are_secret_by_their_names(name: str, secret: bool) -> None:
    assert is_secret(name) is secret


@given(st.text(min_size=6, max_size=40), st.text(max_size=20), st.text(max_size=20))
def test_no_secret_survives(secret: str, before: str, after: str) -> None:
    assert secret not in redact(before + secret + after, [secret]).replace("***", "")


SECRET = "p@ss w/ö+rd'\\"


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET),
        quote(SECRET, safe=""),
        quote_plus(SECRET),
        "p%40ss%20w%2f%c3%b6%2brd%27%5c",
        json.dumps(SECRET)[1:-1],
        repr(SECRET)[1:-1],
    ],
)
def test_a_secret_is_hidden_in_every_form_in_which_it_is_quoted(form: str) -> None:
    for environment in ({"DB_PASS": SECRET}, {"DB_PASS": quote(SECRET, safe="")}):
        assert redact(f"bad {form}!", secrets_of(environment)) == f"bad {HIDDEN}!"


@pytest.mark.parametrize(
    ("variable", "value", "secret"),
    [
        ("DATABASE_URL", "postgresql://me:hunter22@db/x", "hunter22"),
        ("BROKER", "amqp://me:p@ss/w@mq:5672", "p@ss/w"),
        ("AZURE_STORAGE_CONNECTION_STRING", "AccountName=me;AccountKey=ab/c+d==;X=y", "ab/c+d=="),
    ],
)
def test_the_secret_part_of_a_variable_is_hidden_by_itself(variable: str, value: str, secret: str) -> None:
    assert redact(f"denied ({secret})", secrets_of({variable: value})) == f"denied ({HIDDEN})"


def test_addresses_without_a_password_are_no_secrets() -> None:
    assert secrets_of({"A": "http://host:5000/a@b", "PWD": "/home/somebody", "B": "https://host"}) == []


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

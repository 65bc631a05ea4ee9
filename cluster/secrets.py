"""Credentials for a job, encrypted so that only processes of the cluster can read them.

A job gets variables through its runtime environment, which Ray keeps in plain text: its job list shows it to
every client, its agents write it to their logs. What must not stand there is encrypted (AES-256-GCM) with a
key derived (HKDF-SHA-256) from the cluster's token, which every node has and which never travels this way.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, MutableMapping

from cluster.authentication import find_token
from cluster.errors import ClusterError

VARIABLE = "ORCHESTRATOR_SEALED"
"""Carries the encrypted variables."""

_PURPOSE = b"mmap-orchestrator: variables of a job, version 1"
_NONCE = 12


def encrypt(variables: Mapping[str, str], token: str) -> str:
    """Return text that only holders of ``token`` can read; different every time."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(_NONCE)
    encrypted = AESGCM(_key(token)).encrypt(nonce, json.dumps(dict(variables)).encode(), _PURPOSE)
    return base64.urlsafe_b64encode(nonce + encrypted).decode()


def decrypt(text: str, token: str) -> dict[str, str]:
    """Return what `encrypt` was given.

    Raises:
        ClusterError: it was encrypted with another token, or changed.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        data = base64.urlsafe_b64decode(text.encode())
        opened = AESGCM(_key(token)).decrypt(data[:_NONCE], data[_NONCE:], _PURPOSE)
    except (InvalidTag, ValueError) as error:
        raise ClusterError(
            "the credentials of this job were encrypted with another token than this node has",
            where=VARIABLE,
            fix="submit again with the cluster's own token, and give all nodes the same one",
        ) from error
    found: dict[str, str] = json.loads(opened)
    return found


def decrypt_environment(environment: MutableMapping[str, str] = os.environ) -> None:
    """Add the encrypted variables, if there are any, to the environment; what a node has set itself stays.

    Raises:
        ClusterError: there is no token here, or another one.
    """
    text = environment.get(VARIABLE)
    if not text:
        return
    token = find_token(environment)
    if token is None:
        raise ClusterError(
            "this job has encrypted credentials, but this node has no token to decrypt them",
            where=VARIABLE,
            fix="give every node the cluster's token: RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH",
        )
    for name, value in decrypt(text, token).items():
        environment.setdefault(name, value)


def _key(token: str) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), 32, salt=None, info=_PURPOSE).derive(token.encode())

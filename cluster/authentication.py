"""Ray's token authentication, on unless it is switched off in so many words.

Ray looks for the token in ``RAY_AUTH_TOKEN``, in the file that ``RAY_AUTH_TOKEN_PATH`` names, and in
``~/.ray/auth_token``, in this order; it uses it only under ``RAY_AUTH_MODE=token``, which it reads when it is
first imported.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from cluster.errors import ClusterError

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"


def find_token(environment: Mapping[str, str] = os.environ) -> str | None:
    """The token, where Ray looks for it; None if there is none.

    Raises:
        ClusterError: the file that ``RAY_AUTH_TOKEN_PATH`` names cannot be read or is empty.
    """
    if token := environment.get(TOKEN, "").strip():
        return token
    named = environment.get(TOKEN_PATH)
    path = Path(named or Path.home() / ".ray" / "auth_token").expanduser()
    try:
        token = path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        if not named:
            return None
        raise ClusterError(
            f"cannot read {path}: {error}", where=TOKEN_PATH, fix="name a file with the token"
        ) from error
    if not token and named:
        raise ClusterError(f"{path} is empty", where=TOKEN_PATH, fix="put the cluster's token into it")
    return token or None


def use_token(environment: MutableMapping[str, str] = os.environ) -> str | None:
    """Switch token authentication on for this process. Call before ray is imported.

    Returns:
        The token; None where authentication is switched off.

    Raises:
        ClusterError: it is on and there is no token.
    """
    if environment.setdefault(MODE, "token").lower() != "token":
        return None
    token = find_token(environment)
    if token is None:
        raise ClusterError(
            "no token to authenticate with",
            where=TOKEN,
            fix=f"set {TOKEN_PATH} to a file with the cluster's token (on its head node, ray get-auth-token "
            f"prints it); only a cluster without authentication is reached with {MODE}=disabled",
        )
    return token

"""The token that clients send."""

from __future__ import annotations

from collections.abc import Mapping

from mmap_model.errors import ConfigurationError

SHORTEST = 16
"""Characters of a token, at least: a shorter one can be guessed."""


def read_token(variable: str | None, environment: Mapping[str, str]) -> str | None:
    """The token in an environment variable; None where no variable is named.

    Raises:
        ConfigurationError: the variable is not set, or what it holds cannot be sent or is too short.
    """
    if variable is None:
        return None
    token = environment.get(variable, "").strip()
    where = f"--token-from {variable}"
    if not token:
        raise ConfigurationError("the variable is not set", where=where, fix=f"export {variable}=…")
    if len(token) < SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigurationError(
            f"its content is not a token of {SHORTEST} or more visible ASCII characters",
            where=where,
            fix=f'export {variable}="$(openssl rand -hex 32)"',
        )
    return token

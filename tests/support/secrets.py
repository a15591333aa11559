"""What no node may write anywhere: every token that the tests have minted, and every key. Searched for in all that their nodes say.

A token is told by the beginning of its signature, wherever it stands and however it was cut behind that; what comes before may be known
to anyone. A finding says where, and does not repeat the secret.
"""

import re

_TOLD_BY = 16  # characters: 96 bits of a signature
_RUN = re.compile(rf"[A-Za-z0-9_-]{{{_TOLD_BY},}}")
_SHOWN = 60  # characters before a finding


class Secrets:
    """Tokens and keys. Looking for them takes as long as the text, however many tokens there are."""

    def __init__(self) -> None:
        self._signatures: set[str] = set()
        self._keys: set[str] = set()

    def token(self, token: str) -> str:
        """Remember a token; returns it. One without a signature is no secret."""
        signature = token.rpartition(".")[2]
        if len(signature) >= _TOLD_BY:
            self._signatures.add(signature[:_TOLD_BY])
        return token

    def key(self, key: str) -> str:
        """Remember a key, or a part of one by which it could be had; returns it."""
        assert len(key) >= _TOLD_BY, "too short to be told from other text"
        self._keys.add(key)
        return key

    def found_in(self, text: str) -> list[str]:
        """A line for each secret in the text, with what stands before it."""
        at = [("a token", run.start()) for run in _RUN.finditer(text) if run[0][:_TOLD_BY] in self._signatures]
        at += [("a key", found.start()) for key in self._keys for found in re.finditer(re.escape(key), text)]
        return [f"{what} behind {self._before(text, place)!r}" for what, place in sorted(at, key=lambda one: one[1])]

    def _before(self, text: str, place: int) -> str:
        line = text.rfind("\n", 0, place) + 1
        return text[max(line, place - _SHOWN) : place]


#: Those of this test session: `tests.support.tokens` and `tests.support.issuer` put in whatever they make.
SECRETS = Secrets()

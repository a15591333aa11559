"""Refusals of a credential: values with PROTOCOL section 4's codes, never exceptions."""

from typing import Literal

import msgspec

DenialCode = Literal[
    "token_missing",
    "token_malformed",
    "token_too_large",
    "token_expired",
    "token_not_yet_valid",
    "token_ttl_too_long",
    "claim_missing",
    "signature_invalid",
    "algorithm_not_allowed",
    "key_unknown",
    "subject_mismatch",
    "credentials_conflict",
    "issuer_invalid",
    "audience_invalid",
    "scope_missing",
    "token_revoked",
    "user_suspended",
    "keys_unavailable",
    "server_busy",
    "draining",
    "authentication_timeout",
    "bad_request",  # not of the token: the rest of the handshake's payload is of the wrong shape
]


class Denied(msgspec.Struct, frozen=True):
    """Why a credential is not accepted. `message` is for people and never holds any part of a token; `retry_after` is in ms."""

    code: DenialCode
    message: str
    retry_after: int | None = None


class KeyMissing(Denied, frozen=True):
    """No key that is held now may have signed the token; one that its issuer has published since may have."""

"""Refusals of a command: values with a stable code, never exceptions. The codes are PROTOCOL section 6's."""

from typing import Literal

import msgspec

Code = Literal[
    "bad_request",
    "forbidden",
    "room_not_found",
    "room_exists",
    "not_a_member",
    "message_not_found",
    "too_large",
    "rate_limited",
    "unavailable",
    "token_expired",
]


class Refused(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a command was not carried out. `message` is for people and holds nothing secret; `retry_after` is in milliseconds."""

    code: Code
    message: str
    field: str | None = None
    retry_after: int | None = None

"""Every limit of the contract with its reason. Each is a setting too; these are the defaults."""

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes in characters or bytes, counts, and rates per second."""

    text_chars: int = 4_000  # a long page of prose; more belongs in a file
    payload_bytes: int = 65_536  # one Engine.IO packet: 4,000 characters of four bytes each, JSON-escaped, fit in it
    token_bytes: int = 8_192  # what proxies let pass in one header
    title_chars: int = 200  # a line of a list
    user_chars: int = 128  # a subject: an e-mail address or a URN fits
    id_chars: int = 128  # a client's message id: a UUID or ULID with a prefix fits
    emoji_chars: int = 32  # the longest ZWJ sequences have about 20 code points
    reactions_per_message: int = 64  # different emoji on one message
    room_members: int = 10_000  # a room's member list is held in memory on every node
    page: int = 100  # messages in one page of history, search or list, at most
    replay_events: int = 1_000  # events in one replay, at most
    commands_per_second: float = 20.0  # of one user
    commands_burst: int = 40
    outbox_bytes: int = 1_048_576  # unsent on one socket before it counts as slow
    presence_members: int = 200  # presence is pushed in rooms up to this size; larger ones are asked

"""Where a log is, from the text of a setting."""

from pathlib import Path

import pytest

from broker.address import AmqpAddress, MemoryAddress, SqliteAddress, parse_address


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("sqlite:///tidegate-data/log.db", "tidegate-data/log.db"),
        ("sqlite:////var/lib/tidegate/log.db", "/var/lib/tidegate/log.db"),
        ("sqlite:///a%20folder/log%231.db", "a folder/log#1.db"),
        ("sqlite:///log.db?not=a-query", "log.db?not=a-query"),
    ],
)
def test_three_slashes_are_relative_and_four_absolute(text: str, path: str) -> None:
    """What stands behind the third slash is the path, with escapes undone."""
    assert parse_address(text) == SqliteAddress(Path(path))


def test_an_embedded_log_is_written_as_it_is_read() -> None:
    """The text of an address is an address, and the same one."""
    for text in ("sqlite:///tidegate-data/log.db", "sqlite:////var/log.db"):
        assert str(parse_address(text)) == text


@pytest.mark.parametrize("text", ["memory:", "memory://"])
def test_the_memory_log_has_no_place(text: str) -> None:
    """Both ways of writing it are the same."""
    assert parse_address(text) == MemoryAddress()
    assert str(parse_address(text)) == "memory:"


def test_one_host_of_rabbitmq() -> None:
    """An address of one host is one URL, as it was."""
    assert parse_address("amqp://u:p@rabbit:5673/chat") == AmqpAddress(("amqp://u:p@rabbit:5673/chat",))
    assert parse_address("amqps://rabbit") == AmqpAddress(("amqps://rabbit",))
    assert parse_address("amqp://u:p@[::1]:5672/") == AmqpAddress(("amqp://u:p@[::1]:5672/",))


def test_several_hosts_share_the_login_and_the_virtual_host() -> None:
    """Each host becomes a URL of its own, in the order given; a comma or an at sign of the password is not one of the hosts'."""
    assert parse_address("amqp://u:p@h1:5672,h2,h3:1/v") == AmqpAddress(
        ("amqp://u:p@h1:5672/v", "amqp://u:p@h2/v", "amqp://u:p@h3:1/v")
    )
    assert parse_address("amqp://u:a,b@c@h1,h2") == AmqpAddress(("amqp://u:a,b@c@h1", "amqp://u:a,b@c@h2"))


def test_an_address_never_shows_its_password() -> None:
    """Neither as text nor as a representation."""
    address = parse_address("amqp://user:s3cret@h1,h2:5673/v")
    assert str(address) == "amqp://h1,h2:5673/v"
    assert "s3cret" not in repr(address) and "user" not in repr(address)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "something without a scheme"),
        ("log.db", "something without a scheme"),
        ("sqlite:log.db", "something without a scheme"),
        ("redis://host", "the scheme 'redis'"),
        ("s3cret-in-the-wrong-place://", "another scheme"),
        ("sqlite://log.db", "without the third slash"),
        ("sqlite:///", "without the path"),
        ("sqlite:///folder/", "without the path"),
        ("sqlite:///a%00b", "without the path"),
        ("amqp://", "without a host"),
        ("amqp://u:s3cret@", "without a host"),
        ("amqp://h1,,h2", "without a host"),
        ("amqp://u:s3cret#@host", "not percent-encoded"),
        ("amqp://u:s3cret?@host", "not percent-encoded"),
        ("amqp://u:12/s3cret@host", "not percent-encoded"),
        ("amqp://host:0", "bad host or port"),
        ("amqp://host:65536", "bad host or port"),
        ("amqp://host:port", "bad host or port"),
        ("amqp://ho st", "bad host or port"),
        ("amqp://host\n", "bad host or port"),
    ],
)
def test_a_bad_address_is_refused_without_quoting_a_secret(text: str, message: str) -> None:
    """The message says what was found, never the part of the text that may be a password."""
    with pytest.raises(ValueError, match=message) as refusal:
        parse_address(text)
    assert "s3cret" not in str(refusal.value)

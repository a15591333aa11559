"""Read models outside of a running node: rebuilt from the log, compared, copied, kept as snapshots and restored."""

import itertools
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, closing
from pathlib import Path

import msgspec

from broker.batch import UNREADABLE
from broker.log import START, Log, LogDiverged, Position
from node.core.apply import apply
from node.core.events import decode
from node.core.view import Session
from node.flow import store_sql
from node.flow.store import Store, open_store

Progress = Callable[[int, int], None]  # (done, of how many)
_MOST_DIFFERENCES = 20  # of each table: more than that is one finding
_PAGES = 2_000


class SnapshotError(Exception):
    """The file is no snapshot that this version can restore. The message says why."""


class OtherSchema(SnapshotError):
    """The file is of another version."""


class Until(msgspec.Struct, frozen=True, kw_only=True):
    """Where to stop: before the first record accepted after `at` (ms), or behind an offset for each partition (0 if not named)."""

    at: int | None = None
    positions: Mapping[int, int] | None = None


class Based(msgspec.Struct, frozen=True, kw_only=True):
    """Where in which log a read model goes on, for the partitions that do not hold what it has read (see `broker.log.Log.rebase`)."""

    epoch: str
    positions: dict[int, Position]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a snapshot. `positions` are offsets by partition."""

    epoch: str
    positions: dict[int, int]
    rooms: int
    events: int


async def rebuild(log: Log, model: Path, *, base: Path | None = None, until: Until | None, progress: Progress) -> int:
    """Make a new read model at `model` from the log as it stands, or from the snapshot `base` and what follows it; returns how many
    records were applied.

    Raises `FileExistsError` where there is one, `LogUnavailable`, `LogDiverged`.
    """
    _require_absent(model)
    ends = {partition: (await log.end(partition)).offset for partition in range(log.partitions)}
    if until is not None and until.positions is not None:
        ends = {partition: min(end, until.positions.get(partition, 0)) for partition, end in ends.items()}
    if base is not None:
        copy(base, model)
        based = await continued(log, base, anew=False)
        if based is not None:
            rebase(model, based)
    total, done, records = sum(map(log.ordinal, ends.values())), 0, 0
    async with open_store(model, epoch=log.epoch) as store:
        for partition, end in ends.items():
            async for count in _fold(log, store, partition, end, until.at if until is not None else None):
                records += count
                progress(done + log.ordinal(store.position(partition).offset), total)
            done += log.ordinal(store.position(partition).offset)
    return records


async def _fold(log: Log, store: Store, partition: int, end: int, at: int | None) -> AsyncIterator[int]:
    """Apply one partition's records up to the offset `end`; yields how many of them, batch by batch."""
    if store.position(partition).offset >= end:
        return
    async with aclosing(log.follow(partition, store.position(partition))) as batches:
        async for batch in batches:
            applied = 0
            for record in batch:
                if record.position.offset > end:
                    yield applied
                    return
                try:
                    event = decode(record.data)
                except UNREADABLE:
                    event = None  # as the projector does: passed over on every node
                if event is not None:
                    if at is not None and event.at > at:
                        yield applied
                        return
                    apply(store, event)
                store.advance(partition, record.position)
                applied += 1
            await store.make_room()
            yield applied
            if batch[-1].position.offset >= end:
                return


def _require_absent(path: Path) -> None:
    if path.exists():
        raise FileExistsError(f"{path} exists")


def positions(model: Path) -> dict[int, int]:
    """How far a read model has followed each partition. Raises `SnapshotError` for what is none."""
    with closing(_open(model)) as connection:
        return {partition: at.offset for partition, at in store_sql.read_positions(connection).items()}


def places(model: Path) -> dict[int, Position]:
    """As `positions`, with what stands there. Raises `SnapshotError` for what is none."""
    with closing(_open(model)) as connection:
        return store_sql.read_positions(connection)


def sessions(model: Path, at: int, *, since: int | None = None) -> list[Session]:
    """The sessions that were open at `at` (ms), or at any moment from `since` to then; oldest first, each on the token that it had last."""
    with closing(_open(model)) as connection:
        return store_sql.sessions_during(connection, at if since is None else min(since, at), at)


def differences(one: Path, other: Path, *, now: int) -> list[str]:
    """What two read models of the same positions do not have in common, as lines for people; empty when they are equal.

    Withdrawals that have no say any more at `now` (ms) are passed over: one of the two may have forgotten them.
    """
    with closing(_open(one)) as first, closing(_open(other)) as second:
        found = []
        for table, sql in store_sql.DERIVED.items():
            rows = [_in_force(table, model.execute(sql), now) for model in (first, second)]
            lines = _differing(table, *rows)
            shown = list(itertools.islice(lines, _MOST_DIFFERENCES))
            more = sum(1 for _ in lines)
            found += [*shown, f"{table}: {more} more"] if more else shown
    return found


def _in_force(table: str, rows: Iterator[tuple[str, object]], now: int) -> Iterator[tuple[str, object]]:
    judged = ((key, store_sql.in_force(table, value, now)) for key, value in rows)
    return (row for row in judged if row[1] is not None)


def _differing(table: str, first: Iterator[tuple[str, object]], second: Iterator[tuple[str, object]]) -> Iterator[str]:
    """Merge two sorted runs of `(key, value)`; a line for each key that is not in both with one value."""
    one, other = next(first, None), next(second, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one[0] < other[0]):
            yield f"{table}: {one[0] if one else ''} is only in the first"
            one = next(first, None)
        elif one is None or other[0] < one[0]:
            yield f"{table}: {other[0]} is only in the second"
            other = next(second, None)
        else:
            if one[1] != other[1]:
                yield f"{table}: {one[0]} differs"
            one, other = next(first, None), next(second, None)


def copy(model: Path, to: Path, progress: Progress = lambda done, total: None) -> None:
    """A consistent copy of a read model, a live one too. Raises `SnapshotError` for what is none, `OSError`."""
    with closing(_open(model)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target, pages=_PAGES, progress=lambda _, left, total: progress(total - left, total))
        target.execute("PRAGMA journal_mode = DELETE")


def snapshot(model: Path, file: Path, progress: Progress) -> Manifest:
    """Write a read model with its positions to `file`, all or nothing. Raises `SnapshotError`, `OSError`."""
    part = file.with_name(f"{file.name}.part")
    part.unlink(missing_ok=True)
    try:
        copy(model, part, progress)
        manifest = read_manifest(part)
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)
    return manifest


def check_whole(file: Path) -> None:
    """Raises `SnapshotError` for a file that is no whole snapshot."""
    with closing(_open(file)) as connection:
        try:
            fault = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        except sqlite3.DatabaseError as error:
            fault = str(error)
    if fault != "ok":
        raise SnapshotError(f"{file} is damaged: {fault}")


def restore(file: Path, model: Path, progress: Progress, based: Based | None = None) -> Manifest:
    """Put a snapshot in the place of a read model that no node uses; the old one is kept beside it as `.bak`. It goes on in the log
    where it was taken, or as `based` says.

    Raises `SnapshotError`, before anything is changed, for a file that is no whole snapshot.
    """
    check_whole(file)
    model.parent.mkdir(parents=True, exist_ok=True)
    part = model.with_name(f"{model.name}.part")
    part.unlink(missing_ok=True)
    copy(file, part, progress)
    if based is not None:
        rebase(part, based)
    if model.exists():
        store_sql.move_aside(model)
    os.replace(part, model)
    return read_manifest(model)


async def continued(log: Log, file: Path, *, anew: bool) -> Based | None:
    """How the log continues a snapshot, where it does not simply hold what that has read; `anew` as for `broker.log.Log.rebase`.

    Raises `LogDiverged` where it does not continue it, `LogUnavailable`, `SnapshotError`.
    """
    epoch, at = read_manifest(file).epoch, places(file)
    moved, problems = {}, []
    for partition in range(log.partitions):
        place = at.get(partition, START)
        if log.epoch == epoch and await log.holds(partition, place):
            continue
        try:
            moved[partition] = await log.rebase(partition, place, anew=anew)
        except LogDiverged as error:
            problems.append(str(error))
    if problems and log.epoch != epoch and not anew:
        raise LogDiverged(f"{file} is of another log, {epoch}, than this one, {log.epoch}")
    if problems:
        raise LogDiverged("; ".join(problems))
    return Based(epoch=log.epoch, positions=moved) if moved or log.epoch != epoch else None


def rebase(model: Path, based: Based) -> None:
    """Have a copy of a snapshot go on elsewhere in the log."""
    with closing(_open(model)) as connection:
        store_sql.move(connection, based.epoch, based.positions)


def read_manifest(file: Path) -> Manifest:
    """What a snapshot or a read model holds. Raises `SnapshotError`."""
    with closing(_open(file)) as connection:
        meta, followed = store_sql.read_meta(connection), store_sql.read_positions(connection)
        (rooms,) = connection.execute("SELECT count(*) FROM rooms").fetchone()
        (events,) = connection.execute("SELECT count(*) FROM timeline").fetchone()
    at = {partition: position.offset for partition, position in followed.items()}
    return Manifest(epoch=meta["epoch"], positions=at, rooms=rooms, events=events)


def _open(path: Path) -> sqlite3.Connection:
    if not path.exists():
        raise SnapshotError(f"there is no read model at {path}")
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        schema = store_sql.read_meta(connection)["schema"]
    except (sqlite3.Error, KeyError):
        connection.close()
        raise SnapshotError(f"{path} is no read model") from None
    if int(schema) != store_sql.SCHEMA:
        connection.close()
        advice = "its node, started with this version, makes it anew from the log; a snapshot has to be taken anew"
        raise OtherSchema(f"{path} has schema {schema}, this version reads {store_sql.SCHEMA}: {advice}")
    return connection

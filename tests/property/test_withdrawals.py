"""Withdrawn chains end whole, in whichever order; what is forgotten changes no verdict on any token that could still be valid."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.log import Position
from node.auth.denied import Denied
from node.auth.keys import FixedKeys, KeyRing
from node.auth.tokens import Policy, sign
from node.auth.verifier import Verifier
from node.core.apply import apply
from node.core.effects import EndSessions
from node.core.events import Event, SessionClosed, SessionOpened, TokensRevoked, UserSuspended
from node.core.forgetting import TokenLife, with_until
from node.core.memory_view import MemoryView
from node.core.view import FOR_EVER, Revoked, Withdrawals, session_revoked
from node.edge.handshake import Judge
from node.flow import offline
from node.flow.store import SWEEP_MARGIN_MS, open_store
from tests.support.chat_strategies import logs, numbered

SECRET = "the-secret-of-this-test-has-over-32-bytes"
S = 1_700_000_000  # seconds
OLDEST = -(2**53)


# Chains


def opened(session: str, resumes: str | None, user: str = "ann") -> SessionOpened:
    return SessionOpened(
        id=f"o-{session}",
        at=1,
        by=user,
        session=session,
        node="n1",
        namespace="/",
        transport="websocket",
        expires_at=FOR_EVER,
        resumes=resumes,
    )


#: A chain that forks, beside a session of the same user and one of another who names the first of the chain.
CHAIN = {"a": None, "b": "a", "c": "b", "d": "a", "e": "d"}
OTHERS = [opened("x", None), opened("y", "a", user="eve")]
REVOKED = st.sampled_from(sorted(CHAIN)).map(lambda one: TokensRevoked(id="r", at=1, by="root", before=1, session=one))


def ended(events: Sequence[Event]) -> tuple[MemoryView, set[str]]:
    """The view of a log, and the sessions that were told to end."""
    view = MemoryView()
    effects = [effect for event in events for effect in apply(view, event)]
    return view, {one for effect in effects if isinstance(effect, EndSessions) for one in effect.sessions}


@settings(max_examples=300)
@given(st.data(), REVOKED, st.sets(st.sampled_from(sorted(CHAIN)), max_size=2))
def test_a_chain_ends_whole(data: st.DataObject, revoked: TokensRevoked, closed: set[str]) -> None:
    """Any session of it is revoked, at any place among the openings and ends, in any order: all of it ends, nobody else does."""
    ends = [SessionClosed(id=f"c-{one}", at=1, by="ann", session=one, reason="transport") for one in sorted(closed)]
    lives: list[Event] = [*(opened(one, before) for one, before in CHAIN.items()), *OTHERS, *ends, revoked]
    view, gone = ended(data.draw(st.permutations(lives)))
    assert {one.session for one in view.open_sessions()} - gone - {"y"} == {"x"}
    assert gone <= {*CHAIN, "y"}
    assert all(session_revoked(view, one, 2) for one in CHAIN)
    assert not session_revoked(view, "x", 2)


@settings(max_examples=100)
@given(st.data(), REVOKED)
def test_another_users_session_is_of_no_chain(data: st.DataObject, revoked: TokensRevoked) -> None:
    """In a log as nodes write it, where a session stands behind the one that it resumes, who named a session of another user stays."""
    place = data.draw(st.integers(0, len(CHAIN)))
    lives: list[Event] = [*(opened(one, before) for one, before in CHAIN.items()), *OTHERS]
    view, gone = ended([*lives[:place], revoked, *lives[place:]])
    assert gone == set(CHAIN)
    assert not session_revoked(view, "y", 2)
    again, more = ended([*lives, revoked, opened("f", "e"), opened("g", "f")])
    assert more == {*CHAIN, "f", "g"}
    assert session_revoked(again, "g", FOR_EVER), "a known chain stays withdrawn for good"


# Forgetting


class Issued(NamedTuple):
    """A token, in seconds: `user` and the `jti` of its place, issued at `iat`, for `life`."""

    user: str
    iat: int
    life: int


class World:
    """One that sweeps and one that never does, both asked by the judge of a node, with the clock in the test's hand."""

    def __init__(self, policy: Policy) -> None:
        self.now, self.life = 0, TokenLife(max_ttl_ms=policy.max_ttl_ms, leeway_ms=policy.leeway_ms)
        self.views = [MemoryView(), MemoryView()]
        self.judges = [self._judge(policy, view) for view in self.views]
        self.withdrawn: list[TokensRevoked] = []
        self._ids = 0

    def _judge(self, policy: Policy, view: MemoryView) -> Judge:
        def clock() -> int:
            return self.now

        ring = KeyRing.from_secrets({None: SECRET})
        verifier = Verifier(FixedKeys(ring), policy, clock=clock, observe=lambda alg, cache, seconds: None)
        return Judge(verifier=verifier, sources=("auth",), view=view, clock=clock, own_page=lambda environ: False)

    async def codes(self, token: str) -> list[str]:
        verdicts = [await judge.token(token, scope="chat") for judge in self.judges]
        return [verdict.code if isinstance(verdict, Denied) else "accepted" for verdict in verdicts]

    def append(self, make: Any, **fields: Any) -> None:
        self._ids += 1
        event = make(id=f"e{self._ids}", at=self.now, **fields)
        if isinstance(event, TokensRevoked):
            event = with_until(event, self.life, self.views[0])
            assert event == with_until(event, self.life, self.views[1]), "whoever appends it says the same"
            self.withdrawn.append(event)
        for view in self.views:
            apply(view, event)

    def touched(self, token: Issued, jti: str) -> bool:
        """Whether it was ever withdrawn, by one who never forgets."""
        iat = (S + token.iat) * 1000
        return any((one.user == token.user and iat < one.before) or one.jti == jti for one in self.withdrawn)


_seconds = st.integers(0, 40)
_tokens = st.lists(st.builds(Issued, st.sampled_from(["ann", "bob"]), _seconds, st.integers(1, 30)), min_size=1, max_size=6)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("user"), st.sampled_from(["ann", "bob"]), st.integers(0, 6)),
        st.tuples(st.just("jti"), st.integers(0, 5), st.just(0)),
        st.tuples(st.just("open"), st.integers(0, 5), st.just(0)),
        st.tuples(st.just("sweep"), st.just(0), st.just(0)),
        st.tuples(st.just("wait"), st.integers(1, 12), st.just(0)),
    ),
    max_size=25,
)


async def _live(tokens: list[Issued], steps: list[tuple[str, Any, int]], cap_s: int, leeway_s: int) -> None:
    policy = Policy(algorithms=frozenset({"HS256"}), max_ttl_ms=cap_s * 1000, leeway_ms=leeway_s * 1000)
    world = World(policy)
    tokens = [one._replace(life=min(one.life, cap_s)) if cap_s else one for one in tokens]
    signed = [
        sign({"sub": one.user, "iat": S + one.iat, "exp": S + one.iat + one.life, "jti": f"j{place}"}, SECRET)
        for place, one in enumerate(tokens)
    ]
    second = 0
    for number, (kind, what, back) in enumerate([*steps, ("wait", 100, 0)]):
        world.now = (S + second) * 1000
        token = tokens[what % len(tokens)] if isinstance(what, int) else tokens[0]
        place = what % len(tokens) if isinstance(what, int) else 0
        exists = token.iat <= second + leeway_s  # nobody withdraws by its id what is not issued yet
        match kind:
            case "user":
                world.append(TokensRevoked, by="root", before=world.now - back * 1000, user=what)
            case "jti" if exists:
                world.append(TokensRevoked, by="root", before=world.now, jti=f"j{place}")
            case "open" if await world.codes(signed[place]) == ["accepted", "accepted"]:
                expires_at, session = (S + token.iat + token.life) * 1000, f"s{number}"
                life = {"session": session, "node": "n1", "namespace": "/", "transport": "polling", "expires_at": expires_at}
                world.append(SessionOpened, by=token.user, jti=f"j{place}", issued_at=(S + token.iat) * 1000, **life)
            case "sweep":
                world.views[0].sweep(world.now)
            case "wait":
                second += what
                world.now = (S + second) * 1000
        for place, one in enumerate(tokens):
            codes = await world.codes(signed[place])
            assert codes[0] == codes[1], "the two nodes disagree"
            if one.iat - leeway_s <= second < one.iat + one.life:
                assert codes[0] == ("token_revoked" if world.touched(one, f"j{place}") else "accepted")
    world.views[0].sweep(world.now)
    assert not cap_s or world.views[0].dump()["withdrawals"] == world.views[0].dump()["revoked_jtis"] == {}


@settings(max_examples=200, deadline=None)
@given(_tokens, _steps, st.sampled_from([0, 5, 30]), st.integers(0, 3))
def test_forgetting_changes_no_verdict(
    tokens: list[Issued], steps: list[tuple[str, Any, int]], cap_s: int, leeway_s: int
) -> None:
    """Withdrawn, swept at any moments: each token that has not ended is judged as if nothing were forgotten; with a cap all is, once."""
    asyncio.run(_live(tokens, steps, cap_s, leeway_s))


@pytest.mark.parametrize("known", [True, False])
def test_without_a_cap_the_end_of_a_token_has_to_be_known(known: bool) -> None:
    """A `jti` that an open session brought ends with it; any other, a user's tokens and an unknown session are kept for ever."""
    view, life = MemoryView(), TokenLife(max_ttl_ms=0, leeway_ms=5_000)
    if known:
        apply(view, msgspec.structs.replace(opened("a", None), jti="j", expires_at=70_000))
    by_jti = TokensRevoked(id="1", at=10_000, by="root", before=10_000, jti="j")
    assert with_until(by_jti, life, view).until == (75_000 if known else None)
    assert with_until(by_jti, life, None).until is None
    assert with_until(TokensRevoked(id="1", at=10_000, by="root", before=10_000, user="ann"), life, view).until is None


def test_the_end_is_counted_from_the_right_moment() -> None:
    """With a cap: from `before` for a user, from now for a `jti` or a session; a moment past all numbers is never."""
    life = TokenLife(max_ttl_ms=60_000, leeway_ms=5_000)
    event = TokensRevoked(id="1", at=100_000, by="root", before=7_000)
    for name, until in (("user", 72_000), ("jti", 165_000), ("session", 165_000)):
        assert with_until(msgspec.structs.replace(event, **{name: "a"}), life, MemoryView()).until == until
    far = TokensRevoked(id="1", at=1, by="root", before=FOR_EVER - 1, user="ann")
    assert with_until(far, life, None).until is None


_until = st.integers(0, 12) | st.just(FOR_EVER)
_revoked = st.builds(Revoked, before=st.integers(0, 12), until=_until)


@settings(max_examples=200)
@given(st.lists(_revoked | st.integers(0, 12), max_size=12), st.integers(0, 12) | st.none(), st.integers(-1, 13))
def test_withdrawals_are_what_was_withdrawn(steps: list[Revoked | int], issued_at: int | None, now: int) -> None:
    """Kept short and swept (a number is a moment of sweeping), they say at each later moment what the whole list says."""
    short, swept = Withdrawals(), OLDEST
    for step in steps:
        if isinstance(step, Revoked):
            short = short.with_revoked(step)
        else:
            short, swept = short.left(step) or Withdrawals(), max(swept, step)
    whole = [one for one in steps if isinstance(one, Revoked)]
    if now >= swept:
        says = any(now < one.until and (issued_at is None or issued_at < one.before) for one in whole)
        assert short.code(issued_at, now) == ("token_revoked" if says else None)
    pairs = [(one.before, -one.until) for one in short.revoked]
    assert pairs == sorted(set(pairs)), "the later the moment, the sooner it is over: no other is worth keeping"


# Forgetting in the read model

_small, _users = st.integers(0, 12), st.sampled_from(["ann", "bob"])
_ids: dict[str, st.SearchStrategy] = {
    "user": _users,
    "jti": st.sampled_from(["j1", "j2"]),
    "session": st.sampled_from(["s1", "s2", "s3", "s4"]),
}
_common: dict[str, st.SearchStrategy] = {"id": st.just(""), "at": _small, "by": st.just("root"), "until": st.none() | _small}
_withdrawals = st.one_of([st.builds(TokensRevoked, before=_small, **_common, **{name: ids}) for name, ids in _ids.items()])
_suspensions = st.builds(UserSuspended, user=_users, **_common)
_openings = st.builds(opened, _ids["session"], st.none() | _ids["session"], _users)
_some: st.SearchStrategy[Event] = st.one_of(_withdrawals, _withdrawals, _suspensions, _openings)
_control = st.lists(_some, max_size=25).map(numbered)


@settings(max_examples=80, deadline=None)
@given(logs | _control, st.dictionaries(st.integers(0, 30), st.integers(0, 13), max_size=4))
def test_sweeping_leaves_what_never_sweeping_leaves(events: list[Event], sweeps: dict[int, int]) -> None:
    """Any log, swept at any places, at any moments, reopened behind some: no difference to the whole, at the last of these moments."""
    last = max((now for place, now in sweeps.items() if place <= len(events)), default=0)

    async def fold(path: Path, moments: dict[int, int]) -> None:
        for start in [0, *sorted(place for place in moments if 0 < place <= len(events))]:
            async with open_store(path, epoch="one") as store:
                if start in moments:
                    store.sweep(moments[start] + SWEEP_MARGIN_MS)
                stop = min((place for place in moments if place > start), default=len(events))
                for offset, event in enumerate(events[start:stop], start + 1):
                    apply(store, event)
                    store.advance(3, Position(offset, offset))

    with tempfile.TemporaryDirectory() as folder:
        whole, swept = Path(folder, "whole.db"), Path(folder, "swept.db")
        asyncio.run(fold(whole, {}))
        asyncio.run(fold(swept, sweeps))
        assert offline.differences(whole, swept, now=last) == []
    one, other = MemoryView(), MemoryView()
    for place, event in enumerate(events):
        if place in sweeps:
            other.sweep(sweeps[place])
        apply(one, event)
        apply(other, event)
    for view in (one, other):
        view.sweep(last)
    assert one.dump() == other.dump()


async def _sweep_a_file(path: Path) -> list[int]:
    past, live = 1_000, 1_000_000
    async with open_store(path, epoch="one") as store:
        for number, until in enumerate((past, live, None)):
            for what in ({"user": f"u{number}"}, {"jti": f"j{number}"}, {"session": f"s{number}"}):
                apply(store, TokensRevoked(id=f"{number}{what}", at=1, by="root", before=1, until=until, **what))
        apply(store, TokensRevoked(id="again", at=1, by="root", before=1, until=past, jti="j1"))
        apply(store, UserSuspended(id="s1", at=1, by="root", user="suspended", until=past))
        apply(store, UserSuspended(id="s2", at=1, by="root", user="lifted", until=1))
        store.advance(3, Position(1, 1))
        await store.flush()
        early = store.sweep(past + SWEEP_MARGIN_MS - 1)
        return [early, store.sweep(past + SWEEP_MARGIN_MS), store.sweep(past + SWEEP_MARGIN_MS)]


def test_a_sweep_is_written(tmp_path: Path) -> None:
    """It takes what is over, by its margin, and nothing else: the latest end counts; a suspension that is over goes too."""

    async def left() -> list[object]:
        async with open_store(tmp_path / "model.db", epoch="one") as store:
            users = [store.withdrawals(user) is not None for user in ("u0", "u1", "u2", "suspended", "lifted")]
            return [users, [store.revoked_jti(f"j{n}") for n in range(3)], [store.revoked_session(f"s{n}") for n in range(3)]]

    assert asyncio.run(_sweep_a_file(tmp_path / "model.db")) == [1, 4, 0]
    expected = [None, 1_000_000, FOR_EVER]
    assert asyncio.run(left()) == [[False, True, True, False, False], expected, expected]

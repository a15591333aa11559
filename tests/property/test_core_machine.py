"""The core against a plain model of a chat: whatever users do in whatever order, on views as old as they like."""

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from node.core.commands import (
    Command,
    CreateRoom,
    DeleteMessage,
    EditMessage,
    JoinRoom,
    LeaveRoom,
    MarkRead,
    React,
    SendMessage,
    SetRole,
)
from node.core.effects import Applied, Deliver, Entered, Exited
from node.core.errors import Refused
from node.core.events import RoomEvent, decode
from tests.support import chat_strategies as some
from tests.support.chat_model import ChatModel, Expected
from tests.support.core import World, codes, fold


class Chat(RuleBasedStateMachine):
    """One node and the model, step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.world, self.model = World(), ChatModel()
        self.held: list[tuple[str, Command, RoomEvent]] = []  # decided on a view that has since gone on
        self.futile: list[bytes] = []  # events that came too late to do anything
        self.inside: set[tuple[str, str]] = set()  # (user, room), as a node's fan-out learns it from the effects
        self.heard: dict[str, int] = {}  # room -> the last seq that was sent

    @initialize(cast=st.permutations(["ann", "bob", "cleo", "dan"]))
    def furnish(self, cast: list[str]) -> None:
        """Rooms with everyone in a place of his own, so that few commands find nothing."""
        owner, moderator, member, outsider = cast
        self.do(owner, CreateRoom(room="hall"))
        self.do(owner, CreateRoom(room="den", kind="private", with_=[moderator, member]))
        for room, users in (("hall", cast[1:]), ("den", [member, moderator])):
            for user in users:
                self.do(user, JoinRoom(room=room))
            self.do(owner, SetRole(room=room, user=moderator, role="moderator"))
            for user in users:
                self.do(user, SendMessage(room=room, text="hello", id="m1"))
        self.do(owner, SetRole(room="den", user=member, role="moderator"))
        self.do(outsider, LeaveRoom(room="hall"))

    @rule(user=some.users, command=some.memberships)
    def change_membership(self, user: str, command: Command) -> None:
        self.do(user, command)

    @rule(user=some.users, command=some.posts)
    def post(self, user: str, command: Command) -> None:
        self.do(user, command)

    @rule(user=some.users, command=some.changes)
    def change_message(self, user: str, command: Command) -> None:
        self.do(user, command)

    @rule(user=some.users, command=some.creations)
    def create(self, user: str, command: Command) -> None:
        self.do(user, command)

    @rule(user=some.users, command=some.marks)
    def mark_read(self, user: str, command: Command) -> None:
        self.do(user, command)

    @rule(user=some.users, command=some.commands)
    def hold(self, user: str, command: Command) -> None:
        """Another node decides now; its event reaches the log later."""
        if isinstance(command, EditMessage | DeleteMessage | React):
            command = msgspec.structs.replace(command, of=self.model.meant(user, command.room, command.id))
        event = self.world.judge(user, command)
        if not isinstance(event, Applied | Refused):
            self.held.append((user, command, event))

    @precondition(lambda self: bool(self.held))
    @rule(data=st.data())
    def let_go(self, data: st.DataObject) -> None:
        """A held event reaches the log: it does what the command would do now, or nothing."""
        user, command, event = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        before = self.world.view.dump()
        outcome = self.world.append(event)
        if not self.world.deliveries():
            self.futile.append(self.world.log[-1])
        if isinstance(outcome, Refused):
            assert self.world.view.dump() | {"seen": 0} == before | {"seen": 0}
            assert len(self.world.effects) == 1
        self.compare(command, self.model.do(user, command), outcome)

    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """An event stands in the log twice: the second is nothing, whatever has happened since."""
        self.again(data.draw(st.sampled_from(self.world.log)))

    @precondition(lambda self: bool(self.futile))
    @rule(data=st.data())
    def repeat_in_vain(self, data: st.DataObject) -> None:
        """So it is with one that did nothing the first time, and could do something by now."""
        self.again(data.draw(st.sampled_from(self.futile)))

    def again(self, event: bytes) -> None:
        before = self.world.view.dump()
        self.world.log.append(event)
        _, effects = fold([event], self.world.view)
        assert self.world.view.dump() == before
        assert all(isinstance(effect, Applied) and effect.duplicate and effect.event == decode(event).id for effect in effects)

    def do(self, user: str, command: Command) -> None:
        expected = self.model.do(user, command)
        self.compare(command, expected, self.world.do(user, command))

    def compare(self, command: Command, expected: Expected, outcome: Applied | Refused) -> None:
        """The answer, what was sent and who heard it are the model's."""
        world = self.world
        assert codes(outcome) == expected.code
        sent = world.deliveries()
        assert [one.name for one in sent] == ([expected.event] if expected.event else [])
        if isinstance(outcome, Applied):
            assert outcome.duplicate == expected.duplicate
            if expected.seq is not None:
                assert outcome.seq == expected.seq
        for effect in world.effects:
            match effect:
                case Entered(user, room):
                    self.inside.add((user, room))
                case Exited(user, room):
                    self.inside.discard((user, room))
                case Deliver(room=room, seq=seq, also=also):
                    hears = {user for user, where in self.inside if where == room} | set(also)
                    assert hears == expected.hears
                    assert seq == expected.seq
                    assert (effect.payload["room"], effect.payload["seq"]) == (room, seq or getattr(command, "seq", None))
                    if seq is not None:
                        assert seq == self.heard.get(room, 0) + 1
                        self.heard[room] = seq
                case _:
                    pass

    @invariant()
    def same_rooms(self) -> None:
        """Members, roles, invitations, seqs and read marks are the model's."""
        view = self.world.view
        assert {room.name for room in view.rooms()} == set(self.model.places)
        for name, place in self.model.places.items():
            room = view.room(name)
            assert room is not None
            assert (room.kind, room.seq) == (place.kind, place.seq)
            members = view.members(name)
            assert self.world.roles(name) == place.roles
            assert view.member_count(name) == len(place.roles)
            assert {one.user for one in members.values() if one.invited_by is not None and one.role is None} == place.invited
            assert {one.user: one.read for one in members.values() if one.read} == place.read
            assert {user for user, where in self.inside if where == name} == set(place.roles)
            assert all(name in view.rooms_of(user) for user in members)

    @invariant()
    def same_messages(self) -> None:
        """Every message reads as in the model, and the timeline has each seq once, in order."""
        view = self.world.view
        for name, place in self.model.places.items():
            assert [entry.seq for entry in view.timeline(name)] == list(range(1, place.seq + 1))
            posted = {entry.seq for entry in view.timeline(name) if entry.name == "message"}
            assert posted == set(place.said)
            for seq, said in place.said.items():
                message = view.message(name, seq)
                assert message is not None
                assert (message.author, message.id, message.text) == (said.author, said.id, said.text)
                assert (message.deleted_at is not None) == said.deleted
                assert {(emoji, user) for emoji, users in message.reactions.items() for user in users} == said.reactions

    def teardown(self) -> None:
        """A node that reads the whole log afterwards has the same view."""
        assert fold(self.world.log)[0].dump() == self.world.view.dump()


Chat.TestCase.settings = settings(max_examples=50, stateful_step_count=50, deadline=None)
TestChat = Chat.TestCase


def test_a_message_without_an_id_gets_the_events() -> None:
    """The server's own id is the event's, and is the one that later commands use."""
    world = World()
    world.do("ann", CreateRoom(room="r"))
    sent = world.do("ann", SendMessage(room="r", text="x"))
    assert isinstance(sent, Applied)
    assert world.deliveries()[0].payload["id"] == sent.event
    assert codes(world.do("ann", EditMessage(room="r", id=sent.event, text="y"))) == "ok"
    assert codes(world.do("ann", MarkRead(room="r", seq=3))) == "ok"

"""A new user of any worker asks the process that has the run who they are (`places.py`), in messages of Locust."""

from typing import Any

import msgspec
from gevent import Timeout
from gevent.event import AsyncResult
from locust.rpc.protocol import Message
from locust.runners import MasterRunner, Runner, WorkerRunner

from loadtest.places import Place, Places

ASK, TELL = "tidegate-who", "tidegate-you-are"
_ANSWER_S = 30.0  # that a busy master may take


class Ushers:
    """Both sides of it for the runner of one process; one that is alone sends the messages to itself."""

    def __init__(self, runner: Runner) -> None:
        self._runner, self._places = runner, Places()
        self._asked = 0
        self._answers: dict[int, AsyncResult] = {}
        if not isinstance(runner, WorkerRunner):
            runner.register_message(ASK, self._tell)
        if not isinstance(runner, MasterRunner):
            runner.register_message(TELL, self._told)

    def begin(self) -> None:
        """A new storm: nobody has come yet."""
        self._places = Places()

    def take(self, kind: str) -> Place:
        """A place for a new user of this kind. Raises `TimeoutError` where the master does not answer."""
        self._asked += 1
        question, answer = self._asked, AsyncResult()
        self._answers[question] = answer
        try:
            self._runner.send_message(ASK, {"kind": kind, "question": question})
            place: Place = answer.get(timeout=_ANSWER_S)
        except Timeout:
            raise TimeoutError(f"the master has not said within {_ANSWER_S:g} s who a new user is") from None
        finally:
            del self._answers[question]
        return place

    def _tell(self, msg: Message, **_: Any) -> None:
        place = self._places.take(msg.data["kind"])
        told = {"question": msg.data["question"], **msgspec.structs.asdict(place)}
        self._runner.send_message(TELL, told, client_id=msg.node_id)

    def _told(self, msg: Message, **_: Any) -> None:
        answer = self._answers.get(msg.data["question"])
        if answer is not None:
            answer.set(Place(number=msg.data["number"], arrival=msg.data["arrival"]))

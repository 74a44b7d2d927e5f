"""The messages of one run: everything that goes between its agents is an event; direct ones also wait for their readers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import cast

from unified_agents.events import Event, MessageSent, MessagesRead, MessageUndelivered
from unified_agents.messages import Message, MessageBus, MessageType
from unified_agents.recorded import Recorded

_Key = tuple[str, str, str, str]


class Post:
    """A run's bus and its record. One for all remainders of a run: a task that is begun again says and hears everything once."""

    def __init__(self, agents: Iterable[str], emit: Callable[[Event], None], recorded: Recorded | None = None) -> None:
        self._bus, self._emit, self._sent = MessageBus(list(agents)), emit, 0
        self._recorded = recorded or Recorded()
        self._said: dict[str, Counter[_Key]] = {}
        self._said_before: dict[str, Counter[_Key]] = {}
        self._heard: dict[str, list[tuple[str, Message]]] = {}
        self._recorded.on_unread = lambda event: self._bus.give_back(event.agent, _messages(event))

    def begin(self, task: str) -> None:
        """A task begins, perhaps again: what it heard before it hears again, what it said before it does not say twice."""
        for agent, message in reversed(self._heard.pop(task, [])):
            self._bus.give_back(agent, [message])
        self._said_before[task] = self._said_before.get(task, Counter()) | self._said.pop(task, Counter())
        self._said[task] = Counter()

    def count(self) -> int:
        """Count one more direct message; how many it makes."""
        self._sent += 1
        return self._sent

    def send(self, task: str, sender: str, recipient: str, content: str, message_type: MessageType, carried: bool = False) -> None:
        """Record a message of a task; `carried` ones enter their readers' next requests.

        Raises:
            UnknownRecipientError: it is to be carried to an agent that the team does not have.
        """
        key = (sender, recipient, message_type, content)
        said = self._said.setdefault(task, Counter())
        said[key] += 1
        if said[key] <= self._said_before.get(task, Counter())[key]:
            return
        message = Message(sender, recipient, content, message_type)
        if carried:
            self._bus.route_message(message)
        self._emit(
            MessageSent(
                task=task, sender=sender, recipient=recipient, message_type=message_type, content=content, timestamp=message.timestamp
            )
        )

    def restore(self, events: Iterable[Event], completed: Collection[str], afresh: Collection[str]) -> None:
        """Take over what earlier sessions sent: nothing is sent twice, and what was not read still waits; so does what a task read that begins `afresh`."""
        sent = [event for event in events if isinstance(event, MessageSent)]
        read = {(one.agent, m["sender"], m["time"]) for one in self._recorded.read if one.task not in afresh for m in one.messages}
        for event in sent:
            self._said.setdefault(event.task, Counter())[_key(event)] += 1
            if event.message_type == "direct":
                self._sent += event.task in completed  # the others are counted when their tasks say them again
                message = _message(event)
                readers = self._bus.recipients(message.sender, message.recipient)
                self._bus.leave(message, [name for name in readers if (name, message.sender, message.timestamp.isoformat()) not in read])

    def receive(self, agent: str, task: str, key: str) -> list[Message]:
        """What waits for an agent, taken for the call `key` of a task; what an earlier session showed it there, it is shown again."""
        known = self._recorded.mail(key)
        if known is not None:
            return _messages(known)
        if self._recorded.answers(key):
            return []  # what came later waits for a call that is made
        taken = self._bus.receive(agent)
        if taken:
            told = tuple(
                {"sender": m.sender, "recipient": m.recipient, "content": m.content, "time": m.timestamp.isoformat()} for m in taken
            )
            self._emit(MessagesRead(task=task, agent=agent, key=key, messages=told))
        self._heard.setdefault(task, []).extend((agent, message) for message in taken)
        return taken

    def give_back(self, agent: str, task: str, messages: Sequence[Message]) -> None:
        """Messages whose request failed wait again."""
        self._heard[task] = [one for one in self._heard.get(task, []) if one[1] not in messages]
        self._bus.give_back(agent, messages)

    def close(self) -> None:
        """Say which messages were never read."""
        for message, missed in self._bus.undelivered():
            self._emit(
                MessageUndelivered(
                    sender=message.sender, recipient=message.recipient, content=message.content, timestamp=message.timestamp, missed=missed
                )
            )


def _key(event: MessageSent) -> _Key:
    return event.sender, event.recipient, event.message_type, event.content


def _messages(event: MessagesRead) -> list[Message]:
    return [Message(m["sender"], m["recipient"], m["content"], "direct", datetime.fromisoformat(m["time"])) for m in event.messages]


def _message(event: MessageSent) -> Message:
    return Message(event.sender, event.recipient, event.content, cast("MessageType", event.message_type), event.timestamp)

"""The messages of one run: everything that goes between its agents is an event; direct ones also wait for their readers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from unified_agents.events import Event, MessageSent, MessageUndelivered
from unified_agents.messages import Message, MessageBus, MessageType

_Key = tuple[str, str, str, str]


class Post:
    """A run's bus and its record. One for all remainders of a run: a task that is begun again says and hears everything once."""

    def __init__(self, agents: Iterable[str], emit: Callable[[Event], None]) -> None:
        self._bus, self._emit, self._sent = MessageBus(list(agents)), emit, 0
        self._said: dict[str, Counter[_Key]] = {}
        self._said_before: dict[str, Counter[_Key]] = {}
        self._heard: dict[str, list[tuple[str, Message]]] = {}

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

    def receive(self, agent: str, task: str) -> list[Message]:
        """What waits for an agent, taken for a task."""
        taken = self._bus.receive(agent)
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

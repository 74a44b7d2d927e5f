"""The messages of one run: everything that goes between its agents is an event; direct ones also wait for their readers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from unified_agents.events import Event, MessageSent, MessageUndelivered
from unified_agents.messages import Message, MessageBus, MessageType


class Post:
    """A run's bus and its record. One for all remainders of a run."""

    def __init__(self, agents: Iterable[str], emit: Callable[[Event], None]) -> None:
        self._bus, self._emit, self._sent = MessageBus(list(agents)), emit, 0

    def count(self) -> int:
        """Count one more direct message; how many it makes."""
        self._sent += 1
        return self._sent

    def send(self, task: str, sender: str, recipient: str, content: str, message_type: MessageType, carried: bool = False) -> None:
        """Record a message of a task; `carried` ones enter their readers' next requests.

        Raises:
            UnknownRecipientError: it is to be carried to an agent that the team does not have.
        """
        message = Message(sender, recipient, content, message_type)
        if carried:
            self._bus.route_message(message)
        self._emit(
            MessageSent(
                task=task, sender=sender, recipient=recipient, message_type=message_type, content=content, timestamp=message.timestamp
            )
        )

    def receive(self, agent: str) -> list[Message]:
        """What waits for an agent."""
        return self._bus.receive(agent)

    def give_back(self, agent: str, messages: Sequence[Message]) -> None:
        """Messages whose request failed wait again."""
        self._bus.give_back(agent, messages)

    def close(self) -> None:
        """Say which messages were never read."""
        for message, missed in self._bus.undelivered():
            self._emit(
                MessageUndelivered(
                    sender=message.sender, recipient=message.recipient, content=message.content, timestamp=message.timestamp, missed=missed
                )
            )

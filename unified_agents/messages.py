"""Messages between agents, and the bus that carries them. Both work alone, without a team or a framework.

::

    bus = MessageBus()
    bus.register("writer")                                  # its messages wait until `receive`
    bus.register("editor", lambda message: print(message))  # called with each message
    bus.send_message("researcher", "writer", "The sources are in the notes.")
    bus.send_message("researcher", "broadcast", "I am done.")
    bus.receive("writer")                                   # both, in order
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Literal

from unified_agents.errors import UnknownRecipientError, did_you_mean

BROADCAST = "broadcast"
MessageType = Literal["handover", "delegation", "answer", "question", "direct", "turn"]


@dataclass(frozen=True)
class Message:
    """One exchange between two agents; `recipient` may be `broadcast`, which is everyone but the sender.

    `message_type`: handover (a task's output that a later one sees), delegation and question (to a coworker), answer (its answer), direct
    (`send_message`), turn (in a group chat).
    """

    sender: str
    recipient: str
    content: str
    message_type: MessageType = "direct"
    timestamp: datetime = field(default_factory=lambda: datetime.now(timezone.utc))


Handler = Callable[[Message], Any]


@dataclass(eq=False)
class _Mailbox:
    handler: Handler | None
    waiting: list[tuple[int, Message]] = field(default_factory=list)  # each with the number of its sending


class MessageBus:
    """Carries messages to registered agents, in the order they were sent. Safe to use from several threads."""

    def __init__(self, agents: Sequence[str] = ()) -> None:
        self._boxes: dict[str, _Mailbox] = {}
        self._lock = threading.RLock()
        self._sent = 0
        for name in agents:
            self.register(name)

    def register(self, agent: Any, handler: Handler | None = None) -> None:
        """Let an agent be written to: by its name, or an object with `name` (and `receive_message`, which then is the handler).

        Raises:
            ValueError: it has no name, the name is `broadcast`, or it is taken.
        """
        name = agent if isinstance(agent, str) else getattr(agent, "name", None)
        if not isinstance(name, str) or not name or name == BROADCAST:
            raise ValueError(f"found {agent!r}, expected an agent's name (other than {BROADCAST!r}) or an object with one")
        with self._lock:
            if name in self._boxes:
                raise ValueError(f"an agent {name!r} is registered already")
            self._boxes[name] = _Mailbox(handler or getattr(agent, "receive_message", None))

    def send_message(self, sender: str, recipient: str, content: str, message_type: MessageType = "direct") -> Message:
        """Send a message; what was sent, with its time.

        Raises:
            UnknownRecipientError: nobody of that name is registered.
        """
        message = Message(sender, recipient, content, message_type)
        self.route_message(message)
        return message

    def route_message(self, message: Message) -> tuple[str, ...]:
        """Bring a message to whom it is for; their names. A handler is called at once, in this thread; what it raises is raised here.

        Raises:
            UnknownRecipientError: nobody of that name is registered.
        """
        with self._lock:
            names = self.recipients(message.sender, message.recipient)
            handlers = [handler for name in names if (handler := self._boxes[name].handler) is not None]
            self.leave(message, [name for name in names if self._boxes[name].handler is None])
        for handler in handlers:
            handler(message)
        return names

    def leave(self, message: Message, names: Sequence[str]) -> None:
        """Let a message wait for some of its readers."""
        with self._lock:
            self._sent += 1
            for name in names:
                self._boxes[name].waiting.append((self._sent, message))

    def recipients(self, sender: str, recipient: str) -> tuple[str, ...]:
        """Whom a message from `sender` to `recipient` reaches.

        Raises:
            UnknownRecipientError: nobody of that name is registered.
        """
        with self._lock:
            registered = list(self._boxes)
        if recipient == BROADCAST:
            return tuple(name for name in registered if name != sender)
        if recipient not in registered:
            known = ", ".join([*registered, BROADCAST])
            raise UnknownRecipientError(f"there is no agent {recipient!r}{did_you_mean(recipient, registered)}; recipients: {known}")
        return (recipient,)

    def receive(self, agent: str) -> list[Message]:
        """Take an agent's waiting messages, oldest first; each is given once."""
        with self._lock:
            box = self._boxes.get(agent)
            if box is None:
                return []
            taken, box.waiting = box.waiting, []
            return [message for _, message in taken]

    def give_back(self, agent: str, messages: Sequence[Message]) -> None:
        """Put received messages back where they were: they never reached a model."""
        with self._lock:
            if messages:
                self._boxes[agent].waiting[:0] = [(0, message) for message in messages]

    def undelivered(self) -> list[tuple[Message, tuple[str, ...]]]:
        """Every message that still waits, with the agents who never asked for it, oldest first."""
        waiting: dict[int, tuple[int, Message, list[str]]] = {}
        with self._lock:
            for name, box in self._boxes.items():
                for number, message in box.waiting:
                    waiting.setdefault(id(message), (number, message, []))[2].append(name)
        return [(message, tuple(names)) for _, message, names in sorted(waiting.values(), key=lambda item: item[0])]

"""The message bus alone: who is reached, in which order, how often, and what happens when many send at once."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError, dataclass, field
from datetime import datetime, timedelta, timezone
from types import FrameType
from typing import Any

import pytest

from unified_agents import messages
from unified_agents.errors import UnifiedAgentsError, UnknownRecipientError
from unified_agents.messages import BROADCAST, Message, MessageBus

THREADS, EACH = 8, 200


@dataclass
class Named:
    """An object with a name."""

    name: Any


@dataclass
class Listening:
    """An object with a name that takes its messages itself."""

    name: str
    got: list[Message] = field(default_factory=list)

    def receive_message(self, message: Message) -> None:
        """Keep it."""
        self.got.append(message)


def contents(said: list[Message]) -> list[str]:
    """What the messages say."""
    return [message.content for message in said]


@pytest.mark.parametrize("agent", ["ann", Named("ann")])
def test_an_agent_without_a_handler_asks_for_its_messages(agent: Any) -> None:
    """Registered by name or as an object with one, its messages wait until it receives them."""
    bus = MessageBus()
    bus.register(agent)
    sent = bus.send_message("bob", "ann", "hello")
    assert bus.receive("ann") == [sent]


def test_an_object_that_takes_messages_is_its_own_handler() -> None:
    """`receive_message` is called with each message, and none waits."""
    bus, ann = MessageBus(), Listening("ann")
    bus.register(ann)
    sent = bus.send_message("bob", "ann", "hello")
    assert ann.got == [sent]
    assert bus.receive("ann") == []
    assert bus.undelivered() == []


def test_a_handler_that_is_given_wins_over_the_objects_own() -> None:
    """With both, the given handler alone is called."""
    bus, ann, got = MessageBus(), Listening("ann"), list[Message]()
    bus.register(ann, got.append)
    bus.send_message("bob", "ann", "hello")
    assert (contents(got), ann.got) == (["hello"], [])


@pytest.mark.parametrize("agent", ["", BROADCAST, Named(""), Named(BROADCAST), Named(None), Named(5), object(), None, 5])
def test_what_has_no_usable_name_is_refused(agent: Any) -> None:
    """A name is a text, not empty and not `broadcast`; what was found stands in the error, and nobody is registered."""
    bus = MessageBus()
    with pytest.raises(ValueError, match="expected an agent's name") as caught:
        bus.register(agent)
    assert repr(agent) in str(caught.value)
    assert bus.recipients("bob", BROADCAST) == ()


@pytest.mark.parametrize("again", ["ann", Named("ann"), Listening("ann")])
def test_a_name_is_registered_once(again: Any) -> None:
    """A second agent of the name is refused, and the first keeps its messages; another spelling is another name."""
    bus = MessageBus(["ann"])
    bus.send_message("bob", "ann", "hello")
    with pytest.raises(ValueError, match="'ann' is registered already"):
        bus.register(again)
    assert contents(bus.receive("ann")) == ["hello"]
    bus.register("Ann")
    assert bus.recipients("bob", BROADCAST) == ("ann", "Ann")


def test_a_direct_message_reaches_its_recipient_alone() -> None:
    """Nobody else gets it, also not its sender; the sender need not be registered."""
    bus = MessageBus(["ann", "bob", "eve"])
    assert bus.route_message(Message("max", "bob", "hello")) == ("bob",)
    bus.send_message("ann", "bob", "and hello")
    assert [contents(bus.receive(name)) for name in ("ann", "bob", "eve")] == [[], ["hello", "and hello"], []]


def test_what_was_sent_comes_back() -> None:
    """The message as it was sent, with its time in UTC and its type; nothing of it can be changed."""
    before = datetime.now(timezone.utc)
    message = MessageBus(["ann"]).send_message("bob", "ann", "hello", "question")
    assert message == Message("bob", "ann", "hello", "question", message.timestamp)
    assert before <= message.timestamp <= datetime.now(timezone.utc)
    assert message.timestamp.utcoffset() == timedelta(0)
    assert Message("bob", "ann", "hello").message_type == "direct"
    with pytest.raises(FrozenInstanceError):
        message.content = "other"  # type: ignore[misc]


@pytest.mark.parametrize(("sender", "reached"), [("ann", ("bob", "eve")), ("eve", ("ann", "bob")), ("max", ("ann", "bob", "eve"))])
def test_a_broadcast_reaches_everyone_but_its_sender(sender: str, reached: tuple[str, ...]) -> None:
    """Each of them once, handlers too, in the order of registration; a stranger's reaches all."""
    bus, heard = MessageBus(["ann", "bob"]), list[Message]()
    bus.register("eve", heard.append)
    assert bus.route_message(Message(sender, BROADCAST, "hello")) == reached
    got = {"ann": bus.receive("ann"), "bob": bus.receive("bob"), "eve": heard}
    assert {name: contents(said) for name, said in got.items()} == {name: ["hello"] * (name in reached) for name in got}


def test_messages_arrive_in_the_order_they_were_sent() -> None:
    """From several senders, direct and to all, to one who waits and to a handler."""
    bus, heard = MessageBus(["ann", "bob"]), list[Message]()
    bus.register("eve", heard.append)
    for number in range(20):
        bus.send_message("ann" if number % 3 else "max", BROADCAST if number % 2 else "bob", str(number))
        bus.send_message("bob", "eve", f"to eve {number}")
    assert contents(bus.receive("bob")) == [str(number) for number in range(20)]
    assert contents(heard) == [text for number in range(20) for text in ([str(number)] if number % 2 else []) + [f"to eve {number}"]]


def test_a_message_is_received_once() -> None:
    """The second time there is nothing, until something new is sent; what one agent takes the others still get."""
    bus = MessageBus(["ann", "bob"])
    bus.send_message("max", BROADCAST, "one")
    assert contents(bus.receive("ann")) == ["one"]
    assert bus.receive("ann") == []
    bus.send_message("max", "ann", "two")
    assert contents(bus.receive("ann")) == ["two"]
    assert contents(bus.receive("bob")) == ["one"]


def test_messages_that_are_given_back_come_first() -> None:
    """They wait again where they were: before what was sent since, in their order; giving back nothing changes nothing."""
    bus = MessageBus(["ann"])
    for text in ("one", "two"):
        bus.send_message("max", "ann", text)
    taken = bus.receive("ann")
    bus.send_message("max", "ann", "three")
    bus.give_back("ann", taken)
    bus.give_back("ann", [])
    assert contents(bus.receive("ann")) == ["one", "two", "three"]


def test_what_nobody_received_is_told_with_who_missed_it() -> None:
    """Each message once, oldest first, with those who still have it waiting; what was received or handled is not among them."""
    bus = MessageBus(["ann", "bob", "eve"])
    bus.register("max", lambda _: None)
    now = datetime.now(timezone.utc)
    first, second = Message("ann", "eve", "first", timestamp=now), Message("ann", BROADCAST, "second", timestamp=now + timedelta(seconds=1))
    for message in (first, second):
        bus.route_message(message)
    bus.send_message("ann", "max", "handled")
    assert bus.undelivered() == [(first, ("eve",)), (second, ("bob", "eve"))]
    taken = bus.receive("eve")
    assert bus.undelivered() == [(second, ("bob",))]
    bus.give_back("eve", taken)
    assert bus.undelivered() == [(first, ("eve",)), (second, ("bob", "eve"))]
    bus.receive("eve"), bus.receive("bob")
    assert bus.undelivered() == []


def test_two_equal_messages_are_two() -> None:
    """What is the same to the letter and to the moment still counts twice."""
    bus, message = MessageBus(["ann"]), Message("bob", "ann", "hello")
    for one in (message, Message("bob", "ann", "hello", timestamp=message.timestamp)):
        bus.route_message(one)
    assert len(bus.undelivered()) == 2


@pytest.mark.parametrize(
    ("recipient", "said"),
    [
        ("wrter", "there is no agent 'wrter', did you mean 'writer'?; recipients: writer, editor, broadcast"),
        ("zzz", "there is no agent 'zzz'; recipients: writer, editor, broadcast"),
        ("Broadcast", "there is no agent 'Broadcast'; recipients: writer, editor, broadcast"),
    ],
)
def test_an_unknown_recipient_is_an_error_that_names_the_known_ones(recipient: str, said: str) -> None:
    """With the nearest name where one is near; nothing is delivered to anybody."""
    bus = MessageBus(["writer", "editor"])
    tries: list[Callable[[], Any]] = [
        lambda: bus.send_message("max", recipient, "hello"),
        lambda: bus.route_message(Message("max", recipient, "hello")),
        lambda: bus.recipients("max", recipient),
    ]
    for attempt in tries:
        with pytest.raises(UnknownRecipientError) as caught:
            attempt()
        assert str(caught.value) == said
        assert isinstance(caught.value, UnifiedAgentsError)
    assert bus.undelivered() == []


def test_a_handler_runs_at_once_in_the_senders_thread() -> None:
    """When `send_message` returns, the handler has."""
    threads: list[threading.Thread] = []
    bus = MessageBus()
    bus.register("ann", lambda _: threads.append(threading.current_thread()))
    sender = threading.Thread(target=bus.send_message, args=("bob", "ann", "hello"))
    sender.start()
    sender.join(10)
    bus.send_message("bob", "ann", "hello")
    assert threads == [sender, threading.current_thread()]


def test_what_a_handler_raises_the_sender_gets() -> None:
    """Whoever waits for the message has it all the same."""
    bus = MessageBus()
    bus.register("ann", lambda _: 1 / 0)
    bus.register("bob")
    with pytest.raises(ZeroDivisionError):
        bus.send_message("max", BROADCAST, "hello")
    assert contents(bus.receive("bob")) == ["hello"]


def test_a_handler_may_use_the_bus() -> None:
    """It answers, receives and registers while it is called, without waiting for itself."""
    bus = MessageBus(["ann", "max"])

    def answer(message: Message) -> None:
        bus.register("late")
        bus.send_message("bob", message.sender, f"{len(bus.receive('max'))} for max")

    bus.register("bob", answer)
    bus.send_message("ann", BROADCAST, "hello")
    assert contents(bus.receive("ann")) == ["1 for max"]
    assert bus.recipients("ann", "late") == ("late",)


@pytest.fixture
def _torn() -> Iterator[None]:
    """Threads give way inside the bus after every few steps of the interpreter, which without this seldom lets go between two that belong together."""
    steps, before = itertools.count(), threading.gettrace()

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        if frame.f_code.co_filename != messages.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and not next(steps) % 5:
            time.sleep(0)
        return trace

    threading.settrace(trace)  # for threads that start from now on
    yield
    threading.settrace(before)


def together(*works: Callable[[], None]) -> None:
    """Do all at the same time; what one raises is raised here."""
    failed: list[BaseException] = []
    gate = threading.Barrier(len(works))

    def work(do: Callable[[], None]) -> None:
        try:
            gate.wait(10)
            do()
        except BaseException as error:  # noqa: BLE001  # raised below
            failed.append(error)

    threads = [threading.Thread(target=work, args=(do,)) for do in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    if failed:
        raise failed[0]


def sending(bus: MessageBus, sender: str, recipient: str, count: int) -> Callable[[], None]:
    """Sends numbered messages."""

    def send() -> None:
        for number in range(count):
            bus.send_message(sender, recipient, f"{sender} {number}")

    return send


@pytest.mark.usefixtures("_torn")
def test_many_threads_lose_and_double_nothing() -> None:
    """Eight threads send 200 messages each while a ninth receives, and gives back some: each arrives once, each sender's in order."""
    bus, got, senders = MessageBus(["ann"]), list[Message](), [f"s{n}" for n in range(THREADS)]

    def receive() -> None:
        rounds = 0
        while len(got) < THREADS * EACH / 2:  # the rest is received when all have ended
            taken, rounds = bus.receive("ann"), rounds + 1
            if rounds % 3:
                got.extend(taken)
            else:
                bus.give_back("ann", taken)

    together(receive, *(sending(bus, name, "ann", EACH) for name in senders))
    got += bus.receive("ann")
    assert len(got) == THREADS * EACH
    for name in senders:
        assert [message.content for message in got if message.sender == name] == [f"{name} {number}" for number in range(EACH)]
    assert bus.undelivered() == []


@pytest.mark.usefixtures("_torn")
def test_everyone_gets_broadcasts_in_the_same_order() -> None:
    """Eight threads write to all at once: those who wait get the same in the same order, a handler each once, and an agent nothing of its own."""
    bus, heard, senders = MessageBus(["ann", "bob", "s0"]), list[Message](), [f"s{n}" for n in range(THREADS)]
    bus.register("eve", heard.append)
    together(*(sending(bus, name, BROADCAST, EACH // 10) for name in senders))
    said = contents(bus.receive("ann"))
    assert sorted(said) == sorted(contents(heard)) == sorted(f"{name} {number}" for name in senders for number in range(EACH // 10))
    assert contents(bus.receive("bob")) == said
    assert contents(bus.receive("s0")) == [text for text in said if not text.startswith("s0 ")]

"""A backend as a stranger would write it: in one file, from `unified_agents.adapter` alone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from unified_agents.adapter import Adapter, Conversation, ConversationStopped, NativeTeam, Plan, Report, Seam, Step, Walk


@dataclass(frozen=True)
class PlainLoop(Adapter):
    """Runs a plan with nothing but asyncio."""

    def build(self, plan: Plan, seam: Seam) -> NativeTeam:
        """The loop of a plan."""
        return Loop(plan, seam)


class Loop(NativeTeam):
    """Starts every step that may start, and the next ones as soon as one has ended."""

    def __init__(self, plan: Plan, seam: Seam) -> None:
        self.native = self
        self._seam = seam

    async def run(self, report: Report) -> None:
        """Walk the plan."""
        walk = self._seam.start()
        running: dict[asyncio.Task[None], Step] = {}
        while True:
            running.update({asyncio.create_task(self._work(walk, step)): step for step in walk.ready()})
            if not running:
                return
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await report(walk.finish(running.pop(task), task.exception()))

    async def _work(self, walk: Walk, step: Step) -> None:
        while (conversation := await walk.next_turn(step)) is not None:  # once, or for each turn of a group chat
            await self._turn(conversation)

    async def _turn(self, conversation: Conversation) -> None:
        system = [{"role": "system", "content": conversation.system_text}] if conversation.system_text else []
        try:
            response = await conversation.chat([*system, {"role": "user", "content": conversation.task_text}])
            while response.tool_calls:
                await asyncio.gather(*(conversation.call_tool(call.id) for call in response.tool_calls))
                response = await conversation.chat([])
        except ConversationStopped:
            pass  # the walk knows why

    def cancel(self) -> None:
        """Nothing to do: the seam ends what is under way."""


ADAPTER = PlainLoop(
    name="plain_loop",
    requirements={"plain-loop-adapter": ">=1"},
    extra="plain-loop-adapter",
    capabilities={"parallel_tasks": True, "native_prompts": False},
)

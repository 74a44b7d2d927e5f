"""Private names of the frameworks that the adapters rely on: when one goes, this says which, not a user's run."""

from __future__ import annotations

import inspect
from typing import Any

import pytest


def test_crewai_names() -> None:
    """The hooks of Crew, the mark against BaseLLM's retries, the event configuration, the login's folder."""
    from unified_agents_crewai import quiet  # isort: skip  # before anything of crewai
    from crewai import BaseLLM, Crew  # noqa: TID251  # this test is about the framework
    from crewai.hooks.dispatch import HookAborted  # noqa: TID251
    from crewai_core.token_manager import TokenManager

    from unified_agents_crewai.model import ConversationLLM
    from unified_agents_crewai.team import PlanCrew

    assert inspect.iscoroutinefunction(Crew._arun_sequential_process)
    assert list(inspect.signature(Crew._run_sequential_process).parameters) == ["self"]
    for name in ("_task_output_handler", "_interpolate_inputs", "_create_crew_output", "copy"):
        assert hasattr(Crew, name) or name in Crew.__private_attributes__
    assert "_task_output_handler" in PlanCrew.__private_attributes__
    assert inspect.isfunction(TokenManager._get_secure_storage_path)
    assert issubclass(HookAborted, Exception)
    from crewai.agents.agent_executor import AgentExecutor, AgentExecutorState  # noqa: TID251
    from crewai.flow.runtime import FlowState  # noqa: TID251

    assert issubclass(AgentExecutor._initial_state_t, (FlowState, AgentExecutorState))
    with quiet.silent_events():
        assert vars(quiet)["_event_context_config"].get() is not None
    assert ConversationLLM.call.__qualname__ == "ConversationLLM.call"  # wrapped, it would say so

    class Plain(BaseLLM):  # type: ignore[misc]
        def call(self, *args: Any, **kwargs: Any) -> str:
            return ""

    assert Plain.call is not Plain.__dict__["call"].__wrapped__  # the negative control: without the mark it is wrapped


def test_crewai_import_leaves_warnings_alone() -> None:
    """`warnings.warn` is the interpreter's own after the quiet import."""
    import warnings

    import unified_agents_crewai.quiet

    assert unified_agents_crewai.quiet
    assert warnings.warn.__module__ in ("_warnings", "warnings")


def test_autogen_names() -> None:
    """The group chat's private modules and the methods that are overridden."""
    from autogen_agentchat.teams import BaseGroupChat  # noqa: TID251
    from autogen_agentchat.teams._group_chat._base_group_chat_manager import BaseGroupChatManager  # noqa: TID251

    from unified_agents_autogen.team import PlanManager

    for name in ("_create_group_chat_manager_factory", "_create_participant_factory"):
        assert callable(getattr(BaseGroupChat, name))
    for name in ("_transition_to_next_speakers", "_signal_termination", "_signal_termination_with_error", "handle_agent_response"):
        assert callable(getattr(BaseGroupChatManager, name))
    handlers = {name for name, member in inspect.getmembers(PlanManager) if getattr(member, "is_message_handler", False)}
    assert "handle_agent_response" in handlers


def test_autogens_spans_are_made_where_they_are_left_out() -> None:
    """AgentChat's helpers ask for a tracer through the name that is replaced: within `untraced` it is one that records nothing."""
    from autogen_core import trace_create_agent_span, trace_invoke_agent_span, trace_tool_span  # noqa: TID251
    from opentelemetry.trace import NoOpTracer, get_tracer

    from unified_agents_autogen import quiet

    _genai, untraced = vars(quiet)["_genai"], quiet.untraced
    for helper in (trace_create_agent_span, trace_invoke_agent_span, trace_tool_span):
        made = inspect.unwrap(helper)
        assert made.__globals__ is vars(_genai)
        assert 'trace.get_tracer("autogen-core")' in inspect.getsource(made)
    with untraced():
        assert isinstance(_genai.trace.get_tracer("x"), NoOpTracer)
    assert type(_genai.trace.get_tracer("x")) is type(get_tracer("x"))


def test_autogen_classic_names() -> None:
    """The loggers that print, and the calls through which a chat passes messages on, lets an agent speak and makes a model client."""
    from unified_agents_autogen_classic import quiet  # isort: skip  # before anything of autogen
    from autogen import GroupChatManager, OpenAIWrapper  # noqa: TID251
    from autogen.oai import client, cohere  # noqa: TID251

    for module, name in zip((client, cohere), vars(quiet)["_PRINTING"], strict=True):
        assert module.logger.name == name
        assert not module.logger.handlers
    for method, prefix in ((GroupChatManager.run_chat, ""), (GroupChatManager.a_run_chat, "await ")):
        source = inspect.getsource(method)
        assert f"{prefix}self.{'a_' * bool(prefix)}send(message, agent, request_reply=False" in source
        assert f"{prefix}speaker.{'a_' * bool(prefix)}generate_reply(sender=self)" in source
    assert "model_client_cls(placeholder_config, **kwargs)" in inspect.getsource(OpenAIWrapper.register_model_client)


@pytest.mark.parametrize("text", ["{tools}", "a {input} b {role}", "{x}", "{ tools }", "{{tools}}", "{tool_names}{goal}{backstory}"])
def test_guards_are_invertible(text: str) -> None:
    """What is hidden from CrewAI comes back to the letter, and is hidden in between."""
    from unified_agents_crewai.model import guard, unguard

    assert unguard(guard(text)) == text
    for word in ("{tools}", "{input}", "{role}", "{tool_names}", "{goal}", "{backstory}"):
        assert word not in guard(text)


def test_what_crewai_makes_at_first_use_is_made_before_any_thread() -> None:
    """The executors' definition and the classes of events; several tasks at once would walk a class while one of them changes it."""
    from unified_agents_crewai import quiet  # isort: skip  # noqa: F401  # before anything of crewai
    from crewai.agents.agent_executor import AgentExecutor  # noqa: TID251
    from crewai.events.base_events import BaseEvent  # noqa: TID251

    def kinds(of: Any) -> list[Any]:
        direct: list[Any] = of.__subclasses__()
        return [*direct, *(further for kind in direct for further in kinds(kind))]

    assert AgentExecutor.__dict__.get("_flow_definition") is AgentExecutor.flow_definition()
    assert not [kind.__name__ for kind in kinds(BaseEvent) if not kind.__pydantic_complete__]

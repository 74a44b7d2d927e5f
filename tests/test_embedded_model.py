"""The embedded model itself, in this process and served: tools, JSON, overflow. Shapes, names and copied values; never prose."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest

from unified_agents import AgentSpec, TaskSpec, TeamSpec, run_team
from unified_agents.chat_models import ChatRequest, ChatResponse
from unified_agents.chat_models.embedded import EmbeddedModel
from unified_agents.chat_models.openai_compatible import OpenAICompatibleModel
from unified_agents.chat_models.providers import ModelConfig
from unified_agents.engine import engine
from unified_agents.errors import BadRequestError, ContextOverflowError
from unified_agents.registry import names

pytestmark = [pytest.mark.embedded, pytest.mark.xdist_group("embedded")]

NAME = "smollm2-135m"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Current weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "day": {"type": "string"}},
            "required": ["city", "day"],
        },
    },
}
ASKED = [{"role": "user", "content": "Weather in Oslo on Sunday?"}]
CALL = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo", "day": "Sunday"}'}}
TOLD = [
    *ASKED,
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "19 degrees"},
]
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
TREE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#"}}},
    "required": ["name", "children"],
}
SCHEMAS: dict[str, Any] = {
    "object": PERSON,
    "list": {"type": "object", "properties": {"cities": {"type": "array", "items": {"type": "string"}, "minItems": 2}}, "required": ["cities"]},
    "tree": TREE,
    "free": {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 1},
    "narrow": {
        "type": "object",
        "properties": {
            "when": {"type": "string", "format": "date"},
            "code": {"type": "string", "pattern": r"^\d{2}-[A-Z]+$"},
            "share": {"type": "number", "minimum": 0, "maximum": 1},
            "mood": {"enum": ["good", "bad"]},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        },
        "required": ["when", "code", "share", "mood", "note"],
    },
}  # fmt: skip


def ask(messages: Any, max_tokens: int = 100, extra_body: Any = None, **fields: Any) -> ChatResponse:
    """One call in this process."""
    sampling = {"temperature": 0, "max_tokens": max_tokens}
    config = ModelConfig("default", "local", NAME, "embedded:", sampling=sampling, extra_body=extra_body or {})
    return engine().run(EmbeddedModel()(ChatRequest(model=config, messages=messages, **fields)))


def as_json(schema: Any) -> dict[str, Any]:
    """A response_format for a schema."""
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}


def test_a_required_tool_is_called_with_copied_arguments() -> None:
    """Two arguments from the prompt, in OpenAI's shape, with the provider's token counts."""
    answer = ask(ASKED, tools=[WEATHER], extra_body={"tool_choice": "required"})
    (call,) = answer.tool_calls
    assert (answer.text, answer.finish_reason, call.name) == ("", "tool_calls", "get_weather")
    assert json.loads(call.arguments) == {"city": "Oslo", "day": "Sunday"}
    assert (answer.usage.input_tokens or 0) > 50


def test_a_tool_is_called_of_the_models_own_will() -> None:
    """The same with the choice left to the model."""
    (call,) = ask(ASKED, tools=[WEATHER]).tool_calls
    assert json.loads(call.arguments) == {"city": "Oslo", "day": "Sunday"}


@pytest.mark.parametrize("tools", [[], [WEATHER]], ids=["last call", "with tools"])
def test_an_answer_uses_the_tools_result(tools: Any) -> None:
    """The number that the tool gave stands in the answer."""
    answer = ask(TOLD, tools=tools, max_tokens=60)
    assert answer.tool_calls == ()
    assert "19" in answer.text


@pytest.mark.parametrize("name", SCHEMAS)
def test_json_answers_fit_their_schema(name: str) -> None:
    """Valid against the caller's own schema, with few tokens too."""
    for most in (30, 200):
        answer = ask([{"role": "user", "content": "Describe a person or a thing as JSON."}], most, response_format=as_json(SCHEMAS[name]))
        jsonschema.validate(json.loads(answer.text), SCHEMAS[name])
        assert answer.finish_reason == "stop"


def test_fields_are_copied_out_of_a_text() -> None:
    """Extraction, what the model is good for."""
    answer = ask([{"role": "user", "content": "Anna is 34 years old. Extract name and age."}], response_format=as_json(PERSON))
    assert json.loads(answer.text) == {"name": "Anna", "age": 34}


def test_json_object_is_an_object() -> None:
    """Without any schema."""
    answer = ask([{"role": "user", "content": "Give a name and an age as JSON."}], response_format={"type": "json_object"})
    assert isinstance(json.loads(answer.text), dict)


def test_an_overflow_is_told_as_one() -> None:
    """At once, with both numbers; nothing is cut off in silence."""
    with pytest.raises(ContextOverflowError, match="8192"):
        ask([{"role": "user", "content": "word " * 9000}])


def test_what_cannot_be_rewritten_is_a_bad_request() -> None:
    """Before the model is asked."""
    with pytest.raises(BadRequestError, match="unknown type 'nonsense'"):
        ask(ASKED, response_format=as_json({"type": "nonsense"}))


# Served


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """`unified-agents model serve` in a process of its own; its base_url. It ends with Ctrl-C and exit 130."""
    command = [sys.executable, "-m", "unified_agents", "model", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        assert process.stdout
        yield process.stdout.readline().strip()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "Interrupted." in err
    assert "Traceback" not in err


@pytest.fixture
def client(served: str) -> openai.OpenAI:
    """The OpenAI SDK on it."""
    return openai.OpenAI(base_url=served, api_key="any", max_retries=0)


def test_served_answers_and_streams(client: openai.OpenAI) -> None:
    """Plain text, whole and in chunks, gives the same words."""
    body: Any = {"model": NAME, "messages": [{"role": "user", "content": "Define gravity."}], "max_tokens": 12, "temperature": 0}
    whole = client.chat.completions.create(**body)
    chunks = list(client.chat.completions.create(**body, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert whole.model == NAME
    assert text == whole.choices[0].message.content
    assert len(chunks) > 5
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens == 12


def test_served_tools_and_json(client: openai.OpenAI) -> None:
    """Through the same rewriting, whole and streamed."""
    body: Any = {"model": f"local/{NAME}", "messages": ASKED, "tools": [WEATHER], "tool_choice": "required"}
    whole = client.chat.completions.create(**body).choices[0]
    assert whole.finish_reason == "tool_calls"
    assert whole.message.tool_calls
    assert json.loads(whole.message.tool_calls[0].function.arguments) == {"city": "Oslo", "day": "Sunday"}
    with client.chat.completions.stream(**body) as stream:
        final = stream.get_final_completion().choices[0]
    assert final.message.tool_calls
    assert final.message.tool_calls[0].function.name == "get_weather"
    extract: Any = {"messages": [{"role": "user", "content": "Anna is 34 years old."}], "response_format": as_json(PERSON)}
    answer = client.chat.completions.create(model=NAME, **extract)
    jsonschema.validate(json.loads(answer.choices[0].message.content or ""), PERSON)


def test_served_says_what_it_has(client: openai.OpenAI, served: str) -> None:
    """Its models, and that it is well."""
    assert [model.id for model in client.models.list()] == [NAME]
    assert client.models.retrieve(f"local/{NAME}").id == NAME
    assert client.with_options(base_url=served.removesuffix("/v1")).get("/health", cast_to=object) == {"status": "ok"}


def test_served_errors_are_openais(client: openai.OpenAI) -> None:
    """Status, message and code as the SDK reads them."""
    message: Any = [{"role": "user", "content": "Hi"}]
    with pytest.raises(openai.InternalServerError, match="this model makes no embeddings") as none:
        client.embeddings.create(model=NAME, input="x")
    assert none.value.status_code == 501
    with pytest.raises(openai.NotFoundError, match=f"local/{NAME}"):
        client.chat.completions.create(model="gpt-4o", messages=message)
    with pytest.raises(openai.NotFoundError, match="this server offers POST /v1/chat/completions"):
        client.post("/responses", cast_to=object, body={})
    with pytest.raises(openai.BadRequestError, match="no JSON"):
        client.post("/chat/completions", cast_to=object, content=b"{broken")
    with pytest.raises(openai.BadRequestError, match="maximum context length is 8192") as overflow:
        client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": "word " * 9000}])
    assert overflow.value.code == "context_length_exceeded"
    wrongs: list[dict[str, Any]] = [{"messages": []}, {"messages": message, "max_tokens": -1}, {"messages": message, "tools": 5}]
    for wrong in wrongs:
        with pytest.raises(openai.BadRequestError):
            client.post("/chat/completions", cast_to=object, body={"model": NAME, **wrong})


def test_our_own_providers_take_it(served: str) -> None:
    """`vllm/…` and `openai/…` with base_url pointed there, a whole team included."""
    for provider in ("vllm", "openai"):
        config = ModelConfig("default", provider, NAME, served, sampling={"temperature": 0, "max_tokens": 8})
        answer = engine().run(OpenAICompatibleModel()(ChatRequest(model=config, messages=ASKED)))
        assert (answer.model, answer.usage.output_tokens, answer.truncated) == (f"{provider}/{NAME}", 8, True)
        with pytest.raises(ContextOverflowError):
            engine().run(OpenAICompatibleModel()(ChatRequest(model=config, messages=[{"role": "user", "content": "word " * 9000}])))
    agent = AgentSpec(name="a", role="Physicist")
    model: Any = {"model": f"vllm/{NAME}", "base_url": served, "max_tokens": 8, "temperature": 0}
    team = TeamSpec(tasks=[TaskSpec(name="t", description="Define gravity.", agent=agent)], models={"default": model})
    assert run_team(team, backend=names()[0]).tasks["t"].output


def test_a_port_in_use_is_told() -> None:
    """Exit 2, with the address and what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "unified_agents", "model", "serve", "--port", port],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert (done.returncode, done.stdout) == (2, "")
    assert f"127.0.0.1:{port} cannot be used" in done.stderr


def test_a_comparison_loads_it_before_its_first_run(tmp_path: Path) -> None:
    """Else the backend that is first would look slower by what loading takes: when the first run begins the model answers already."""
    code = (
        "import sys; from unified_agents import *; from unified_agents.chat_models import embedded; import unified_agents.compare as c\n"
        "one, seen = c._one, []\n"
        "async def spied(*a):\n"
        "    seen.append((embedded._server is not None, 'unified_agents.chat_models.openai_compatible' in sys.modules)); return await one(*a)\n"
        "c._one = spied\n"
        "t = TaskSpec(name='t', description='Say hello', agent=AgentSpec(name='a', role='R'))\n"
        "m = {'default': {'model': 'local/smollm2-135m', 'max_tokens': 4}}\n"
        "compare_backends(TeamSpec(tasks=[t], models=m), ['autogen']); print(seen)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.strip() == "[(True, True)]"

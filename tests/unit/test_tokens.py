"""Counting tokens: exact where the vocabulary is the model's own, by a stated factor where it is not.

The counts of o200k and cl100k are frozen from tiktoken 0.14 itself, over vocabulary files whose SHA-256 are the ones that tiktoken expects of
OpenAI's (446a9538… and 223921b7…). Those of Llama 3 and Qwen 3 are quicktok's own: they show that nothing changed, not that it is right.
"""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unified_agents.tokens import PER_MESSAGE, PER_NAME, PER_REPLY, Family, count_tokens, family, message_tokens, tools_tokens

PATIENT = settings(deadline=None)
"""The first count loads a vocabulary, and the machine may be busy."""
O200K, CL100K = Family("o200k_base"), Family("cl100k_base")

FROZEN = [
    ("", 0, 0),
    ("a", 1, 1),
    (" ", 1, 1),
    ("\n", 1, 1),
    ("\0", 1, 1),
    ("a\0b", 3, 3),
    ("hello world", 2, 2),
    ("Hello, world!", 4, 4),
    ("The quick brown fox jumps over the lazy dog.", 10, 10),
    ("antidisestablishmentarianism", 6, 6),
    ("   leading and trailing   ", 5, 5),
    ("\n\n\n\n", 1, 1),
    ("\t\tindented", 4, 4),
    ("a\r\nb\r\n", 4, 4),
    ("1234567890", 4, 4),
    ("3.14159 and 2,718", 9, 9),
    ("don't can't we'll I'M", 5, 8),
    ("UPPERCASE lowercase CamelCase snake_case", 8, 8),
    ('def f(x: int) -> str:\n    return f"{x!r}"\n', 17, 17),
    ('{"title": "Tides", "n": [1, 2, 3]}', 19, 19),
    ("SELECT * FROM t WHERE a >= 10; -- note", 12, 12),
    ("https://example.org/a?b=c&d=%20e", 13, 13),
    ("naïve café Ångström", 7, 8),
    ("Grüße aus München", 5, 5),
    ("Привет, мир", 4, 6),
    ("γειά σου", 3, 6),
    ("مرحبا بالعالم", 4, 10),
    ("नमस्ते दुनिया", 5, 13),
    ("你好,世界", 3, 6),
    ("こんにちは世界", 2, 4),
    ("안녕하세요 세계", 3, 9),
    ("😀", 1, 2),
    ("👩\u200d👩\u200d👧\u200d👦", 11, 18),
    ("🏳️\u200d🌈 flag", 7, 10),
    ("e\u0301 and é", 4, 4),
    ("\ufffd", 1, 1),
    ("\u200b\u200e", 2, 2),
    ("<|endoftext|>", 7, 7),
    ("<|im_start|>system", 7, 7),
    ("x" * 100, 13, 13),
    ("ab " * 50, 51, 51),
    ("!" * 33, 4, 5),
]


@pytest.mark.parametrize(("text", "o200k", "cl100k"), FROZEN, ids=range(len(FROZEN)))
def test_openais_counts_are_exact(text: str, o200k: int, cl100k: int) -> None:
    """Each text takes as many tokens as tiktoken says; the words of a control token are text like any other."""
    assert (count_tokens(text, "openai/gpt-4o"), count_tokens(text, "openai/gpt-4")) == (o200k, cl100k)


def test_the_vocabularies_differ() -> None:
    """The negative control: the frozen counts tell one vocabulary from the other."""
    assert sum(o200k != cl100k for _, o200k, cl100k in FROZEN) >= 12


OTHERS = [
    ("hello world", 2, 2),
    ("The quick brown fox jumps over the lazy dog.", 10, 10),
    ("1234567890", 4, 10),
    ("", 0, 0),
]


@pytest.mark.parametrize(("text", "llama3", "qwen3"), OTHERS, ids=range(len(OTHERS)))
def test_llama_and_qwen_have_vocabularies_of_their_own(text: str, llama3: int, qwen3: int) -> None:
    """Qwen takes digits one by one, Llama three at a time."""
    assert (count_tokens(text, "groq/llama-3.1-8b-instant"), count_tokens(text, "local/qwen3")) == (llama3, qwen3)


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "ok \udc00\ud800 ok"])
def test_a_lone_surrogate_is_counted_as_what_is_sent_for_it(text: str) -> None:
    """No encoder takes one; it counts as the replacement character, in every vocabulary."""
    replaced = "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in text)
    for model in ("openai/gpt-4o", "openai/gpt-4", "groq/llama-3.1-8b", "local/qwen3", "anthropic/claude"):
        assert count_tokens(text, model) == count_tokens(replaced, model) > 0


@PATIENT
@given(st.text(st.characters(exclude_categories=())))
def test_any_text_can_be_counted_and_no_vocabulary_splits_bytes(text: str) -> None:
    """Whatever the text, its count is at most its bytes, and none exactly when it is empty."""
    for counter in (O200K, CL100K):
        assert (counter.count(text) > 0) == bool(text)
        assert counter.count(text) <= len(text.encode("utf-8", "replace")) + 2 * sum("\ud800" <= letter <= "\udfff" for letter in text)


MODELS: list[tuple[str, Family]] = [
    *((f"openai/{name}", O200K) for name in ("gpt-4o", "gpt-4o-mini", "gpt-4.1-nano", "gpt-4.5-preview", "gpt-5", "gpt-5-mini", "o1", "o3-mini")),
    ("openai/chatgpt-4o-latest", O200K),
    ("groq/openai/gpt-oss-20b", O200K),
    *((f"openai/{name}", CL100K) for name in ("gpt-4", "gpt-4-turbo", "gpt-3.5-turbo", "gpt-4-0613")),
    *((name, Family("llama3")) for name in ("groq/llama-3.1-8b-instant", "together/meta-llama/Llama-3.3-70B-Instruct", "ollama/llama3:8b")),
    ("groq/meta-llama/llama-4-scout", Family("llama3")),
    *((name, Family("qwen3")) for name in ("local/qwen3", "together/Qwen/Qwen2.5-7B", "groq/qwen-qwq-32b")),
    ("anthropic/claude-sonnet-4-5", Family("o200k_base", 1.2)),
    ("openrouter/anthropic/claude-3.5-haiku", Family("o200k_base", 1.2)),
    ("gemini/gemini-2.5-flash", Family("o200k_base", 1.1)),
    ("groq/gemma2-9b-it", Family("o200k_base", 1.1)),
    *((f"mistral/{name}", Family("o200k_base", 1.15)) for name in ("mistral-large-latest", "open-mixtral-8x7b", "codestral-latest", "ministral-8b")),
    ("openai/scripted", Family("o200k_base", 1.2)),
    ("", Family("o200k_base", 1.2)),
]  # fmt: skip


@pytest.mark.parametrize(("model", "expected"), MODELS, ids=[name or "empty" for name, _ in MODELS])
def test_a_models_family_is_known_by_its_name(model: str, expected: Family) -> None:
    """The vocabulary or the factor; neither providers nor capitals make a difference."""
    assert family(model) == family(model.rsplit("/", 1)[-1]) == family(model.upper()) == expected
    assert family(model).exact == (expected.factor == 1.0)


def test_a_provider_is_no_models_name() -> None:
    """The negative control: a model that nobody knows stays unknown at a provider that everyone knows."""
    for provider in ("openai", "mistral", "gemini", "groq/qwen", "anthropic/claude"):
        assert family(f"{provider}/scripted") == Family("o200k_base", 1.2)


@PATIENT
@given(st.text())
def test_a_factor_rounds_up(text: str) -> None:
    """A family without a vocabulary of its own counts OpenAI's tokens times its factor, never less."""
    base = O200K.count(text)
    for model, factor in (("anthropic/claude-x", 1.2), ("gemini/gemini-x", 1.1), ("mistral/mistral-x", 1.15), ("openai/scripted", 1.2)):
        assert count_tokens(text, model) == math.ceil(base * factor)


CALL = {"id": "c1", "type": "function", "function": {"name": "search", "arguments": '{"q": "tides"}'}}
SEARCH, ARGUMENTS, TIDES = O200K.count("search"), O200K.count('{"q": "tides"}'), O200K.count("Tide pools")
PARTS = [{"type": "text", "text": "Tide pools"}]

MESSAGES: list[tuple[dict[str, Any], int]] = [
    ({"role": "user", "content": "Tide pools"}, PER_MESSAGE + TIDES),
    ({"role": "system", "content": ""}, PER_MESSAGE),
    ({"role": "assistant", "content": None}, PER_MESSAGE),
    ({"role": "assistant"}, PER_MESSAGE),
    ({"role": "user", "content": "Tide pools", "name": "ann"}, PER_MESSAGE + TIDES + PER_NAME + O200K.count("ann")),
    ({"role": "assistant", "content": None, "tool_calls": [CALL]}, 2 * PER_MESSAGE + SEARCH + ARGUMENTS),
    ({"role": "assistant", "content": "Tide pools", "tool_calls": [CALL, CALL]}, 3 * PER_MESSAGE + TIDES + 2 * (SEARCH + ARGUMENTS)),
    ({"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "search", "arguments": None}}]}, 2 * PER_MESSAGE + SEARCH),
    ({"role": "assistant", "content": "Tide pools", "tool_calls": None}, PER_MESSAGE + TIDES),
    ({"role": "tool", "tool_call_id": "c1", "content": "Tide pools"}, PER_MESSAGE + TIDES),
    ({"role": "user", "content": PARTS}, PER_MESSAGE + O200K.count(json.dumps(PARTS))),
]  # fmt: skip


@pytest.mark.parametrize(("message", "tokens"), MESSAGES, ids=range(len(MESSAGES)))
def test_a_message_costs_its_text_its_calls_its_name_and_their_frames(message: dict[str, Any], tokens: int) -> None:
    """Each part is counted once, with its own frame."""
    assert message_tokens(message, O200K) == tokens


def test_messages_cost_their_sum_and_the_beginning_of_the_answer() -> None:
    """The frames of OpenAI's cookbook: three tokens a message, three for the answer."""
    messages = [message for message, _ in MESSAGES]
    assert count_tokens(messages, "openai/gpt-4o") == PER_REPLY + sum(tokens for _, tokens in MESSAGES)
    assert count_tokens([{"role": "user", "content": "hello world"}], "openai/gpt-4o") == 3 + 3 + 2
    assert count_tokens([], "openai/gpt-4o") == 3


def test_the_default_model_is_gpt_4o() -> None:
    """Without a model the count is that of o200k, not of another vocabulary."""
    assert count_tokens("مرحبا بالعالم") == 4 != count_tokens("مرحبا بالعالم", "openai/gpt-4")


def test_tools_cost_their_json() -> None:
    """The order of a schema's keys makes no difference; a longer description does; no tools are free."""
    tool = {"type": "function", "function": {"name": "search", "description": "Søk", "parameters": {}}}
    turned = {"function": {"parameters": {}, "description": "Søk", "name": "search"}, "type": "function"}
    longer = {"type": "function", "function": {"name": "search", "description": "Søk i notatene", "parameters": {}}}
    expected = PER_MESSAGE + O200K.count(json.dumps(tool, ensure_ascii=False, sort_keys=True))
    assert tools_tokens([tool], O200K) == tools_tokens([turned], O200K) == expected
    assert tools_tokens([tool, tool], O200K) == 2 * expected
    assert tools_tokens([longer], O200K) > expected
    assert tools_tokens([], O200K) == 0

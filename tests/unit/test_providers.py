"""Providers: which address is called, with which key, and which addresses never are."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from unified_agents.chat_models.providers import ModelConfig, check_base_url, check_model, resolve_model
from unified_agents.errors import Problem
from unified_agents.spec import ModelSpec

CANARY = "sk-canary-4711"
KEYS = {
    f"{name}_API_KEY": CANARY for name in ("OPENAI", "AZURE_OPENAI", "ANTHROPIC", "GEMINI", "GROQ", "MISTRAL", "DEEPSEEK", "OPENROUTER")
}


def resolve(env: dict[str, str], model: str = "openai/gpt-4o-mini", **fields: Any) -> tuple[ModelConfig | None, list[Problem]]:
    """What `models: {default: {model: …}}` resolves to in an environment."""
    return resolve_model("default", ModelSpec(model=model, **fields), env, 60.0, "models.default")


def config_of(env: dict[str, str], model: str = "openai/gpt-4o-mini", **fields: Any) -> ModelConfig:
    """As `resolve`, where nothing is wrong."""
    config, problems = resolve(env, model, **fields)
    assert problems == []
    assert config is not None
    return config


def key_of(config: ModelConfig) -> str | None:
    """The key in clear."""
    return config.api_key.get_secret_value() if config.api_key else None


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("ftp://host/v1", "http"),
        ("file:///etc/passwd", "http"),
        ("host/v1", "http"),
        ("localhost:8000", "http"),
        ("//host/v1", "http"),
        ("https://", "host"),
        ("https:///v1", "host"),
        ("https://host:port/v1", "URL"),
        ("https://[::1/v1", "URL"),
        ("https://user:secret@host/v1", "user"),
        ("https://user@host/v1", "user"),
        ("https://:secret@host/v1", "user"),
        ("https://host/v1?key=secret", "query"),
        ("https://host/v1#part", "fragment"),
        ("http://169.254.169.254/latest", "link-local"),
        ("http://169.254.0.1:80/v1", "link-local"),
        ("http://[fe80::1]/v1", "link-local"),
        ("http://[fe80::1%25eth0]/v1", "link-local"),
        ("http://[febf::1]/v1", "link-local"),
        ("http://[::ffff:169.254.169.254]/v1", "link-local"),
        ("http://[::ffff:a9fe:a9fe]:8000/v1", "link-local"),
        ("http://[::FFFF:A9FE:A9FE]/v1", "link-local"),
        ("http://[fd00:ec2::254]/v1", "metadata"),
        ("http://metadata.google.internal/v1", "metadata"),
        ("http://Metadata.Google.Internal/v1", "metadata"),
        ("http://metadata.google.internal./v1", "metadata"),
        ("http://metadata/v1", "metadata"),
    ],
)
def test_addresses_that_are_never_called(url: str, word: str) -> None:
    """Only http(s) to a host, without credentials in it, and never to where clouds keep theirs."""
    assert word in (check_base_url(url) or "accepted")
    config, problems = resolve({}, base_url=url, api_key="key")
    assert config is None
    assert [problem.path for problem in problems] == ["models.default.base_url"]
    assert "secret" not in str(problems)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.openai.com/v1",
        "http://localhost:8000/v1",
        "http://127.0.0.1:1",
        "http://[::1]:8000/v1",
        "http://[::ffff:10.0.0.1]/v1",
        "http://10.0.0.5/v1",
        "http://192.168.1.2:11434/v1",
        "https://170.254.169.254/v1",
        "https://metadata.example.com/v1",
        "https://host.internal/v1",
        "HTTPS://HOST/v1",
    ],
)
def test_addresses_that_are_called(url: str) -> None:
    """Private networks and loopback are everyday; so are hosts that only resemble the refused ones."""
    assert check_base_url(url) is None


@pytest.mark.parametrize("password", ["canary", "p@canary", "canary:x", "%40canary"])
def test_a_password_in_a_url_is_not_repeated(password: str) -> None:
    """The error for a URL with a password does not print the password."""
    _, problems = resolve({}, base_url=f"https://user:{password}@host/v1")
    assert len(problems) == 1
    assert "canary" not in str(problems)


@pytest.mark.parametrize("variable", ["OPENAI_BASE_URL", "AZURE_OPENAI_BASE_URL"])
def test_an_address_from_the_environment_is_checked_too(variable: str) -> None:
    """A metadata address is refused wherever it was written."""
    model = "azure/deployed" if variable.startswith("AZURE") else "openai/x"
    config, problems = resolve({**KEYS, variable: "http://169.254.169.254/v1"}, model)
    assert config is None
    assert len(problems) == 1
    assert CANARY not in str(problems)


@pytest.mark.parametrize(
    ("model", "variable"),
    [
        ("openai/x", "OPENAI_API_KEY"),
        ("anthropic/x", "ANTHROPIC_API_KEY"),
        ("gemini/x", "GEMINI_API_KEY"),
        ("groq/x", "GROQ_API_KEY"),
        ("mistral/x", "MISTRAL_API_KEY"),
        ("deepseek/x", "DEEPSEEK_API_KEY"),
        ("openrouter/x", "OPENROUTER_API_KEY"),
    ],
)
def test_the_provider_picks_address_and_key(model: str, variable: str) -> None:
    """The first segment decides where a call goes and which variable holds its key; without it, the variable is named."""
    config = config_of({variable: CANARY}, model)
    assert config.base_url.startswith("https://")
    assert (key_of(config), config.key_variable, config.model) == (CANARY, variable, model)
    others = {name: value for name, value in KEYS.items() if name != variable}
    for env in (others, {**others, variable: ""}):
        missing, problems = resolve(env, model)
        assert missing is None
        assert [problem.path for problem in problems] == ["models.default"]
        assert variable in problems[0].message


@pytest.mark.parametrize("model", ["ollama/llama3", "vllm/mine", "local/smollm2-135m"])
def test_local_providers_need_no_key(model: str) -> None:
    """What runs on this machine is called without a key, even when there is one."""
    assert key_of(config_of({}, model)) is None
    assert key_of(config_of(KEYS, model)) is None


@pytest.mark.parametrize("model", ["openai/x", "anthropic/x", "gemini/x", "groq/x", "azure/x", "ollama/x"])
def test_a_key_never_follows_an_address_of_the_file(model: str) -> None:
    """A base_url that the file wrote without a key gets no key from the environment."""
    config = config_of(KEYS, model, base_url="https://elsewhere.example/v1")
    assert (config.base_url, key_of(config)) == ("https://elsewhere.example/v1", None)
    assert CANARY not in repr(config)


def test_a_key_written_beside_an_address_is_used() -> None:
    """The file's own pair of address and key belongs together, and the environment's key stays out."""
    config = config_of(KEYS, base_url="https://elsewhere.example/v1/", api_key="mine")
    assert (config.base_url, key_of(config)) == ("https://elsewhere.example/v1", "mine")


def test_a_key_in_the_file_wins_over_the_environment() -> None:
    """`api_key` needs no base_url to count."""
    assert key_of(config_of(KEYS, api_key="mine")) == "mine"


def test_an_address_from_the_environment_keeps_its_key() -> None:
    """OPENAI_BASE_URL and OPENAI_API_KEY belong together; a base_url in the file wins over the variable."""
    env = {**KEYS, "OPENAI_BASE_URL": "http://proxy.example/v1/"}
    assert (config_of(env).base_url, key_of(config_of(env))) == ("http://proxy.example/v1", CANARY)
    assert config_of(env, base_url="https://file.example/v1").base_url == "https://file.example/v1"
    assert config_of(env, "groq/x").base_url != "http://proxy.example/v1"


def test_azure_needs_an_address() -> None:
    """There is no common Azure address: without one the error says what to set; with one, api_version goes along."""
    config, problems = resolve(KEYS, "azure/deployed")
    assert config is None
    assert [problem.path for problem in problems] == ["models.default"]
    assert "base_url" in problems[0].message
    assert "AZURE_OPENAI_BASE_URL" in problems[0].message
    found = config_of({**KEYS, "AZURE_OPENAI_BASE_URL": "https://mine.openai.azure.com"}, "azure/deployed", api_version="2024-10-21")
    assert (found.base_url, key_of(found), found.api_version) == ("https://mine.openai.azure.com", CANARY, "2024-10-21")


@pytest.mark.parametrize(
    ("model", "field"),
    [
        ("openai/gpt-4o-mini", "max_tokens"),
        ("openai/gpt-4.1", "max_tokens"),
        ("openai/gpt-3.5-turbo", "max_tokens"),
        ("openai/chatgpt-4o-latest", "max_tokens"),
        ("openai/gpt-oss-120b", "max_tokens"),
        ("openai/omni", "max_tokens"),
        ("openai/o1", "max_completion_tokens"),
        ("openai/o3-mini", "max_completion_tokens"),
        ("openai/o4-mini-2025-04-16", "max_completion_tokens"),
        ("openai/gpt-5", "max_completion_tokens"),
        ("openai/gpt-5-mini", "max_completion_tokens"),
        ("openai/gpt-5.1", "max_completion_tokens"),
        ("azure/o3-mini", "max_completion_tokens"),
        ("openrouter/openai/gpt-5", "max_tokens"),
        ("vllm/o3-mini", "max_tokens"),
        ("ollama/gpt-5", "max_tokens"),
        ("groq/openai/gpt-oss-20b", "max_tokens"),
    ],
)
def test_max_tokens_has_the_name_the_model_takes(model: str, field: str) -> None:
    """OpenAI's reasoning models want `max_completion_tokens`; everything else knows `max_tokens`."""
    env = {**KEYS, "AZURE_OPENAI_BASE_URL": "https://mine.openai.azure.com"}
    assert dict(config_of(env, model, max_tokens=800).sampling) == {field: 800}
    assert dict(config_of(env, model).sampling) == {}


def test_sampling_goes_out_as_written() -> None:
    """Zero is a value, and what was not written is not sent."""
    assert dict(config_of(KEYS, temperature=0, top_p=0.5, seed=0).sampling) == {"temperature": 0.0, "top_p": 0.5, "seed": 0}
    config = config_of(KEYS, extra_body={"top_k": 5}, extra_headers={"X-Team": CANARY}, timeout=5)
    assert (config.extra_body, config.timeout, dict(config.sampling)) == ({"top_k": 5}, 5.0, {})
    assert config.extra_headers["X-Team"].get_secret_value() == CANARY
    assert config_of(KEYS).timeout == 60.0


@pytest.mark.parametrize("name", ["meta-llama/llama-3:free", "a/b/c", "gpt-4o-mini", "UPPER.case_1"])
def test_the_name_is_sent_as_it_stands(name: str) -> None:
    """Only the first segment is the provider; slashes and colons after it belong to the name."""
    config = config_of(KEYS, f"openrouter/{name}")
    assert (config.provider, config.name, config.model) == ("openrouter", name, f"openrouter/{name}")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("gpt-4o-mini", ["PROVIDER/NAME"]),
        ("openai/", ["PROVIDER/NAME"]),
        ("/gpt-4o", ["PROVIDER/NAME"]),
        ("", ["PROVIDER/NAME"]),
        ("opnai/gpt-4o", ["opnai", "did you mean 'openai'", "groq"]),
        ("OpenAI/gpt-4o", ["OpenAI", "openai"]),
        ("nobody/x", ["nobody", "openai"]),
    ],
)
def test_a_model_is_provider_and_name(model: str, words: list[str]) -> None:
    """Anything else is refused with what is allowed."""
    message = check_model(model) or "accepted"
    assert all(word in message for word in words)
    assert check_model("openai/gpt-4o") is None


def test_a_resolved_model_shows_no_secret() -> None:
    """Printing a configuration prints neither key nor headers."""
    config = config_of({}, api_key=SecretStr(CANARY), extra_headers={"Authorization": CANARY})
    assert key_of(config) == CANARY
    assert CANARY not in f"{config!r} {config!s}"

"""Providers by name: where their OpenAI-compatible endpoint is and which variable holds the key."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from unified_agents.errors import Problem, did_you_mean
from unified_agents.spec import ModelSpec, RateLimitSpec


@dataclass(frozen=True)
class Provider:
    """What the first segment of PROVIDER/NAME stands for.

    `base_url` None: there is no common address, the file or `url_variable` must give one. `key_variable` None: no key is needed.
    """

    base_url: str | None
    key_variable: str | None = None
    url_variable: str | None = None
    json_schema: bool = True  # whether the endpoint takes response_format: json_schema


PROVIDERS: dict[str, Provider] = {
    "openai": Provider("https://api.openai.com/v1", "OPENAI_API_KEY", "OPENAI_BASE_URL"),
    "azure": Provider(None, "AZURE_OPENAI_API_KEY", "AZURE_OPENAI_BASE_URL"),
    "anthropic": Provider("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", json_schema=False),
    "gemini": Provider("https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY"),
    "groq": Provider("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "mistral": Provider("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "deepseek": Provider("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY", json_schema=False),
    "openrouter": Provider("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "ollama": Provider("http://localhost:11434/v1", None, "OLLAMA_BASE_URL"),
    "vllm": Provider("http://localhost:8000/v1", None, "VLLM_BASE_URL"),
    "local": Provider("embedded:"),
}

# OpenAI's reasoning models answer 400 to `max_tokens`; other providers know no other name.
_COMPLETION_TOKENS = re.compile(r"(o\d|gpt-[5-9])(\b|[-.])")
_SECRET_NAME = re.compile(r"auth|key|token|secret|password|credential|cookie", re.IGNORECASE)
_LONG = 16  # characters: no provider's keys are shorter
HIDDEN = "…"
_HEADER_VALUE = re.compile(r"[\x20-\x7e]+")
_METADATA_HOSTS = frozenset({"metadata.google.internal", "metadata", "instance-data"})
_METADATA_ADDRESSES = frozenset({ipaddress.ip_address("fd00:ec2::254"), ipaddress.ip_address("100.100.100.200")})


ANSWER_TOKENS = 1024
"""What an answer may take where `max_tokens` is unset."""


@dataclass(frozen=True)
class ModelConfig:
    """A model ready to be called: the spec with everything looked up. `alias` is its name in `models:`."""

    alias: str
    provider: str
    name: str
    base_url: str
    api_key: SecretStr | None = None
    key_variable: str | None = None
    api_version: str | None = None
    timeout: float = 60.0
    sampling: Mapping[str, Any] = field(default_factory=dict)
    extra_headers: Mapping[str, SecretStr] = field(default_factory=dict)
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    json_schema: bool = True
    rate_limit: RateLimitSpec | None = None
    context_window: int | None = None

    @property
    def identity(self) -> tuple[str, str, str]:
        """What has one health and one quota: the address, the model, and the key (never shown)."""
        return self.base_url, self.model, self.api_key.get_secret_value() if self.api_key else ""

    @property
    def secrets(self) -> Iterator[str]:
        """What must be shown nowhere: the key, and what stands in `extra_headers` and `extra_body` under a name that says so."""
        if self.api_key is not None:
            yield self.api_key.get_secret_value()
        yield from (value.get_secret_value() for name, value in self.extra_headers.items() if _SECRET_NAME.search(name))
        yield from _named_secrets(self.extra_body)

    @property
    def answer_tokens(self) -> int:
        """What an answer may take at most: `max_tokens`, under whichever name it is sent."""
        return int(self.sampling.get("max_tokens") or self.sampling.get("max_completion_tokens") or ANSWER_TOKENS)

    @property
    def model(self) -> str:
        """PROVIDER/NAME, as the user wrote it."""
        return f"{self.provider}/{self.name}"


def _named_secrets(values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _named_secrets(value)
        elif isinstance(value, str) and _SECRET_NAME.search(name):
            yield value


def without_secrets(text: str, configs: Iterable[ModelConfig]) -> str:
    """An answer or a tool's result without the secrets of models, as a provider may echo and a tool's environment may hold them. A short one may be a word, and stays."""
    for config in configs:
        for secret in config.secrets:
            if len(secret) >= _LONG and secret in text:
                text = text.replace(secret, HIDDEN)
    return text


def check_model(model: str) -> str | None:
    """Why `model` is no PROVIDER/NAME of ours, or None."""
    provider, slash, name = model.partition("/")
    if not slash or not provider or not name:
        return f"found {model!r}, expected PROVIDER/NAME such as 'openai/gpt-4o-mini'"
    if provider not in PROVIDERS:
        return f"unknown provider {provider!r}{did_you_mean(provider, PROVIDERS)}; allowed: {', '.join(PROVIDERS)}"
    return None


def check_base_url(url: str) -> str | None:
    """Why `url` may not be called, or None. Link-local and metadata addresses are refused here and again after resolution."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
        _ = parts.port
    except ValueError as error:
        return f"not a URL: {error}"
    if parts.scheme not in ("http", "https") or not host:
        return "expected a URL that begins with http:// or https:// and names a host"
    if parts.username or parts.password:
        return "a URL with a user name or password is refused: use api_key or extra_headers"
    if parts.query or parts.fragment:
        return "a base_url ends with its path: no ?query, no #fragment"
    if host in _METADATA_HOSTS or is_link_local(host):
        return f"{host} is a link-local or metadata address, where cloud machines keep their credentials; it is never called"
    return None


def is_link_local(host: str) -> bool:
    """Whether a literal IP address is link-local (169.254.0.0/16, fe80::/10) or a cloud's metadata service, IPv4 written as IPv6 included."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    plain = getattr(address, "ipv4_mapped", None) or address
    return plain.is_link_local or plain in _METADATA_ADDRESSES


def resolve_model(
    alias: str, spec: ModelSpec, env: Mapping[str, str], timeout: float, path: str
) -> tuple[ModelConfig | None, list[Problem]]:
    """The spec with base_url and key looked up, or what is missing.

    A key from the environment goes only to its provider's own address (or the one its URL variable names), never to a base_url
    that the file wrote without a key beside it.
    """
    provider_name, _, name = spec.model.partition("/")
    provider = PROVIDERS[provider_name]
    base_url = spec.base_url or env.get(provider.url_variable or "", "") or provider.base_url
    if not base_url:
        return None, [Problem(path, f"{spec.model} needs a base_url: write base_url or set {provider.url_variable}")]
    wrong = None if provider_name == "local" else check_base_url(base_url)
    if wrong:
        return None, [Problem(f"{path}.base_url" if spec.base_url else path, f"found {shown_url(base_url)}: {wrong}")]
    key, problem = _key(spec, provider, env, path)
    unsendable = [problem] if problem else _unsendable(spec, key, path)
    if unsendable:
        return None, unsendable
    variable = None if spec.base_url and not spec.api_key else provider.key_variable
    config = ModelConfig(
        alias=alias, provider=provider_name, name=name, base_url=base_url.rstrip("/"), api_key=key, key_variable=variable,
        api_version=spec.api_version, timeout=spec.timeout or timeout, sampling=sampling(spec),
        extra_headers=spec.extra_headers, extra_body=spec.extra_body, json_schema=provider.json_schema,
        rate_limit=spec.rate_limit,
        context_window=spec.context_window,
    )  # fmt: skip
    return config, []


def _key(spec: ModelSpec, provider: Provider, env: Mapping[str, str], path: str) -> tuple[SecretStr | None, Problem | None]:
    if spec.api_key is not None:
        return (spec.api_key if spec.api_key.get_secret_value() else None), None
    if spec.base_url or provider.key_variable is None:
        return None, None
    found = env.get(provider.key_variable, "")
    if found:
        return SecretStr(found), None
    return None, Problem(
        path, f"{spec.model} needs a key: set {provider.key_variable} or write api_key (without a key: model: local/smollm2-135m)"
    )


def _unsendable(spec: ModelSpec, key: SecretStr | None, path: str) -> list[Problem]:
    """What cannot go into a request: better said here than as a failed call."""
    headers = {"api_key": key, **{f"extra_headers.{name}": value for name, value in spec.extra_headers.items()}}
    problems = [
        Problem(f"{path}.{where}", "holds characters that no HTTP header takes: line ends, control characters or non-Latin letters")
        for where, secret in headers.items()
        if secret is not None and not _HEADER_VALUE.fullmatch(secret.get_secret_value())
    ]
    if key is not None and "${" in key.get_secret_value():
        problems.append(Problem(f"{path}.api_key", "holds ${…}, which is replaced in team files only; in Python give the value"))
    try:
        json.dumps(spec.extra_body, allow_nan=False)
    except (TypeError, ValueError) as error:
        problems.append(Problem(f"{path}.extra_body", f"is no JSON: {error}"))
    return problems


def sampling(spec: ModelSpec) -> dict[str, Any]:
    """The spec's sampling fields as they go on the wire."""
    provider, _, name = spec.model.partition("/")
    renamed = provider in ("openai", "azure") and _COMPLETION_TOKENS.match(name)
    fields = {
        "temperature": spec.temperature, "top_p": spec.top_p, "seed": spec.seed,
        "max_completion_tokens" if renamed else "max_tokens": spec.max_tokens,
    }  # fmt: skip
    return {key: value for key, value in fields.items() if value is not None}


def shown_url(url: str) -> str:
    """Scheme and host of a URL, without what may be a secret in the rest."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname}/…" if parts.scheme and parts.hostname else "a text that is no URL"
    except ValueError:
        return "a text that is no URL"

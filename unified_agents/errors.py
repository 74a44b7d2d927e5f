"""Every error a user can meet, one tree.

::

    UnifiedAgentsError
    ├── SpecError                      the team, its file or its inputs are wrong; nothing was called (exit 2)
    ├── BackendUnavailableError        unknown backend, not installed, or a version outside its range (exit 3)
    ├── UnknownRunError                the journal has no run by this name (exit 2)
    ├── UnrecordedRunError             the run went on without its journal, and cannot be resumed (exit 2)
    ├── RunBusyError                   another process works on this run
    ├── UnknownRecipientError          a message to an agent that a MessageBus does not know
    ├── UnsupportedFeatureError        the backend refuses a field that the team uses (exit 3)
    └── RunError                       a run failed; `.task` names where, `.result` holds what was completed (exit 1)
        ├── BackendError               the framework itself failed
        ├── TaskError                  foreign code failed inside a task; the original is its `__cause__`
        ├── TaskTimeoutError           the task's own deadline passed
        ├── ToolError                  too many tool errors, or the same call again and again
        ├── LimitExceededError         one of `limits` was reached
        ├── BudgetExceededError        the next call does not fit the `budget`, or its time is over
        ├── DelegationError            a coworker failed for good, or was never asked although it had to be
        ├── InvalidAnswerError         the answer breaks `output_schema`, also after the repair
        ├── GuardrailError             the guardrail's fault was not mended
        ├── ReviewRejectedError        the reviewer did not approve the answer
        ├── OutputFileError            the output could not be written
        ├── MemoryStoreError       a memory store cannot be opened, read or written
        ├── JournalError           the journal cannot be opened, read or written
        ├── UnfinishedCallError    a tool with side effects began before the run stopped, and may have happened
        ├── RunCancelledError          the caller stopped the run
        └── ModelError                 a model call failed
            ├── APIConnectionError     refused, reset, cut off
            ├── APITimeoutError        no whole answer within one attempt's timeout
            ├── RateLimitError         429
            │   └── QuotaExceededError     429 insufficient_quota, 402
            ├── AuthenticationError    401
            ├── PermissionDeniedError  403
            ├── NotFoundError          404, the model or the path
            ├── BadRequestError        other 4xx
            │   ├── ContextOverflowError   the request does not fit the model's window
            │   └── ContentFilterError     the provider refused the content
            ├── MissingRecordError     a replay holds no answer for a call
            ├── CircuitOpenError       the model failed too often and is left alone for a while
            ├── InternalServerError    5xx
            ├── BadResponseError       a 200 that is no chat completion
            └── EmptyAnswerError       a chat completion without text

The names below ModelError are those of the OpenAI SDK where it has one.
"""

from __future__ import annotations

import difflib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unified_agents.result import RunResult


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong with a team: where it stands and what to do about it.

    `path` is written as in `tasks.write.context[0]`; `line` counts from 1 and is None for what did not come from a file.
    """

    path: str
    message: str
    line: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The problem as it stands in the JSON error document."""
        return {"path": self.path, "line": self.line, "message": self.message}


class UnifiedAgentsError(Exception):
    """The root of the tree: catch this to catch all of ours."""

    exit_code = 1

    def to_dict(self) -> dict[str, Any]:
        """The error as it stands in JSON output."""
        return {"type": type(self).__name__, "message": str(self), "problems": []}


class SpecError(UnifiedAgentsError):
    """The team cannot be run as written; `problems` lists everything found, in file order."""

    exit_code = 2

    def __init__(self, problems: Iterable[Problem], source: str | None = None) -> None:
        self.problems = sorted(set(problems), key=lambda p: (p.line if p.line is not None else 1 << 30, p.path, p.message))
        self.source = source
        super().__init__(self._text())

    def _text(self) -> str:
        count = f"{len(self.problems)} problem{'s' if len(self.problems) != 1 else ''}"
        return "\n".join([f"{count} in {self.source or 'the team'}:", *(f"  {self._row(p)}" for p in self.problems)])

    def _row(self, problem: Problem) -> str:
        place = f"{self.source}:{problem.line}: " if self.source and problem.line else ""
        return f"{place}{problem.path}: {problem.message}" if problem.path else f"{place}{problem.message}"

    def to_dict(self) -> dict[str, Any]:
        """The JSON error document's inner part: `{type, message, problems: [{path, line, message}]}`."""
        return {"type": type(self).__name__, "message": str(self), "problems": [p.to_dict() for p in self.problems]}


class BackendUnavailableError(UnifiedAgentsError):
    """The backend asked for is unknown, not installed, or of a version that was never tested."""

    exit_code = 3


class UnknownRecipientError(UnifiedAgentsError):
    """A message was sent to an agent that is not registered on the bus."""


class UnknownRunError(UnifiedAgentsError):
    """The journal has no run by this name."""

    exit_code = 2


class UnrecordedRunError(UnifiedAgentsError):
    """The run's journal failed while it went on, so what it did last is not known and it cannot be resumed."""

    exit_code = 2


class RunBusyError(UnifiedAgentsError):
    """Another process works on this run."""


class UnsupportedFeatureError(UnifiedAgentsError):
    """The backend refuses fields that the team uses; `problems` names each with its reason."""

    exit_code = 3

    def __init__(self, backend: str, problems: Sequence[Problem]) -> None:
        self.backend = backend
        self.problems = list(problems)
        rows = "\n".join(f"  {p.path}: {p.message}" for p in self.problems)
        super().__init__(f"backend {backend!r} refuses what this team asks for:\n{rows}")

    def to_dict(self) -> dict[str, Any]:
        """As `SpecError.to_dict`."""
        return {"type": type(self).__name__, "message": str(self), "problems": [p.to_dict() for p in self.problems]}


class RunError(UnifiedAgentsError):
    """A run failed. `task` names the task (None for the whole run), `result` is the RunResult once the run has ended."""

    task: str | None = None
    result: RunResult | None = None
    advice: str | None = None
    """What to type next, where the command line knows it."""

    def to_dict(self) -> dict[str, Any]:
        """As in a result's `error`: with the task's name."""
        return {**super().to_dict(), "task": self.task}


class BackendError(RunError):
    """The framework itself failed, outside any model call or tool."""


class TaskError(RunError):
    """Foreign code (a tool, a callback) failed inside a task; the original is `__cause__`."""


class TaskTimeoutError(RunError):
    """A task's own deadline passed."""


class ToolError(RunError):
    """Tools were called wrongly or failed more often than `limits.tool_errors` allows, or the same call led nowhere."""


class LimitExceededError(RunError):
    """One of the team's `limits`, or `max_iterations`, was reached."""


class BudgetExceededError(RunError):
    """The run's `budget` does not cover the next call, or its time is over. Neither asked again nor given to another model, agent or backend."""


class DelegationError(RunError):
    """A coworker and its fallbacks failed (the last one's error is the `__cause__`), or an agent did not hand over what it had to."""


class InvalidAnswerError(RunError):
    """The answer is not what `output_schema` asks for, also after it was asked for again."""


class GuardrailError(RunError):
    """The guardrail still finds a fault after `guardrail_retries`."""


class ReviewRejectedError(RunError):
    """The reviewer rejected the answer, and no call is left to ask for another."""


class OutputFileError(RunError):
    """A task's output could not be written to its `output_file`."""


class MemoryStoreError(RunError):
    """A memory store cannot be opened, read or written; the message names it and the reason."""


class JournalError(RunError):
    """The journal cannot be opened, read or written; the message names it and the reason."""


class UnfinishedCallError(RunError):
    """A tool with side effects was called before the run stopped, and nobody knows whether it was done."""


class RunCancelledError(RunError):
    """The caller stopped the run."""


class ModelError(RunError):
    """A model call failed. `status` is the HTTP status where there was one, `model` the PROVIDER/NAME asked.

    What each kind means for the layers stands on its class: `retries`, how often the same model is asked again because of it (None: as often as
    `max_attempts` allows); `vote`, whether the circuit breaker counts it as a failure of the model; `next_model`, whether another may do better.
    `retry_after`: seconds that the provider asked to wait.
    """

    retries: int | None = 0
    vote = False
    next_model = True
    retry_after: float | None = None
    attempt = 1
    """Which attempt at the model it was."""

    def __init__(self, message: str, *, model: str | None = None, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.model = model
        self.status = status
        self.retry_after = retry_after


class APIConnectionError(ModelError):
    """No connection to the model, or it broke before the answer was whole."""

    retries = None
    vote = True


class APITimeoutError(ModelError):
    """One attempt took longer than its timeout, slow drip included."""

    retries = 2
    vote = True


class RateLimitError(ModelError):
    """The provider asks to slow down (HTTP 429). The model is well: it pauses, and the breaker does not count it."""

    retries: int | None = None


class QuotaExceededError(RateLimitError):
    """The account has no quota or credit left: the circuit opens at once, for long."""

    retries = 0


class AuthenticationError(ModelError):
    """The key is missing or wrong (HTTP 401)."""

    next_model = False


class PermissionDeniedError(ModelError):
    """The key may not use this model (HTTP 403)."""

    next_model = False


class NotFoundError(ModelError):
    """The provider knows no such model, or the base_url has no such path (HTTP 404)."""


class BadRequestError(ModelError):
    """The provider calls the request wrong (HTTP 4xx)."""

    next_model = False


class ContextOverflowError(BadRequestError):
    """The request does not fit into the model's context window; another model may have a larger one."""

    next_model = True


class ContentFilterError(BadRequestError):
    """The provider's content filter stopped the request or its answer."""


class MissingRecordError(ModelError):
    """A replay holds no answer for a call, and nothing is asked live."""

    next_model = False


class CircuitOpenError(ModelError):
    """The model failed too often and is left alone. `retry_after`: seconds until it is tried again.

    `attempt` is the one that was not made, after failures of these `kinds`; `probing`: a probe is under way, and may end any moment;
    `changed(seconds)` waits until it is worth asking again.
    """

    kinds: Mapping[type[ModelError], int] = {}
    probing = False
    changed: Callable[[float], Awaitable[None]] | None = None


class InternalServerError(ModelError):
    """The provider failed (HTTP 5xx)."""

    retries = None
    vote = True


class BadResponseError(ModelError):
    """HTTP 200 with something that is no chat completion."""

    retries = 2
    vote = True


class EmptyAnswerError(ModelError):
    """The model answered with no text."""

    retries = 1


def did_you_mean(found: str, allowed: Iterable[str]) -> str:
    """`, did you mean 'x'?` for the nearest allowed name, or an empty text."""
    near = difflib.get_close_matches(found, list(allowed), n=1, cutoff=0.6)
    return f", did you mean {near[0]!r}?" if near else ""


def failure_text(agent: str, error: BaseException | None) -> str:
    """How an agent failed, in one line."""
    return f"{agent} failed: {type(error).__name__}: {' '.join(str(error).split())[:500]}"

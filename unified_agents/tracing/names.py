"""The names of spans' and metrics' attributes: those of OpenTelemetry's GenAI conventions, and ours under `unified_agents.`.

Written here because the package that has them calls them unstable and moves them.
"""

from __future__ import annotations

SCOPE = "unified_agents"

OPERATION = "gen_ai.operation.name"
AGENT = "gen_ai.agent.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
FINISH_REASONS = "gen_ai.response.finish_reasons"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
TOOL = "gen_ai.tool.name"
TOOL_CALL_ID = "gen_ai.tool.call.id"
CONVERSATION = "gen_ai.conversation.id"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
ERROR_TYPE = "error.type"

BACKEND = "unified_agents.backend"
RUN_ID = "unified_agents.run.id"
RESUMED = "unified_agents.run.resumed"
TASK = "unified_agents.task.name"
ATTEMPT = "unified_agents.attempt"
FALLBACK_FROM = "unified_agents.fallback.from"
BREAKER_STATE = "unified_agents.breaker.state"

# With the content of messages alone
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
TOOL_ARGUMENTS = "gen_ai.tool.call.arguments"
TOOL_RESULT = "gen_ai.tool.call.result"

TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105  # no secret
DURATION_METRIC = "gen_ai.client.operation.duration"
TOKEN_METRIC = "gen_ai.client.token.usage"  # noqa: S105  # no secret

# As the conventions advise
DURATION_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKEN_BUCKETS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)

# Where the conventions call a provider otherwise than we do
PROVIDER_NAMES = {"azure": "azure.ai.openai", "gemini": "gcp.gemini", "mistral": "mistral_ai"}

"""unified_agents on AutoGen (AgentChat)."""

"""unified_agents on classic AutoGen (ConversableAgent, GroupChat)."""

"""unified_agents on CrewAI."""

"""`unified-agents schema`: the JSON Schema of the team file."""

from __future__ import annotations

from unified_agents.cli.output import print_json
from unified_agents.spec import team_schema


def schema() -> None:
    """Print the JSON Schema of the team file, for editors and linters."""
    print_json(team_schema())

"""`python -m unified_agents` is the command line."""

from unified_agents.cli import main

main()

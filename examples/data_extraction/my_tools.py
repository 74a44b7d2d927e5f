"""The check of what was extracted."""

from __future__ import annotations

import json


def adds_up(answer: str) -> str | None:
    """A guardrail: the lines make the net, and the difference is the one between the numbers. A number that was read wrongly shows here."""
    data = json.loads(answer)
    lines, net = sum(line["amount"] for line in data["lines"]), data["net"]
    if round(lines - net, 2):
        return f"the lines add up to {lines:.2f}, but net says {net:.2f}: read the amounts again"
    difference = round(data["total"] - net - data["vat"], 2)
    if round(difference - data["difference"], 2):
        return f"total minus net minus VAT is {difference:.2f}, but difference says {data['difference']:.2f}"
    return None

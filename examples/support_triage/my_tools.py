"""What the support team may do: look up orders, search the rules, draft refunds; and the check that a refund was drafted."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DRAFTS = HERE / "drafts"


def look_up_order(number: str) -> dict[str, Any]:
    """Look an order up: its items, prices in EUR, and where it is.

    Args:
        number: The number of the order, five digits.
    """
    orders: dict[str, dict[str, Any]] = json.loads((HERE / "orders.json").read_text(encoding="utf-8"))
    if number not in orders:
        raise ValueError(f"there is no order {number}")
    return orders[number]


def search_knowledge(query: str, limit: int = 2) -> list[dict[str, str]]:
    """Search our rules; the articles that fit best come first.

    Args:
        query: A few words.
        limit: How many articles.
    """
    wanted = _words(query)
    articles = [(path.stem, path.read_text(encoding="utf-8")) for path in sorted((HERE / "knowledge").glob("*.md"))]
    ranked = sorted(articles, key=lambda article: -len(wanted & _words(article[1])))
    return [{"article": name, "text": text.strip()} for name, text in ranked[:limit] if wanted & _words(text)]


def _words(text: str) -> set[str]:
    return {word for word in re.findall(r"\w+", text.lower()) if len(word) > 3}


def draft_refund(order: str, amount_eur: float, reason: str) -> dict[str, Any]:
    """Write the draft of a refund. Nothing is paid until a person approves it.

    Args:
        order: The number of the order.
        amount_eur: How much, in EUR.
        reason: Why, in one sentence.
    """
    paid = look_up_order(order)["paid_eur"]
    if not 0 < amount_eur <= paid:
        raise ValueError(f"{amount_eur:.2f} EUR cannot be refunded: {paid:.2f} EUR were paid for order {order}")
    DRAFTS.mkdir(exist_ok=True)
    draft = {"order": order, "amount_eur": amount_eur, "reason": reason, "status": "waits for approval"}
    (DRAFTS / f"{order}.json").write_text(json.dumps(draft, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return {"draft": f"drafts/{order}.json", "status": draft["status"]}


def refund_is_drafted(answer: str) -> str | None:
    """A guardrail: who decides on a refund has written its draft, over the same amount."""
    decided = json.loads(answer)
    if decided["decision"] != "refund":
        return None
    path = DRAFTS / f"{decided['order']}.json"
    if not path.is_file():
        return f"there is no draft of a refund for order {decided['order']}: call draft_refund first"
    drafted = json.loads(path.read_text(encoding="utf-8"))["amount_eur"]
    return None if drafted == decided["amount_eur"] else f"the draft says {drafted} EUR, your answer {decided['amount_eur']} EUR"

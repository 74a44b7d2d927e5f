"""How many tokens models take, from the price list that `genai-prices` carries; nothing is fetched."""

from __future__ import annotations

import functools


@functools.lru_cache(maxsize=256)
def known_window(model: str) -> int | None:
    """The window of PROVIDER/NAME in tokens; None when it is not known."""
    if model.startswith("local/"):
        return 8192  # the embedded model's slot
    from genai_prices import data_snapshot  # a quarter of a second, which most runs do not need

    provider, _, name = model.partition("/")
    try:
        _, found = data_snapshot.get_snapshot().find_provider_model(name, None, provider, None)
    except LookupError:
        return None
    window: int | None = found.context_window
    return window

"""Request latency: many users' servers are asked at a steady rate, and nothing changes."""

from __future__ import annotations

from typing import Any

from .stage import Play, Stage

__all__: list[str] = []

NAME = "latency"
WHY = "The price of the proxy in every request, by its kind."
HOW = (
    "Small and large GETs and uploads at a steady rate in all, keys typed in terminals (WebSocket),"
    " and event streams, spread over all users' servers with Zipf's skew. A user waits for an"
    " answer before the next request, so a proxy that stalls is asked less meanwhile."
)


def setup(stage: Stage, settings: dict[str, Any]) -> dict[str, Any]:
    """Steady users."""
    sizes: dict[str, Any] = {key: settings[key] for key in ("large", "upload") if key in settings}
    return {
        "users": "steady", "count": settings["users"], "rate": settings["rate"],
        "seconds": settings["seconds"], "arrive": 200, **sizes,
    }  # fmt: skip


async def meanwhile(play: Play) -> None:
    """Nothing."""


def absent(stage: Stage, settings: dict[str, Any]) -> str:
    """Can be played anywhere."""
    return ""

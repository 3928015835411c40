"""A class begins (to come)."""

from typing import Any
from .stage import Play, Stage

NAME = "class"
WHY = HOW = ""


def setup(stage: Stage, settings: dict[str, Any]) -> dict[str, Any]:
    return {}


async def meanwhile(play: Play) -> None:
    """Nothing."""


def absent(stage: Stage, settings: dict[str, Any]) -> str:
    return "not built"

"""Profiles (to come)."""

from .stage import Play


async def profile(play: Play, seconds: float) -> None:
    """Nothing yet."""

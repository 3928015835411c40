"""Flame graphs from folded stacks, as SVG that needs nothing else.  Pure."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["flame_graph"]

WIDTH, ROW = 1000.0, 16
#: frames narrower than this (pixels) are left out
LEAST = 0.7
DEEPEST = 60


@dataclass
class _Frame:
    weight: int = 0
    below: dict[str, _Frame] = field(default_factory=dict)


def _tree(stacks: Mapping[str, int]) -> _Frame:
    root = _Frame()
    for stack, weight in stacks.items():
        root.weight += weight
        at = root
        for name in stack.split(";")[:DEEPEST]:
            at = at.below.setdefault(name, _Frame())
            at.weight += weight
    return root


def _colour(name: str) -> str:
    shade = sum(name.encode()) % 40
    return f"hsl({20 + shade} 80% {62 + shade % 14}%)"


def flame_graph(stacks: Mapping[str, int]) -> str:
    """An SVG; ``stacks`` are ``outermost;…;innermost`` with their weights."""
    root = _tree(stacks)
    if not root.weight:
        return "<p>no samples</p>"
    boxes: list[str] = []
    deepest = 0

    def draw(frame: _Frame, x: float, depth: int) -> None:
        nonlocal deepest
        for name, below in sorted(frame.below.items()):
            width = below.weight / root.weight * WIDTH
            if width >= LEAST:
                deepest = max(deepest, depth)
                share = below.weight / root.weight
                label = name if len(name) * 6.2 < width else name[: max(0, int(width / 6.2) - 1)]
                boxes.append(
                    f"<g><title>{html.escape(name)} ({share:.1%})</title><rect x='{x:.1f}'"
                    f" y='{depth * ROW}' width='{width:.1f}' height='{ROW - 1}'"
                    f" fill='{_colour(name)}'/><text x='{x + 2:.1f}' y='{depth * ROW + 11}'>"
                    f"{html.escape(label)}</text></g>"
                )
                draw(below, x, depth + 1)
            x += width

    draw(root, 0.0, 0)
    height = (deepest + 1) * ROW
    return (
        f"<svg viewBox='0 0 {WIDTH:.0f} {height}' font-size='10' font-family='monospace'"
        f" xmlns='http://www.w3.org/2000/svg'>{''.join(boxes)}</svg>"
    )

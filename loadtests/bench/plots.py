"""A run's plots: readable without the text, on logarithmic axes where numbers span much."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from .results import Run

__all__ = ["plot_all"]

#: one colour and mark for each contestant in every plot, told apart without colours too
_STYLES = {
    "direct": ("#999999", "x"),
    "nginx": ("#56b4e9", "v"),
    "traefik-bare": ("#0072b2", "^"),
    "chp": ("#000000", "s"),
    "traefik-proxy": ("#cc79a7", "D"),
    "junction-1": ("#e69f00", "o"),
    "junction-3": ("#d55e00", "P"),
    "junction-inprocess": ("#009e73", "*"),
}


def _style(name: str) -> tuple[str, str]:
    return _STYLES.get(name, ("#666666", "."))


def _number(value: float, _: object) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _against_size(
    run: Run, axes: Axes, measure: str, path: str, *, dashed: str = "", log: bool = True
) -> bool:
    """A line for each contestant that has numbers; ``dashed`` is another path for the same."""
    drawn = False
    for name in run.contestants():
        colour, mark = _style(name)
        for which, line in ((path, "-"), (dashed, ":")):
            points = [
                (size, value)
                for size in run.sizes()
                if which and (value := run.number(name, size, measure, which))
            ]
            if points:
                sizes, values = zip(*points, strict=True)
                label = _label(run, name) if which == path else None
                face = colour if which == path else "white"
                axes.plot(sizes, values, line, color=colour, marker=mark, mfc=face, label=label)
                drawn = True
    axes.set_xscale("log")
    axes.set_xticks(run.sizes(), [f"{size:,}" for size in run.sizes()])
    axes.xaxis.set_minor_locator(NullLocator())
    if log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(_number))
    axes.set_xlabel("routes")
    axes.grid(alpha=0.3)
    return drawn


def _label(run: Run, name: str) -> str:
    """The name, and where it gave up."""
    for one in run.outcomes:
        if one.contestant == name and one.measure == "fill" and one.failed:
            return f"{name}\n(none from {one.routes:,} on)"
    return name


def _live(run: Run, axes: Axes) -> bool:
    axes.set_title("A new route is live at every replica (solid: median, dotted: p99)")
    axes.set_ylabel("ms after add_route was called")
    return _against_size(run, axes, "live", "live.median", dashed="live.p99")


def _requests(run: Run, axes: Axes) -> bool:
    axes.set_title("Requests a second at one replica, 6 bytes (wrk, 32 kept connections)")
    axes.set_ylabel("requests/s")
    return _against_size(run, axes, "requests", "small.per_second")


def _bars(run: Run, axes: Axes, series: list[tuple[str, str, str]], size: int) -> bool:
    """Bars side by side for each contestant at one size: (label, measure, path)."""
    names = [
        name
        for name in run.contestants()
        if any(run.number(name, size, measure, path) for _, measure, path in series)
    ]
    width = 0.8 / len(series)
    for place, (label, measure, path) in enumerate(series):
        values = [run.number(name, size, measure, path) or 0.0 for name in names]
        at = [index - 0.4 + width * (place + 0.5) for index in range(len(names))]
        bars = axes.bar(
            at, values, width * 0.95, label=label, color=("#56b4e9", "#d55e00", "#999999")[place]
        )
        texts = [_short(value) if value else "" for value in values]
        axes.bar_label(bars, texts, fontsize=8, padding=2)
    axes.set_xticks(range(len(names)), names, rotation=20, ha="right")
    axes.margins(y=0.15)
    axes.grid(alpha=0.3, axis="y")
    return bool(names)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _churn(run: Run, axes: Axes) -> bool:
    size = _size(run, "steady")
    axes.set_title(f"p99 of 200 requests/s, {size:,} routes")
    axes.set_ylabel("ms")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(_number))
    series = [
        ("quiet", "steady", "quiet.p99"),
        ("during 20 changes/s", "steady", "churn.p99"),
    ]
    return _bars(run, axes, series, size)


def _memory(run: Run, axes: Axes) -> bool:
    size = _size(run, "memory")
    axes.set_title(f"Memory, {size:,} routes")
    axes.set_ylabel("MB")
    series = [
        ("proxies, all replicas", "memory", "proxies"),
        ("hub's side", "memory", "hub"),
        ("etcd, all members", "memory", "etcd"),
    ]
    return _bars(run, axes, series, size)


def _size(run: Run, measure: str) -> int:
    """The greatest size up to the goals' own at which something was measured."""
    sizes = {one.routes for one in run.outcomes if one.measure == measure and one.values}
    return max((size for size in sizes if size <= 10_000), default=max(sizes, default=0))


_PLOTS: dict[str, Callable[[Run, Axes], bool]] = {
    "live": _live,
    "requests": _requests,
    "churn": _churn,
    "memory": _memory,
}


def plot_all(run: Run, folder: Path) -> list[str]:
    """Write one PNG for each plot that has something to show; returns their names."""
    written = []
    for name, draw in _PLOTS.items():
        shape, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
        try:
            path = folder / f"{name}.png"
            path.unlink(missing_ok=True)
            if not draw(run, axes):
                continue
            shape.legend(loc="outside right upper", fontsize=8)
            shape.text(0.995, 0.005, f"{run.date[:10]}, {run.commit[:12]}", fontsize=6,
                       ha="right", color="#888888")  # fmt: skip
            shape.savefig(path, dpi=130)
            written.append(path.name)
        finally:
            plt.close(shape)
    return written

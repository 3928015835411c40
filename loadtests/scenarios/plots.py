"""A run's plots over time, as PNG images for the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from .histogram import Histogram
from .metrics import failures, kinds, under_load
from .results import Result, Round

__all__ = ["plots"]

_COLOURS = ("#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#999999")
#: roles that a plot tells apart
ROLES = 12


def _image(draw: Callable[[Axes], None], height: float = 3.2, left: float = 0.08) -> str:
    shape, axes = plt.subplots(figsize=(9, height))
    # by hand: finding a layout costs more than drawing
    shape.subplots_adjust(left=left, right=0.76, bottom=0.15, top=0.93)
    try:
        draw(axes)
        axes.grid(alpha=0.3)
        handles, _ = axes.get_legend_handles_labels()
        if handles:
            shape.legend(loc="upper right", fontsize=7)
        out = io.BytesIO()
        shape.savefig(out, dpi=110, format="png")
    finally:
        plt.close(shape)
    return base64.b64encode(out.getvalue()).decode()


def _by_second(rounds: Sequence[Round], kind: str) -> dict[int, Histogram]:
    found: dict[int, Histogram] = {}
    for one in rounds:
        for line in one.seconds:
            if kind in line["kinds"]:
                second = round(line["t"])
                found.setdefault(second, Histogram()).merge(
                    Histogram.of(line["kinds"][kind]["times"])
                )
    return {second: one for second, one in sorted(found.items()) if one.counts}


def _events(axes: Axes, everyone: dict[str, list[Round]]) -> None:
    seen = set()
    for rounds in everyone.values():
        for one in rounds:
            for event in one.events:
                if (what := event["what"]) not in seen:
                    seen.add(what)
                    axes.axvline(event["t"], color="#cc0000", lw=0.8, ls="--")
                    axes.annotate(
                        what, (event["t"], 1), xycoords=("data", "axes fraction"), fontsize=7,
                        color="#cc0000", va="bottom",
                    )  # fmt: skip


def plots(result: Result, scenario: str) -> list[tuple[str, str]]:
    """Titles and images (PNG, base64) of one scenario."""
    everyone = {
        name: rounds for name in result.contestants() if (rounds := result.of(scenario, name))
    }
    if not everyone:
        return []
    colours = dict(zip(everyone, _COLOURS * 2, strict=False))
    found = []

    def percentiles(kind: str) -> Callable[[Axes], None]:
        def draw(axes: Axes) -> None:
            for name, rounds in everyone.items():
                seconds = _by_second(rounds, kind)
                for share, line in ((0.5, "-"), (0.99, ":")):
                    axes.plot(
                        list(seconds), [one.percentile(share) for one in seconds.values()], line,
                        color=colours[name], label=f"{name}, {'median' if share == 0.5 else 'p99'}",
                    )  # fmt: skip
            axes.set_yscale("log")
            axes.set_xlabel("s")
            axes.set_ylabel("ms")
            _events(axes, everyone)

        return draw

    for kind in kinds([one for rounds in everyone.values() for one in rounds])[:6]:
        found.append((f"{kind}: latency over time", _image(percentiles(kind))))

    def throughput(axes: Axes) -> None:
        for name, rounds in everyone.items():
            counts: dict[int, float] = {}
            for one in rounds:
                for line in under_load(one):
                    good = sum(sum(kind["times"].values()) for kind in line["kinds"].values())
                    second = round(line["t"])
                    counts[second] = counts.get(second, 0) + good / len(rounds)
            axes.plot(list(counts), list(counts.values()), color=colours[name], label=name)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("s")
        axes.set_ylabel("answers/s")
        _events(axes, everyone)

    found.append(("Throughput", _image(throughput)))

    if any(one.changes for rounds in everyone.values() for one in rounds):

        def live(axes: Axes) -> None:
            for name, rounds in everyone.items():
                points = [
                    (change["t"], change["live_ms"])
                    for one in rounds
                    for change in one.changes
                    if change["do"] == "start" and "live_ms" in change
                ]
                if points:
                    at, took = zip(*points, strict=True)
                    axes.scatter(at, took, s=8, color=colours[name], label=name)
            axes.set_yscale("log")
            axes.set_xlabel("s")
            axes.set_ylabel("ms")
            _events(axes, everyone)

        found.append(("Add → live at every replica", _image(live)))

    for what, unit in (("cpu", "cores"), ("memory", "MB")):
        for name, rounds in everyone.items():
            last = rounds[-1].system
            if last:
                found.append(
                    (f"{name}: {what} of each process", _image(_processes(last, what, unit)))
                )

    failed = {name: failures(rounds) for name, rounds in everyone.items()}
    if any(failed.values()):

        def bars(axes: Axes) -> None:
            names = [
                (name, why, count)
                for name, one in failed.items()
                for why, count in list(one.items())[:8]
            ]
            axes.barh(
                [f"{name}: {why}"[:70] for name, why, _ in names], [count for *_, count in names],
                color=[colours[name] for name, *_ in names],
            )  # fmt: skip
            axes.tick_params(axis="y", labelsize=7)
            axes.set_xlabel("failures")

        found.append(("Failures by kind", _image(bars, left=0.45)))
    return found


def _processes(
    looks: list[dict[str, dict[str, float]]], what: str, unit: str
) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        roles = sorted(
            {role for look in looks for role in look[what]},
            key=lambda role: -sum(look[what].get(role, 0.0) for look in looks),
        )[:ROLES]
        for role in roles:
            points = [(look["t"], look[what][role]) for look in looks if role in look[what]]
            axes.plot(*zip(*points, strict=True), label=role, lw=1)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("s")
        axes.set_ylabel(unit)

    return draw

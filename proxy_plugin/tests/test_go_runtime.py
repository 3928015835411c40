"""Traefik's collector is told of the container's memory; the admin has the last word."""

from __future__ import annotations

from pathlib import Path

import pytest

from jupyterhub_junction.traefik.go_runtime import go_environment

GIB = 1 << 30


@pytest.mark.parametrize(
    ("name", "text", "limit"),
    [
        ("memory.max", f"{GIB}\n", str(GIB * 6 // 10)),
        ("memory.max", "max\n", None),
        ("memory/memory.limit_in_bytes", f"{GIB}\n", str(GIB * 6 // 10)),
        ("memory/memory.limit_in_bytes", "9223372036854771712\n", None),
        ("something.else", "1\n", None),
    ],
)
def test_the_heap_gets_a_share_of_the_containers_memory(
    name: str, text: str, limit: str | None, tmp_path: Path
) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    assert go_environment({"PATH": "/bin"}, tmp_path) == {
        "PATH": "/bin",
        "GOGC": "125",
        **({"GOMEMLIMIT": limit} if limit else {}),
    }


def test_what_the_admin_says_stands(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text(str(GIB))
    said = {"GOGC": "50", "GOMEMLIMIT": "1GiB"}
    assert go_environment(said, tmp_path) == said

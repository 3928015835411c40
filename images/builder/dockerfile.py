"""The settings of an image, read from its Dockerfile: what is tested is what others build.

Only what the last stage sets is read; which files an image holds is the business of its layers.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["settings"]

Settings = dict[str, Any]


def _instructions(text: str) -> list[tuple[str, str]]:
    """Instructions and what follows them, comments and line ends taken out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found = (line.split(None, 1) for line in joined.splitlines() if line.strip())
    return [(word.upper(), rest) for word, rest in found]


def settings(file: Path, arguments: Mapping[str, str] | None = None) -> Settings:
    """The ``config`` of an OCI image, as the last stage of a Dockerfile sets it.

    Args:
        arguments: values for ARGs, instead of their defaults.

    Raises:
        ValueError: an instruction in a form that is not read here; the message names it.
    """
    known: dict[str, str] = {}
    config: Settings = {}
    for word, rest in _instructions(file.read_text()):
        # a build argument that is not known stays, as in a RUN that is not run here
        filled = re.sub(r"\$\{(\w+)\}", lambda m: known.get(m[1], m[0]), rest)
        if word == "ARG":
            name, _, default = filled.partition("=")
            known[name] = (arguments or {}).get(name, default)
        elif word == "FROM":
            config = {}
        elif word in ("LABEL", "ENV"):
            pairs = dict(part.split("=", 1) for part in shlex.split(filled))
            if word == "LABEL":
                config.setdefault("Labels", {}).update(pairs)
            else:
                config.setdefault("Env", []).extend(f"{k}={v}" for k, v in pairs.items())
        elif word in ("CMD", "ENTRYPOINT"):
            config["Cmd" if word == "CMD" else "Entrypoint"] = json.loads(filled)
        elif word == "EXPOSE":
            config.setdefault("ExposedPorts", {}).update({f"{p}/tcp": {} for p in filled.split()})
        elif word in ("USER", "WORKDIR", "STOPSIGNAL"):
            name = {"USER": "User", "WORKDIR": "WorkingDir", "STOPSIGNAL": "StopSignal"}[word]
            config[name] = filled.strip()
        elif word not in ("RUN", "COPY"):
            raise ValueError(f"{file}: {word} is not read here")
    return config

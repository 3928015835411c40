"""Write values.schema.json and the values table in README.md of a chart from its values.yaml.

    python ci/chart_docs.py CHART            write both
    python ci/chart_docs.py --check CHART    exit 1 and say which is stale, write nothing

In values.yaml, the comment right above a key says what the value is for, and what it may be::

    # -- Traefik replicas.
    # @schema {minimum: 0}
    replicas: 2

* A mapping without ``# --`` is a group of values: its keys are documented, and no others are taken.
* All else is a value and has a ``# --``.  Its type is its default's; ``@schema`` adds to that.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

Schema = dict[str, Any]
TABLE = re.compile(r"(<!-- values -->\n).*?(<!-- /values -->)", re.DOTALL)
TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}


class Undocumented(Exception):
    """What is missing in values.yaml, in one line."""


@dataclass
class Value:
    """One key of values.yaml."""

    path: str
    text: str
    schema: Schema
    default: Any
    children: list[Value] = field(default_factory=list)


def _comment(lines: list[str], row: int, indent: int) -> tuple[str, Schema]:
    """Text and schema of the comment right above a row."""
    mark = " " * indent + "#"
    first = row
    while first and lines[first - 1].startswith(mark):
        first -= 1
    text: list[str] = []
    schema: Schema = {}
    for line in (one[len(mark) :].strip() for one in lines[first:row]):
        if line.startswith("@schema "):
            schema = yaml.safe_load(line.removeprefix("@schema "))
        elif line.startswith("-- "):
            text = [line.removeprefix("-- ")]
        elif text:
            text.append(line)
    return " ".join(text), schema


def _values(node: yaml.MappingNode, lines: list[str], parent: str) -> Iterator[Value]:
    for key, value in node.value:
        path = f"{parent}{key.value}"
        row = key.start_mark.line
        text, extra = _comment(lines, row, key.start_mark.column)
        default = yaml.safe_load(yaml.serialize(value))
        if isinstance(value, yaml.MappingNode) and value.value and not text:
            children = list(_values(value, lines, f"{path}."))
            schema = {"type": "object", "additionalProperties": False, **extra}
            yield Value(path, "", schema, default, children)
            continue
        if not text:
            raise Undocumented(f"line {row + 1}: {path} has no comment that begins with `# --`")
        kind = TYPES.get(type(default), "object")
        if default is None and "type" not in extra:
            raise Undocumented(f"line {row + 1}: {path} is null: say its type, `# @schema {{...}}`")
        yield Value(path, text, {"type": kind, **extra}, default)


def read_values(file: Path) -> list[Value]:
    """The values of a values.yaml, in its order.

    Raises:
        Undocumented: a key has no comment, or no type.
    """
    text = file.read_text()
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    return list(_values(root, text.splitlines(), ""))


def _properties(values: list[Value]) -> Schema:
    properties = {}
    for value in values:
        shown = dict(value.schema)
        if value.text:
            shown["description"] = value.text
        if value.children:
            shown["properties"] = _properties(value.children)
        properties[value.path.rpartition(".")[2]] = shown
    return properties


def make_schema(values: list[Value]) -> str:
    """values.schema.json: closed, so that a misspelt key is refused."""
    document = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "additionalProperties": False,
        "properties": _properties(values),
    }
    return json.dumps(document, indent=2) + "\n"


def _leaves(values: list[Value]) -> Iterator[Value]:
    for value in values:
        yield from _leaves(value.children) if value.children else [value]


def make_table(values: list[Value]) -> str:
    """The values as a Markdown table."""
    rows = ["| value | default | |", "|---|---|---|"]
    for value in _leaves(values):
        default = json.dumps(value.default).replace("|", "\\|")
        text = value.text.replace("|", "\\|")
        rows.append(f"| `{value.path}` | `{default}` | {text} |")
    return "\n".join(rows) + "\n"


def documents(chart: Path) -> dict[Path, str]:
    """What the generated files have to hold."""
    values = read_values(chart / "values.yaml")
    readme = chart / "README.md"
    text = readme.read_text()
    if not TABLE.search(text):
        raise Undocumented(f"{readme} has no place for the table: <!-- values --> <!-- /values -->")
    table = make_table(values)
    return {
        chart / "values.schema.json": make_schema(values),
        readme: TABLE.sub(lambda found: found[1] + table + found[2], text),
    }


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("chart", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing, say what is stale")
    options = parser.parse_args(words)
    try:
        wanted = documents(options.chart)
    except Undocumented as error:
        print(f"{options.chart / 'values.yaml'}: {error}", file=sys.stderr)
        return 1
    stale = [
        file for file, text in wanted.items() if not file.is_file() or file.read_text() != text
    ]
    for file in stale:
        if options.check:
            print(f"{file} is stale: make chart-docs", file=sys.stderr)
        else:
            file.write_text(wanted[file])
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())

"""ci/chart_docs.py: the schema and the table say what values.yaml says, now."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from chart_docs import Undocumented, documents, main, make_schema, read_values
from rendering import CHART


def test_the_committed_files_are_fresh() -> None:
    stale = [file.name for file, text in documents(CHART).items() if file.read_text() != text]
    assert not stale, "run `make chart-docs`"


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    (tmp_path / "README.md").write_text("a\n<!-- values -->\nold\n<!-- /values -->\nb\n")
    (tmp_path / "values.yaml").write_text(
        "# -- How many.\n# @schema {minimum: 1}\ncount: 2\n"
        "group:\n  # -- A | name,\n  # and more.\n  name: x\n  # -- Any.\n  free: {}\n"
    )
    return tmp_path


def test_it_writes_what_is_in_the_comments(chart: Path) -> None:
    assert main(["--check", str(chart)]) == 1
    assert "old" in (chart / "README.md").read_text(), "--check has written"
    assert main([str(chart)]) == 0
    assert main(["--check", str(chart)]) == 0
    schema = json.loads((chart / "values.schema.json").read_text())
    group = schema["properties"]["group"]
    assert schema["properties"]["count"] == {
        "type": "integer",
        "minimum": 1,
        "description": "How many.",
    }
    assert group["additionalProperties"] is False
    assert group["properties"]["name"]["description"] == "A | name, and more."
    assert "additionalProperties" not in group["properties"]["free"]
    readme = (chart / "README.md").read_text()
    assert '| `group.name` | `"x"` | A \\| name, and more. |\n' in readme
    assert readme.startswith("a\n")
    assert readme.endswith("-->\nb\n")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ("a: 1\n", "line 1: a has no comment"),
        ("# -- Null.\na: null\n", "line 2: a is null"),
        ("g:\n  # plain\n  b: 1\n", "line 3: g.b has no comment"),
    ],
)
def test_what_is_not_documented_is_named(chart: Path, values: str, words: str) -> None:
    (chart / "values.yaml").write_text(values)
    with pytest.raises(Undocumented, match=words):
        make_schema(read_values(chart / "values.yaml"))
    assert main([str(chart)]) == 1

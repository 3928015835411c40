"""The builder of images: settings from Dockerfiles, layers that are made once, archives."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from pathlib import Path

import pytest
from builder.archive import write_archive
from builder.dockerfile import settings
from builder.layers import BuildError, Layer, Layers

IMAGES = Path(__file__).resolve().parents[2] / "images"


def test_settings_are_those_of_the_last_stage(tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text(
        "ARG BASE=x\n# a comment\nFROM ${BASE} AS first\nUSER 1\nFROM ${BASE}\n"
        "RUN --mount=type=bind,source=dist,target=/mnt \\\n    true ${unknown}\n"
        'ARG VERSION=1\nLABEL a="b ${VERSION}" \\\n      c=d\nENV E=f G=h\nUSER 65534:65534\n'
        'EXPOSE 8000 8001\nSTOPSIGNAL SIGTERM\nCMD ["a", "b c"]\n'
    )
    assert settings(file, {"VERSION": "2"}) == {
        "Labels": {"a": "b 2", "c": "d"},
        "Env": ["E=f", "G=h"],
        "User": "65534:65534",
        "ExposedPorts": {"8000/tcp": {}, "8001/tcp": {}},
        "StopSignal": "SIGTERM",
        "Cmd": ["a", "b c"],
    }


def test_an_instruction_that_is_not_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM a\nVOLUME /x\n")
    with pytest.raises(ValueError, match="VOLUME is not read here"):
        settings(tmp_path / "Dockerfile")


@pytest.mark.parametrize("name", ["hub", "replica"])
def test_both_dockerfiles_are_read_and_run_nobody_as_root(name: str) -> None:
    read = settings(IMAGES / name / "Dockerfile", {"VERSION": "9"})
    assert read["User"].partition(":")[0] not in ("", "0", "root")
    assert read["Labels"]["org.opencontainers.image.version"] == "9"
    assert "org.opencontainers.image.licenses" in read["Labels"]


def _write(text: str):  # type: ignore[no-untyped-def]
    def step(tree: Path, below: tuple[Layer, ...]) -> None:
        step.ran += 1  # type: ignore[attr-defined]
        (tree / "folder").mkdir()
        (tree / "folder" / "file").write_text(text)
        (tree / "folder" / "link").symlink_to("file")

    step.ran = 0  # type: ignore[attr-defined]
    return step


def test_a_layer_is_made_once_and_anew_when_what_it_is_made_from_changes(tmp_path: Path) -> None:
    layers = Layers(tmp_path, lambda _: None)
    step = _write("a")
    first = layers.layer("one", "key", step)
    assert layers.layer("one", "key", step) == first
    assert step.ran == 1
    other = layers.layer("one", "other key", _write("b"))
    assert other.digest != first.digest
    above, above_other = (layers.layer("two", "key", _write("c"), each) for each in (first, other))
    assert above.folder != above_other.folder
    assert above.digest == above_other.digest, "the same files are the same bytes"
    assert [each.name for each in above.all] == ["one", "two"]


def test_a_layer_that_was_interrupted_is_made_again(tmp_path: Path) -> None:
    layers = Layers(tmp_path, lambda _: None)

    def fails(tree: Path, below: tuple[Layer, ...]) -> None:
        (tree / "half").touch()
        raise BuildError("no room")

    with pytest.raises(BuildError):
        layers.layer("one", "key", fails)
    made = layers.layer("one", "key", _write("a"))
    assert sorted(os.listdir(made.tree)) == ["folder"]


def test_layers_that_nobody_uses_are_forgotten(tmp_path: Path) -> None:
    layers = Layers(tmp_path, lambda _: None)
    for number in range(12):
        layers.layer("one", number, _write(str(number)))
    assert len(list(tmp_path.glob("layer-one-*"))) == 8


def test_an_archive_holds_what_its_manifests_say(tmp_path: Path) -> None:
    layers = Layers(tmp_path, lambda _: None)
    top = layers.layer("two", 1, _write("b"), layers.layer("one", 1, _write("a")))
    file = tmp_path / "image.tar"
    write_archive(file, "localhost/a/b:1", top.all, {"User": "1000"})
    with tarfile.open(file) as tar:

        def read(name: str) -> bytes:
            found = tar.extractfile(name)
            assert found is not None
            return found.read()

        for name in tar.getnames():
            if name.startswith("blobs/sha256/"):
                assert hashlib.sha256(read(name)).hexdigest() == name.rpartition("/")[2]
        (entry,) = json.loads(read("index.json"))["manifests"]
        assert entry["annotations"]["io.containerd.image.name"] == "localhost/a/b:1"
        manifest = json.loads(read("blobs/" + entry["digest"].replace(":", "/")))
        config = json.loads(read("blobs/" + manifest["config"]["digest"].replace(":", "/")))
        digests = [f"sha256:{each.digest}" for each in top.all]
        assert [each["digest"] for each in manifest["layers"]] == digests
        assert config["rootfs"]["diff_ids"] == digests
        (docker,) = json.loads(read("manifest.json"))
        assert docker["RepoTags"] == ["localhost/a/b:1"]
        assert docker["Layers"] == [f"blobs/{each.replace(':', '/')}" for each in digests]
        assert docker["Config"] == f"blobs/{manifest['config']['digest'].replace(':', '/')}"

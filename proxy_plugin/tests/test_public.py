"""What the package offers: every ``__all__`` is right, all of it says what it is, and it loads."""

from __future__ import annotations

import ast
import importlib
import importlib.resources
import inspect
import pkgutil
import re
import types
from collections.abc import Iterator
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest
from jupyterhub.proxy import Proxy

import jupyterhub_junction

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(
        jupyterhub_junction.__path__, f"{jupyterhub_junction.__name__}."
    )
    # __main__ runs when imported; the plugin must be imported by pytest before its modules are
    if module.name.rpartition(".")[2] not in ("__main__", "plugin")
)


def defined(module: types.ModuleType) -> Iterator[tuple[str, object]]:
    """The classes and functions that stand in a module itself."""
    for name, value in vars(module).items():
        own = getattr(value, "__module__", None) == module.__name__
        if own and (inspect.isclass(value) or inspect.isfunction(value)):
            yield name, value


def test_there_are_modules() -> None:
    assert "jupyterhub_junction.routes" in MODULES
    assert "jupyterhub_junction.proxies.etcd" in MODULES


def parts() -> list[set[str]]:
    """The parts of the package in the order of its docstring, those of one line together."""
    lines = (jupyterhub_junction.__doc__ or "").split("\n\n")[1].splitlines()
    return [set(re.findall(r"\w+", line[:24])) for line in lines]


def imported(file: Path, package: Path) -> set[str]:
    """The parts that a file imports."""
    folder = file.relative_to(package).parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = folder[: len(folder) - node.level + 1]
            words = [*base, *(node.module or "").split(".")]
            names = [words[0]] if words[0] else [alias.name for alias in node.names]
            found.update(names)
    return found - {"__version__"}


def test_imports_go_one_way_as_the_package_says() -> None:
    package = Path(jupyterhub_junction.__path__[0])
    rank = {name: number for number, names in enumerate(parts()) for name in names}
    files = [file for file in package.rglob("*.py") if file != package / "__init__.py"]
    assert {file.relative_to(package).parts[0].removesuffix(".py") for file in files} == set(rank)
    for file in files:
        own = file.relative_to(package).parts[0].removesuffix(".py")
        up = {name for name in imported(file, package) if rank[name] > rank[own]}
        assert not up, f"{file.relative_to(package)} imports from below it in the list: {up}"


@pytest.mark.parametrize("name", MODULES)
def test_a_modules_names_are_there_sorted_and_once(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} says nothing of itself"
    names = getattr(module, "__all__", [])
    assert len(names) == len(set(names))
    missing = [each for each in names if not hasattr(module, each)]
    assert not missing, f"{name}.__all__ names what is not there: {missing}"
    assert not [each for each in names if each.startswith("_")]
    # constants first, then classes, then functions: the order that ruff's RUF022 keeps
    assert names == sorted(names, key=lambda n: (not n.isupper(), n[0].islower(), n))


@pytest.mark.parametrize("name", MODULES)
def test_every_public_class_and_function_has_a_docstring(name: str) -> None:
    module = importlib.import_module(name)
    names = getattr(module, "__all__", ())  # the behaviours have none: they are data
    silent = []
    for public, value in defined(module):
        if public not in names:
            continue
        # a dataclass without a docstring of its own gets its signature for one
        if not value.__doc__ or value.__doc__.startswith(f"{public}("):
            silent.append(public)
        if not inspect.isclass(value):
            continue
        for attribute, member in vars(value).items():
            member = getattr(member, "__func__", getattr(member, "fget", member))
            if attribute.startswith("_") or not inspect.isfunction(member):
                continue
            # what a base class has said need not be said again
            if member.__name__ == attribute and not inspect.getdoc(getattr(value, attribute)):
                silent.append(f"{public}.{attribute}")
    assert not silent, f"{name}: no docstring: {silent}"


PROXIES = {
    "junction": "TraefikEtcdProxy",
    "junction-file": "TraefikFileProxy",
    "junction-inprocess": "InProcessProxy",
    "junction-mirror": "MirroredProxy",
}


@pytest.mark.parametrize("name", PROXIES)
def test_the_entry_points_load(name: str) -> None:
    [found] = entry_points(group="jupyterhub.proxies", name=name)
    proxy = found.load()
    assert proxy.__name__ == PROXIES[name]
    assert issubclass(proxy, Proxy)


def test_the_command_loads() -> None:
    [found] = entry_points(group="console_scripts", name="junction")
    assert callable(found.load())


@pytest.mark.parametrize("name", PROXIES)
def test_every_setting_has_a_help_text(name: str) -> None:
    [found] = entry_points(group="jupyterhub.proxies", name=name)
    proxy = found.load()
    settings = {
        trait: value
        for trait, value in proxy.class_own_traits(config=True).items()
        if value.this_class is proxy
    }
    assert not [trait for trait, value in settings.items() if not value.help]


def test_the_version_is_that_of_the_distribution() -> None:
    assert jupyterhub_junction.__version__ == version("jupyterhub-junction")


def test_the_package_is_typed() -> None:
    files = importlib.resources.files(jupyterhub_junction)
    assert files.joinpath("py.typed").is_file()

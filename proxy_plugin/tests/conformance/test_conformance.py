"""Every proxy that is to be had here, through the common suite.

With the plugin named on the command line its options are there too::

    pytest -p jupyterhub_junction.conformance.plugin tests/conformance \\
        --conformance-only chp --conformance-report DIR
"""

from collections.abc import Callable

import pytest
from implementations import IMPLEMENTATIONS

pytest_plugins = ["jupyterhub_junction.conformance.plugin"]

__all__ = ["IMPLEMENTATIONS"]


@pytest.mark.needs_programs
def test_conformance(conformance_case: Callable[[], None]) -> None:
    conformance_case()

"""Settings for all tests."""

from __future__ import annotations

from hypothesis import settings

# by default an example that takes longer than 200 ms fails, which a busy machine may do to any
settings.register_profile("junction", deadline=None)
settings.load_profile("junction")

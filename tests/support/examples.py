"""How many examples hypothesis tries where a hundred are too few or too many."""

from __future__ import annotations

import hypothesis

USUAL = 100  # of hypothesis itself


def examples(number: int) -> hypothesis.settings:
    """Return settings for this many; under script/test --quick for the same part of it as of the usual number."""
    current = hypothesis.settings.get_current_profile_name()
    usual = hypothesis.settings.get_profile(current).max_examples
    return hypothesis.settings(max_examples=max(1, number * usual // USUAL), deadline=None)

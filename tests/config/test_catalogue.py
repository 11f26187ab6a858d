"""The shipped data is what the program reads."""

from keepaliveD.config.catalogue import catalogue
from keepaliveD.model.connections import WhatCounts

THEN = {"drop", "reset", "close", "unknown"}


def test_every_product_has_a_timeout_in_seconds() -> None:
    """A preset without a usable timeout would judge every connection cut, or none."""
    assert min(preset.timeout for preset in catalogue().values() if preset.counts is WhatCounts.PACKETS) == 240


def test_the_catalogue_is_in_the_order_of_its_timeouts_and_every_figure_has_a_source() -> None:
    presets = list(catalogue().values())
    assert [preset.timeout for preset in presets] == sorted(preset.timeout for preset in presets)
    assert all(preset.source and preset.product and preset.then in THEN for preset in presets)


def test_whatever_closes_counts_only_data() -> None:
    """What closes a connection, in place of forgetting it, has both ends of it in its own hands: a proxy."""
    for name, preset in catalogue().items():
        assert (preset.then == "close") == (preset.counts is WhatCounts.DATA), name

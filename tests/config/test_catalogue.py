"""The shipped data is what the program reads."""

from keepaliveD.config.catalogue import catalogue
from keepaliveD.model.connections import WhatCounts


def test_every_product_has_a_timeout_in_seconds() -> None:
    """A preset without a usable timeout would judge every connection cut, or none."""
    assert min(preset.timeout for preset in catalogue().values() if preset.counts is WhatCounts.PACKETS) == 240

"""The shipped data is what the program reads."""

from keepaliveD.config.catalogue import catalogue


def test_every_product_has_a_timeout_in_seconds() -> None:
    """A preset without a usable timeout would judge every connection cut, or none."""
    assert min(catalogue().values()) == 240

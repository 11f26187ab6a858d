"""keepaliveD keeps firewalls from forgetting idle TCP connections."""

__version__ = "0.1.0"

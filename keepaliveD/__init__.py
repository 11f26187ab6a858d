"""keepaliveD keeps idle TCP connections from being forgotten on the way."""

__version__ = "0.1.0"

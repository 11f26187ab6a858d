"""The daemon's entry point: blocks signals, then lets everything else be imported."""

import sys

from keepaliveD import signals


def main() -> int:
    """Run tcp-keepalived."""
    signals.block()
    from keepaliveD.cli.daemon import main

    return main()


if __name__ == "__main__":
    sys.exit(main())

"""python3 -m keepaliveD: the daemon."""

import sys

from keepaliveD.cli.daemon import main

sys.exit(main())

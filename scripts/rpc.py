#!/usr/bin/env -S /usr/bin/python3
"""Command line of catnapd's JSON-RPC socket, with the command names, positional arguments and options of SPDK's rpc.py.

Left out: the socket of another machine (use ssh), plugins. The commands stand in catnap_rpc/.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from catnap_rpc.cli import main  # noqa: E402 (needs the path above)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

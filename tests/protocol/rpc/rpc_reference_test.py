#!/usr/bin/env -S /usr/bin/python3
"""docs/rpc.md and rpc.py's schema are what the real catnapd declares, and every method has a command that can send all of its parameters."""

import os
import subprocess
import unittest

from server_process import PROGRAM, ROOT


class Reference(unittest.TestCase):
    def test_is_not_stale(self):
        done = subprocess.run([os.path.join(ROOT, "scripts", "generate_rpc_reference"), "--server", PROGRAM, "--check"], capture_output=True, text=True,
                              timeout=120, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()

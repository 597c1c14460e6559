#!/usr/bin/env -S /usr/bin/python3
"""scripts/rpc.py as people use it, against the real catnapd: over HTTP with credentials, waiting for copies and scrubs with a bar, tables, errors in a line.

Left out: each of these against stand-ins (tests/unit/rpc_py), requests of commands (rpc_py_test.py).
"""

import hashlib
import os
import re
import unittest

from server_process import RPC_PY, ServerProcess, free_tcp_port
from terminal import OnTerminal

from catnap_rpc import output

TOKEN = "3f1c9a0b5d7e42868a9c0d1e2f304152"
BLOCKS = (32 << 20) // 4096


class WithServer(unittest.TestCase):
    def start(self, *options):
        server = ServerProcess(*options)
        self.addCleanup(server.clean)

        def end():
            if server.process.returncode is None:
                self.assertEqual(server.stop(), 0, server.log_text())

        self.addCleanup(end)
        return server


class OverHttp(WithServer):
    def credentials(self, folder, name, text):
        path = os.path.join(folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text + "\n")
        os.chmod(path, 0o600)
        return path

    def test_roles(self):
        port = free_tcp_port()
        folder = self.start().folder.name
        users = self.credentials(folder, "users", "\n".join(
            f"{name}:{role}:sha256:{hashlib.sha256((TOKEN + name).encode()).hexdigest()}" for name, role in (("boss", "admin"), ("looker", "read-only"))))
        server = self.start("--http", f"127.0.0.1:{port}", "--http-credentials", users)
        url = ("--http", f"http://127.0.0.1:{port}")
        boss, looker = (("--http-credentials", self.credentials(folder, name, TOKEN + name)) for name in ("boss", "looker"))
        as_user = ("--http-credentials", self.credentials(folder, "as_user", f"boss:{TOKEN}boss"))
        status, out, err = server.rpc_py(*url, *boss, "bdev_null_create", "A", "8", "512")
        self.assertEqual((status, out, err), (0, "A\n", ""))
        status, out, _ = server.rpc_py(*url, *looker, "-o", "table", "bdev_get_bdevs")
        self.assertEqual((status, out.split("\n")[1].split()[:3]), (0, ["A", "Null", "disk"]))
        self.assertEqual(server.rpc_py(*url, *as_user, "bdev_null_delete", "A")[0], 0)
        status, _, err = server.rpc_py(*url, *looker, "-e", "line", "bdev_null_create", "B", "8", "512")
        self.assertEqual((status, err.count("\n")), (1, 1), err)
        self.assertIn("(EACCES, code -13)", err)
        for wrong in ((), ("--http-credentials", self.credentials(folder, "wrong", "nonsense"))):
            status, _, err = server.rpc_py(*url, *wrong, "bdev_get_bdevs")
            self.assertEqual(status, 3)
            self.assertIn("asks for credentials", err)
        self.assertEqual(server.client.call("bdev_get_bdevs"), [])


class Waiting(WithServer):
    def setUp(self):
        self.server = self.start()
        call = self.server.client.call
        for name in ("A", "B", "C"):
            call("bdev_malloc_create", {"name": name, "num_blocks": BLOCKS, "block_size": 4096})
        call("bdev_raid_create", {"name": "R", "raid_level": "raid1", "base_bdevs": ["A", "B"]})
        self.assertEqual(self.server.rpc_py("raid_wait", "R")[0], 0, "what it begins with")
        call("bdev_raid_set_options", {"process_max_bandwidth_mb_sec": 16})

    def test_a_rebuild_without_a_terminal(self):
        self.assertEqual(self.server.rpc_py("bdev_raid_remove_base_bdev", "B")[0], 0)
        status, _, err = self.server.rpc_py("bdev_raid_add_base_bdev", "R", "C", "--wait")
        self.assertEqual(status, 0, err)
        self.assertTrue(err.endswith("rebuild of R finished\n"), err)
        percents = [int(one) for one in re.findall(r"^rebuild of C on R: (\d+) %$", err, re.MULTILINE)]
        self.assertEqual(percents, sorted(percents))
        array, = self.server.client.call("bdev_raid_get_bdevs", {"category": "all"})
        self.assertEqual([member["state"] for member in array["base_bdevs_list"]], ["in_sync", "in_sync"])

    def test_a_scrub_on_a_terminal(self):
        top = OnTerminal([RPC_PY, "-s", self.server.path, "bdev_raid_start_scrub", "R", "--max-bandwidth-mb-sec", "16", "--wait"], columns=120)
        self.addCleanup(top.close)
        top.until(lambda text: re.search(r"\[#*\.+\] +\d+ %  scrub of R", text), "the bar")
        top.until(lambda text: f"scrub of R finished: {BLOCKS} blocks compared, 0 different, 0 unreadable" in text, "the end")
        self.assertEqual(top.end(), 0)

    def test_a_scrub_that_is_stopped_has_a_status_of_its_own(self):
        top = OnTerminal([RPC_PY, "-s", self.server.path, "bdev_raid_start_scrub", "R", "--max-bandwidth-mb-sec", "1", "--wait"], columns=120)
        self.addCleanup(top.close)
        top.until(lambda text: "scrub of R" in text, "the bar")
        self.server.client.call("bdev_raid_stop_scrub", {"name": "R"})
        self.assertEqual(top.end(), 5)
        self.assertIn("the scrub of R was stopped", top.screen.text())

    def test_tables_of_real_answers(self):
        status, out, err = self.server.rpc_py("-o", "table", "bdev_raid_get_bdevs", "all")
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(out.split("\n")[0].split("  ")[0], "NAME")
        self.assertRegex(out, r"R +raid1 +online +A in_sync, B in_sync")
        for method in output.COLUMNS:
            if method.startswith("nvmf_subsystem_") or method == "bdev_raid_get_bdevs":
                continue  # these want arguments
            with self.subTest(method):
                answer = self.server.client.call(method)
                rows = answer if isinstance(answer, list) else answer["reactors"]
                lines = output.table_text(answer, method).split("\n")
                self.assertEqual(len(lines), len(rows) + 1)
                self.assertTrue(all(line.split() for line in lines))


if __name__ == "__main__":
    unittest.main()

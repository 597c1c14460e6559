#!/usr/bin/env -S /usr/bin/python3
"""SIGTERM while calls wait: for an event, a bdev, a connection that nobody answers, the start. The process ends in good
order, in time, and (in sanitizer builds) nothing that they held is left.

Left out: I/O under way (tests/protocol/saturation_test.cpp, shutdown_test.cpp).
"""

import json
import os
import socket
import tempfile
import unittest

from server_process import ServerProcess

NQN = "nqn.2026-11.io.catnap:ending"
# Nobody gives up connecting before the end, however late a busy machine comes to it.
PATIENT = {"tcp_connect_timeout_ms": 60000}


class Ending(unittest.TestCase):
    def setUp(self):
        # Takes connections, and says nothing.
        self.deaf = socket.socket()
        self.addCleanup(self.deaf.close)
        self.deaf.bind(("127.0.0.1", 0))
        self.deaf.listen()
        address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(self.deaf.getsockname()[1])}
        self.waits = {
            "notify_get_notifications": {"id": 1000000, "wait_ms": 3000000},
            "bdev_get_bdevs": {"name": "never", "timeout": 3000000},
            "bdev_nvme_attach_controller": {"name": "Nvme0", **address, "subnqn": NQN},
            "bdev_nvme_start_discovery": {"name": "Disc0", **address, "wait_for_attach": True, "attach_timeout_ms": 3000000},
            "framework_wait_init": {},
        }

    def end_with(self, calls, *options, wait=True):
        """Each of `calls` on a connection of its own, answered by none before the end."""
        server = ServerProcess(*options, wait=wait)
        self.addCleanup(server.clean)
        connections = []
        if wait:
            server.client.call("bdev_nvme_set_options", PATIENT)
        for method, params in calls:
            connection = socket.socket(socket.AF_UNIX)
            self.addCleanup(connection.close)
            connection.connect(server.path)
            connection.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode())
            connections.append(connection)
            # It has been read, and waits, before the next one is there: the server takes and reads connections in turn.
            for _ in range(3):
                server.client.call("spdk_get_version")
        for (method, _), connection in zip(calls, connections):
            connection.setblocking(False)
            try:
                self.fail(f"{method} was answered: {connection.recv(10000)}")
            except BlockingIOError:
                pass
        self.assertEqual(server.stop(), 0, server.log_text())
        self.assertNotIn("timers armed", server.log_text())
        self.assertNotIn("ends without them", server.log_text())

    def test_each_that_waits(self):
        for method, params in self.waits.items():
            if method == "framework_wait_init":
                continue
            with self.subTest(method):
                self.end_with([(method, params)])

    def test_all_of_them(self):
        self.end_with([(method, params) for method, params in self.waits.items() if method != "framework_wait_init"])

    def test_what_ends_at_the_end_is_not_kept(self):
        """A change under way at SIGTERM ends while subsystems and bdevs are taken apart: the state file must not take that for the configuration."""
        with tempfile.TemporaryDirectory(prefix="catnap_ending_") as folder:
            state = os.path.join(folder, "state.json")
            server = ServerProcess("--state", state)
            self.addCleanup(server.clean)
            call = server.client.call
            call("bdev_nvme_set_options", PATIENT)
            call("nvmf_create_transport", {"trtype": "TCP"})
            call("bdev_null_create", {"name": "N", "num_blocks": 8, "block_size": 512})
            call("nvmf_create_subsystem", {"nqn": NQN})
            call("nvmf_subsystem_add_ns", {"nqn": NQN, "namespace": {"bdev_name": "N"}})
            self.assertEqual(server.stop(), 0)
            with open(state, encoding="utf-8") as file:
                before = json.load(file)
            self.end_with([(method, self.waits[method]) for method in ("bdev_nvme_attach_controller", "bdev_nvme_start_discovery")], "--state", state)
            with open(state, encoding="utf-8") as file:
                self.assertEqual(json.load(file), before)

    def test_before_the_start(self):
        self.end_with([("framework_wait_init", {})], "--wait-for-rpc", wait=False)


if __name__ == "__main__":
    unittest.main()

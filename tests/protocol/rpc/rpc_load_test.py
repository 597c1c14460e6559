#!/usr/bin/env -S /usr/bin/python3
"""Many clients of the real catnapd's JSON-RPC socket at once: every request is answered once, to its sender, whatever a few of them do: one sends half a
request and stays, one never reads. With a state file, changes of many clients share writes. Times are printed, not judged.

CATNAP_SOAK=1: 64 clients with 1,000 requests each. Left out: saturated reactors (tests/protocol/saturation_test.cpp).
"""

import json
import os
import selectors
import socket
import tempfile
import time
import unittest

from server_process import ServerProcess

CLIENTS = 64
REQUESTS = 1000 if os.environ.get("CATNAP_SOAK") == "1" else 60
IN_FLIGHT = 4
TIMEOUT_S = 300


class Client:
    """Sends its requests, a few in flight, and checks that the replies are its own."""

    def __init__(self, path, number, make_request):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.socket.setblocking(False)
        self.number = number
        self.make_request = make_request
        self.sent = 0
        self.waiting = {}
        self.times = []
        self.errors = []
        self.received = b""

    def send_more(self):
        while self.sent < REQUESTS and len(self.waiting) < IN_FLIGHT:
            method, params, expected = self.make_request(self.number, self.sent)
            identity = f"{self.number}-{self.sent}"
            self.waiting[identity] = (time.monotonic(), expected)
            # A few short requests always fit into the socket's buffer.
            self.socket.sendall(json.dumps({"jsonrpc": "2.0", "id": identity, "method": method, "params": params}).encode())
            self.sent += 1

    def receive(self):
        piece = self.socket.recv(65536)
        if not piece:
            raise AssertionError(f"client {self.number}: the server hung up")
        *lines, self.received = (self.received + piece).split(b"\n")
        for line in lines:
            reply = json.loads(line)
            began, expected = self.waiting.pop(reply["id"])
            self.times.append(time.monotonic() - began)
            if "error" in reply or (expected is not None and reply["result"] != expected):
                self.errors.append(reply)
        self.send_more()

    def done(self):
        return len(self.times) == REQUESTS


class Load(unittest.TestCase):
    options = ()

    def setUp(self):
        self.server = ServerProcess(*self.options)
        self.addCleanup(self.server.clean)
        self.addCleanup(lambda: self.assertEqual(self.server.stop(), 0, self.server.log_text()))

    def run_clients(self, make_request, what):
        clients = [Client(self.server.path, number, make_request) for number in range(CLIENTS)]
        began = time.monotonic()
        with selectors.DefaultSelector() as ready:
            for client in clients:
                ready.register(client.socket, selectors.EVENT_READ, client)
                client.send_more()
            left = len(clients)
            while left:
                events = ready.select(TIMEOUT_S)
                self.assertTrue(events, f"no answer in {TIMEOUT_S} s")
                for key, _ in events:
                    key.data.receive()
                    if key.data.done():
                        ready.unregister(key.data.socket)
                        left -= 1
        took = time.monotonic() - began
        times = sorted(each for client in clients for each in client.times)
        print(f"{what}: {len(times)} requests of {CLIENTS} clients in {took:.1f} s, p50 {times[len(times) // 2] * 1e3:.2f} ms, "
              f"p99 {times[len(times) * 99 // 100] * 1e3:.2f} ms (the clients are one Python process)", flush=True)
        for client in clients:
            client.socket.close()
            self.assertEqual(client.errors, [])
            self.assertEqual(client.waiting, {})

    def test_questions(self):
        half = socket.socket(socket.AF_UNIX)
        half.connect(self.server.path)
        half.sendall(b'{"jsonrpc": "2.0", "id": 1, "method": "spdk_get_version", "params": {"a": "')
        deaf = socket.socket(socket.AF_UNIX)
        deaf.connect(self.server.path)
        deaf.setblocking(False)
        request = b'{"jsonrpc": "2.0", "id": 1, "method": "rpc_get_schema"}'
        try:
            for _ in range(10000):  # until the server stops reading them, as nobody takes the answers
                deaf.sendall(request)
        except BlockingIOError:
            pass

        def make_request(number, index):
            kind = index % 3
            if kind == 0:
                return "spdk_get_version", {}, None
            if kind == 1:
                return "log_get_level", {}, "NOTICE"
            return "bdev_get_bdevs", {}, []

        self.run_clients(make_request, "questions")
        half.sendall(b'"}}')
        half.settimeout(60)
        self.assertIn(b"unknown parameter 'a'", half.recv(65536))
        half.close()
        deaf.close()

    def test_changes(self):
        self.run_clients(self.change, "changes")
        self.assertEqual(self.server.client.call("bdev_get_bdevs"), [])

    @staticmethod
    def change(number, index):
        # In flight at the same time are the creation of one bdev and the deletion of another.
        name = f"N{number}_{index // 2}"
        if index % 2 == 0:
            return "bdev_null_create", {"name": name, "num_blocks": 8, "block_size": 512}, name
        return "bdev_null_delete", {"name": name}, True


class LoadWithState(Load):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="catnap_load_")
        self.addCleanup(folder.cleanup)
        self.options = ("--state", os.path.join(folder.name, "state.json"))
        super().setUp()

    def test_changes(self):
        super().test_changes()
        state = self.server.client.call("framework_get_state")
        print(f"{state['changes']} changes shared {state['writes']} writes of the state file", flush=True)
        # How many wait together depends on how fast both sides are; that many do does not.
        self.assertLess(state["writes"] * 2, state["changes"], "one write serves all who wait")


if __name__ == "__main__":
    unittest.main()

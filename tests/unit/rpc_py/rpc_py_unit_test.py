#!/usr/bin/env -S /usr/bin/python3
"""scripts/rpc.py without catnapd: what requests its command lines make, and what it does with every kind of reply.

Left out: the methods themselves (tests/protocol/rpc).
"""

import contextlib
import io
import json
import os
import socket
import sys
import tempfile
import threading
import unittest

SCRIPTS = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..", "..", "scripts")
sys.path.insert(0, SCRIPTS)

from catnap_rpc import cli, config  # noqa: E402
from catnap_rpc.client import RpcFailure  # noqa: E402

NQN = "nqn.2016-06.io.spdk:cnode1"

# Lines as they stand in SPDK's documentation and in scripts made for it, and the parameters they must send.
LINES = [
    ("bdev_malloc_create -b Malloc0 64 512", {"name": "Malloc0", "num_blocks": 131072, "block_size": 512}),
    ("bdev_malloc_create 0.5 4096", {"num_blocks": 128, "block_size": 4096}),
    ("bdev_malloc_create 1 512 -b M -u 12345678-1234-1234-1234-123456789abc -m 8 -i",
     {"name": "M", "num_blocks": 2048, "block_size": 512, "uuid": "12345678-1234-1234-1234-123456789abc", "md_size": 8, "md_interleave": True}),
    ("bdev_malloc_delete Malloc0", {"name": "Malloc0"}),
    ("bdev_null_create Null0 10 4096 -u 12345678-1234-1234-1234-123456789abc",
     {"name": "Null0", "num_blocks": 2560, "block_size": 4096, "uuid": "12345678-1234-1234-1234-123456789abc"}),
    ("bdev_null_resize Null0 20", {"name": "Null0", "new_size": 20}),
    ("bdev_aio_create /tmp/disk Aio0 512", {"filename": "/tmp/disk", "name": "Aio0", "block_size": 512}),
    ("bdev_aio_create /dev/sdb Aio0 -r", {"filename": "/dev/sdb", "name": "Aio0", "readonly": True}),
    ("bdev_uring_create /dev/sdb Uring0 4096", {"filename": "/dev/sdb", "name": "Uring0", "block_size": 4096}),
    ("bdev_uring_rescan Uring0", {"name": "Uring0"}),
    ("bdev_get_bdevs", {}),
    ("bdev_get_bdevs -b Null0 -t 2000", {"name": "Null0", "timeout": 2000}),
    ("bdev_get_iostat -b Null0", {"name": "Null0"}),
    ("bdev_get_iostat --names Null0,Null1 -c", {"names": ["Null0", "Null1"], "per_channel": True}),
    ("bdev_wait_for_examine", {}),
    ("nvmf_create_transport -t TCP -u 16384 -m 8 -c 8192",
     {"trtype": "TCP", "io_unit_size": 16384, "max_io_qpairs_per_ctrlr": 8, "in_capsule_data_size": 8192}),
    ("nvmf_create_transport -t TCP -o -z -q 128", {"trtype": "TCP", "c2h_success": False, "zcopy": True, "max_queue_depth": 128}),
    ("nvmf_get_transports --trtype TCP", {"trtype": "TCP"}),
    (f"nvmf_create_subsystem {NQN} -a -s SPDK00000000000001 -d SPDK_Controller",
     {"nqn": NQN, "allow_any_host": True, "serial_number": "SPDK00000000000001", "model_number": "SPDK_Controller"}),
    (f"nvmf_create_subsystem {NQN} -m 32 -r -i 1 -I 100", {"nqn": NQN, "max_namespaces": 32, "ana_reporting": True, "min_cntlid": 1, "max_cntlid": 100}),
    (f"nvmf_subsystem_add_ns {NQN} Malloc0", {"nqn": NQN, "namespace": {"bdev_name": "Malloc0"}}),
    (f"nvmf_subsystem_add_ns {NQN} Malloc0 -n 5 -g ABCDEF0123456789ABCDEF0123456789 -e 0123456789ABCDEF",
     {"nqn": NQN, "namespace": {"bdev_name": "Malloc0", "nsid": 5, "nguid": "ABCDEF0123456789ABCDEF0123456789", "eui64": "0123456789ABCDEF"}}),
    (f"nvmf_subsystem_remove_ns {NQN} 5", {"nqn": NQN, "nsid": 5}),
    (f"nvmf_subsystem_add_listener {NQN} -t tcp -a 127.0.0.1 -s 4420",
     {"nqn": NQN, "listen_address": {"trtype": "tcp", "traddr": "127.0.0.1", "trsvcid": "4420"}}),
    ("nvmf_subsystem_add_listener discovery -t tcp -f ipv4 -a 127.0.0.1 -s 8009",
     {"nqn": "nqn.2014-08.org.nvmexpress.discovery",
      "listen_address": {"trtype": "tcp", "adrfam": "ipv4", "traddr": "127.0.0.1", "trsvcid": "8009"}}),
    (f"nvmf_subsystem_remove_listener {NQN} -t tcp -a 127.0.0.1 -s 4420",
     {"nqn": NQN, "listen_address": {"trtype": "tcp", "traddr": "127.0.0.1", "trsvcid": "4420"}}),
    (f"nvmf_subsystem_add_host {NQN} nqn.2014-08.org.example:host", {"nqn": NQN, "host": "nqn.2014-08.org.example:host"}),
    (f"nvmf_subsystem_allow_any_host {NQN} --allow-any-host", {"nqn": NQN, "allow_any_host": True}),
    (f"nvmf_subsystem_allow_any_host {NQN} --no-allow-any-host", {"nqn": NQN, "allow_any_host": False}),
    (f"nvmf_subsystem_allow_any_host -e {NQN}", {"nqn": NQN, "allow_any_host": True}),
    (f"nvmf_subsystem_allow_any_host -d {NQN}", {"nqn": NQN, "allow_any_host": False}),
    (f"nvmf_get_subsystems {NQN}", {"nqn": NQN}),
    ("nvmf_get_subsystems", {}),
    ("nvmf_set_max_subsystems -x 64", {"max_subsystems": 64}),
    ("nvmf_set_config --prefer-incoming-cpu", {"prefer_incoming_cpu": True}),
    ("nvmf_set_config --discovery-filters transport,address -m 0x1", {"discovery_filters": ["transport", "address"], "poll_groups_mask": "0x1"}),
    ("log_set_flag nvmf_tcp", {"flag": "nvmf_tcp"}),
    ("log_set_print_level debug", {"level": "DEBUG"}),
    ("log_enable_timestamps --no-timestamps", {"enabled": False}),
    ("log_enable_timestamps -e", {"enabled": True}),
    ("rpc_get_methods -c -i", {"current": True, "include_aliases": True}),
    ("spdk_kill_instance SIGTERM", {"sig_name": "SIGTERM"}),
    ("framework_get_config bdev", {"name": "bdev"}),
]


def run(arguments, text=""):
    """Exit status, standard output and standard error of rpc.py with these arguments, `text` at standard input."""
    out, err, stdin = io.StringIO(), io.StringIO(), sys.stdin
    sys.stdin = io.StringIO(text)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = cli.main(arguments)
            except SystemExit as end:
                status = end.code
    finally:
        sys.stdin = stdin
    return status, out.getvalue(), err.getvalue()


class FakeServer:
    """Answers each connection with what `answer(request_text)` gives: bytes, or None to hang up."""

    def __init__(self, answer):
        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, "rpc.sock")
        self.requests = []
        self.answer = answer
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen()
        self.thread = threading.Thread(target=self.serve)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()
        self.folder.cleanup()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                self.converse(connection)

    def converse(self, connection):
        text = ""
        while piece := connection.recv(65536):
            text += piece.decode()
            try:
                request = json.loads(text)
            except ValueError:
                continue
            text = ""
            self.requests.append(request)
            reply = self.answer(request)
            if reply is None:
                return
            for byte in range(0, len(reply), 7):  # in small pieces
                connection.sendall(reply[byte:byte + 7])


def result(value):
    return lambda request: json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": value}, ensure_ascii=False).encode() + b"\n"


class CommandLines(unittest.TestCase):
    def test_lines_of_spdk_make_their_requests(self):
        for line, params in LINES:
            with self.subTest(line):
                status, out, err = run(["--dry-run", *line.split()])
                self.assertEqual(status, 0, err)
                request = json.loads(out.removeprefix("Request:\n"))
                self.assertEqual(request, {"method": line.split()[0], "params": params})

    def test_every_command_has_help(self):
        parser = cli.make_parser()
        for name in cli.command_names(parser):
            with self.subTest(name):
                status, out, _ = run([name, "--help"])
                self.assertEqual(status, 0)
                self.assertIn(f"rpc.py {name}", out)
        status, out, _ = run(["--help"])
        self.assertEqual(status, 0)
        self.assertIn("nvmf_create_subsystem", out)

    def test_unknown_command_is_told_with_its_neighbours(self):
        status, _, err = run(["bdev_mallok_create", "64", "512"])
        self.assertEqual(status, 2)
        self.assertIn("there is no command 'bdev_mallok_create'; did you mean bdev_malloc_create", err)
        self.assertIn("rpc.py call METHOD", err)

    def test_wrong_arguments_are_told(self):
        for line, says in [("bdev_malloc_create 64", "block_size"), ("bdev_malloc_create 64 x", "block_size: invalid int value: 'x'"),
                           ("nvmf_subsystem_add_listener n -t tcp", "-a/--traddr"), ("log_set_level loud", "invalid choice: 'LOUD'")]:
            with self.subTest(line):
                status, _, err = run(["--dry-run", *line.split()])
                self.assertEqual(status, 2)
                self.assertIn(says, err)
        status, _, err = run(["--dry-run", "bdev_malloc_create", "64", "0"])
        self.assertEqual(status, 1)
        self.assertIn("block_size is 0", err)


class Replies(unittest.TestCase):
    def test_results_are_printed_for_shells(self):
        for value, line, expected in [("Malloc0", "bdev_malloc_create 1 512", "Malloc0\n"), (True, "bdev_malloc_delete M", ""),
                                      ([{"name": "Nüll"}], "bdev_get_bdevs", json.dumps([{"name": "Nüll"}], indent=2) + "\n"),
                                      ([], "bdev_get_bdevs", "[]\n"), (1, "nvmf_subsystem_add_ns n b", "")]:
            with self.subTest(line), FakeServer(result(value)) as server:
                self.assertEqual(run(["-s", server.path, *line.split()]), (0, expected, ""))

    def test_any_method_can_be_called(self):
        with FakeServer(result({"a": 1})) as server:
            self.assertEqual(run(["-s", server.path, "call", "new_method", '{"x": [1]}'])[:2], (0, '{\n  "a": 1\n}\n'))
            self.assertEqual(server.requests[0]["params"], {"x": [1]})
            self.assertEqual(run(["-s", server.path, "call", "new_method", "-"], '{"y": 2}')[0], 0)
            self.assertEqual(server.requests[1]["params"], {"y": 2})
            status, _, err = run(["-s", server.path, "call", "new_method", "{"])
            self.assertEqual((status, len(server.requests)), (1, 2))
            self.assertIn("not JSON", err)

    def test_an_error_has_the_words_that_clients_look_for(self):
        error = {"code": -17, "message": "bdev Malloc0 exists"}
        answer = lambda request: json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": error}).encode()  # noqa: E731
        with FakeServer(answer) as server:
            status, out, err = run(["-s", server.path, "bdev_malloc_create", "-b", "Malloc0", "1", "512"])
        self.assertEqual((status, out), (1, ""))
        self.assertIn("Got JSON-RPC error response\nresponse:\n", err)
        self.assertEqual(json.loads(err.split("response:\n")[1]), error)
        self.assertIn('"name": "Malloc0"', err)

    def test_no_server(self):
        status, _, err = run(["-s", "/nonexistent/rpc.sock", "bdev_get_bdevs"])
        self.assertEqual(status, 3)
        self.assertIn("Error while connecting to /nonexistent/rpc.sock", err)
        self.assertIn("No such file", err)

    def test_a_hang_up_is_an_error_except_after_kill(self):
        with FakeServer(lambda request: None) as server:
            status, _, err = run(["-s", server.path, "bdev_get_bdevs"])
            self.assertEqual(status, 3)
            self.assertIn("Connection closed", err)
            self.assertEqual(run(["-s", server.path, "spdk_kill_instance", "SIGKILL"])[0], 0)

    def test_time_out(self):
        with FakeServer(lambda request: b'{"jsonrpc"') as server:
            status, _, err = run(["-s", server.path, "-t", "0.05", "bdev_get_bdevs"])
        self.assertEqual(status, 4)
        self.assertIn("Timeout while waiting for response", err)

    def test_scripts_stop_at_the_first_error(self):
        def answer(request):
            if request["method"] == "bdev_null_delete":
                return json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": {"code": -19, "message": "no"}}).encode()
            return result("x")(request)
        script = "# a comment\n\nbdev_null_create 'a b' 1 512\nbdev_null_delete gone\nbdev_null_create c 1 512\n"
        with FakeServer(answer) as server:
            status, out, err = run(["-s", server.path], script)
            self.assertEqual([request["method"] for request in server.requests], ["bdev_null_create", "bdev_null_delete"])
            self.assertEqual(server.requests[0]["params"]["name"], "a b")
        self.assertEqual((status, out), (1, "x\n"))
        self.assertTrue(err.startswith("bdev_null_delete gone <<<\n"), err)

    def test_batches(self):
        def answer(requests):
            replies = [{"jsonrpc": "2.0", "id": request["id"], "result": request["method"]} for request in requests[:-1]]
            return json.dumps([{"jsonrpc": "2.0", "id": requests[-1]["id"], "error": {"code": -19, "message": "no"}}, *replies]).encode()
        with FakeServer(answer) as server:
            status, out, err = run(["-s", server.path, "-b"], "bdev_get_bdevs\nspdk_get_version\nbdev_null_delete x\n")
        self.assertEqual((status, out), (1, "bdev_get_bdevs\nspdk_get_version\n"))
        self.assertIn('"code": -19', err)

    def test_coprocess(self):
        with FakeServer(result("x")) as server:
            status, out, _ = run(["--server"], f"-s {server.path} spdk_get_version\nnonsense\n-s /nonexistent spdk_get_version\n")
        self.assertEqual(status, 0)
        self.assertEqual([line for line in out.split("\n") if line.startswith("**")], ["**STATUS=0", "**STATUS=1", "**STATUS=1"])


class RecordedServer:
    """A stand-in for the client: phases as catnapd --wait-for-rpc has them."""

    def __init__(self):
        self.started = False
        self.calls = []

    def call(self, method, params=None):
        if method == "rpc_get_methods":
            early, late = ["nvmf_set_config", "framework_start_init"], ["bdev_null_create"]
            return early + late if not (params or {}).get("current") else (late if self.started else early)
        if method == "framework_start_init":
            self.started = True
        self.calls.append(method)
        return True


class Configurations(unittest.TestCase):
    CALLS = [("bdev_null_create", {"name": "a"}), ("nvmf_set_config", {}), ("bdev_null_create", {"name": "b"})]

    def test_calls_are_made_in_their_phase(self):
        server = RecordedServer()
        self.assertEqual(config.run_in_phases(server, list(self.CALLS), False), [])
        self.assertEqual(server.calls, ["nvmf_set_config", "framework_start_init", "bdev_null_create", "bdev_null_create"])

    def test_calls_of_a_past_phase_are_given_back(self):
        server = RecordedServer()
        server.started = True
        self.assertEqual(config.run_in_phases(server, list(self.CALLS), False), [("nvmf_set_config", {})])

    def test_an_unknown_method_stops_all(self):
        server = RecordedServer()
        with self.assertRaisesRegex(RpcFailure, "nothing was done: bdev_rbd_create"):
            config.run_in_phases(server, [*self.CALLS, ("bdev_rbd_create", {})], False)
        self.assertEqual(server.calls, [])

    def test_dependencies_are_saved_too(self):
        listed = [{"subsystem": "bdev", "depends_on": []}, {"subsystem": "nvmf", "depends_on": ["bdev"]}]
        self.assertEqual(config.chosen_with_dependencies(listed, ["nvmf"]), {"bdev", "nvmf"})
        with self.assertRaisesRegex(RpcFailure, "no subsystem is named 'accel'"):
            config.chosen_with_dependencies(listed, ["accel"])

    def test_broken_files_are_told(self):
        for text, says in [("{", "not JSON"), ("[]", 'no array "subsystems"'), ('{"subsystems":[1]}', "1 is not a subsystem"),
                           ('{"subsystems":[{"subsystem":"bdev","config":[{"params":{}}]}]}', "is not a call with a method")]:
            with self.subTest(text):
                status, _, err = run(["--dry-run", "load_config"], text)
                self.assertEqual(status, 1)
                self.assertIn(says, err)


if __name__ == "__main__":
    unittest.main()

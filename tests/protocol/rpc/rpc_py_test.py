#!/usr/bin/env -S /usr/bin/python3
"""scripts/rpc.py against the real catnapd: the first steps of SPDK's documentation, configuration saved and loaded, phases, and the socket's manners.

Left out: wrong calls (rpc_wrong_calls_test.py).
"""

import json
import os
import signal
import socket
import stat
import subprocess
import unittest

from server_process import PROGRAM, ServerProcess, free_tcp_port

from catnap_rpc import cli

NQN = "nqn.2016-06.io.spdk:cnode1"


class WithServer(unittest.TestCase):
    options = ()
    wait = True

    def setUp(self):
        self.server = ServerProcess(*self.options, wait=self.wait)
        self.addCleanup(self.server.clean)
        self.addCleanup(self.end)

    def end(self):
        if self.server.process.returncode is None:
            self.assertEqual(self.server.stop(), 0, self.server.log_text())

    def rpc(self, line, text=""):
        status, out, err = self.server.rpc_py(*line.split(), text=text)
        self.assertEqual(status, 0, f"{line}: {err}")
        return out

    def configure(self, port):
        file = os.path.join(self.server.folder.name, "disk")
        with open(file, "wb") as disk:
            disk.truncate(1 << 20)
        self.rpc("nvmf_create_transport -t TCP -u 16384 -m 8 -c 8192")
        self.assertEqual(self.rpc("bdev_malloc_create -b Malloc0 64 512"), "Malloc0\n")
        self.assertEqual(self.rpc("bdev_null_create Null0 8 4096"), "Null0\n")
        self.assertEqual(self.rpc(f"bdev_aio_create {file} Aio0 512"), "Aio0\n")
        self.rpc(f"nvmf_create_subsystem {NQN} -a -s SPDK00000000000001 -d SPDK_Controller")
        self.rpc(f"nvmf_subsystem_add_ns {NQN} Malloc0")
        self.rpc(f"nvmf_subsystem_add_ns {NQN} Null0 -n 5")
        self.rpc(f"nvmf_subsystem_add_listener {NQN} -t tcp -a 127.0.0.1 -s {port}")
        self.rpc(f"nvmf_subsystem_add_host {NQN} nqn.2014-08.org.example:host")


class FirstSteps(WithServer):
    def test_a_target_is_configured_saved_and_loaded(self):
        port = free_tcp_port()
        self.configure(port)
        subsystem = next(one for one in json.loads(self.rpc("nvmf_get_subsystems")) if one["nqn"] == NQN)
        self.assertEqual([space["nsid"] for space in subsystem["namespaces"]], [1, 5])
        self.assertEqual(subsystem["serial_number"], "SPDK00000000000001")
        self.assertTrue(subsystem["allow_any_host"])
        self.assertEqual(json.loads(self.rpc("bdev_get_bdevs -b Malloc0"))[0]["num_blocks"], 131072)
        listeners = json.loads(self.rpc(f"nvmf_subsystem_get_listeners {NQN}"))
        self.assertEqual(listeners[0]["address"]["trsvcid"], str(port))
        with socket.create_connection(("127.0.0.1", port), 10):
            pass

        saved = self.rpc("save_config")
        self.assertEqual(saved.count("\n"), len(json.dumps(json.loads(saved), indent=2).split("\n")))
        self.assertEqual(self.rpc("save_config -i -1").count("\n"), 1)
        one = json.loads(self.rpc("save_subsystem_config -n bdev"))
        self.assertIn(one, json.loads(saved)["subsystems"])

        self.end()
        fresh = ServerProcess("--wait-for-rpc", wait=False)
        self.addCleanup(fresh.clean)
        try:
            status, _, err = fresh.rpc_py("load_config", text=saved)
            self.assertEqual(status, 0, err)
            status, out, err = fresh.rpc_py("save_config")
            self.assertEqual((status, json.loads(out)), (0, json.loads(saved)), "loading what was saved gives the same again")
        finally:
            self.assertEqual(fresh.stop(), 0, fresh.log_text())

    def test_a_saved_file_starts_the_server(self):
        self.configure(free_tcp_port())
        saved = self.rpc("save_config")
        self.end()
        file = os.path.join(self.server.folder.name, "config.json")
        with open(file, "w", encoding="utf-8") as config:
            config.write(saved)
        fresh = ServerProcess("-c", file)
        self.addCleanup(fresh.clean)
        try:
            status, out, err = fresh.rpc_py("save_config")
            self.assertEqual((status, json.loads(out)), (0, json.loads(saved)), err)
        finally:
            self.assertEqual(fresh.stop(), 0, fresh.log_text())

    def test_commands_from_standard_input(self):
        out = self.rpc("", text="# two bdevs\nbdev_null_create A 1 512\nbdev_null_create B 1 512\n")
        self.assertEqual(out, "A\nB\n")
        self.assertEqual(self.rpc("-b", text="bdev_null_delete A\nbdev_null_create C 1 512\n"), "true\nC\n")
        status, _, err = self.server.rpc_py(text="bdev_null_delete B\nbdev_null_delete B\nbdev_null_delete C\n")
        self.assertEqual(status, 1)
        self.assertIn('"code": -19', err)
        self.assertEqual([one["name"] for one in self.server.client.call("bdev_get_bdevs")], ["C"])

    def test_every_command_is_a_method_of_the_server(self):
        commands = cli.command_names(cli.make_parser())
        methods = {method["name"]: method for method in self.server.client.call("rpc_get_schema")["methods"]}
        for table in cli.TABLES:
            for command in table.COMMANDS:
                with self.subTest(command.method):
                    self.assertIn(command.method, methods)
        for name in methods:
            with self.subTest(name):
                self.assertIn(name, commands, "a method without a command: run scripts/generate_rpc_reference")

    def test_reactors_and_threads(self):
        reactors = json.loads(self.rpc("framework_get_reactors"))
        self.assertEqual(reactors["pid"], self.server.process.pid)
        self.assertEqual(reactors["tick_rate"], 1_000_000_000)
        for key in ("lcore", "tid", "busy", "idle", "irq", "sys", "in_interrupt", "lw_threads", "mode", "awake_because", "wakeups"):
            self.assertIn(key, reactors["reactors"][0])
        threads = json.loads(self.rpc("thread_get_stats"))["threads"]
        self.assertEqual(threads[0]["name"], "app_thread")
        for thread in threads:
            self.assertEqual(thread["active_pollers_count"], 0, "nothing polls unless asked to")
        pollers = json.loads(self.rpc("thread_get_pollers"))
        self.assertEqual(len(pollers["threads"]), len(threads))
        self.assertEqual(pollers["unresponsive_threads"], 0)

    def test_time_asleep_counts_while_it_lasts(self):
        """A reactor that nobody wakes shows up as idle, not as one whose counters stand still."""
        for _ in range(1000):  # until two looks fall into one sleep
            first, second = (self.server.client.call("framework_get_reactors")["reactors"][0] for _ in range(2))
            if first["asleep"] and second["asleep"] and first["sleeps"] == second["sleeps"]:
                break
        else:
            self.fail("a reactor without work does not sleep on")
        self.assertGreater(second["sleep_ns"], first["sleep_ns"])
        self.assertGreater(second["lw_threads"][0]["elapsed"], first["lw_threads"][0]["elapsed"])

    def test_modes_change_while_it_runs(self):
        for mode, sleeps in (("poll", False), ("interrupt", True), ("adaptive", True)):
            self.rpc(f"reactor_set_mode {mode}")
            reactor = json.loads(self.rpc("framework_get_reactors"))["reactors"][0]
            self.assertEqual((reactor["mode"], reactor["in_interrupt"]), (mode, sleeps))

    def test_log_switches(self):
        flags = json.loads(self.rpc("log_get_flags"))
        self.assertIn("rpc", flags)
        self.rpc("log_set_flag rpc")
        self.assertTrue(json.loads(self.rpc("log_get_flags"))["rpc"])
        self.rpc("log_clear_flag all")
        self.assertEqual(set(json.loads(self.rpc("log_get_flags")).values()), {False})
        for name in ("level", "print_level"):
            self.rpc(f"log_set_{name} WARNING")
            self.assertEqual(self.rpc(f"log_get_{name}"), "WARNING\n")
        self.rpc("log_enable_timestamps --no-timestamps")

    def test_signals_by_name(self):
        self.rpc("spdk_kill_instance SIGTERM")
        self.assertEqual(self.server.wait(), 0)
        self.assertFalse(os.path.exists(self.server.path))
        self.assertFalse(os.path.exists(self.server.path + ".lock"))

    def test_kill(self):
        self.rpc("spdk_kill_instance SIGKILL")
        self.assertEqual(self.server.wait(), -signal.SIGKILL)


class Phases(WithServer):
    options = ("--wait-for-rpc",)
    wait = False

    def test_startup_methods_come_first(self):
        early = json.loads(self.rpc("rpc_get_methods -c"))
        self.assertIn("nvmf_set_max_subsystems", early)
        self.assertIn("framework_start_init", early)
        self.assertNotIn("bdev_null_create", early)
        status, _, err = self.server.rpc_py("bdev_null_create", "A", "1", "512")
        self.assertEqual(status, 1)
        self.assertIn('"code": -1,', err)
        self.rpc("nvmf_set_max_subsystems -x 3")
        self.rpc("framework_start_init")
        self.rpc("framework_wait_init")
        self.assertEqual(self.rpc("bdev_null_create A 1 512"), "A\n")
        status, _, err = self.server.rpc_py("nvmf_set_max_subsystems", "-x", "4")
        self.assertEqual(status, 1)
        self.assertIn("--wait-for-rpc", err)


class Socket(WithServer):
    def test_only_its_owner_may_use_it(self):
        self.assertEqual(stat.S_IMODE(os.stat(self.server.path).st_mode), 0o600)

    def test_a_live_instance_is_not_unseated(self):
        second = subprocess.run([PROGRAM, "-r", self.server.path], capture_output=True, text=True, timeout=60, check=False)
        self.assertNotEqual(second.returncode, 0)
        self.assertIn(self.server.path, second.stderr)
        self.assertIn("in use", second.stderr)
        self.rpc("spdk_get_version")

    def test_a_dead_one_is(self):
        self.server.process.kill()
        self.server.wait()
        self.assertTrue(os.path.exists(self.server.path))
        heir = subprocess.Popen([PROGRAM, "-r", self.server.path], stdout=self.server.log, stderr=self.server.log)
        try:
            self.assertIn("catnap", self.rpc("-r 150 spdk_get_version"))
        finally:
            heir.terminate()
            self.assertEqual(heir.wait(60), 0)
            self.server.wait()  # judges the log of both

    def test_longhorn_style_requests(self):
        """Many in flight on one connection, indented by tabs, replies matched by id."""
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(self.server.path)
            requests = [{"jsonrpc": "2.0", "id": number, "method": "bdev_null_create",
                         "params": {"name": f"N{number}", "num_blocks": 8, "block_size": 512}} for number in range(200)]
            raw.sendall("".join(json.dumps(request, indent="\t") for request in requests).encode())
            raw.shutdown(socket.SHUT_WR)
            text = b""
            while piece := raw.recv(65536):
                text += piece
        replies = [json.loads(line) for line in text.decode().splitlines()]
        self.assertEqual({reply["id"]: reply["result"] for reply in replies}, {number: f"N{number}" for number in range(200)})


if __name__ == "__main__":
    unittest.main()

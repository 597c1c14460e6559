#!/usr/bin/env -S /usr/bin/python3
"""The state file (--state) of the real catnapd: killed at random instants while it is configured by several clients, on a full and on a read-only file
system, and what a restart shall not bring back.

CATNAP_SOAK=1: 100 kills with 1,000 calls before each. Left out: calls that cannot be made yet
(state_pending_test.py), power cuts (tests/e2e/state_power_cut_test.py), which kind of object is kept how
(config_test.py), the order of steps (tests/unit/server/state_store_test.cpp).
"""

import errno
import json
import os
import random
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from expect import refused
from server_process import PROGRAM, RpcFailure, ServerProcess, free_tcp_port

SOAK = os.environ.get("CATNAP_SOAK") == "1"
ROUNDS = 100 if SOAK else 4
CALLS_PER_ROUND = 1000 if SOAK else 150
CLIENTS = 4
NQN = "nqn.2026-11.io.catnap:state"
HOST = "nqn.2014-08.org.example:host"


class StateServer(ServerProcess):
    def __init__(self, state, *options, **more):
        self.state = state
        super().__init__("--state", state, *options, **more)

    def kill(self):
        self.process.kill()
        self.wait()
        self.clean()


class Model:
    """One client's objects: what its calls have made of them. Every operation is a call and what it does to the model."""

    def __init__(self, name, seed):
        self.name = name
        self.random = random.Random(seed)
        self.nqn = f"nqn.2026-11.io.catnap:{name}"
        self.state = {"bdevs": {}, "subsystem": None}
        self.next_bdev = 0
        self.in_flight = None  # the state after the call that was not answered

    def operation(self):
        """(method, params, the state afterwards)."""
        after = json.loads(json.dumps(self.state))
        bdevs, subsystem = after["bdevs"], after["subsystem"]
        used = {space["bdev"] for space in subsystem["namespaces"].values()} if subsystem else set()
        choices = ["create"] if len(bdevs) < 12 else []
        if bdevs:
            choices += ["qos"]
        if set(bdevs) - used:
            choices += ["delete"]
        if subsystem is None:
            choices += ["subsystem"]
        else:
            choices += ["host", "forget subsystem"] if len(subsystem["namespaces"]) > 3 else ["host"]
            if set(bdevs) - used:
                choices += ["add namespace"] * 2
            if subsystem["namespaces"]:
                choices += ["remove namespace"]
        choice = self.random.choice(choices)
        if choice == "create":
            bdev = f"{self.name}{self.next_bdev}"
            self.next_bdev += 1
            blocks = self.random.randrange(8, 100000)
            bdevs[bdev] = {"blocks": blocks, "limit": 0}
            return "bdev_null_create", {"name": bdev, "num_blocks": blocks, "block_size": 512}, after
        if choice == "qos":
            bdev, limit = self.random.choice(sorted(bdevs)), 1000 * self.random.randrange(0, 50)
            bdevs[bdev]["limit"] = limit
            return "bdev_set_qos_limit", {"name": bdev, "rw_ios_per_sec": limit}, after
        if choice == "delete":
            bdev = self.random.choice(sorted(set(bdevs) - used))
            del bdevs[bdev]
            return "bdev_null_delete", {"name": bdev}, after
        if choice == "subsystem":
            after["subsystem"] = {"hosts": [], "namespaces": {}}
            return "nvmf_create_subsystem", {"nqn": self.nqn}, after
        if choice == "forget subsystem":
            after["subsystem"] = None
            return "nvmf_delete_subsystem", {"nqn": self.nqn}, after
        if choice == "host":
            host = f"{HOST}{self.random.randrange(8)}"
            if host in subsystem["hosts"]:
                subsystem["hosts"].remove(host)
                return "nvmf_subsystem_remove_host", {"nqn": self.nqn, "host": host}, after
            subsystem["hosts"] = sorted([*subsystem["hosts"], host])
            return "nvmf_subsystem_add_host", {"nqn": self.nqn, "host": host}, after
        if choice == "add namespace":
            bdev = self.random.choice(sorted(set(bdevs) - used))
            nsid = min(set(range(1, 33)) - {int(each) for each in subsystem["namespaces"]})
            subsystem["namespaces"][str(nsid)] = {"bdev": bdev}
            return "nvmf_subsystem_add_ns", {"nqn": self.nqn, "namespace": {"bdev_name": bdev, "nsid": nsid}}, after
        nsid = self.random.choice(sorted(subsystem["namespaces"]))
        del subsystem["namespaces"][nsid]
        return "nvmf_subsystem_remove_ns", {"nqn": self.nqn, "nsid": int(nsid)}, after

    def found(self, client):
        """This client's objects as the server shows them."""
        state = {"bdevs": {}, "subsystem": None}
        for bdev in client.call("bdev_get_bdevs"):
            if bdev["name"].startswith(self.name):
                state["bdevs"][bdev["name"]] = {"blocks": bdev["num_blocks"], "limit": bdev["assigned_rate_limits"]["rw_ios_per_sec"]}
        for subsystem in client.call("nvmf_get_subsystems"):
            if subsystem["nqn"] == self.nqn:
                state["subsystem"] = {"hosts": sorted(host["nqn"] for host in subsystem["hosts"]),
                                      "namespaces": {str(each["nsid"]): {"bdev": each["bdev_name"]} for each in subsystem["namespaces"]}}
        return state

    def run(self, server, counter):
        client = server.connect()
        try:
            while True:
                method, params, self.in_flight = self.operation()
                try:
                    client.call(method, params)
                except RpcFailure as failure:
                    # On a machine that is busy with other things a poll group may be late; then the answer says what holds.
                    if failure.error is None or "the change is applied" not in failure.error["message"]:
                        raise
                self.state, self.in_flight = self.in_flight, None
                counter()
        except RpcFailure as failure:
            if failure.error is not None:
                self.problem = f"{method} {params}: {failure.message}"
        finally:
            client.close()

    problem = None


class Killed(unittest.TestCase):
    def test_kill_at_random_instants(self):
        seed = int(os.environ.get("CATNAP_SEED", "20261121"))
        print(f"seed {seed}", flush=True)
        chance = random.Random(seed)
        models = [Model(f"C{number}x", seed + number) for number in range(CLIENTS)]
        answered_in_all = 0
        with tempfile.TemporaryDirectory(prefix="catnap_state_") as folder:
            state = os.path.join(folder, "state.json")
            server = StateServer(state)
            for number in range(ROUNDS):
                answered, lock, enough = [0], threading.Lock(), threading.Event()
                wanted = CALLS_PER_ROUND + chance.randrange(CALLS_PER_ROUND // 10)

                def counter():
                    with lock:
                        answered[0] += 1
                        if answered[0] >= wanted:
                            enough.set()

                threads = [threading.Thread(target=model.run, args=(server, counter)) for model in models]
                for thread in threads:
                    thread.start()
                self.assertTrue(enough.wait(300), [model.problem for model in models])
                time.sleep(chance.random() * 0.01)  # somewhere within a few calls
                server.process.kill()
                for thread in threads:
                    thread.join(60)
                server.kill()
                answered_in_all += answered[0]
                server = StateServer(state)
                for model in models:
                    self.assertIsNone(model.problem)
                    found = model.found(server.client)
                    allowed = [model.state] + ([model.in_flight] if model.in_flight is not None else [])
                    self.assertIn(found, allowed, f"after kill {number + 1}, client {model.name}, seed {seed}")
                    model.state, model.in_flight = found, None
                if (number + 1) % 10 == 0:
                    print(f"{number + 1} kills, {answered_in_all} calls answered", flush=True)
                self.assertEqual(server.client.call("framework_get_pending"), [])
                self.assertEqual(sorted(set(os.listdir(folder))), ["state.json", "state.json.lock"], "what the killed one left beside the file is gone")
            status = server.client.call("framework_get_state")
            self.assertTrue(status["durable"])
            self.assertEqual(server.stop(), 0)
            server.clean()
        print(f"{ROUNDS} kills, {answered_in_all} calls answered", flush=True)


class WithFolder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="catnap_state_")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.state = self.at("state.json")
        self.server = None
        self.addCleanup(lambda: self.server is not None and self.end())

    def at(self, name):
        return os.path.join(self.folder, name)

    def start(self, *options, **more):
        self.server = StateServer(self.state, *options, **more)
        return self.server.client.call

    def end(self):
        server, self.server = self.server, None
        self.assertEqual(server.stop(), 0, server.log_text())
        text = server.log_text()
        server.clean()
        return text

    def restart(self, *options, **more):
        if self.server is not None:
            self.server.kill()
        return self.start(*options, **more)

    def refused(self, call, method, params, code, *words):
        refused(self, code, words, call, method, params)

    def start_fails(self, *options):
        done = subprocess.run([PROGRAM, "-r", self.at("other.sock"), *options], capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        return done.stderr


def whole(call):
    return [call("framework_get_config", {"name": one["subsystem"]}) for one in call("framework_get_subsystems")]


class FullDisk(WithFolder):
    def mount(self, *options):
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", self.folder], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            self.skipTest(f"a small file system needs the right to mount one: {done.stderr.strip()}")
        self.addCleanup(lambda: subprocess.run(["umount", "-l", self.folder], check=True))

    def prepare(self, call):
        call("nvmf_create_transport", {"trtype": "TCP"})
        call("bdev_null_create", {"name": "N", "num_blocks": 8, "block_size": 512})
        call("nvmf_create_subsystem", {"nqn": NQN, "ana_reporting": True})
        address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(free_tcp_port())}
        call("nvmf_subsystem_add_listener", {"nqn": NQN, "listen_address": address})
        return address

    def nothing_is_changed(self, call, address, code):
        before = whole(call)
        self.refused(call, "bdev_null_create", {"name": "M", "num_blocks": 8, "block_size": 512}, code, "bdev_null_create", "state file")
        self.refused(call, "nvmf_subsystem_add_ns", {"nqn": NQN, "namespace": {"bdev_name": "N"}}, code, "state file")
        self.refused(call, "bdev_null_delete", {"name": "N"}, code, "state file")
        self.assertEqual(whole(call), before)
        # What no restart brings back needs no disk: a switch-over and a look at the log are not refused.
        call("nvmf_subsystem_listener_set_ana_state", {"nqn": NQN, "listen_address": address, "ana_state": "non_optimized"})
        call("log_set_flag", {"flag": "rpc"})

    def test_full(self):
        self.mount("size=256k")
        call = self.start()
        address = self.prepare(call)
        filler = self.at("filler")
        with open(filler, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError as full:
                self.assertEqual(full.errno, errno.ENOSPC)
        self.nothing_is_changed(call, address, -errno.ENOSPC)
        self.assertEqual(call("framework_get_state")["durable"], True)
        os.unlink(filler)
        call("bdev_null_create", {"name": "M", "num_blocks": 8, "block_size": 512})
        call = self.restart()
        self.assertEqual([bdev["name"] for bdev in call("bdev_get_bdevs")], ["N", "M"])

    def test_full_in_the_middle_of_a_batch(self):
        """Of a batch that the disk has no room for, some changes are made and kept, the others are refused and have not happened."""
        self.mount("size=192k")
        call = self.start()
        batch = [{"jsonrpc": "2.0", "id": number, "method": "bdev_null_create",
                  "params": {"name": f"N{number}_" + "x" * 200, "num_blocks": 8, "block_size": 512}} for number in range(400)]
        with socket.socket(socket.AF_UNIX) as raw:
            raw.settimeout(120)
            raw.connect(self.server.path)
            raw.sendall(json.dumps(batch).encode())
            text = b""
            while not text.endswith(b"\n"):
                text += raw.recv(1 << 20)
        replies = {reply["id"]: reply for reply in json.loads(text)}
        self.assertEqual(len(replies), len(batch))
        made = {reply["result"] for reply in replies.values() if "result" in reply}
        refused = {reply["error"]["code"] for reply in replies.values() if "error" in reply}
        self.assertEqual(refused, {-errno.ENOSPC})
        self.assertTrue(made)
        self.assertEqual({bdev["name"] for bdev in call("bdev_get_bdevs")}, made)
        call = self.restart()
        self.assertEqual({bdev["name"] for bdev in call("bdev_get_bdevs")}, made)

    def test_read_only(self):
        self.mount("size=1m")
        call = self.start()
        address = self.prepare(call)
        done = subprocess.run(["mount", "-o", "remount,ro", self.folder], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.nothing_is_changed(call, address, -errno.EROFS)
        subprocess.run(["mount", "-o", "remount,rw", self.folder], check=True)
        call("bdev_null_delete", {"name": "N"})
        self.end()

    def test_directory_taken_away(self):
        self.folder = self.at("sub")
        os.mkdir(self.folder)
        self.state = self.at("state.json")
        call = self.start()
        address = self.prepare(call)
        os.rename(self.folder, self.folder + "2")
        self.nothing_is_changed(call, address, -errno.ENOENT)
        os.rename(self.folder + "2", self.folder)
        call("bdev_null_delete", {"name": "N"})


class Start(WithFolder):
    def seed(self, *names):
        calls = [{"method": "bdev_null_create", "params": {"name": name, "num_blocks": 8, "block_size": 512}} for name in names]
        path = self.at("seed.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"subsystems": [{"subsystem": "bdev", "config": calls}]}, file)
        return path

    def names(self, call):
        return [bdev["name"] for bdev in call("bdev_get_bdevs")]

    def test_a_configuration_file_seeds_an_absent_state_file_only(self):
        call = self.start("-c", self.seed("A", "B"))
        self.assertEqual(self.names(call), ["A", "B"])
        call = self.restart()
        self.assertEqual(self.names(call), ["A", "B"])
        call("bdev_null_delete", {"name": "A"})
        call = self.restart("-c", self.seed("X"))
        self.assertEqual(self.names(call), ["B"])
        self.assertIn("is not read", self.server.log_text())

    def test_a_bad_seed_leaves_no_state_file(self):
        self.assertIn("bdev_null_create", self.start_fails("--state", self.state, "-c", self.seed("A", "A")))
        self.assertFalse(os.path.exists(self.state))

    def test_one_process_has_it(self):
        self.start()
        self.assertIn("in use", self.start_fails("--state", self.state))

    def test_damaged_or_out_of_reach(self):
        with open(self.state, "w", encoding="utf-8") as file:
            file.write('{"subsystems": [{"subsystem": "bdev", "conf')
        message = self.start_fails("--state", self.state)
        self.assertIn(self.state, message)
        self.assertIn("left as it is", message)
        self.assertIn("move it away", message)
        with open(self.state, encoding="utf-8") as file:
            self.assertTrue(file.read().endswith("conf"))
        self.assertIn("No such file or directory", self.start_fails("--state", self.at("nowhere/state.json")))
        self.assertIn("no regular file", self.start_fails("--state", self.make_folder()))

    def test_a_link_stays_and_what_it_leads_to_is_replaced(self):
        real = self.at("elsewhere.json")
        os.symlink("elsewhere.json", self.state)
        self.assertIn("leads to no file", self.start_fails("--state", self.state))
        with open(real, "w", encoding="utf-8") as file:
            json.dump({"subsystems": []}, file)
        call = self.start()
        call("bdev_null_create", {"name": "A", "num_blocks": 8, "block_size": 512})
        self.assertEqual(os.path.realpath(call("framework_get_state")["file"]), os.path.realpath(real))
        # By either name it is the same file, which one process has.
        self.assertIn("in use", self.start_fails("--state", real))
        self.restart()
        self.assertTrue(os.path.islink(self.state))
        with open(real, encoding="utf-8") as file:
            self.assertIn('"A"', file.read())

    def make_folder(self):
        os.mkdir(self.at("folder"))
        return self.at("folder")

    def test_startup_methods_are_kept_at_once(self):
        call = self.start()
        call("bdev_null_create", {"name": "A", "num_blocks": 8, "block_size": 512})
        call = self.restart("--wait-for-rpc", wait=False)
        call("nvmf_set_max_subsystems", {"max_subsystems": 7})
        call = self.restart("--wait-for-rpc", wait=False)  # killed before framework_start_init
        call("framework_start_init")
        self.assertEqual(self.names(call), ["A"])
        limits = [each["params"] for each in call("framework_get_config", {"name": "nvmf"}) if each["method"] == "nvmf_set_max_subsystems"]
        self.assertEqual(limits, [{"max_subsystems": 7}])

    def test_without_it_nothing_is_kept(self):
        server = ServerProcess()
        self.addCleanup(server.clean)
        self.assertEqual(server.client.call("framework_get_state"), {"enabled": False})
        self.assertEqual(server.client.call("framework_get_pending"), [])
        self.assertEqual(server.stop(), 0)


class NotBroughtBack(WithFolder):
    def test_ana_states_come_back_inaccessible(self):
        call = self.start()
        call("nvmf_create_transport", {"trtype": "TCP"})
        addresses = []
        for nqn, ana in ((NQN, True), (NQN + "2", False)):
            addresses.append({"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(free_tcp_port())})
            call("nvmf_create_subsystem", {"nqn": nqn, "ana_reporting": ana, "max_namespaces": 2})
            call("nvmf_subsystem_add_listener", {"nqn": nqn, "listen_address": addresses[-1]})
        set_state = {"nqn": NQN, "listen_address": addresses[0], "ana_state": "non_optimized", "anagrpid": 2}
        call("nvmf_subsystem_listener_set_ana_state", set_state)
        writes = call("framework_get_state")["writes"]
        call("nvmf_subsystem_listener_set_ana_state", {**set_state, "ana_state": "optimized"})
        self.assertEqual(call("framework_get_state")["writes"], writes, "a switch-over needs no disk")
        call = self.restart()
        states = call("nvmf_subsystem_get_listeners", {"nqn": NQN})[0]["ana_states"]
        self.assertEqual({each["ana_state"] for each in states}, {"inaccessible"})
        self.assertEqual(len(call("nvmf_subsystem_get_listeners", {"nqn": NQN + "2"})), 1)
        call("nvmf_subsystem_listener_set_ana_state", {"nqn": NQN, "listen_address": addresses[0], "ana_state": "optimized"})
        self.assertEqual(call("framework_get_pending"), [])

    def test_modes_and_log_flags_only_when_asked_to(self):
        call = self.start()
        reactor = call("framework_get_reactors")["reactors"][0]
        lcore, thread = reactor["lcore"], reactor["lw_threads"][0]["name"]
        call("log_set_flag", {"flag": "rpc", "persist": True})
        call("log_set_flag", {"flag": "nvmf"})
        call("log_set_print_level", {"level": "WARNING"})
        call("log_set_level", {"level": "INFO", "persist": True})
        call("reactor_set_mode", {"mode": "interrupt", "lcore": lcore, "persist": True})
        call("reactor_set_mode", {"mode": "poll", "lcore": lcore})
        call("thread_set_mode", {"name": thread, "mode": "interrupt", "persist": True})
        call("thread_set_cpumask", {"name": thread, "cpumask": f"[{lcore}]"})
        call("framework_set_scheduler", {"name": "static", "period": 5000000, "mappings": f"{thread}:{lcore}"})
        call = self.restart()
        flags = call("log_get_flags")
        self.assertEqual((flags["rpc"], flags["nvmf"]), (True, False))
        self.assertEqual((call("log_get_level"), call("log_get_print_level")), ("INFO", "NOTICE"))
        reactor = call("framework_get_reactors")["reactors"][0]
        self.assertEqual(reactor["mode"], "interrupt")
        self.assertEqual(reactor["lw_threads"][0]["mode"], "interrupt")
        self.assertEqual(call("framework_get_pending"), [])
        methods = [each["method"] for each in call("framework_get_config", {"name": "scheduler"})]
        self.assertEqual(methods, ["reactor_set_mode", "thread_set_cpumask", "thread_set_mode", "framework_set_scheduler", "thread_move"])
        call("log_clear_flag", {"flag": "all", "persist": True})
        call = self.restart()
        self.assertFalse(call("log_get_flags")["rpc"])


if __name__ == "__main__":
    unittest.main()

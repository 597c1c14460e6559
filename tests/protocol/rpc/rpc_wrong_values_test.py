#!/usr/bin/env -S /usr/bin/python3
"""Right calls with one parameter spoiled, at any depth, in every way that its declaration forbids: each is refused, the message names the parameter, and
nothing has changed; then the right call is made, and works. And any calls at all, with names of any characters: whatever is answered is strict JSON.

The right calls are those that bring every kind of object about (config_test.py), and those that show, act, and take away (DEEDS): every method that has
parameters is in one of the two, so that a new one cannot be forgotten. Left out: calls that are wrong in fact (rpc_wrong_calls_test.py). CATNAP_SOAK=1: 20
times as many random calls.
"""

import copy
import json
import os
import random
import socket
import tempfile
import unittest

import config_test
from config_test import DISCOVERY, HOST, NQN, PLAIN_NQN, objects
from expect import wait_for
from server_process import RpcFailure, ServerProcess, free_tcp_port

SOAK = os.environ.get("CATNAP_SOAK") == "1"
INVALID_PARAMS = -32602
NESTED = {"a": [{"b": [[[{}]]]}]}
NO_EFFECT = object()  # leaves the parameter out


def spoiled(param):
    """(what, value) for one parameter of this declaration."""
    kind, secret = param["type"], param.get("secret")
    if kind == "any":
        return
    yield "nested", NESTED
    yield "a list", [NESTED]
    yield "a text", "zz no such thing"
    yield "NUL", "a\0b"
    yield "a fraction", 1.5
    yield "true", True
    yield "huge", 1 << 70
    yield "negative", -(1 << 63)
    if param["required"]:
        yield "null", None
        yield "missing", NO_EFFECT
    if secret:
        return
    for bound, step in (("minimum", -1), ("maximum", 1)):
        if bound in param:
            yield f"beyond {bound}", param[bound] + step


def right_type(param, value):
    """Values that the declaration allows are no mistake."""
    kind = param["type"]
    if kind == "string":
        if not isinstance(value, str) or "\0" in value:
            return False
        return "one_of" not in param or value in param["one_of"]
    if kind == "boolean":
        return isinstance(value, bool)
    if kind in ("integer", "number"):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or (kind == "integer" and value != int(value)):
            return False
        return param.get("minimum", value) <= value <= param.get("maximum", value)
    if kind == "array of string":
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    return False


def spoiled_calls(declared, params, path=()):
    """(what, path, whole params, value) around the right parameters `params`."""
    for param in declared:
        if param.get("ignored"):
            continue
        name = param["name"]
        for what, value in spoiled(param):
            wrong = copy.deepcopy(params)
            if value is NO_EFFECT:
                wrong.pop(name, None)
                for alias in param.get("aliases", []):
                    wrong.pop(alias, None)
            else:
                for alias in param.get("aliases", []):
                    wrong.pop(alias, None)
                wrong[name] = value
            yield what, (*path, name), wrong, value, param
        inner = params.get(name)
        if param.get("fields") and isinstance(inner, dict):
            for what, where, wrong, value, inner_param in spoiled_calls(param["fields"], inner, (*path, name)):
                yield what, where, {**params, name: wrong}, value, inner_param
        if param.get("fields") and isinstance(inner, list):
            for what, where, wrong, value, inner_param in spoiled_calls(param["fields"], inner[0], (*path, name)):
                yield what, where, {**params, name: [wrong, *inner[1:]]}, value, inner_param


# Methods without a declared parameter that could be wrong, or that would end what the test stands on.
ELSEWHERE = {
    "spdk_kill_instance": "ends the process (ending_test.py)",
    "framework_start_init": "has been called",
}
# What is refused in fact here, whatever its parameters: only their form counts.
REFUSED = {
    "bdev_raid_start": "the array runs", "bdev_raid_take_over": "there is no superblock", "bdev_raid_get_bitmap": "of raid1 only",
    "bdev_raid_add_base_bdev": "raid0 has no place to fill", "bdev_raid_remove_base_bdev": "raid0 needs each member",
    "bdev_nvme_apply_firmware": "the remote target takes none", "bdev_nvme_set_preferred_path": "controller ids are given out by the remote target",
    "bdev_nvme_send_cmd": "no command of 0 bytes", "nvmf_create_target": "there is one already", "nvmf_delete_target": "it stays", "poller_set_period": "there is no such poller",
    "bdev_nvme_set_keys": "the attached controller does not authenticate",
    "bdev_raid_start_scrub": "of raid1 only", "bdev_raid_stop_scrub": "of raid1 only",
    "nvmf_publish_mdns_prr": "there is no mDNS", "nvmf_stop_mdns_prr": "there is no mDNS",
}


# Of SPDK's configurations, without a meaning here (server/foreign_options_rpc.h).
FOREIGN = {
    "accel_set_options": {}, "bdev_iscsi_set_options": {}, "bdev_nvme_set_hotplug": {"enable": False}, "bdev_virtio_blk_set_hotplug": {"enable": False},
    "fsdev_set_opts": {}, "iscsi_set_options": {}, "keyring_linux_set_options": {}, "log_enable_timestamps": {"enabled": True}, "nvmf_publish_mdns_prr": {},
    "nvmf_stop_mdns_prr": {}, "sock_impl_set_options": {"impl_name": "posix"}, "sock_set_default_impl": {"impl_name": "posix"},
}


def deeds(cpu, port):
    """(method, params) of what shows, acts and takes away, on what objects() has made; in an order in which all of them succeed, but those REFUSED."""
    address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1"}
    listen = {**address, "trsvcid": str(port)}
    referral = {"address": {**address, "trsvcid": "8009"}, "subnqn": DISCOVERY}
    injected = {"name": "Nvme0", "cmd_type": "io", "opc": 2}
    yield "accel_crypto_keys_get", {"key_name": "key"}
    yield "bdev_get_bdevs", {"name": "Null0"}
    yield "bdev_get_iostat", {"names": ["Null0"]}
    yield "bdev_reset_iostat", {"name": "Null0"}
    yield "bdev_get_timeouts", {"name": "Delay0"}
    yield "bdev_enable_histogram", {"name": "Null0", "enable": True}
    yield "bdev_get_histogram", {"name": "Null0"}
    yield "bdev_get_histogram_borders", {"name": "Null0", "borders": [1, 2]}
    for method in ("bdev_nvme_get_controller_health_info", "bdev_nvme_get_controllers"):
        yield method, {"name": "Nvme0"}
    for method in ("bdev_nvme_get_io_paths", "bdev_nvme_get_path_iostat"):
        yield method, {"name": "Nvme0n1"}
    yield "bdev_raid_get_bdevs", {"category": "all"}
    yield "bdev_raid_get_bitmap", {"name": "Raid0"}
    yield "framework_get_config", {"name": "bdev"}
    yield "notify_get_notifications", {"id": 0, "max": 1}
    for method in ("nvmf_discovery_get_referrals", "nvmf_get_stats", "rpc_get_methods"):
        yield method, {}
    yield "nvmf_get_transports", {"trtype": "TCP"}
    for method in ("nvmf_get_io_stats", "nvmf_get_subsystems", "nvmf_subsystem_get_controllers", "nvmf_subsystem_get_listeners", "nvmf_subsystem_get_qpairs"):
        yield method, {"nqn": NQN}
    yield "reactor_get_wakeups", {"limit": 5}
    # What acts.
    yield "bdev_aio_rescan", {"name": "Aio0"}
    yield "bdev_uring_rescan", {"name": "Uring0"}
    yield "bdev_error_inject_error", {"name": "EE_Uring0p0", "io_type": "read", "error_type": "failure", "num": 1}
    yield "bdev_error_resume_pending", {"name": "EE_Uring0p0"}
    yield "bdev_nvme_add_error_injection", {**injected, "sct": 0, "sc": 4}
    yield "bdev_nvme_remove_error_injection", injected
    yield "bdev_nvme_send_cmd", {"name": "Nvme0", "cmd_type": "admin", "data_direction": "c2h", "cmdbuf": ""}
    yield "bdev_nvme_apply_firmware", {"filename": "/nowhere", "bdev_name": "Nvme0n1"}
    yield "bdev_nvme_set_keys", {"name": "Nvme0", "dhchap_key": "secret"}
    yield "bdev_nvme_set_multipath_policy", {"name": "Nvme0n1", "policy": "active_passive"}
    yield "bdev_nvme_set_preferred_path", {"name": "Nvme0n1", "cntlid": 1}
    for method in ("bdev_nvme_reset_controller", "bdev_nvme_disable_controller", "bdev_nvme_enable_controller"):
        yield method, {"name": "Nvme0"}
    yield "framework_monitor_context_switch", {"enabled": False}
    yield "reactor_set_interrupt_mode", {"lcore": cpu, "disable_interrupt": False}
    yield "poller_set_period", {"id": 1 << 40, "period_us": 1000}
    yield "nvmf_subsystem_listener_set_ana_state", {"nqn": NQN, "listen_address": listen, "ana_state": "optimized"}
    yield "nvmf_subsystem_set_keys", {"nqn": NQN, "host": HOST + "3", "dhchap_key": "secret"}
    yield "nvmf_create_target", {"name": "another"}
    # What takes away.
    yield "nvmf_delete_target", {"name": "nvmf_tgt"}
    yield "nvmf_ns_visible", {"nqn": NQN, "nsid": 3, "host": HOST + "3", "visible": True}
    yield "nvmf_ns_remove_host", {"nqn": NQN, "nsid": 3, "host": HOST}
    yield "nvmf_subsystem_remove_ns", {"nqn": NQN, "nsid": 3}
    yield "nvmf_subsystem_remove_listener", {"nqn": NQN, "listen_address": listen}
    yield "nvmf_subsystem_remove_host", {"nqn": NQN, "host": HOST}
    yield "nvmf_discovery_referral_remove_host", {**referral, "host": HOST + "2"}
    yield "nvmf_discovery_remove_referral", referral
    yield "nvmf_delete_subsystem", {"nqn": PLAIN_NQN}
    yield "keyring_file_remove_key", {"name": "secret"}
    yield "log_clear_flag", {"flag": "rpc", "persist": True}
    for method in ("bdev_raid_start", "bdev_raid_start_scrub", "bdev_raid_stop_scrub"):
        yield method, {"name": "Raid0"}
    yield "bdev_raid_take_over", {"base_bdev": "Null0"}
    yield "bdev_raid_add_base_bdev", {"raid_bdev": "Raid0", "base_bdev": "Null0"}
    yield "bdev_raid_remove_base_bdev", {"name": "Member1"}
    yield "bdev_raid_grow_base_bdev", {"raid_name": "Raid0", "base_name": "Member1"}
    yield "bdev_raid_delete", {"name": "Raid0"}
    yield "bdev_error_delete", {"name": "EE_Uring0p0"}
    yield "bdev_split_delete", {"base_bdev": "Uring0"}
    yield "bdev_crypto_delete", {"name": "Crypto0"}
    yield "accel_crypto_key_destroy", {"key_name": "key"}
    yield "bdev_delay_delete", {"name": "Delay0"}
    yield "bdev_passthru_delete", {"name": "Awaited0"}
    yield "bdev_nvme_stop_discovery", {"name": "Disc"}
    yield "bdev_nvme_detach_controller", {"name": "Nvme0"}
    yield "bdev_aio_delete", {"name": "Aio0"}
    yield "bdev_uring_delete", {"name": "Uring0"}
    yield "bdev_malloc_delete", {"name": "Malloc0"}
    yield "bdev_null_delete", {"name": "Member0"}


class WrongValues(unittest.TestCase):
    maxDiff = None
    serve_remote = config_test.Configuration.serve_remote

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="catnap_wrong_")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.remote_port = free_tcp_port()
        self.remote = self.serve_remote()
        self.addCleanup(self.remote.clean)
        self.addCleanup(lambda: self.assertEqual(self.remote.stop(), 0, self.remote.log_text()))
        self.server = ServerProcess("--wait-for-rpc", wait=False)
        self.addCleanup(self.server.clean)
        self.addCleanup(lambda: self.assertEqual(self.server.stop(), 0, self.server.log_text()))
        self.call = self.server.client.call
        self.schema = {method["name"]: method for method in self.call("rpc_get_schema")["methods"]}
        self.started = False
        self.count = 0

    def state(self):
        if not self.started:
            return None
        call = self.call
        return [call("framework_get_config", {"name": one["subsystem"]}) for one in call("framework_get_subsystems")] + [
            [bdev["name"] for bdev in call("bdev_get_bdevs")], call("nvmf_get_subsystems"), call("log_get_flags"), call("framework_get_pending"),
            call("bdev_nvme_get_controllers"), call("bdev_raid_get_bdevs", {"category": "all"}), call("keyring_get_keys"), call("nvmf_discovery_get_referrals")]

    def refused(self, method, what, path, params, value, param):
        shown = json.dumps(value)[:60] if value is not NO_EFFECT else "nothing"
        where = f"{method}, {'.'.join(path)} {what} ({shown})"
        try:
            self.call(method, params)
        except RpcFailure as failure:
            self.assertIsNotNone(failure.error, f"{where}: the server hung up")
            text = failure.error["message"]
            self.assertEqual(failure.error["code"], INVALID_PARAMS, f"{where}: {text}")
            self.assertLess(len(text), 2000, f"{where}: a message that nobody reads")
            self.assertTrue(any(name in text for name in (path[-1], *param.get("aliases", []))), f"{where} is not named in: {text}")
        else:
            self.fail(f"{where} was taken")
        self.count += 1

    def at_rest(self):
        """Waits for controllers that come back by themselves, as after bdev_nvme_set_keys with keys that the target does not want."""
        wait_for(lambda: not any(each["state"] in ("resetting", "reconnect_is_delayed") for one in self.call("bdev_nvme_get_controllers")
                                 for each in one["ctrlrs"]), "controllers to come back")

    def around(self, method, right):
        """All that is wrong around a right call, then the right one."""
        if self.started:
            self.at_rest()
        before = self.state()
        for what, path, params, value, param in spoiled_calls(self.schema[method]["params"], right):
            if right_type(param, value):
                continue
            with self.subTest(method, what=what, param=".".join(path)):
                self.refused(method, what, path, params, value, param)
        self.assertEqual(before, self.state(), f"{method} was refused, and has changed something")
        try:
            self.call(method, right)
        except RpcFailure as failure:
            self.assertIn(method, REFUSED, failure.error)
            self.assertNotEqual(failure.error["code"], INVALID_PARAMS, failure.error)

    def test_around_every_method(self):
        cpu, port = min(os.sched_getaffinity(0)), free_tcp_port()
        seen = set(ELSEWHERE)
        early = [(method, params) for method, params in FOREIGN.items() if self.schema[method]["phase"] == "startup"]
        late = [each for each in FOREIGN.items() if each not in early]
        for method, params in (*early, *objects(self.folder, cpu, port, self.remote_port), *late, *deeds(cpu, port)):
            if not self.started and self.schema[method]["phase"] == "runtime":
                self.call("framework_start_init")
                self.started = True
            self.around(method, params)
            seen.add(method)
        missing = {name for name, method in self.schema.items() if method["params"]} - seen
        self.assertEqual(missing, set(), "methods with parameters that nobody calls here")
        print(f"{self.count} wrong calls around right ones of {len(seen)} methods", flush=True)


def no_duplicates(pairs):
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise ValueError(f"an object names a member twice: {names}")
    return dict(pairs)


def no_constants(name):
    raise ValueError(f"{name} is no JSON")


def strictly(line):
    """RFC 8259 to the letter, in ASCII."""
    return json.loads(line.decode("ascii"), object_pairs_hook=no_duplicates, parse_constant=no_constants)


class StrictReplies(unittest.TestCase):
    """Objects with names of any characters, and calls with random ones: whatever is answered is strict JSON, on one line."""

    ALPHABET = [*map(chr, range(1, 0x30)), '"', "\\", "/", "%", "{", "}", "\x7f", "\x80", "\u2028", "\ufeff", "\uffff", "\U0010ffff", "ä", "é", "日"]
    READERS = ("bdev_get_bdevs", "bdev_get_iostat", "nvmf_get_subsystems", "nvmf_get_stats", "notify_get_notifications", "thread_get_io_channels",
               "framework_get_reactors", "bdev_raid_get_bdevs", "framework_get_pending", "bdev_get_timeouts", "accel_crypto_keys_get")

    def setUp(self):
        seed = int(os.environ.get("CATNAP_SEED", "20261122"))
        self.random = random.Random(seed)
        print(f"seed {seed}", flush=True)
        self.server = ServerProcess()
        self.addCleanup(self.server.clean)
        self.addCleanup(lambda: self.assertEqual(self.server.stop(), 0, self.server.log_text()))
        self.raw = socket.socket(socket.AF_UNIX)
        self.addCleanup(self.raw.close)
        self.raw.settimeout(60)
        self.raw.connect(self.server.path)
        self.received = b""
        self.replies = 0

    def name(self):
        return "".join(self.random.choice(self.ALPHABET) for _ in range(self.random.choice((1, 2, 5, 40, 300))))

    def value(self, depth=0):
        kind = self.random.randrange(10 if depth < 4 else 6)
        if kind < 3:
            return self.name()
        if kind < 6:
            return self.random.choice((None, True, False, 0, -1, 1.5, 1e308, (1 << 64) - 1, 1 << 64, -(1 << 63)))
        if kind < 8:
            return [self.value(depth + 1) for _ in range(self.random.randrange(3))]
        return {self.name(): self.value(depth + 1) for _ in range(self.random.randrange(3))}

    def call(self, method, params=None):
        identity = self.random.choice((self.name(), self.random.randrange(1 << 53), None, -1.5))
        self.raw.sendall(json.dumps({"jsonrpc": "2.0", "id": identity, "method": method, "params": params or {}}).encode())
        while b"\n" not in self.received:
            piece = self.raw.recv(1 << 20)
            self.assertTrue(piece, f"{method}: the server hung up")
            self.received += piece
        line, self.received = self.received.split(b"\n", 1)
        reply = strictly(line)
        self.assertEqual(reply["id"], identity)
        self.assertEqual(len(reply), 3)
        self.replies += 1
        return reply

    def test_objects_of_any_name(self):
        nqn = "nqn.2026-11.io.catnap:strict"
        self.call("nvmf_create_subsystem", {"nqn": nqn})
        for _ in range(300 if SOAK else 15):
            below, above, key = self.name(), self.name(), self.name()
            self.call("bdev_null_create", {"name": below, "num_blocks": 8192, "block_size": 512})
            self.call("bdev_passthru_create", {"name": above, "base_bdev_name": below})
            self.call("accel_crypto_key_create", {"name": key, "cipher": "AES_XTS", "key": "1" * 32, "key2": "2" * 32})
            self.call("bdev_crypto_create", {"name": self.name(), "base_bdev_name": above, "key_name": key})
            self.call("bdev_raid_create", {"name": self.name(), "raid_level": "concat", "strip_size_kb": 4, "base_bdevs": [self.name(), below]})
            self.call("bdev_set_qos_limit", {"name": above, "rw_ios_per_sec": 1000})
            self.call("nvmf_subsystem_add_ns", {"nqn": nqn, "namespace": {"bdev_name": above, "ptpl_file": self.name()}})
            for method in self.READERS:
                self.call(method)
            for subsystem in self.call("framework_get_subsystems")["result"]:
                self.call("framework_get_config", {"name": subsystem["subsystem"]})
        print(f"{self.replies} strict replies, {len(self.call('bdev_get_bdevs')['result'])} bdevs", flush=True)

    def test_anything_to_any_method(self):
        schema = self.call("rpc_get_schema")["result"]["methods"]
        methods = [method for method in schema if method["name"] not in ("spdk_kill_instance", "framework_start_init")]
        for _ in range(20000 if SOAK else 600):
            method = self.random.choice(methods)
            params = {param["name"]: self.value() for param in method["params"] if self.random.random() < 0.5}
            if self.random.random() < 0.1:
                params[self.name()] = self.value()
            # Nobody shall wait for hours.
            for name in ("wait_ms", "timeout"):
                params.pop(name, None)
            self.call(method["name"], params)
        print(f"{self.replies} strict replies", flush=True)


if __name__ == "__main__":
    unittest.main()

#!/usr/bin/env -S /usr/bin/python3
"""Wrong calls of every method of the real catnapd: each is refused with its own code and a message that names parameter and value, and changes nothing.

Calls of wrong form (missing, unknown, duplicate, wrong type, out of range, not a choice) are made from the server's own declarations, so that a new
method is covered by being declared. What is right in form and wrong in fact (not found, exists, in use, …) stands in tables by hand.
"""

import errno
import json
import os
import socket
import subprocess
import tempfile
import unittest

from expect import refused
from server_process import PROGRAM, ServerProcess, free_tcp_port

INVALID_PARAMS, INTERNAL_ERROR, METHOD_NOT_FOUND, INVALID_STATE = -32602, -32603, -32601, -1
NQN, NO_NQN = "nqn.2026-11.io.catnap:one", "nqn.2026-11.io.catnap:none"
DISCOVERY_NQN = "nqn.2014-08.org.nvmexpress.discovery"
HOST, NO_HOST = "nqn.2014-08.org.example:host", "nqn.2014-08.org.example:none"

WRONG_TYPE = {"string": (7, "7"), "boolean": ("yes", '"yes"'), "integer": ("many", '"many"'), "number": ("much", '"much"'), "object": (5, "5"),
              "array of string": ("one", '"one"'), "array of object": ("one", '"one"')}
UINT64_MAX = (1 << 64) - 1


def some_value(param):
    """A value of the declared form; what it says does not matter, as a form error is found before."""
    if "one_of" in param:
        return param["one_of"][0]
    kind = param["type"]
    if kind == "object":
        return some_params(param.get("fields", []))
    return {"string": "x", "boolean": False, "integer": max(param.get("minimum", 0), 0), "number": param.get("minimum", 0), "array of string": [],
            "array of object": []}.get(kind, 0)


def some_params(declared):
    return {param["name"]: some_value(param) for param in declared if param["required"]}


class Duplicate(dict):
    """A JSON object that names one member twice."""

    def __init__(self, members, name):
        super().__init__(members)
        self.name = name


def to_text(value):
    if isinstance(value, dict):
        members = [f"{json.dumps(name)}: {to_text(member)}" for name, member in value.items()]
        if isinstance(value, Duplicate):
            members.append(f"{json.dumps(value.name)}: {to_text(value[value.name])}")
        return "{" + ", ".join(members) + "}"
    return json.dumps(value)


def wrong_forms(declared, prefix=""):
    """(what, params, words that the message must have) for one list of parameters, nested ones included."""
    base = some_params(declared)
    yield "unknown", {**base, "zz_unknown": 1}, [f"unknown parameter '{prefix}zz_unknown'"]
    for param in declared:
        name, path = param["name"], prefix + param["name"]
        if param["required"]:
            yield "missing", {key: value for key, value in base.items() if key != name}, [f"missing parameter '{path}'"]
        yield "duplicate", Duplicate({**base, name: some_value(param)}, name), [f"duplicate parameter '{name}'"]
        if param.get("ignored"):
            continue
        if param["type"] in WRONG_TYPE:
            value, shown = WRONG_TYPE[param["type"]]
            if param.get("secret"):
                shown = "is secret"
            yield "wrong type", {**base, name: value}, [f"'{path}'", shown, "must be"]
        if "one_of" in param:
            yield "not a choice", {**base, name: "zz_no_choice"}, [f"'{path}'", '"zz_no_choice"', "must be one of"]
        if "minimum" in param:
            low = param["minimum"] - 1
            yield "out of range", {**base, name: low}, [f"'{path}'", f" {low},", "must be"]
        if "maximum" in param and param["maximum"] < UINT64_MAX:
            high = param["maximum"] + 1
            yield "out of range", {**base, name: high}, [f"'{path}'", f" {high},", "must be"]
        if param["type"] == "object" and "fields" in param:
            for what, value, words in wrong_forms(param["fields"], path + "."):
                yield what, {**base, name: value}, words


class Raw:
    """A connection that sends text as it is: what no JSON library would write."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(path)

    def call(self, method, params):
        self.socket.sendall(f'{{"jsonrpc": "2.0", "id": 1, "method": {json.dumps(method)}, "params": {to_text(params)}}}'.encode())
        text = b""
        while not text.endswith(b"\n"):
            piece = self.socket.recv(65536)
            if not piece:
                raise AssertionError(f"{method}: the server hung up")
            text += piece
        return json.loads(text)

    def close(self):
        self.socket.close()


class WrongCalls(unittest.TestCase):
    options = ()
    wait = True

    def setUp(self):
        self.server = ServerProcess(*self.options, wait=self.wait)
        self.addCleanup(self.server.clean)
        self.addCleanup(lambda: self.assertEqual(self.server.stop(), 0, self.server.log_text()))
        self.raw = Raw(self.server.path)
        self.addCleanup(self.raw.close)

    def state(self):
        call = self.server.client.call
        return [call("framework_get_config", {"name": one["subsystem"]}) for one in call("framework_get_subsystems")] + [
            call("nvmf_get_subsystems"), call("nvmf_get_transports"), call("log_get_flags"), call("log_get_level"), call("log_get_print_level"),
            [{key: bdev.get(key) for key in ("name", "num_blocks", "claimed")} for bdev in call("bdev_get_bdevs")]]

    def check(self, method, params, code, words):
        reply = self.raw.call(method, params)
        self.assertIn("error", reply, f"{method} {to_text(params)} was taken")
        self.assertEqual(reply["error"]["code"], code, reply["error"]["message"])
        for word in words:
            self.assertIn(word, reply["error"]["message"])

    def check_forms(self, phases):
        count = 0
        for method in self.server.client.call("rpc_get_schema")["methods"]:
            if method["phase"] not in phases:
                continue
            self.assertIn("error", self.raw.call(method["name"], [1]), "params that are no object")
            for what, params, words in wrong_forms(method["params"]):
                with self.subTest(method["name"], what=what, params=to_text(params)):
                    self.check(method["name"], params, INVALID_PARAMS, ["Invalid parameters", *words])
                    count += 1
        return count


class Forms(WrongCalls):
    def test_wrong_forms(self):
        before = self.state()
        self.assertGreater(self.check_forms(("runtime", "always")), 200, "the declarations are not what they were")
        self.assertEqual(self.state(), before)

    def test_unknown_method(self):
        self.check("bdev_nul_create", {}, METHOD_NOT_FOUND, ["Method not found", "'bdev_nul_create'"])

    def test_wrong_phase(self):
        for method in self.server.client.call("rpc_get_schema")["methods"]:
            if method["phase"] == "startup":
                with self.subTest(method["name"]):
                    self.check(method["name"], some_params(method["params"]), INVALID_STATE, [method["name"], "before"])


class StartupForms(WrongCalls):
    options = ("--wait-for-rpc",)
    wait = False

    def test_wrong_forms(self):
        self.assertGreater(self.check_forms(("startup",)), 5)
        for method in self.server.client.call("rpc_get_schema")["methods"]:
            if method["phase"] == "runtime":
                with self.subTest(method["name"]):
                    self.check(method["name"], some_params(method["params"]), INVALID_STATE, [method["name"], "after"])
        self.check("nvmf_set_config", {"poll_groups_mask": "zz"}, INVALID_PARAMS, ["poll_groups_mask", "zz"])
        self.server.client.call("framework_start_init")


class Facts(WrongCalls):
    """Right in form, wrong in fact."""

    def setUp(self):
        super().setUp()
        call = self.server.client.call
        self.file = os.path.join(self.server.folder.name, "disk")
        self.nowhere = os.path.join(self.server.folder.name, "nowhere")
        with open(self.file, "wb") as disk:
            disk.truncate(1 << 20)
        self.port = str(free_tcp_port())
        call("bdev_null_create", {"name": "Null0", "num_blocks": 8192, "block_size": 512})
        call("bdev_malloc_create", {"name": "Malloc0", "num_blocks": 2048, "block_size": 512})
        call("bdev_aio_create", {"name": "Aio0", "filename": self.file, "block_size": 512})
        call("nvmf_create_transport", {"trtype": "TCP"})
        call("nvmf_create_subsystem", {"nqn": NQN})
        call("nvmf_subsystem_add_ns", {"nqn": NQN, "namespace": {"bdev_name": "Null0", "nsid": 3}})
        call("nvmf_subsystem_add_listener", {"nqn": NQN, "listen_address": self.address()})
        call("nvmf_subsystem_add_host", {"nqn": NQN, "host": HOST})

    def address(self, **changes):
        return {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": self.port, **changes}

    def bdev_rows(self):
        """(method, params, code, words of the message)."""
        size = {"num_blocks": 2048, "block_size": 512}
        for kind in ("null", "malloc"):
            create = f"bdev_{kind}_create"
            yield create, {"name": "Null0", **size}, -errno.EEXIST, ["File exists", "Null0"]
            yield create, {"name": "M", "num_blocks": 2048, "block_size": 513}, -errno.EINVAL, ["block_size", "513"]
            yield create, {"name": "M", "num_blocks": 0, "block_size": 512}, -errno.EINVAL, ["num_blocks", "0"]
            if kind == "malloc":  # a null bdev may be larger than all there is
                yield create, {"name": "M", "num_blocks": 1 << 63, "block_size": 512}, -errno.EINVAL, ["num_blocks", str(1 << 63)]
            yield create, {"name": "M", "uuid": "zz", **size}, -errno.EINVAL, ["uuid", "zz"]
            yield create, {"name": "", **size}, -errno.EINVAL, ["name", "''"]
        for kind in ("aio", "uring"):
            create = f"bdev_{kind}_create"
            yield create, {"name": "Null0", "filename": self.file, "block_size": 512}, -errno.EEXIST, ["File exists", "Null0"]
            yield create, {"name": "A", "filename": self.nowhere, "block_size": 512}, -errno.ENOENT, ["No such file or directory", self.nowhere]
            yield create, {"name": "A", "filename": self.server.folder.name, "block_size": 512}, -errno.EISDIR, [self.server.folder.name]
            yield create, {"name": "A", "filename": self.file, "block_size": 513}, -errno.EINVAL, ["block_size", "513"]
            yield f"bdev_{kind}_rescan", {"name": "nope"}, -errno.ENODEV, ["No such device", "nope"]
        for kind in ("null", "malloc", "aio", "uring"):
            yield f"bdev_{kind}_delete", {"name": "nope"}, -errno.ENODEV, ["No such device", "nope"]
            other = "Malloc0" if kind != "malloc" else "Null0"
            yield f"bdev_{kind}_delete", {"name": other}, -errno.ENODEV, ["No such device", other]
        yield "bdev_null_resize", {"name": "nope", "new_size": 1}, -errno.ENODEV, ["No such device", "nope"]
        yield "bdev_null_resize", {"name": "Null0", "new_size": 1}, -errno.EBUSY, ["Null0", "cannot shrink", "2048"]
        yield "bdev_get_bdevs", {"name": "nope"}, -errno.ENODEV, ["No such device", "nope"]
        yield "bdev_get_iostat", {"name": "nope"}, -errno.ENODEV, ["No such device", "nope"]
        yield "bdev_get_iostat", {"names": ["Null0", "nope"]}, -errno.ENODEV, ["No such device", "nope"]
        yield "bdev_get_iostat", {"per_channel": True}, -errno.EINVAL, ["per_channel"]
        yield "bdev_reset_iostat", {"name": "nope"}, -errno.ENODEV, ["No such device", "nope"]

    def subsystem_rows(self):
        yield "nvmf_create_transport", {"trtype": "TCP"}, INTERNAL_ERROR, ["Transport type 'TCP' already exists"]
        yield "nvmf_create_transport", {"trtype": "RDMA"}, -errno.EOPNOTSUPP, ["trtype", "RDMA"]
        yield "nvmf_get_transports", {"trtype": "RDMA"}, -errno.ENODEV, ["trtype", "RDMA"]
        yield "nvmf_create_subsystem", {"nqn": NQN}, -errno.EEXIST, ["File exists", NQN]
        yield "nvmf_create_subsystem", {"nqn": "one"}, -errno.EINVAL, ["'one'", "NQN"]
        yield "nvmf_create_subsystem", {"nqn": NO_NQN, "serial_number": "x" * 21}, -errno.EINVAL, ["serial_number", "x" * 21]
        yield "nvmf_create_subsystem", {"nqn": NO_NQN, "model_number": "x" * 41}, -errno.EINVAL, ["model_number", "x" * 41]
        yield "nvmf_create_subsystem", {"nqn": NO_NQN, "min_cntlid": 10, "max_cntlid": 5}, -errno.EINVAL, ["cntlid", "10", "5"]
        for method, more in (("nvmf_delete_subsystem", {}), ("nvmf_get_subsystems", {}), ("nvmf_subsystem_get_listeners", {}),
                             ("nvmf_subsystem_get_controllers", {}), ("nvmf_subsystem_get_qpairs", {}), ("nvmf_subsystem_remove_ns", {"nsid": 3}),
                             ("nvmf_subsystem_add_ns", {"namespace": {"bdev_name": "Malloc0"}}),
                             ("nvmf_subsystem_add_listener", {"listen_address": self.address()}),
                             ("nvmf_subsystem_remove_listener", {"listen_address": self.address()}), ("nvmf_subsystem_add_host", {"host": HOST}),
                             ("nvmf_subsystem_remove_host", {"host": HOST}), ("nvmf_subsystem_allow_any_host", {"allow_any_host": True})):
            # Both phrases are what spdk-csi looks for.
            yield method, {"nqn": NO_NQN, **more}, -errno.ENODEV, ["Invalid parameters", f"'{NO_NQN}' not found"]
        yield "nvmf_delete_subsystem", {"nqn": DISCOVERY_NQN}, -errno.EPERM, ["discovery"]

    def namespace_rows(self):
        space = {"bdev_name": "Malloc0"}
        add_ns = "nvmf_subsystem_add_ns"
        yield add_ns, {"nqn": NQN, "namespace": {"bdev_name": "nope"}}, -errno.ENODEV, ["bdev_name", "nope"]
        yield add_ns, {"nqn": NQN, "namespace": {"bdev_name": "Null0"}}, -errno.EBUSY, ["Null0", NQN]
        yield add_ns, {"nqn": NQN, "namespace": {**space, "nsid": 3}}, -errno.EEXIST, ["nsid 3", NQN]
        yield add_ns, {"nqn": NQN, "namespace": {**space, "nsid": 33}}, -errno.EINVAL, ["nsid 33", "max_namespaces"]
        for name in ("uuid", "nguid", "eui64"):
            yield add_ns, {"nqn": NQN, "namespace": {**space, name: "zz"}}, INVALID_PARAMS, [name, "zz"]
        yield add_ns, {"nqn": NQN, "namespace": {**space, "ptpl_file": self.nowhere + "/zz"}}, -errno.ENOENT, ["ptpl_file", self.nowhere + "/zz"]
        yield "nvmf_subsystem_remove_ns", {"nqn": NQN, "nsid": 9}, -errno.ENODEV, ["nsid 9", NQN]

    def access_rows(self):
        listener = "nvmf_subsystem_add_listener"
        other_port = str(free_tcp_port())
        yield listener, {"nqn": NQN, "listen_address": self.address()}, -errno.EEXIST, [f"127.0.0.1:{self.port}", NQN]
        yield listener, {"nqn": NQN, "listen_address": self.address(traddr="192.0.2.1")}, -errno.EADDRNOTAVAIL, ["192.0.2.1"]
        yield listener, {"nqn": NQN, "listen_address": self.address(traddr="localhost")}, -errno.EINVAL, ["traddr", "localhost"]
        yield listener, {"nqn": NQN, "listen_address": self.address(trsvcid="70000")}, -errno.EINVAL, ["trsvcid", "70000"]
        yield listener, {"nqn": NQN, "listen_address": self.address(trtype="RDMA")}, -errno.EOPNOTSUPP, ["trtype", "RDMA"]
        yield listener, {"nqn": NQN, "listen_address": self.address(adrfam="IB")}, -errno.EINVAL, ["adrfam", "IB"]
        yield ("nvmf_subsystem_remove_listener", {"nqn": NQN, "listen_address": self.address(trsvcid=other_port)}, -errno.ENODEV,
               [f"127.0.0.1:{other_port}", NQN])

        yield "nvmf_subsystem_add_host", {"nqn": NQN, "host": HOST}, -errno.EEXIST, [HOST, NQN]
        yield "nvmf_subsystem_add_host", {"nqn": NQN, "host": "zz"}, -errno.EINVAL, ["'zz'", "NQN"]
        for name in ("psk", "dhchap_key", "dhchap_ctrlr_key"):
            yield "nvmf_subsystem_add_host", {"nqn": NQN, "host": NO_HOST, name: "zz"}, -errno.ENOKEY, [name, "zz"]
        yield "nvmf_subsystem_remove_host", {"nqn": NQN, "host": NO_HOST}, -errno.ENOENT, [NO_HOST, NQN]
        yield "nvmf_subsystem_allow_any_host", {"nqn": NQN}, INVALID_PARAMS, ["allow_any_host"]
        yield "nvmf_subsystem_allow_any_host", {"nqn": NQN, "allow_any_host": True, "disable": True}, INVALID_PARAMS, ["allow_any_host", "disable"]

    def process_rows(self):
        for method in ("log_set_flag", "log_clear_flag"):
            yield method, {"flag": "nope"}, -errno.ENOENT, ["'flag'", "'nope'"]
        yield "framework_get_config", {"name": "nope"}, -errno.ENOENT, ["'name'", "'nope' not found"]
        yield "reactor_set_mode", {"mode": "poll", "lcore": 1000}, -errno.ENODEV, ["'lcore'", "1000"]
        yield "reactor_set_interrupt_mode", {"lcore": 1000, "disable_interrupt": True}, -errno.ENODEV, ["'lcore'", "1000"]
        yield "framework_set_adaptive_options", {"lcore": 1000, "max_spin_us": 1}, -errno.ENODEV, ["'lcore'", "1000"]
        yield "framework_set_scheduler", {"name": "gscheduler"}, -errno.EOPNOTSUPP, ["'name'", "gscheduler"]
        yield "framework_set_scheduler", {"name": "static", "mappings": "a:1"}, -errno.EINVAL, ["'mappings'", "a:1"]
        yield "framework_set_scheduler", {"name": "dynamic", "mappings": "1:1"}, -errno.EINVAL, ["'mappings'", "1:1"]
        yield "thread_set_cpumask", {"id": 4711, "cpumask": "1"}, -errno.ESRCH, ["'id'", "4711"]
        yield "thread_set_cpumask", {"name": "nope", "cpumask": "1"}, -errno.ESRCH, ["'name'", "nope"]
        yield "thread_set_cpumask", {"name": "nope", "id": 1, "cpumask": "1"}, INVALID_PARAMS, ["'id'", "'name'"]
        yield "thread_set_cpumask", {"cpumask": "1"}, INVALID_PARAMS, ["'id'", "'name'"]
        for name in ("vhost_create_blk_controller", "iscsi_get_portal_groups", "nbd_start_disk", "ublk_create_target", "bdev_lvol_create"):
            yield name, {"anything": 1}, -errno.EOPNOTSUPP, ["Operation not supported", name]
        yield "thread_set_mode", {"name": "nobody", "mode": "poll"}, -errno.ESRCH, ["'name'", "nobody"]
        yield "scheduler_set_options", {"scheduling_core": 1000}, -errno.EINVAL, ["'scheduling_core'", "1000"]
        yield "poller_set_period", {"name": "nope", "period_us": 100}, -errno.ENODEV, ["'name'", "nope"]
        yield "poller_set_period", {"name": "nope", "period_us": 0}, -errno.EINVAL, ["'period_us'", "allow_busy"]
        yield "poller_set_period", {"period_us": 100}, INVALID_PARAMS, ["'id'", "'name'"]

    def test_every_row_is_refused_and_changes_nothing(self):
        before = self.state()
        rows = [*self.bdev_rows(), *self.subsystem_rows(), *self.namespace_rows(), *self.access_rows(), *self.process_rows()]
        for method, params, code, words in rows:
            with self.subTest(method, params=to_text(params)):
                self.check(method, params, code, words)
                self.assertEqual(self.state(), before)

    def test_a_port_that_another_program_has_is_named(self):
        before = self.state()
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = str(other.getsockname()[1])
            self.check("nvmf_subsystem_add_listener", {"nqn": NQN, "listen_address": self.address(trsvcid=port)}, -errno.EADDRINUSE,
                       [f"127.0.0.1:{port}"])
        self.assertEqual(self.state(), before)


class Allowed(unittest.TestCase):
    """--rpcs-allowed: what is not listed is refused to clients, and not to configuration files."""

    def test_only_what_is_listed(self):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as config:
            calls = [{"method": "bdev_null_create", "params": {"name": "N", "num_blocks": 8, "block_size": 512}}]
            json.dump({"subsystems": [{"subsystem": "bdev", "config": calls}]}, config)
            config.flush()
            server = ServerProcess("-c", config.name, "--rpcs-allowed", "bdev_get_*, rpc_get_methods,framework_wait_init,nbd_get_disks")
            self.addCleanup(server.clean)
            call = server.client.call
            self.assertEqual([bdev["name"] for bdev in call("bdev_get_bdevs")], ["N"])
            methods = call("rpc_get_methods", {"include_aliases": True})
            self.assertTrue({"bdev_get_bdevs", "bdev_get_iostat", "rpc_get_methods"} <= set(methods))
            self.assertTrue(all(name.startswith("bdev_get_") or name in ("rpc_get_methods", "framework_wait_init") for name in methods), methods)
            for method, code, word in (("bdev_null_delete", -errno.EACCES, "--rpcs-allowed"), ("spdk_kill_instance", -errno.EACCES, "--rpcs-allowed"),
                                       ("nbd_get_disks", -errno.EOPNOTSUPP, "nbd_get_disks"), ("nope", METHOD_NOT_FOUND, "nope")):
                refused(self, code, (word,), call, method, {"name": "N"})
            self.assertEqual(len(call("bdev_get_bdevs")), 1)
            self.assertEqual(server.stop(), 0)

    def test_a_list_that_would_lock_somebody_out_by_mistake(self):
        for given, word in (("bdev_get_bdev", "'bdev_get_bdev'"), (",", "names no method"), ("", "names no method"), ("nvmf_get_*,zz_*", "'zz_*'")):
            done = subprocess.run([PROGRAM, "--no-rpc-server", "--rpcs-allowed", given], capture_output=True, text=True, timeout=120, check=False)
            self.assertIn(done.returncode, (1, 2), done.stderr)
            self.assertIn(word, done.stderr)


if __name__ == "__main__":
    unittest.main()

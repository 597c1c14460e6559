#!/usr/bin/env -S /usr/bin/python3
"""Everything that can be configured is saved and comes back: by save_config and load_config, by -c, and by the state file.

OBJECTS has at least one object of every kind, made by calls that are not their defaults. A method that changes what is kept must be used there, or be
named in TAKES_AWAY or ACTS with what it does instead: so a new method cannot be forgotten. The whole state before saving and after loading is compared.
Left out: calls that cannot be made yet at the start (state_test.py).
"""

import json
import os
import tempfile
import unittest

from server_process import ServerProcess, free_tcp_port

NQN, PLAIN_NQN = "nqn.2026-11.io.catnap:config", "nqn.2026-11.io.catnap:plain"
HOST = "nqn.2014-08.org.example:host"
REMOTE, DISCOVERED = "nqn.2026-11.io.catnap:remote", "nqn.2026-11.io.catnap:discovered"
DISCOVERY = "nqn.2014-08.org.nvmexpress.discovery"

# Methods that make something be no more: what is left shows in the objects they leave alone.
TAKES_AWAY = {
    "keyring_file_remove_key", "accel_crypto_key_destroy", "bdev_aio_delete", "bdev_crypto_delete", "bdev_delay_delete", "bdev_error_delete", "bdev_malloc_delete",
    "bdev_null_delete", "bdev_nvme_detach_controller", "bdev_nvme_stop_discovery", "bdev_passthru_delete", "bdev_raid_delete",
    "bdev_raid_remove_base_bdev", "bdev_split_delete", "bdev_uring_delete", "log_clear_flag", "nvmf_delete_subsystem", "nvmf_delete_target",
    "nvmf_discovery_referral_remove_host", "nvmf_discovery_remove_referral", "nvmf_ns_remove_host", "nvmf_subsystem_remove_host",
    "nvmf_subsystem_remove_listener", "nvmf_subsystem_remove_ns",
}
# Methods that do something once, on what the configuration or the disks say already, or that are refused for now.
ACTS = {
    "bdev_raid_add_base_bdev": "the array's superblock and its bdev_raid_create say who is a member",
    "bdev_raid_grow_base_bdev": "the array's size is that of its members",
    "bdev_raid_start": "starts an array without its missing members, once",
    "bdev_raid_take_over": "what it does stands in the array's superblocks",
    "bdev_nvme_set_preferred_path": "controller ids are new with each connection",
    "bdev_nvme_set_multipath_policy": "of one bdev, while it is there; bdev_nvme_set_options has the policy that is saved",
    "nvmf_create_target": "there is one target, made at the start",
    "nvmf_subsystem_set_keys": "nvmf_subsystem_add_host has the keys",
    "bdev_nvme_set_keys": "bdev_nvme_attach_controller has the keys",
    "reactor_set_interrupt_mode": "reactor_set_mode in SPDK's spelling",
    "nvmf_ns_visible": "nvmf_ns_add_host and nvmf_ns_remove_host in one",
}


def objects(folder, cpu, port, remote_port=4420):
    """(method, params) in order; startup methods first. `remote_port`: where another target serves REMOTE and discovery."""
    key_file = os.path.join(folder, "key")
    with open(key_file, "w", encoding="utf-8") as file:
        file.write("1" * 64 + "\n" + "2" * 64 + "\n")
    os.chmod(key_file, 0o600)
    for name in ("aio", "uring"):
        with open(os.path.join(folder, name), "wb") as disk:
            disk.truncate(8 << 20)
    address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1"}
    listen, discover = {**address, "trsvcid": str(port)}, {**address, "trsvcid": str(port)}
    referral = {"address": {**address, "trsvcid": "8009"}, "subnqn": DISCOVERY}
    yield "nvmf_set_config", {"discovery_filters": "transport,address", "prefer_incoming_cpu": True, "dup_host_policy": "restrict_per_listener",
                              "discovery_nqn": "nqn.2026-11.io.catnap:discovery", "dhchap_digests": ["sha384"], "dhchap_dhgroups": ["ffdhe3072"],
                              "dhchap_timeout_ms": 30000, "dhchap_failures_per_minute": 7}
    yield "nvmf_set_max_subsystems", {"max_subsystems": 77}
    yield "nvmf_set_crdt", {"crdt1": 1, "crdt2": 2, "crdt3": 3}
    yield "iobuf_set_options", {"small_pool_count": 9000, "large_pool_count": 1100}
    yield "bdev_set_options", {"bdev_auto_examine": False}
    # From here on the target is initialised.
    yield "log_set_flag", {"flag": "rpc", "persist": True}
    yield "log_set_level", {"level": "INFO", "persist": True}
    yield "log_set_print_level", {"level": "WARNING", "persist": True}
    yield "reactor_set_mode", {"mode": "interrupt", "lcore": cpu, "persist": True}
    yield "framework_set_adaptive_options", {"max_spin_us": 33, "lcore": cpu}
    yield "thread_set_mode", {"mode": "interrupt", "name": "nvmf_tgt_poll_group_000", "persist": True}
    yield "thread_set_cpumask", {"name": "nvmf_tgt_poll_group_000", "cpumask": f"[{cpu}]"}
    yield "scheduler_set_options", {"scheduling_core": cpu}
    yield "framework_set_scheduler", {"name": "static", "period": 2000000}
    yield "thread_move", {"name": "nvmf_tgt_poll_group_000", "lcore": cpu}
    yield "bdev_null_create", {"name": "Null0", "num_blocks": 8192, "block_size": 4096, "physical_block_size": 4096}
    yield "bdev_null_resize", {"name": "Null0", "new_size": 64}
    yield "bdev_malloc_create", {"name": "Malloc0", "num_blocks": 8192, "block_size": 512, "physical_block_size": 4096, "optimal_io_boundary": 8}
    yield "bdev_aio_create", {"name": "Aio0", "filename": os.path.join(folder, "aio"), "block_size": 512, "readonly": False, "fallocate": False}
    yield "bdev_uring_create", {"name": "Uring0", "filename": os.path.join(folder, "uring"), "block_size": 4096}
    yield "bdev_passthru_create", {"name": "Pass0", "base_bdev_name": "Null0"}
    yield "bdev_delay_create", {"name": "Delay0", "base_bdev_name": "Malloc0", "avg_read_latency": 1, "p99_read_latency": 2, "avg_write_latency": 3,
                                "p99_write_latency": 4}
    yield "bdev_delay_update_latency", {"delay_bdev_name": "Delay0", "latency_type": "avg_read", "latency_us": 11}
    yield "accel_crypto_key_create", {"name": "key", "cipher": "AES_XTS", "key_file": key_file}
    yield "bdev_crypto_create", {"name": "Crypto0", "base_bdev_name": "Aio0", "key_name": "key"}
    yield "bdev_split_create", {"base_bdev": "Uring0", "split_count": 2, "split_size_mb": 1}
    yield "bdev_error_create", {"base_name": "Uring0p0"}
    yield "bdev_passthru_create", {"name": "Awaited0", "base_bdev_name": "ComesLater"}
    yield "bdev_raid_set_options", {"process_window_size_kb": 2048, "process_max_bandwidth_mb_sec": 50}
    for number in range(2):
        yield "bdev_null_create", {"name": f"Member{number}", "num_blocks": 16384, "block_size": 512}
    yield "bdev_raid_create", {"name": "Raid0", "raid_level": "raid0", "strip_size_kb": 64, "base_bdevs": ["Member0", "Member1"]}
    remote = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(remote_port)}
    yield "bdev_nvme_set_options", {"keep_alive_timeout_ms": 7000, "bdev_retry_count": 4, "io_path_stat": True, "dhchap_digests": ["sha256"]}
    yield "bdev_nvme_attach_controller", {"name": "Nvme0", **remote, "subnqn": REMOTE, "hostnqn": HOST, "ctrlr_loss_timeout_sec": 30,
                                          "reconnect_delay_sec": 3, "fast_io_fail_timeout_sec": 10}
    yield "bdev_nvme_start_discovery", {"name": "Disc", **remote, "hostnqn": HOST + "2", "wait_for_attach": True}
    yield "bdev_examine", {"name": "Null0"}
    yield "bdev_set_qos_limit", {"name": "Pass0", "rw_ios_per_sec": 3000, "r_mbytes_per_sec": 7}
    yield "bdev_set_timeout", {"name": "Delay0", "timeout_us": 5000000}
    yield "bdev_set_qd_sampling_period", {"name": "Delay0", "period": 1000000}
    yield "nvmf_create_transport", {"trtype": "TCP", "max_queue_depth": 64, "in_capsule_data_size": 8192, "c2h_success": False, "kas": 5}
    yield "nvmf_create_subsystem", {"nqn": NQN, "serial_number": "SERIAL", "model_number": "a model", "ana_reporting": True, "max_namespaces": 8,
                                    "min_cntlid": 3, "max_cntlid": 300, "dmrsl": 128}
    yield "nvmf_create_subsystem", {"nqn": PLAIN_NQN, "allow_any_host": True}
    yield "keyring_file_add_key", {"name": "secret", "path": key_file}
    yield "nvmf_subsystem_add_host", {"nqn": NQN, "host": HOST}
    yield "nvmf_subsystem_add_host", {"nqn": NQN, "host": HOST + "3", "dhchap_key": "secret", "dhchap_ctrlr_key": "secret"}
    yield "nvmf_subsystem_add_host", {"nqn": DISCOVERY, "host": HOST}
    yield "nvmf_subsystem_allow_any_host", {"nqn": DISCOVERY, "allow_any_host": False}
    yield "nvmf_subsystem_add_ns", {"nqn": NQN, "namespace": {"bdev_name": "Pass0", "nsid": 3, "uuid": "11111111-2222-4333-8444-555555555555",
                                                              "nguid": "AB" * 16, "eui64": "CD" * 8, "anagrpid": 2, "no_auto_visible": True,
                                                              "ptpl_file": os.path.join(folder, "reservations")}}
    yield "nvmf_ns_add_host", {"nqn": NQN, "nsid": 3, "host": HOST}
    yield "nvmf_subsystem_add_ns", {"nqn": NQN, "namespace": {"bdev_name": "Raid0"}}
    yield "nvmf_subsystem_set_ns_ana_group", {"nqn": NQN, "nsid": 1, "anagrpid": 5}
    yield "nvmf_subsystem_add_ns", {"nqn": PLAIN_NQN, "namespace": {"bdev_name": "Crypto0"}}
    yield "nvmf_subsystem_add_listener", {"nqn": NQN, "listen_address": listen, "ana_state": "inaccessible"}
    yield "nvmf_subsystem_add_listener", {"nqn": PLAIN_NQN, "listen_address": listen}
    yield "nvmf_subsystem_add_listener", {"nqn": DISCOVERY, "listen_address": discover}
    yield "nvmf_discovery_add_referral", {**referral, "secure_channel": True, "hosts": [HOST]}
    yield "nvmf_discovery_referral_add_host", {**referral, "host": HOST + "2"}
    yield "nvmf_discovery_add_referral", {"address": {**address, "trsvcid": "8010"}, "subnqn": DISCOVERY}
    yield "nvmf_discovery_referral_allow_any_host", {"address": {**address, "trsvcid": "8010"}, "subnqn": DISCOVERY, "allow_any_host": False}


# Of listings, what says how it is configured.
LISTINGS = ("nvmf_get_subsystems", "nvmf_get_transports", "nvmf_discovery_get_referrals", "accel_crypto_keys_get", "keyring_get_keys", "log_get_level", "log_get_print_level",
            "framework_get_scheduler")


def without(value, names):
    """The same without members of these names, at any depth."""
    if isinstance(value, dict):
        return {name: without(member, names) for name, member in value.items() if name not in names}
    return [without(each, names) for each in value] if isinstance(value, list) else value


def whole_state(call):
    call("bdev_get_bdevs", {"name": "Disc0n1", "timeout": 60000})  # discovery goes on beside the start
    state = {name: call(name) for name in LISTINGS}
    # Controller ids are new with each connection.
    state["bdevs"] = sorted(without(call("bdev_get_bdevs"), ("cntlid",)), key=lambda bdev: bdev["name"])
    state["timeouts"] = sorted(call("bdev_get_timeouts"), key=lambda bdev: bdev["name"])
    state["controllers"] = without(call("bdev_nvme_get_controllers"), ("cntlid",))
    state["discovery"] = call("bdev_nvme_get_discovery_info")
    state["flags"] = {name: on for name, on in call("log_get_flags").items() if on}
    state["config"] = {one["subsystem"]: call("framework_get_config", {"name": one["subsystem"]}) for one in call("framework_get_subsystems")}
    state["reactors"] = [{key: reactor[key] for key in ("lcore", "mode", "max_spin_us")} for reactor in call("framework_get_reactors")["reactors"]]
    state["threads"] = [{key: thread[key] for key in ("name", "cpumask", "mode", "reactor")} for thread in call("thread_get_stats")["threads"]]
    state["listeners"] = {nqn: call("nvmf_subsystem_get_listeners", {"nqn": nqn}) for nqn in (NQN, PLAIN_NQN, DISCOVERY)}
    state["arrays"] = call("bdev_raid_get_bdevs", {"category": "all"})
    state["scheduler"] = {key: value for key, value in state.pop("framework_get_scheduler").items() if key not in ("measuring", "moves")}
    return state


class Configuration(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="catnap_config_")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.server = None
        self.remote_port = free_tcp_port()
        self.remote = self.serve_remote()
        self.addCleanup(self.remote.clean)
        self.addCleanup(lambda: self.assertEqual(self.remote.stop(), 0, self.remote.log_text()))
        self.addCleanup(lambda: self.server is not None and self.end())

    def serve_remote(self):
        """Another target, for our initiator."""
        remote = ServerProcess()
        call = remote.client.call
        address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(self.remote_port)}
        call("nvmf_create_transport", {"trtype": "TCP"})
        for number, (nqn, host) in enumerate(((REMOTE, HOST), (DISCOVERED, HOST + "2"))):
            call("bdev_null_create", {"name": f"N{number}", "num_blocks": 4096, "block_size": 512})
            call("nvmf_create_subsystem", {"nqn": nqn})
            call("nvmf_subsystem_add_host", {"nqn": nqn, "host": host})
            call("nvmf_subsystem_add_ns", {"nqn": nqn, "namespace": {"bdev_name": f"N{number}"}})
            call("nvmf_subsystem_add_listener", {"nqn": nqn, "listen_address": address})
        call("nvmf_subsystem_add_listener", {"nqn": DISCOVERY, "listen_address": address})
        return remote

    def start(self, *options, **more):
        self.server = ServerProcess(*options, **more)
        return self.server.client.call

    def end(self):
        server, self.server = self.server, None
        self.assertEqual(server.stop(), 0, server.log_text())
        server.clean()

    def configure(self, call):
        schema = {method["name"]: method for method in call("rpc_get_schema")["methods"]}
        started = False
        for method, params in objects(self.folder, self.cpu(), free_tcp_port(), self.remote_port):
            if not started and schema[method]["phase"] == "runtime":
                call("framework_start_init")
                started = True
            call(method, params)
        call("bdev_wait_for_examine")
        return whole_state(call)

    def cpu(self):
        return min(os.sched_getaffinity(0))

    def same(self, before, after, how):
        self.assertEqual(set(before), set(after))
        self.assertEqual([bdev["name"] for bdev in before["bdevs"]], [bdev["name"] for bdev in after["bdevs"]])
        for name, value in before.items():
            if isinstance(value, dict):
                for part in value:
                    self.assertEqual(value[part], after[name].get(part), f"{name}, {part} after {how}")
            self.assertEqual(value, after[name], f"{name} after {how}")

    def test_every_method_that_changes_what_is_kept_has_an_object(self):
        call = self.start()
        used = {method for method, _ in objects(self.folder, 0, 4420)}
        for method in call("rpc_get_schema")["methods"]:
            if not method["changes_state"] or method.get("kept") is False:
                continue
            with self.subTest(method["name"]):
                ways = (method["name"] in used) + (method["name"] in TAKES_AWAY) + (method["name"] in ACTS)
                self.assertEqual(ways, 1, f"{method['name']} changes what is kept: give it an object in OBJECTS that a saved configuration brings back, "
                                 "or name it in TAKES_AWAY or ACTS (or declare it not_kept())")

    def test_save_config_and_load_config(self):
        before = self.configure(self.start("--wait-for-rpc", wait=False))
        status, text, errors = self.server.rpc_py("save_config")
        self.assertEqual(status, 0, errors)
        self.end()
        call = self.start("--wait-for-rpc", wait=False)
        status, output, errors = self.server.rpc_py("load_config", text=text)
        self.assertEqual((status, errors), (0, ""), output)
        self.same(before, whole_state(call), "load_config")
        self.end()
        path = os.path.join(self.folder, "saved.json")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        call = self.start("-c", path)
        self.same(before, whole_state(call), "-c")
        self.assertEqual(json.loads(self.server.rpc_py("save_config")[1]), json.loads(text), "saved again")

    def test_state_file(self):
        state = os.path.join(self.folder, "state.json")
        before = self.configure(self.start("--state", state, "--wait-for-rpc", wait=False))
        self.server.process.kill()
        self.server.wait()
        self.server.clean()
        call = self.start("--state", state)
        self.assertEqual(call("framework_get_pending"), [])
        self.same(before, whole_state(call), "a restart")
        with open(state, "rb") as file:
            text = file.read()
        self.end()
        call = self.start("--state", state)
        self.assertEqual(call("framework_get_state")["writes"], 0, "a restart changes nothing")
        with open(state, "rb") as file:
            self.assertEqual(file.read(), text)


if __name__ == "__main__":
    unittest.main()

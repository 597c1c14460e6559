#!/usr/bin/env -S /usr/bin/python3
"""The nvmf methods as callers of SPDK know them: each is there and works or says in a sentence why not; access settings by rpc.py, saved and loaded again;
codes and texts that live callers look for.

Left out: what hosts notice of it (access_test.cpp, referral_test.cpp, taking_away_test.cpp).
"""

import errno
import json
import unittest

from expect import refused
from server_process import ServerProcess, free_tcp_port

NQN, OTHER_NQN = "nqn.2026-11.io.catnap:one", "nqn.2026-11.io.catnap:another"
DISCOVERY_NQN = "nqn.2014-08.org.nvmexpress.discovery"
HOST_A, HOST_B = "nqn.2014-08.org.example:a", "nqn.2014-08.org.example:b"

# Every nvmf method of SPDK (schema/schema.yaml, August 2026) that catnap takes…
WORKING = {
    "nvmf_create_subsystem", "nvmf_create_transport", "nvmf_delete_subsystem", "nvmf_discovery_add_referral", "nvmf_discovery_get_referrals",
    "nvmf_discovery_remove_referral", "nvmf_get_stats", "nvmf_get_subsystems", "nvmf_get_targets", "nvmf_get_transports", "nvmf_ns_add_host",
    "nvmf_ns_remove_host", "nvmf_set_config", "nvmf_set_crdt", "nvmf_set_max_subsystems", "nvmf_subsystem_add_host", "nvmf_subsystem_add_listener",
    "nvmf_subsystem_add_ns", "nvmf_subsystem_allow_any_host", "nvmf_subsystem_get_controllers", "nvmf_subsystem_get_listeners",
    "nvmf_subsystem_get_qpairs", "nvmf_subsystem_listener_set_ana_state", "nvmf_subsystem_remove_host", "nvmf_subsystem_remove_listener",
    "nvmf_subsystem_remove_ns", "nvmf_subsystem_set_keys", "nvmf_subsystem_set_ns_ana_group"}
# …and those that are refused with -95: parameters in SPDK's form, and a word of the sentence.
REFUSED = {
    "nvmf_create_target": ({"name": "another"}, "another catnapd"),
    "nvmf_delete_target": ({"name": "nvmf_tgt"}, "SIGTERM"),
    "nvmf_publish_mdns_prr": ({}, "mDNS"),
    "nvmf_stop_mdns_prr": ({"tgt_name": "nvmf_tgt"}, "mDNS"),
}
# SPDK's parameters of each method that takes tgt_name.
WITHOUT_TARGET_NAME = {"nvmf_get_targets", "nvmf_set_config", "nvmf_set_crdt", "nvmf_set_max_subsystems", "nvmf_create_target", "nvmf_delete_target"}


class WithServer(unittest.TestCase):
    def setUp(self):
        self.server = ServerProcess()
        self.addCleanup(self.server.clean)
        self.addCleanup(self.end)
        self.port = free_tcp_port()

    def end(self):
        if self.server.process.returncode is None:
            self.assertEqual(self.server.stop(), 0, self.server.log_text())

    def rpc(self, line, text=""):
        status, out, err = self.server.rpc_py(*line.split(), text=text)
        self.assertEqual(status, 0, f"{line}: {err}")
        return out

    def refused(self, method, params, code, *words):
        refused(self, code, words, self.server.client.call, method, params)

    def subsystem(self, nqn=NQN):
        return self.server.client.call("nvmf_get_subsystems", {"nqn": nqn})[0]


class Methods(WithServer):
    def test_every_method_of_spdk_is_there(self):
        declared = {method["name"]: method for method in self.server.client.call("rpc_get_schema")["methods"]}
        for name in sorted(WORKING | set(REFUSED)):
            with self.subTest(name):
                self.assertIn(name, declared)
                params = {param["name"] for param in declared[name]["params"]}
                self.assertEqual("tgt_name" in params, name not in WITHOUT_TARGET_NAME)

    def test_what_is_not_supported_says_so(self):
        for name, (params, word) in REFUSED.items():
            with self.subTest(name):
                self.refused(name, params, -errno.EOPNOTSUPP, word)

    def test_there_is_one_target_and_errors_name_it(self):
        call = self.server.client.call
        self.assertEqual(call("nvmf_get_targets"), ["nvmf_tgt"])
        self.refused("nvmf_create_target", {"name": "nvmf_tgt"}, -errno.EEXIST, "Target already exists.")
        self.refused("nvmf_delete_target", {"name": "nope"}, -errno.ENODEV, "The specified target doesn't exist, cannot delete it.", "nvmf_tgt")
        call("nvmf_create_transport", {"trtype": "TCP", "tgt_name": "nvmf_tgt"})
        self.refused("nvmf_get_subsystems", {"tgt_name": "nope"}, -32602, "tgt_name", "nope", "nvmf_tgt")

    def test_keys_that_are_not_there_are_refused_and_their_absence_is_not(self):
        call = self.server.client.call
        call("nvmf_create_subsystem", {"nqn": NQN})
        call("nvmf_subsystem_add_host", {"nqn": NQN, "host": HOST_A})
        self.assertTrue(call("nvmf_subsystem_set_keys", {"nqn": NQN, "host": HOST_A}))
        self.refused("nvmf_subsystem_set_keys", {"nqn": NQN, "host": HOST_A, "dhchap_key": "k"}, -errno.ENOKEY, "dhchap_key of host", "'k'")
        self.refused("nvmf_subsystem_set_keys", {"nqn": NQN, "host": HOST_B}, -errno.ENOENT, HOST_B)
        self.refused("nvmf_subsystem_set_keys", {"nqn": OTHER_NQN, "host": HOST_A}, -errno.ENODEV, "Invalid parameters", "not found")
        for name in ("psk", "dhchap_key", "dhchap_ctrlr_key"):
            self.refused("nvmf_subsystem_add_host", {"nqn": NQN, "host": HOST_B, name: "k"}, -errno.ENOKEY, f"{name} of host", "'k'")


class Results(WithServer):
    """The keys that SPDK's results have, and callers read."""

    def test_lists_have_their_keys(self):
        call = self.server.client.call
        call("nvmf_create_transport", {"trtype": "TCP"})
        call("bdev_null_create", {"name": "Null0", "num_blocks": 8192, "block_size": 512})
        call("nvmf_create_subsystem", {"nqn": NQN, "ana_reporting": True, "max_namespaces": 2, "admin_label": "rack 7"})
        call("nvmf_subsystem_add_ns", {"nqn": NQN, "namespace": {"bdev_name": "Null0"}})
        address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(self.port)}
        call("nvmf_subsystem_add_listener", {"nqn": NQN, "listen_address": address})
        subsystem = self.subsystem()
        for key in ("nqn", "subtype", "listen_addresses", "allow_any_host", "hosts", "serial_number", "model_number", "max_namespaces", "min_cntlid",
                    "max_cntlid", "namespaces", "admin_label"):
            self.assertIn(key, subsystem)
        for key in ("nsid", "bdev_name", "name", "nguid", "uuid", "anagrpid"):
            self.assertIn(key, subsystem["namespaces"][0])
        listener = call("nvmf_subsystem_get_listeners", {"nqn": NQN})[0]
        self.assertEqual(listener["address"], address)
        self.assertEqual([state["ana_group"] for state in listener["ana_states"]], [1, 2])
        self.assertEqual(call("nvmf_subsystem_get_controllers", {"nqn": NQN}), [])
        self.assertEqual(call("nvmf_subsystem_get_qpairs", {"nqn": NQN}), [])
        stats = call("nvmf_get_stats")
        self.assertIn("tick_rate", stats)
        for key in ("name", "admin_qpairs", "io_qpairs", "current_admin_qpairs", "current_io_qpairs", "pending_bdev_io", "completed_nvme_io", "transports"):
            self.assertIn(key, stats["poll_groups"][0])
        self.assertEqual(stats["poll_groups"][0]["transports"][0]["trtype"], "TCP")
        transport = call("nvmf_get_transports")[0]
        for key in ("trtype", "max_queue_depth", "max_io_qpairs_per_ctrlr", "in_capsule_data_size", "max_io_size", "max_aq_depth", "dif_insert_or_strip",
                    "abort_timeout_sec", "c2h_success", "sock_priority"):
            self.assertIn(key, transport)


class Access(WithServer):
    def configure(self):
        # The second subsystem's single address is saved before the first one's wildcard, and loaded all the same.
        commands = f"""
            nvmf_create_transport -t TCP
            bdev_null_create Null0 8 512
            bdev_null_create Null1 8 512
            nvmf_create_subsystem {NQN} -a --admin-label rack-7
            nvmf_subsystem_add_ns {NQN} Null0 -n 1 -i
            nvmf_subsystem_add_ns {NQN} Null1 -n 2
            nvmf_ns_add_host {NQN} 1 {HOST_B}
            nvmf_ns_visible {NQN} 1 {HOST_A} --visible
            nvmf_subsystem_add_listener {NQN} -t tcp -a 0.0.0.0 -s {self.port}
            nvmf_create_subsystem {OTHER_NQN}
            nvmf_subsystem_add_host {OTHER_NQN} {HOST_A}
            nvmf_subsystem_add_listener {OTHER_NQN} -t tcp -a 127.0.0.1 -s {self.port}
            nvmf_subsystem_add_listener discovery -t tcp -a ::1 -f ipv6 -s {self.port}
            nvmf_subsystem_add_host {DISCOVERY_NQN} {HOST_A}
            nvmf_subsystem_allow_any_host {DISCOVERY_NQN} --no-allow-any-host
            nvmf_discovery_add_referral -t tcp -a 192.0.2.7 -s 8009 -k
            nvmf_discovery_add_referral -t rdma -a 192.0.2.8 -s 4420 -n {OTHER_NQN} --hosts {HOST_A},{HOST_B}
            nvmf_discovery_referral_remove_host -t rdma -a 192.0.2.8 -s 4420 -n {OTHER_NQN} {HOST_B}
            nvmf_discovery_referral_allow_any_host -t rdma -a 192.0.2.8 -s 4420 -n {OTHER_NQN} --no-allow-any-host
        """
        self.rpc("", text="\n".join(line.strip() for line in commands.strip().splitlines()) + "\n")

    def test_access_is_shown_saved_and_loaded_again(self):
        self.configure()
        masked = self.subsystem()["namespaces"][0]
        self.assertTrue(masked["no_auto_visible"])
        self.assertEqual(masked["hosts"], [{"nqn": HOST_A}, {"nqn": HOST_B}])
        referrals = json.loads(self.rpc("nvmf_discovery_get_referrals"))
        self.assertEqual([one["address"]["trtype"] for one in referrals], ["TCP", "RDMA"])
        self.assertEqual(referrals[0], {"address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "192.0.2.7", "trsvcid": "8009"}, "secure_channel": True,
                                        "subnqn": DISCOVERY_NQN, "allow_any_host": True, "hosts": []})
        self.assertEqual((referrals[1]["allow_any_host"], referrals[1]["hosts"]), (False, [{"nqn": HOST_A}]))
        self.assertEqual(self.subsystem(DISCOVERY_NQN)["allow_any_host"], False)

        saved = self.rpc("save_config")
        self.end()
        fresh = ServerProcess("--wait-for-rpc", wait=False)
        self.addCleanup(fresh.clean)
        try:
            status, _, err = fresh.rpc_py("load_config", text=saved)
            self.assertEqual(status, 0, err)
            status, out, err = fresh.rpc_py("save_config")
            self.assertEqual((status, json.loads(out)), (0, json.loads(saved)), err)
        finally:
            self.assertEqual(fresh.stop(), 0, fresh.log_text())

    def test_hiding_and_taking_away(self):
        self.configure()
        self.rpc(f"nvmf_ns_remove_host {NQN} 1 {HOST_A}")
        self.rpc(f"nvmf_ns_visible {NQN} 1 {HOST_B} --no-visible")
        self.assertEqual(self.subsystem()["namespaces"][0]["hosts"], [])
        self.rpc("nvmf_discovery_remove_referral -t tcp -a 192.0.2.7 -s 8009")
        self.assertEqual(len(json.loads(self.rpc("nvmf_discovery_get_referrals"))), 1)
        self.rpc(f"nvmf_subsystem_remove_host {OTHER_NQN} {HOST_A} -T 1000")
        self.assertEqual(self.subsystem(OTHER_NQN)["hosts"], [])

    def test_refusals_have_their_codes(self):
        self.configure()
        place = {"address": {"trtype": "TCP", "traddr": "192.0.2.9", "trsvcid": "8009"}}
        self.refused("nvmf_discovery_remove_referral", place, -errno.ENODEV, "No such device", "192.0.2.9:8009")
        self.refused("nvmf_discovery_referral_add_host", {**place, "host": HOST_A}, -errno.ENODEV, "192.0.2.9:8009")
        taken = {"address": {"trtype": "TCP", "traddr": "192.0.2.7", "trsvcid": "8009"}}
        self.refused("nvmf_discovery_add_referral", taken, -errno.EEXIST, "other options")
        self.refused("nvmf_discovery_add_referral", {"address": {"trtype": "FC", "traddr": "x", "trsvcid": "1"}}, -errno.EOPNOTSUPP, "FC")
        self.refused("nvmf_discovery_add_referral", {"address": {"trtype": "TCP", "traddr": "::", "trsvcid": "1"}}, -errno.EINVAL, "'::'")
        self.refused("nvmf_ns_add_host", {"nqn": NQN, "nsid": 2, "host": HOST_A}, -errno.EPERM, "no_auto_visible")
        self.refused("nvmf_ns_add_host", {"nqn": NQN, "nsid": 3, "host": HOST_A}, -errno.ENODEV, "nsid 3")
        self.refused("nvmf_ns_remove_host", {"nqn": NQN, "nsid": 1, "host": "x"}, -errno.EINVAL, "NQN 'x'")
        self.refused("nvmf_create_subsystem", {"nqn": "nqn.2026-11.io.catnap:l", "admin_label": "abc"}, -errno.EINVAL, "admin_label 'abc'")
        listen = {"nqn": NQN, "listen_address": {"trtype": "TCP", "traddr": "fe80::1", "trsvcid": "1"}}
        self.refused("nvmf_subsystem_add_listener", listen, -errno.EINVAL, "fe80::1%eth0")
        listen = {"nqn": NQN, "listen_address": {"trtype": "TCP", "traddr": "fe80::1%no_such", "trsvcid": "1"}}
        self.refused("nvmf_subsystem_add_listener", listen, -errno.ENODEV, "no_such")
        listen = {"nqn": NQN, "listen_address": {"trtype": "TCP", "traddr": "127.0.0.1", "trsvcid": "0"}}
        self.refused("nvmf_subsystem_add_listener", listen, -errno.EINVAL, "trsvcid '0'")

    def test_what_is_done_already_is_no_error(self):
        self.configure()
        before = self.rpc("save_config")
        self.rpc(f"nvmf_ns_add_host {NQN} 1 {HOST_A}")
        self.rpc("nvmf_discovery_add_referral -t tcp -a 192.0.2.7 -s 8009 -k")
        self.rpc(f"nvmf_subsystem_allow_any_host {NQN} --allow-any-host")
        self.assertEqual(self.rpc("save_config"), before)


if __name__ == "__main__":
    unittest.main()

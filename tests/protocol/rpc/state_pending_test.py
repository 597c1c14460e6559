#!/usr/bin/env -S /usr/bin/python3
"""Calls of the state file (--state) that cannot be made when catnapd starts: files, addresses, controllers and arrays that come later, calls of another
version, and taking back what waits. Times until something is in service are printed.

Left out: what goes by itself later (state_lost_test.py), when calls are tried (tests/unit/server/pending_calls_test.cpp).
"""

import errno
import json
import os
import subprocess
import time
import unittest

from expect import wait_for
from server_process import PROGRAM, ServerProcess, free_tcp_port
from state_test import HOST, NQN, WithFolder, whole


class Pending(WithFolder):
    def configure(self, call):
        with open(self.at("disk"), "wb") as disk:
            disk.truncate(1 << 20)
        call("nvmf_create_transport", {"trtype": "TCP"})
        call("bdev_aio_create", {"name": "Aio0", "filename": self.at("disk"), "block_size": 512})
        call("bdev_passthru_create", {"name": "Pass0", "base_bdev_name": "Aio0"})
        call("bdev_set_qos_limit", {"name": "Pass0", "rw_ios_per_sec": 5000})
        call("nvmf_create_subsystem", {"nqn": NQN})
        call("nvmf_subsystem_add_ns", {"nqn": NQN, "namespace": {"bdev_name": "Pass0", "nsid": 5, "no_auto_visible": True}})
        call("nvmf_ns_add_host", {"nqn": NQN, "nsid": 5, "host": HOST})

    def go_away(self):
        self.server.kill()
        self.server = None
        os.rename(self.at("disk"), self.at("elsewhere"))

    def methods(self, call):
        return [each["method"] for each in call("framework_get_pending")]

    def test_a_device_that_comes_later(self):
        call = self.start()
        self.configure(call)
        before = whole(call)
        self.go_away()
        call = self.start()
        self.assertEqual(self.methods(call), ["bdev_aio_create", "bdev_set_qos_limit", "nvmf_subsystem_add_ns", "nvmf_ns_add_host"])
        self.assertIn("No such file", call("framework_get_pending")[0]["message"])
        # They are still part of the state, also when another change is kept meanwhile.
        call("bdev_null_create", {"name": "Null0", "num_blocks": 8, "block_size": 512})
        call("bdev_null_delete", {"name": "Null0"})
        call = self.restart()
        self.assertEqual(len(self.methods(call)), 4)
        os.rename(self.at("elsewhere"), self.at("disk"))
        wait_for(lambda: not self.methods(call), "the device to be picked up")
        self.assertEqual(whole(call), before)
        call = self.restart()
        self.assertEqual(whole(call), before)
        self.assertEqual(self.methods(call), [])

    def serve_remote(self, port):
        """Another target, with a disk that outlives it."""
        remote = ServerProcess()
        self.addCleanup(remote.clean)
        call = remote.client.call
        if not os.path.exists(self.at("remote disk")):
            with open(self.at("remote disk"), "wb") as disk:
                disk.truncate(16 << 20)
        call("nvmf_create_transport", {"trtype": "TCP"})
        call("bdev_aio_create", {"name": "A", "filename": self.at("remote disk"), "block_size": 512, "uuid": "11111111-2222-4333-8444-555555555555"})
        call("nvmf_create_subsystem", {"nqn": NQN, "allow_any_host": True})
        call("nvmf_subsystem_add_ns", {"nqn": NQN, "namespace": {"bdev_name": "A"}})
        call("nvmf_subsystem_add_listener", {"nqn": NQN, "listen_address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1",
                                                                            "trsvcid": str(port)}})
        return remote

    def appears(self, call, condition, what):
        began = time.monotonic()
        wait_for(condition, what)
        print(f"{what} after {time.monotonic() - began:.2f} s", flush=True)

    def test_a_file_of_uring_a_remote_controller_and_an_array_of_both(self):
        port = free_tcp_port()
        remote = self.serve_remote(port)
        with open(self.at("disk"), "wb") as disk:
            disk.truncate(16 << 20)
        call = self.start()
        call("nvmf_create_transport", {"trtype": "TCP"})
        call("bdev_uring_create", {"name": "Uring0", "filename": self.at("disk"), "block_size": 512})
        self.assertEqual(call("bdev_nvme_attach_controller", {"name": "Nvme0", "trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1",
                                                              "trsvcid": str(port), "subnqn": NQN}), ["Nvme0n1"])
        call("bdev_raid_create", {"name": "Raid0", "raid_level": "raid1", "base_bdevs": ["Uring0", "Nvme0n1"]})
        call("nvmf_create_subsystem", {"nqn": NQN + "2"})
        call("nvmf_subsystem_add_ns", {"nqn": NQN + "2", "namespace": {"bdev_name": "Raid0"}})
        before = whole(call)

        def names():
            return {bdev["name"] for bdev in call("bdev_get_bdevs")}

        self.assertEqual(names(), {"Uring0", "Nvme0n1", "Raid0"})
        self.go_away()
        self.assertEqual(remote.stop(), 0)
        call = self.start()
        self.assertIn("bdev_uring_create", self.methods(call))
        self.assertIn("bdev_nvme_attach_controller", self.methods(call))
        self.assertIn("nvmf_subsystem_add_ns", self.methods(call))
        self.assertEqual(names(), set())
        os.rename(self.at("elsewhere"), self.at("disk"))
        self.appears(call, lambda: "Uring0" in names(), "the file of a uring bdev is in service")
        remote = self.serve_remote(port)
        self.appears(call, lambda: "Nvme0n1" in names(), "the remote controller is in service")
        self.appears(call, lambda: "Raid0" in names() and not self.methods(call), "the array and its namespace are in service")
        self.assertEqual(whole(call), before)
        call = self.restart()
        wait_for(lambda: not self.methods(call), "all to be there again")
        self.assertEqual(whole(call), before)
        self.end()
        self.assertEqual(remote.stop(), 0)

    def test_calls_of_another_version(self):
        """They stay in the file, are shown, and hold nothing up."""
        with open(self.state, "w", encoding="utf-8") as file:
            json.dump({"subsystems": [
                {"subsystem": "bdev", "config": [
                    {"method": "bdev_null_create", "params": {"name": "N", "num_blocks": 8, "block_size": 512}},
                    {"method": "bdev_null_create", "params": {"name": "M", "num_blocks": 8, "block_size": 512, "of_the_future": 1}},
                    {"method": "bdev_future_create", "params": {"name": "F"}}]},
                {"subsystem": "future", "config": [{"method": "future_set", "params": {"a": 1}}]}]}, file)
        call = self.start()
        self.assertEqual([(each["method"], each["code"], each["retried"]) for each in call("framework_get_pending")],
                         [("bdev_null_create", -32602, False), ("bdev_future_create", -32601, False), ("future_set", -32601, False)])
        call("bdev_null_create", {"name": "O", "num_blocks": 8, "block_size": 512})
        call = self.restart()
        self.assertEqual(self.methods(call), ["bdev_null_create", "bdev_future_create", "future_set"])
        self.assertEqual({bdev["name"] for bdev in call("bdev_get_bdevs")}, {"N", "O"})
        call("bdev_null_delete", {"name": "M"})
        self.assertEqual(self.methods(call), ["bdev_future_create", "future_set"])

    def test_deleting_what_is_pending(self):
        call = self.start()
        self.configure(call)
        self.go_away()
        call = self.start()
        self.assertIs(call("bdev_aio_delete", {"name": "Aio0"}), True)
        self.assertNotIn("bdev_aio_create", self.methods(call))
        self.refused(call, "bdev_aio_delete", {"name": "Aio0"}, -errno.ENODEV)
        self.assertIs(call("nvmf_subsystem_remove_ns", {"nqn": NQN, "nsid": 5}), True)
        self.assertEqual(self.methods(call), ["bdev_set_qos_limit"])
        self.assertIs(call("bdev_passthru_delete", {"name": "Pass0"}), True)
        self.assertEqual(self.methods(call), [])
        os.rename(self.at("elsewhere"), self.at("disk"))
        call = self.restart()
        self.assertEqual([bdev["name"] for bdev in call("bdev_get_bdevs")], [])
        self.assertEqual(self.methods(call), [])

    def test_deleting_the_subsystem(self):
        call = self.start()
        self.configure(call)
        self.go_away()
        call = self.start()
        call("nvmf_delete_subsystem", {"nqn": NQN})
        self.assertEqual(self.methods(call), ["bdev_aio_create", "bdev_set_qos_limit"])

    def test_an_address_that_comes_later(self):
        probe = subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False)
        if probe.returncode != 0:
            self.skipTest("a network of its own needs the right to make one")
        call = self.start()
        call("nvmf_create_transport", {"trtype": "TCP"})
        call("nvmf_create_subsystem", {"nqn": NQN})
        self.server.kill()
        with open(self.state, encoding="utf-8") as file:
            state = json.load(file)
        address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "192.0.2.7", "trsvcid": "4420"}
        next(each for each in state["subsystems"] if each["subsystem"] == "nvmf")["config"].append(
            {"method": "nvmf_subsystem_add_listener", "params": {"nqn": NQN, "listen_address": address}})
        with open(self.state, "w", encoding="utf-8") as file:
            json.dump(state, file)
        wrapper = self.at("in_a_network_of_its_own")
        with open(wrapper, "w", encoding="utf-8") as file:
            file.write(f'#!/bin/sh\nexec unshare -n sh -c \'ip link set lo up; exec "$0" "$@"\' {PROGRAM} "$@"\n')
        os.chmod(wrapper, 0o700)
        call = self.start(program=wrapper)
        self.assertEqual([(each["method"], each["code"]) for each in call("framework_get_pending")],
                         [("nvmf_subsystem_add_listener", -errno.EADDRNOTAVAIL)])
        subprocess.run(["nsenter", "-t", str(self.server.process.pid), "-n", "ip", "address", "add", "192.0.2.7/32", "dev", "lo"], check=True)
        wait_for(lambda: not self.methods(call), "the address to be picked up")
        self.assertEqual(len(call("nvmf_subsystem_get_listeners", {"nqn": NQN})), 1)


if __name__ == "__main__":
    unittest.main()

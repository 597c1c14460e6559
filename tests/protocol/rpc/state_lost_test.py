#!/usr/bin/env -S /usr/bin/python3
"""What goes by itself stays in the state file (--state): a controller of another target that is given up, a namespace that the other target takes away, and
what stands on them. It waits, is shown, comes back in the same process and after a kill, until somebody deletes it.

Left out: what is not there at the start (state_pending_test.py), which calls take which back (tests/unit/server/pending_calls_test.cpp).
"""

import errno
import unittest

import state_pending_test
from expect import wait_for
from server_process import free_tcp_port
from state_test import HOST, NQN, WithFolder, whole


class Lost(WithFolder):
    """A namespace on a disk of another target, which goes away and comes back: what was configured stays configured."""
    serve_remote, methods, appears = (getattr(state_pending_test.Pending, name) for name in ("serve_remote", "methods", "appears"))
    OWN = NQN + "-own"
    DISKS = {"A": "11111111-2222-4333-8444-555555555555", "Z": "99999999-2222-4333-8444-555555555555"}
    LOST = ["bdev_nvme_attach_controller", "bdev_set_qos_limit", "nvmf_subsystem_add_ns", "nvmf_ns_add_host"]

    def setUp(self):
        super().setUp()
        self.port = free_tcp_port()
        self.serve()
        self.call = self.start()
        self.call("nvmf_create_transport", {"trtype": "TCP"})
        self.attach(self.call)
        self.call("bdev_set_qos_limit", {"name": "Nvme0n1", "rw_ios_per_sec": 5000})
        self.call("nvmf_create_subsystem", {"nqn": self.OWN})
        self.call("nvmf_subsystem_add_ns", {"nqn": self.OWN, "namespace": {"bdev_name": "Nvme0n1", "nsid": 5, "no_auto_visible": True}})
        self.call("nvmf_ns_add_host", {"nqn": self.OWN, "nsid": 5, "host": HOST})

    def serve(self):
        remote = self.remote = self.serve_remote(self.port)
        self.addCleanup(lambda: remote.process.poll() is not None or self.assertEqual(remote.stop(), 0, remote.log_text()))

    def attach(self, call):
        return call("bdev_nvme_attach_controller", {"name": "Nvme0", "trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(self.port),
                                                    "subnqn": NQN, "ctrlr_loss_timeout_sec": 1, "reconnect_delay_sec": 1})

    def disk(self, call, name):
        """The remote target's disk of that name, which is namespace 1 there from now on."""
        call("bdev_malloc_create", {"name": name, "num_blocks": 8192, "block_size": 512, "uuid": self.DISKS[name]})
        call("nvmf_subsystem_add_ns", {"nqn": NQN, "namespace": {"bdev_name": name, "nsid": 1}})

    def lose(self):
        self.remote.process.kill()
        self.remote.wait()
        wait_for(lambda: self.methods(self.call) == self.LOST, "the controller to be given up")
        wait_for(lambda: not self.call("bdev_nvme_get_controllers"), "the controller to go")
        wait_for(lambda: not self.call("nvmf_get_subsystems", {"nqn": self.OWN})[0]["namespaces"], "its namespace to go")

    def test_a_controller_that_is_given_up(self):
        before = whole(self.call)
        self.lose()
        told = lambda: {event["type"] for event in self.call("notify_get_notifications")}  # noqa: E731
        wait_for(lambda: told() >= {"bdev_nvme_path_down", "configuration_pending"}, lambda: f"two events; there are {told()}")
        # Its number is not given to another.
        self.call("bdev_null_create", {"name": "Null0", "num_blocks": 8, "block_size": 512})
        for nsid in (1, 2, 3, 4, 6):
            self.call("bdev_null_create", {"name": f"N{nsid}", "num_blocks": 8, "block_size": 512})
            self.assertEqual(self.call("nvmf_subsystem_add_ns", {"nqn": self.OWN, "namespace": {"bdev_name": f"N{nsid}"}}), nsid)
        for nsid in (1, 2, 3, 4, 6):
            self.call("bdev_null_delete", {"name": f"N{nsid}"})
        self.call("bdev_null_delete", {"name": "Null0"})
        self.assertEqual(self.methods(self.call), self.LOST, "a namespace goes with the bdev that somebody deletes")
        self.server.kill()
        self.call = self.start()
        self.assertEqual(self.methods(self.call), self.LOST)
        self.serve()
        self.appears(self.call, lambda: not self.methods(self.call), "the namespace of the controller that came back")
        self.assertEqual(whole(self.call), before)
        self.lose()
        self.serve()
        self.appears(self.call, lambda: not self.methods(self.call), "the same, without a restart,")
        self.assertEqual(whole(self.call), before)
        self.call = self.restart()
        wait_for(lambda: not self.methods(self.call), "all to be there again")
        self.assertEqual(whole(self.call), before)

    def test_detaching_what_was_given_up(self):
        self.lose()
        self.assertIs(self.call("bdev_nvme_detach_controller", {"name": "Nvme0"}), True)
        self.assertEqual(self.methods(self.call), [])
        self.refused(self.call, "bdev_nvme_detach_controller", {"name": "Nvme0"}, -errno.ENODEV)
        self.serve()
        self.call = self.restart()
        self.assertEqual(self.methods(self.call), [])
        self.assertEqual(self.call("bdev_nvme_get_controllers"), [])
        # Somebody begins anew, as SPDK's callers do.
        self.assertEqual(self.attach(self.call), ["Nvme0n1"])
        self.assertEqual(self.call("nvmf_subsystem_add_ns", {"nqn": self.OWN, "namespace": {"bdev_name": "Nvme0n1"}}), 1)

    def test_removing_the_namespace_that_waits(self):
        self.lose()
        self.assertIs(self.call("nvmf_subsystem_remove_ns", {"nqn": self.OWN, "nsid": 5}), True)
        self.assertEqual(self.methods(self.call), self.LOST[:2])
        self.refused(self.call, "nvmf_subsystem_remove_ns", {"nqn": self.OWN, "nsid": 5}, -errno.ENODEV)
        self.serve()
        wait_for(lambda: not self.methods(self.call), "the controller")
        self.assertEqual(self.call("nvmf_get_subsystems", {"nqn": self.OWN})[0]["namespaces"], [])

    def test_a_namespace_that_the_other_target_takes_away(self):
        before = whole(self.call)
        remote = self.remote.client.call
        remote("nvmf_subsystem_remove_ns", {"nqn": NQN, "nsid": 1})
        wait_for(lambda: self.methods(self.call) == self.LOST[1:], "the namespace to go")
        self.disk(remote, "Z")
        wait_for(lambda: self.call("bdev_get_bdevs"), "another disk in its place")
        wait_for(lambda: any("another disk" in each["message"] for each in self.call("framework_get_pending")), "that to be noticed")
        self.assertEqual(self.call("nvmf_get_subsystems", {"nqn": self.OWN})[0]["namespaces"], [], "other data under the same name")
        remote("nvmf_subsystem_remove_ns", {"nqn": NQN, "nsid": 1})
        remote("nvmf_subsystem_add_ns", {"nqn": NQN, "namespace": {"bdev_name": "A", "nsid": 1}})
        self.appears(self.call, lambda: not self.methods(self.call), "the namespace that came back")
        self.assertEqual(whole(self.call), before)

    def test_deleting_the_bdev_of_a_namespace(self):
        """As in SPDK: the namespace goes with what somebody deletes, and so does a whole controller that somebody detaches."""
        self.call("bdev_nvme_detach_controller", {"name": "Nvme0"})
        wait_for(lambda: not self.call("nvmf_get_subsystems", {"nqn": self.OWN})[0]["namespaces"], "the namespace to go")
        self.assertEqual(self.methods(self.call), [])
        self.call = self.restart()
        self.assertEqual(self.methods(self.call), [])


if __name__ == "__main__":
    unittest.main()

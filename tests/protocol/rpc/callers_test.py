#!/usr/bin/env -S /usr/bin/python3
"""What control planes send, in their order and with their parameters, against the real catnapd: Longhorn, ceph-nvmeof, simplyblock, OPI and spdk-csi. The
fields that they read from answers are there, with the types they decode, and the errors that they tell apart are told.

The sequences are those of the callers' sources (Longhorn go-spdk-helper and spdk-engine 2026-08, ceph-nvmeof 2024-10, simplyblock sbcli 2025-08,
opi-spdk-bridge 2026-04, spdk-csi 2023-06). Left out: their HTTP transport; what needs modules that are not there answers -95, which is tested too.
"""

import errno
import json
import os
import re
import socket
import unittest

from method_names import CALLED, SPDK
from server_process import RpcFailure, ServerProcess, free_tcp_port

UUID = "11111111-2222-4333-8444-555555555555"
VERSION = {"version": str, "fields": dict}


def has_shape(value, shape):
    """`shape`: a type, a dict of names that must be there with their shapes, [shape of each element], or a value."""
    if isinstance(shape, type):
        return isinstance(value, shape) and not (shape is int and isinstance(value, bool))
    if isinstance(shape, dict):
        return isinstance(value, dict) and all(name in value and has_shape(value[name], member) for name, member in shape.items())
    if isinstance(shape, list):
        return isinstance(value, list) and value and all(has_shape(each, shape[0]) for each in value)
    return value == shape


class Caller(unittest.TestCase):
    """A caller's dialect of JSON-RPC over one connection."""
    options = ()
    wait = True

    def setUp(self):
        self.server = ServerProcess(*self.options, wait=self.wait)
        self.addCleanup(self.server.clean)
        self.addCleanup(lambda: self.assertEqual(self.server.stop(), 0, self.server.log_text()))
        self.port = str(free_tcp_port())
        self.raw = socket.socket(socket.AF_UNIX)
        self.raw.settimeout(60)
        self.raw.connect(self.server.path)
        self.addCleanup(self.raw.close)
        self.last_id = 0
        self.received = ""

    def write(self, request):
        return json.dumps(request)

    def request(self, method, params):
        self.last_id += 1
        request = {"jsonrpc": "2.0", "id": self.last_id, "method": method}
        if params is not None:
            request["params"] = params
        return request

    def receive(self):
        """The next value of the stream, whatever stands between values."""
        while True:
            text = self.received.lstrip()
            try:
                value, end = json.JSONDecoder().raw_decode(text)
                self.received = text[end:]
                return value
            except ValueError:
                piece = self.raw.recv(65536)
                self.assertTrue(piece, "the server hung up")
                self.received += piece.decode()

    def reply(self, method, params=None):
        request = self.request(method, params)
        self.raw.sendall(self.write(request).encode())
        reply = self.receive()
        self.assertEqual(reply["id"], request["id"])
        self.assertEqual(reply["jsonrpc"], "2.0")
        return reply

    def call(self, method, params=None, shape=True):
        """The result, which must have that shape."""
        reply = self.reply(method, params)
        self.assertIn("result", reply, f"{method} {params}: {reply.get('error')}")
        self.assertTrue(has_shape(reply["result"], shape), f"{method}: {reply['result']} has not the shape {shape}")
        return reply["result"]

    def fails(self, method, params, code, *words):
        reply = self.reply(method, params)
        self.assertIn("error", reply, f"{method} {params} was taken: {reply.get('result')}")
        self.assertEqual(reply["error"]["code"], code, reply["error"])
        for word in words:
            self.assertIn(word, reply["error"]["message"])
        return reply["error"]["message"]

    def not_here(self, *methods):
        for method in methods:
            with self.subTest(method):
                self.fails(method, {}, -errno.EOPNOTSUPP, method)

    def disk(self, name, size=8 << 20):
        path = os.path.join(self.server.folder.name, name)
        with open(path, "wb") as file:
            file.truncate(size)
        return path

    def has(self, method):
        return method in self.server.client.call("rpc_get_methods")


class Longhorn(Caller):
    """Requests over many lines, indented by tabs; answers are read as a stream of values and matched by id; codes -2, -3, -16, -17 and -19 mean something."""

    nqn = "nqn.2023-01.io.longhorn.spdk:volume"

    def write(self, request):
        return json.dumps(request, indent="\t") + "\n"

    def address(self):
        return {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": self.port}

    def test_a_disk(self):
        path = self.disk("block")
        self.call("bdev_aio_create", {"name": "disk", "filename": path, "block_size": 4096}, "disk")
        self.call("bdev_get_bdevs", {"name": "disk", "timeout": 0}, [{
            "name": "disk", "aliases": list, "uuid": str, "block_size": 4096, "num_blocks": 2048, "product_name": "AIO disk", "claimed": False,
            "supported_io_types": {"read": True, "write": True, "unmap": bool, "write_zeroes": bool, "flush": bool, "reset": bool},
            "driver_specific": {"aio": {"filename": path}}}])
        self.fails("bdev_aio_create", {"name": "disk", "filename": path, "block_size": 4096}, -errno.EEXIST)
        self.fails("bdev_aio_create", {"name": "other", "filename": path + "2", "block_size": 4096}, -errno.ENOENT, "No such file or directory")
        self.call("bdev_aio_delete", {"name": "disk"})
        self.fails("bdev_aio_delete", {"name": "disk"}, -errno.ENODEV)
        self.fails("bdev_get_bdevs", {"name": "disk", "timeout": 0}, -errno.ENODEV)

    def test_exposing_a_replica(self):
        self.call("bdev_malloc_create", {"name": "replica", "block_size": 512, "num_blocks": 4096, "uuid": UUID}, "replica")
        self.call("nvmf_create_transport", {"trtype": "TCP"})
        again = self.reply("nvmf_create_transport", {"trtype": "TCP"})
        self.assertRegex(again["error"]["message"], r"Transport type .* already exists", "creating it is idempotent for its caller")
        self.call("nvmf_get_transports", {"trtype": "TCP"}, [{"trtype": "TCP", "max_queue_depth": int, "in_capsule_data_size": int, "max_io_size": int}])
        self.call("nvmf_create_subsystem", {"nqn": self.nqn, "serial_number": "SERIAL", "model_number": "MODEL", "allow_any_host": True,
                                            "max_namespaces": 32, "ana_reporting": True, "min_cntlid": 1, "max_cntlid": 1000})
        self.fails("nvmf_create_subsystem", {"nqn": self.nqn}, -errno.EEXIST)
        self.call("nvmf_subsystem_add_ns", {"nqn": self.nqn, "namespace": {"bdev_name": "replica", "nguid": "1" * 32}}, 1)
        self.call("nvmf_subsystem_add_listener", {"nqn": self.nqn, "listen_address": self.address()})
        self.call("nvmf_get_subsystems", {"nqn": self.nqn}, [{
            "nqn": self.nqn, "subtype": "NVMe", "listen_addresses": [{"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": self.port}],
            "allow_any_host": True, "hosts": list, "serial_number": "SERIAL", "model_number": "MODEL", "max_namespaces": 32, "min_cntlid": 1,
            "max_cntlid": 1000, "namespaces": [{"nsid": 1, "bdev_name": "replica", "name": "replica", "nguid": str, "uuid": str}]}])
        self.call("nvmf_get_subsystems", {}, [{"nqn": str, "subtype": str}])
        self.call("nvmf_subsystem_get_listeners", {"nqn": self.nqn}, [{"address": self.address(), "ana_states": [{"ana_group": int, "ana_state": str}]}])
        for state in ("inaccessible", "non_optimized", "optimized"):
            self.call("nvmf_subsystem_listener_set_ana_state", {"nqn": self.nqn, "listen_address": self.address(), "ana_state": state})
        self.call("bdev_set_qos_limit", {"name": "replica", "rw_ios_per_sec": 10000, "rw_mbytes_per_sec": 100, "r_mbytes_per_sec": 0, "w_mbytes_per_sec": 0})
        self.call("bdev_get_iostat", {"name": "replica", "per_channel": False}, {
            "tick_rate": int, "ticks": int, "bdevs": [{"name": "replica", "bytes_read": int, "num_read_ops": int, "bytes_written": int,
                                                       "num_write_ops": int, "read_latency_ticks": int, "write_latency_ticks": int}]})
        self.call("nvmf_subsystem_add_host", {"nqn": self.nqn, "host": "nqn.2014-08.org.nvmexpress:uuid:" + UUID})
        self.call("nvmf_subsystem_remove_ns", {"nqn": self.nqn, "nsid": 1})
        self.call("nvmf_subsystem_remove_listener", {"nqn": self.nqn, "listen_address": self.address()})
        self.call("nvmf_delete_subsystem", {"nqn": self.nqn})
        self.fails("nvmf_delete_subsystem", {"nqn": self.nqn}, -errno.ENODEV)
        self.call("bdev_malloc_delete", {"name": "replica"})

    def test_log_switches(self):
        for method, params, shape in (("log_get_flags", None, dict), ("log_set_flag", {"flag": "rpc"}, True), ("log_clear_flag", {"flag": "rpc"}, True),
                                      ("log_set_level", {"level": "DEBUG"}, True), ("log_get_level", None, "DEBUG"),
                                      ("log_set_print_level", {"level": "NOTICE"}, True), ("log_get_print_level", None, "NOTICE")):
            self.call(method, params, shape)

    def test_a_raid_volume(self):
        if not self.has("bdev_raid_create"):
            self.skipTest("there are no arrays")
        for name in ("a", "b"):
            self.call("bdev_malloc_create", {"name": name, "block_size": 512, "num_blocks": 65536}, name)
        self.call("bdev_raid_create", {"name": "volume", "raid_level": "raid1", "strip_size_kb": 0, "base_bdevs": ["a", "b"], "uuid": UUID})
        self.call("bdev_raid_get_bdevs", {"category": "all"}, [{
            "name": "volume", "uuid": UUID, "strip_size_kb": int, "state": "online", "raid_level": "raid1", "num_base_bdevs": 2,
            "num_base_bdevs_discovered": 2, "num_base_bdevs_operational": int, "base_bdevs_list": [{"name": str}]}])
        self.call("bdev_get_bdevs", {"name": "volume"}, [{"driver_specific": {"raid": dict}}])
        self.call("bdev_raid_remove_base_bdev", {"name": "a"})
        self.call("bdev_raid_delete", {"name": "volume"})
        self.assertRegex(self.fails("bdev_raid_delete", {"name": "nope"}, -errno.ENODEV), r"nope")

    def test_many_in_flight(self):
        """Up to 1,024 at a time on one connection."""
        requests = [self.request("bdev_null_create", {"name": f"N{number}", "num_blocks": 8, "block_size": 512}) for number in range(1024)]
        self.raw.sendall("".join(self.write(request) for request in requests).encode())
        replies = [self.receive() for _ in requests]
        self.assertEqual({reply["id"]: reply["result"] for reply in replies}, {request["id"]: request["params"]["name"] for request in requests})

    def test_local_disks_and_other_transports_are_refused_with_the_reason(self):
        for disk in ({"trtype": "PCIe", "traddr": "0000:00:1f.0"}, {"trtype": "RDMA", "traddr": "192.0.2.1", "subnqn": self.nqn}):
            self.fails("bdev_nvme_attach_controller", {"name": "disk", **disk}, -errno.EOPNOTSUPP, disk["trtype"], "over TCP only")
        self.fails("bdev_nvme_attach_controller", {"name": "disk", "trtype": "TCP", "traddr": "127.0.0.1"}, -32602, "missing parameter 'subnqn'")

    def test_what_is_not_here(self):
        self.not_here("bdev_lvol_get_lvstores", "bdev_lvol_create", "bdev_lvol_get_fragmap", "bdev_ec_create", "ublk_create_target", "ublk_start_disk",
                      "bdev_virtio_attach_controller", "bdev_lvol_start_range_shallow_copy")


class CephNvmeof(Caller):
    """SPDK's Python client: a batch of calls per connection, pings, and ANA groups moved between gateways."""

    nqn = "nqn.2016-06.io.spdk:cnode1"

    def address(self, **changes):
        return {"traddr": "127.0.0.1", "trtype": "TCP", "trsvcid": self.port, "adrfam": "ipv4", **changes}

    def test_a_gateway(self):
        self.call("spdk_get_version", None, VERSION)
        self.call("log_set_print_level", {"level": "WARNING"})
        self.call("nvmf_create_transport", {"trtype": "TCP", "in_capsule_data_size": 8192, "max_io_qpairs_per_ctrlr": 7, "max_queue_depth": 128,
                                            "max_io_size": 131072, "io_unit_size": 8192, "zcopy": False})
        self.call("nvmf_create_subsystem", {"nqn": self.nqn, "serial_number": "Ceph00000000000001", "model_number": "Ceph bdev Controller",
                                            "max_namespaces": 256, "ana_reporting": True, "min_cntlid": 1, "max_cntlid": 2040})
        self.call("bdev_null_create", {"name": "image", "num_blocks": 8192, "block_size": 512, "uuid": UUID}, "image")
        self.call("nvmf_subsystem_add_ns", {"nqn": self.nqn, "namespace": {"bdev_name": "image", "nsid": 1, "uuid": UUID, "anagrpid": 1,
                                                                           "no_auto_visible": True}}, 1)
        host = "nqn.2014-08.org.nvmexpress:uuid:" + UUID
        self.call("nvmf_ns_visible", {"nqn": self.nqn, "nsid": 1, "host": host, "visible": True})
        self.call("nvmf_ns_visible", {"nqn": self.nqn, "nsid": 1, "host": host, "visible": False})
        self.call("nvmf_subsystem_add_listener", {"nqn": self.nqn, "listen_address": self.address(), "secure_channel": False})
        for group in (1, 2):
            self.call("nvmf_subsystem_listener_set_ana_state", {"nqn": self.nqn, "listen_address": self.address(), "ana_state": "inaccessible",
                                                                "anagrpid": group})
        self.call("nvmf_subsystem_set_ns_ana_group", {"nqn": self.nqn, "nsid": 1, "anagrpid": 2, "transit_anagrpid": 0})
        self.call("nvmf_subsystem_add_host", {"nqn": self.nqn, "host": host})
        self.call("nvmf_subsystem_allow_any_host", {"nqn": self.nqn, "disable": False})
        self.call("nvmf_subsystem_allow_any_host", {"nqn": self.nqn, "disable": True})
        self.call("nvmf_subsystem_remove_host", {"nqn": self.nqn, "host": host})
        self.call("nvmf_get_subsystems", None, [{"nqn": str, "subtype": str, "listen_addresses": list, "hosts": list}])
        found = self.call("nvmf_get_subsystems", {"nqn": self.nqn}, [{"namespaces": [{"nsid": 1, "anagrpid": 2, "uuid": UUID}]}])
        self.assertEqual(found[0]["serial_number"], "Ceph00000000000001")
        self.call("nvmf_subsystem_get_controllers", {"nqn": self.nqn}, list)
        self.call("nvmf_subsystem_get_qpairs", {"nqn": self.nqn}, list)
        self.call("bdev_get_iostat", {"name": "image"}, {"tick_rate": int, "bdevs": [{"name": "image"}]})
        self.call("bdev_set_qos_limit", {"name": "image", "rw_ios_per_sec": 1000, "rw_mbytes_per_sec": 0, "r_mbytes_per_sec": 0, "w_mbytes_per_sec": 0})
        self.call("thread_get_stats", None, {"tick_rate": int, "threads": [{"name": str, "id": int, "cpumask": str, "busy": int, "idle": int}]})
        self.call("nvmf_subsystem_remove_listener", {"nqn": self.nqn, "listen_address": self.address()})
        self.call("nvmf_subsystem_remove_ns", {"nqn": self.nqn, "nsid": 1})
        self.call("nvmf_delete_subsystem", {"nqn": self.nqn})

    def test_errors_as_its_python_client_shows_them(self):
        with self.assertRaises(RpcFailure) as caught:
            self.server.client.call("bdev_get_bdevs", {"name": "nope"})
        text = caught.exception.message
        self.assertIn("Got JSON-RPC error response", text)
        code = json.loads(text[text.index("response:\n") + len("response:\n"):])["code"]
        self.assertEqual(abs(code), errno.ENODEV)
        self.assertIsNone(re.search("timeout", text, re.IGNORECASE), "that word would become ETIMEDOUT")

    def test_what_is_not_here(self):
        self.not_here("bdev_rbd_create", "bdev_rbd_delete", "bdev_rbd_register_cluster", "bdev_rbd_resize", "bdev_rbd_wait_for_latest_osdmap")


class Simplyblock(Caller):
    """Options first, over framework_start_init."""

    options = ("--wait-for-rpc",)
    wait = False
    nqn = "nqn.2023-02.io.simplyblock:lvol"

    def test_a_storage_node(self):
        self.call("spdk_get_version", None, VERSION)
        self.call("iobuf_set_options", {"small_pool_count": 16384, "large_pool_count": 2048, "small_bufsize": 8192, "large_bufsize": 135168})
        self.call("bdev_set_options", {"bdev_io_pool_size": 65536, "bdev_io_cache_size": 256, "iobuf_small_cache_size": 128, "iobuf_large_cache_size": 16})
        self.call("accel_set_options", {"small_cache_size": 512, "large_cache_size": 64, "task_count": 2048, "sequence_count": 2048, "buf_count": 2048})
        self.call("nvmf_set_max_subsystems", {"max_subsystems": 5000})
        self.call("nvmf_set_config", {"poll_groups_mask": f"{1 << min(os.sched_getaffinity(0)):x}"})
        self.call("framework_start_init")
        self.call("log_set_print_level", {"level": "NOTICE"})
        reactors = self.call("framework_get_reactors", None, {"tick_rate": int, "reactors": [{"lcore": int, "busy": int, "idle": int, "lw_threads": list}]})
        threads = self.call("thread_get_stats", None, {"threads": [{"id": int, "name": str}]})["threads"]
        group = next(thread for thread in threads if thread["name"].startswith("nvmf_tgt_poll_group"))
        self.call("thread_set_cpumask", {"id": group["id"], "cpumask": f"{1 << reactors['reactors'][0]['lcore']:x}"})
        self.call("nvmf_create_transport", {"trtype": "TCP", "io_unit_size": 8192, "max_io_size": 131072, "abort_timeout_sec": 5, "zcopy": False,
                                            "in_capsule_data_size": 8192, "max_io_qpairs_per_ctrlr": 128, "max_queue_depth": 256, "max_aq_depth": 128,
                                            "num_shared_buffers": 24576, "buf_cache_size": 512, "dif_insert_or_strip": False, "c2h_success": True,
                                            "sock_priority": 0, "ack_timeout": 2048})
        self.call("nvmf_get_transports", {"trtype": "TCP"}, [{"trtype": "TCP"}])
        self.call("nvmf_create_subsystem", {"nqn": self.nqn, "serial_number": "ha", "allow_any_host": True, "model_number": "lvol", "max_namespaces": 32,
                                            "ana_reporting": True, "min_cntlid": 1})
        self.call("bdev_malloc_create", {"name": "lvol", "block_size": 4096, "num_blocks": 1024}, "lvol")
        self.call("nvmf_subsystem_add_listener", {"nqn": self.nqn, "ana_state": "optimized",
                                                  "listen_address": {"trtype": "tcp", "adrfam": "ipv4", "traddr": "127.0.0.1", "trsvcid": self.port}})
        self.call("nvmf_subsystem_add_ns", {"nqn": self.nqn, "namespace": {"bdev_name": "lvol", "uuid": UUID, "nguid": UUID.replace("-", "")}}, 1)
        self.call("bdev_get_iostat", {"name": "lvol"}, {"bdevs": [{"name": "lvol"}]})
        self.call("bdev_set_qos_limit", {"name": "lvol", "rw_ios_per_sec": 0, "rw_mbytes_per_sec": 0, "r_mbytes_per_sec": 0, "w_mbytes_per_sec": 0})
        self.call("accel_crypto_key_create", {"cipher": "AES_XTS", "key": "11" * 32, "key2": "22" * 32, "name": "key"})
        self.call("bdev_malloc_create", {"name": "base", "block_size": 4096, "num_blocks": 1024}, "base")
        self.call("bdev_crypto_create", {"base_bdev_name": "base", "name": "crypto", "key_name": "key"}, "crypto")
        self.call("bdev_crypto_delete", {"name": "crypto"})
        self.call("accel_crypto_key_destroy", {"key_name": "key"})
        self.call("bdev_split_create", {"base_bdev": "base", "split_count": 2}, list)
        self.call("bdev_examine", {"name": "base"})
        self.call("bdev_wait_for_examine")
        self.call("nvmf_subsystem_get_controllers", {"nqn": self.nqn}, list)
        self.call("nvmf_subsystem_get_listeners", {"nqn": self.nqn}, [{"address": {"trsvcid": self.port}, "ana_states": list}])
        self.call("nvmf_delete_subsystem", {"nqn": self.nqn})

    def test_what_is_not_here(self):
        self.call("framework_start_init")
        self.not_here("bdev_lvol_create_lvstore", "bdev_distrib_create", "bdev_alceml_create", "distr_send_cluster_map", "jc_get_jm_status",
                      "ultra21_lvol_mount", "nbd_start_disk", "bdev_ocf_create", "qos_vbdev_create", "bdev_jm_create", "alceml_get_pages_usage",
                      "bdev_compress_create", "bdev_passtest_create", "bdev_ptnonexcl_create", "bdev_lvs_dump", "jm_delete")


class Opi(Caller):
    """opi-spdk-bridge: null, malloc, aio and crypto back ends, one subsystem per front end."""

    nqn = "nqn.2022-09.io.spdk:opi3"

    def test_front_and_back_ends(self):
        self.call("bdev_malloc_create", {"name": "mall", "num_blocks": 4096, "block_size": 512, "md_size": 0, "md_interleave": False, "uuid": UUID}, "mall")
        self.call("bdev_null_create", {"name": "null", "block_size": 512, "num_blocks": 64, "uuid": UUID.replace("1", "2")}, "null")
        self.call("bdev_aio_create", {"name": "aio", "block_size": 512, "filename": self.disk("aio")}, "aio")
        self.call("bdev_get_bdevs", {"name": "mall"}, [{"name": "mall", "block_size": 512, "num_blocks": 4096, "uuid": UUID}])
        self.call("bdev_get_iostat", {"name": "mall"}, {"tick_rate": int, "ticks": int, "bdevs": [{"name": "mall", "bytes_read": int}]})
        self.call("accel_crypto_key_create", {"cipher": "AES_XTS", "key": "11" * 16, "key2": "22" * 16, "name": "super_key"})
        self.call("bdev_crypto_create", {"base_bdev_name": "aio", "name": "crypto", "key_name": "super_key"}, "crypto")
        self.call("bdev_set_qos_limit", {"name": "mall", "rw_ios_per_sec": 0, "rw_mbytes_per_sec": 200, "r_mbytes_per_sec": 0, "w_mbytes_per_sec": 0})
        self.call("spdk_get_version", None, VERSION)
        self.call("nvmf_create_transport", {"trtype": "TCP"})
        self.call("nvmf_create_subsystem", {"nqn": self.nqn, "serial_number": "OpiSerial", "model_number": "OpiModel", "allow_any_host": False,
                                            "max_namespaces": 10})
        address = {"trtype": "tcp", "traddr": "127.0.0.1", "trsvcid": self.port, "adrfam": "ipv4"}
        self.call("nvmf_subsystem_add_listener", {"nqn": self.nqn, "secure_channel": False, "listen_address": address})
        self.call("nvmf_subsystem_add_ns", {"nqn": self.nqn, "namespace": {"nsid": 7, "bdev_name": "mall"}}, 7)
        self.call("nvmf_subsystem_add_host", {"nqn": self.nqn, "host": "nqn.2014-08.org.nvmexpress:uuid:" + UUID})
        self.call("nvmf_get_subsystems", None, [{"nqn": str}])
        self.call("nvmf_get_stats", None, {"tick_rate": int, "poll_groups": [{"name": str, "admin_qpairs": int, "io_qpairs": int}]})
        self.call("nvmf_subsystem_remove_ns", {"nqn": self.nqn, "nsid": 7})
        self.call("nvmf_subsystem_remove_listener", {"nqn": self.nqn, "listen_address": address})
        self.call("nvmf_delete_subsystem", {"nqn": self.nqn})
        for method, name in (("bdev_crypto_delete", "crypto"), ("bdev_aio_delete", "aio"), ("bdev_null_delete", "null"), ("bdev_malloc_delete", "mall")):
            self.call(method, {"name": name})
            self.fails(method, {"name": name}, -errno.ENODEV)
        self.call("accel_crypto_key_destroy", {"key_name": "super_key"})

    def test_what_is_not_here(self):
        self.not_here("vhost_create_blk_controller", "vhost_create_scsi_controller", "vhost_delete_controller", "vhost_get_controllers",
                      "vhost_scsi_controller_add_target", "vhost_scsi_controller_remove_target")


class SpdkCsi(Caller):
    """Texts instead of codes: "No such device", "Invalid parameters"."""

    nqn = "nqn.2020-04.io.spdk.csi:uuid:" + UUID

    def test_publishing_a_volume(self):
        self.call("bdev_get_bdevs", None, list)
        self.call("bdev_malloc_create", {"name": "volume", "block_size": 512, "num_blocks": 4096}, "volume")
        self.call("nvmf_create_transport", {"trtype": "TCP"})
        self.fails("nvmf_subsystem_get_listeners", {"nqn": self.nqn}, -errno.ENODEV, "Invalid parameters")
        self.call("nvmf_create_subsystem", {"nqn": self.nqn, "allow_any_host": True, "serial_number": "spdkcsi-sn", "model_number": "spdkcsi-mn"})
        self.call("nvmf_subsystem_add_ns", {"nqn": self.nqn, "namespace": {"bdev_name": "volume"}}, 1)
        address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": self.port}
        self.call("nvmf_subsystem_add_listener", {"nqn": self.nqn, "listen_address": address})
        self.call("nvmf_get_subsystems", None, [{"nqn": str, "listen_addresses": list}])
        self.call("nvmf_subsystem_get_listeners", {"nqn": self.nqn}, [{"address": address}])
        self.call("nvmf_subsystem_remove_ns", {"nqn": self.nqn, "nsid": 1})
        self.call("nvmf_delete_subsystem", {"nqn": self.nqn})
        self.call("bdev_malloc_delete", {"name": "volume"})
        self.fails("bdev_malloc_delete", {"name": "volume"}, -errno.ENODEV, "No such device")

    def test_what_is_not_here(self):
        self.not_here("iscsi_create_portal_group", "iscsi_create_initiator_group", "iscsi_create_target_node", "iscsi_delete_target_node",
                      "iscsi_get_initiator_groups", "iscsi_get_portal_groups", "iscsi_get_target_nodes", "bdev_lvol_get_lvstores", "bdev_lvol_create",
                      "bdev_lvol_snapshot", "bdev_lvol_clone", "bdev_lvol_delete")


class EveryName(Caller):
    """What SPDK or a control plane's fork of it has is here, or its absence is explained: no name gets -32601."""

    def test_all(self):
        here = set(self.call("rpc_get_methods", {"include_aliases": True}, [str]))
        absent = {}
        for who, names in [*CALLED.items(), ("SPDK", SPDK)]:
            self.assertGreater(len(names), 5)
            for name in names:
                if name in here:
                    continue
                with self.subTest(name, who=who):
                    message = self.fails(name, {"a": 1}, -errno.EOPNOTSUPP, "Operation not supported", name)
                    self.assertGreater(len(message), len(f"Operation not supported: {name}: "), "with a reason")
                    absent.setdefault(who, []).append(name)
        print({who: f"{len(names) - len(absent.get(who, []))} of {len(names)} here" for who, names in [*CALLED.items(), ("SPDK", SPDK)]}, flush=True)


class Wire(Caller):
    """JSON-RPC as SPDK's clients use it."""

    def send(self, text):
        self.raw.sendall(text.encode() if isinstance(text, str) else text)

    def test_a_missing_version_is_accepted_another_is_refused(self):
        self.send('{"id": 1, "method": "spdk_get_version"}')
        self.assertIn("result", self.receive())
        for version in ('"1.0"', "2", "2.0", "null"):
            self.send(f'{{"jsonrpc": {version}, "id": 2, "method": "spdk_get_version"}}')
            reply = self.receive()
            self.assertEqual((reply["id"], reply["error"]["code"]), (2, -32600), version)

    def test_no_parameters_in_every_form(self):
        for form in ("", ', "params": null', ', "params": {}'):
            self.send(f'{{"jsonrpc": "2.0", "id": 3, "method": "spdk_get_version"{form}}}')
            self.assertIn("result", self.receive(), form)

    def test_batches_and_notifications(self):
        self.send('[{"jsonrpc": "2.0", "id": "a", "method": "spdk_get_version"}, {"jsonrpc": "2.0", "method": "log_set_flag", "params": {"flag": "rpc"}},'
                  ' {"jsonrpc": "2.0", "id": 2.5, "method": "nope"}, {"jsonrpc": "2.0", "id": null, "method": "log_get_level"}, 7]')
        replies = self.receive()
        self.assertEqual([reply["id"] for reply in replies if reply["id"] is not None], ["a", 2.5])
        self.assertEqual(sorted(reply["error"]["code"] for reply in replies if "error" in reply), [-32601, -32600])
        self.send('{"jsonrpc": "2.0", "method": "log_clear_flag", "params": {"flag": "rpc"}}[{"jsonrpc": "2.0", "method": "spdk_get_version"}]')
        self.assertEqual(self.call("log_get_flags", None, dict)["rpc"], False, "a notification is made, and not answered")
        self.assertEqual(self.received.strip(), "")

    def test_what_is_no_json_is_said_before_the_connection_ends(self):
        self.send('{"jsonrpc": "2.0", "id": 1, "method" "spdk_get_version"}')
        self.assertEqual(self.receive()["error"]["code"], -32700)
        self.assertEqual(self.raw.recv(1), b"")

    def test_binary_names_come_back_as_strict_json(self):
        """Whatever bytes a name has, the answer is UTF-8 and JSON."""
        names = ["\u0001\u001f", "\x7f", "ä€𝄞", "\\\"/\b\f\n\r\t", "𝄞" * 300, "<script>", "%s%n", "\ufffe\uffff"]
        for name in names:
            for method, params in ((name, {}), ("bdev_get_bdevs", {"name": name}), ("bdev_null_delete", {"name": name}),
                                   ("nvmf_get_subsystems", {"nqn": name}), ("log_set_flag", {"flag": name}), ("spdk_get_version", {name: name}),
                                   ("bdev_null_create", {"name": name, "num_blocks": 8, "block_size": 512})):
                with self.subTest(method, name=name):
                    reply = self.reply(method, params)
                    self.assertTrue(("error" in reply) or method == "bdev_null_create", reply)
        for bdev in self.call("bdev_get_bdevs", None, list):
            self.call("bdev_null_delete", {"name": bdev["name"]})
        # Bytes that are no UTF-8 are no JSON, and neither is half a pair of surrogates text.
        self.send(b'{"jsonrpc": "2.0", "id": 1, "method": "bdev_get_bdevs", "params": {"name": "\xff\xfe"}}')
        self.assertEqual(self.receive()["error"]["code"], -32700)

    def test_half_a_request_that_stays_holds_nobody_up(self):
        self.send('{"jsonrpc": "2.0", "id": 1, "method": "spdk_get_ver')
        for _ in range(100):
            self.server.client.call("spdk_get_version")
        self.send('sion"}')
        self.assertIn("result", self.receive())


if __name__ == "__main__":
    unittest.main()

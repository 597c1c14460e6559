#!/usr/bin/env -S /usr/bin/python3
"""What the real catnapd may do and who may talk to it: an ordinary user, --user, --seccomp, --allow-path, the RPC socket's mode, the audit log.

Left out: each refused system call (tests/unit/service/confine_test.cpp).
"""

import grp
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import unittest

from expect import wait_for
from server_process import PROGRAM, Client, RpcFailure, ServerProcess, free_tcp_port

NOBODY = 65534
AS_ROOT = os.geteuid() == 0
NO_CAPABILITIES = "0000000000000000"


def statuses(pid):
    """One dict of /proc/PID/task/TID/status for each OS thread."""
    found = []
    for tid in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{tid}/status", encoding="ascii") as file:
            found.append(dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line))
    return found


def refusal(*options, before=()):
    """Exit status and standard error of a catnapd that shall not start."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([*before, PROGRAM, "-r", os.path.join(folder, "rpc.sock"), *options], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


class Started(unittest.TestCase):
    def start(self, *options, **more):
        server = ServerProcess(*options, **more)
        self.addCleanup(server.clean)
        self.addCleanup(lambda: server.process.poll() is None and server.stop())
        return server

    def folder(self):
        folder = tempfile.TemporaryDirectory(prefix="catnap_confine_")
        self.addCleanup(folder.cleanup)
        os.chmod(folder.name, 0o755)
        return folder.name

    def assert_refused(self, call, *texts):
        with self.assertRaises(RpcFailure) as caught:
            call()
        for text in texts:
            self.assertIn(text, str(caught.exception))


class Confined(Started):
    def test_every_thread_is_filtered_and_gains_nothing(self):
        server = self.start()
        server.client.call("bdev_null_create", {"name": "n0", "num_blocks": 8, "block_size": 512})  # the worker pool has run
        found = statuses(server.process.pid)
        self.assertGreaterEqual(len(found), 2)
        for status in found:
            self.assertEqual(status["NoNewPrivs"], "1", status["Name"])
            self.assertEqual(status["Seccomp"], "2", status["Name"])
        self.assertIn("system calls are filtered", server.log_text())
        self.assertIn("paths are not restricted (no --allow-path)", server.log_text())
        self.assertEqual(server.stop(), 0)
        self.assertNotIn("was refused", server.log_text())

    def test_the_filter_can_be_off_or_only_log_and_says_so(self):
        server = self.start("--seccomp", "off")
        self.assertEqual({status["Seccomp"] for status in statuses(server.process.pid)}, {"0"})
        self.assertIn("system calls are not filtered", server.log_text())
        server = self.start("--seccomp", "log")
        self.assertEqual({status["Seccomp"] for status in statuses(server.process.pid)}, {"2"})
        self.assertIn("goes to the kernel's log", server.log_text())

    def test_without_io_uring_bdev_uring_says_why_and_aio_works(self):
        folder = self.folder()
        path = os.path.join(folder, "disk")
        with open(path, "wb") as file:
            file.truncate(1 << 20)
        server = self.start("--io-uring", "off")
        self.assert_refused(lambda: server.client.call("bdev_uring_create", {"name": "u0", "filename": path}), "io_uring")
        server.client.call("bdev_aio_create", {"name": "a0", "filename": path, "block_size": 512})
        server.client.call("bdev_aio_delete", {"name": "a0"})

    def test_options_with_wrong_values_are_named(self):
        for options in (("--seccomp", "maybe"), ("--io-uring", "x"), ("--core-dumps", "x"), ("--rpc-socket-mode", "0999"), ("--rpc-socket-mode", "01777"),
                        ("--audit-log", ""), ("--log-target", "syslog"), ("--allow-path", ""), ("--user", "no-such-user-here")):
            status, said = refusal(*options)
            self.assertEqual(status, 2, options)
            self.assertIn(options[0], said, options)
        status, said = refusal("--allow-path", "/no/such/directory")
        self.assertEqual(status, 1)
        self.assertIn("--allow-path '/no/such/directory'", said)

    def test_memory_is_not_for_others_unless_core_dumps_are_wanted(self):
        # A process that is not dumpable has a /proc that belongs to root.
        server = self.start("--core-dumps", "on")
        self.assertIn("core dumps as the system has it", server.log_text())
        server = self.start()
        self.assertIn("core dumps off", server.log_text())
        if not AS_ROOT:
            with self.assertRaises(PermissionError):
                os.listdir(f"/proc/{server.process.pid}/fd")


class OrdinaryUser(Started):
    """The program is copied to where anybody may run it."""

    def setUp(self):
        if not AS_ROOT:
            self.skipTest("only root can become other users; the other tests here run as an ordinary one")
        self.place = self.folder()
        self.program = os.path.join(self.place, "catnapd")
        shutil.copy(PROGRAM, self.program)
        self.data = os.path.join(self.place, "data")
        os.mkdir(self.data)
        os.chown(self.data, NOBODY, NOBODY)

    def use(self, client, path):
        """A little of everything that a user without rights should be able to do."""
        with open(path, "wb") as file:
            file.truncate(1 << 20)
        os.chown(path, NOBODY, NOBODY)
        client.call("bdev_aio_create", {"name": "a0", "filename": path, "block_size": 512})
        client.call("bdev_malloc_create", {"name": "m0", "num_blocks": 2048, "block_size": 512})
        client.call("nvmf_create_transport", {"trtype": "TCP"})
        client.call("nvmf_create_subsystem", {"nqn": "nqn.2026-11.io.catnap:own", "allow_any_host": True})
        client.call("nvmf_subsystem_add_ns", {"nqn": "nqn.2026-11.io.catnap:own", "namespace": {"bdev_name": "m0"}})
        client.call("nvmf_subsystem_add_listener",
                    {"nqn": "nqn.2026-11.io.catnap:own",
                     "listen_address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(free_tcp_port())}})

    def test_an_ordinary_user_without_capabilities_is_enough(self):
        if not shutil.which("setpriv"):
            self.skipTest("setpriv is not there to become somebody else with")
        os.chmod(self.place, 0o755)
        before = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]
        socket_folder = os.path.join(self.data, "run")
        os.mkdir(socket_folder)
        os.chown(socket_folder, NOBODY, NOBODY)
        path = os.path.join(socket_folder, "rpc.sock")
        log_path = os.path.join(self.place, "log")
        with open(log_path, "wb") as log:
            process = subprocess.Popen([*before, self.program, "-r", path, "--state", os.path.join(self.data, "state.json")], stdout=log, stderr=log)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        wait_for(lambda: os.path.exists(path) or process.poll() is not None, "the RPC socket")
        client = Client(path, retries=100)
        self.addCleanup(client.close)
        client.call("framework_wait_init")
        self.use(client, os.path.join(self.data, "disk"))
        for status in statuses(process.pid):
            self.assertEqual(status["Uid"].split("\t")[:3], [str(NOBODY)] * 3)
            self.assertEqual([status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd")], [NO_CAPABILITIES] * 4)
        process.terminate()
        self.assertEqual(process.wait(60), 0)
        with open(log_path, encoding="utf-8") as log:
            said = log.read()
        self.assertNotIn("ERROR", said)
        # That a turn took long is the machine's affair.
        self.assertEqual([line for line in said.splitlines() if "WARNING" in line and "one turn took" not in line], [])

    def test_root_becomes_the_user_of_the_option_for_good(self):
        name = pwd.getpwuid(NOBODY).pw_name
        group = grp.getgrgid(pwd.getpwuid(NOBODY).pw_gid).gr_name
        server = self.start("--user", f"{name}:{group}", "--state", os.path.join(self.data, "state.json"))
        # Its folder is root's alone, but it was opened before.
        self.use(server.client, os.path.join(self.data, "disk"))
        for status in statuses(server.process.pid):
            self.assertEqual(status["Uid"].split("\t"), [str(NOBODY)] * 4)
            self.assertEqual([status[each] for each in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")], [NO_CAPABILITIES] * 5)
            self.assertEqual(status["NoNewPrivs"], "1")
        self.assertEqual(os.stat(server.path).st_uid, NOBODY)
        self.assertEqual(os.stat(os.path.join(self.data, "state.json")).st_uid, NOBODY)
        secret = os.path.join(self.place, "of_root")
        with open(secret, "wb") as file:
            file.truncate(1 << 20)
        os.chmod(secret, 0o600)
        self.assert_refused(lambda: server.client.call("bdev_aio_create", {"name": "x", "filename": secret, "block_size": 512}), "Permission denied")
        self.assertEqual(server.stop(), 0)

    def test_a_state_file_that_the_user_cannot_replace_is_refused_at_the_start(self):
        status, said = refusal("--user", "nobody", "--state", os.path.join(self.place, "state.json"))
        self.assertEqual(status, 1)
        self.assertIn("Permission denied", said)
        self.assertIn("state.json", said)

    def test_who_is_not_root_cannot_become_another(self):
        if not shutil.which("setpriv"):
            self.skipTest("setpriv is not there to become somebody else with")
        before = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        done = subprocess.run([*before, self.program, "-r", os.path.join(self.data, "rpc.sock"), "--user", "root"], capture_output=True, text=True, timeout=60,
                              check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("--user root", done.stderr)


class AllowedPaths(Started):
    def test_only_what_lies_beneath_opens_and_a_refusal_names_path_and_option(self):
        folder = self.folder()
        inside, outside = os.path.join(folder, "in"), os.path.join(folder, "out")
        for each in (inside, outside):
            os.mkdir(each)
            with open(os.path.join(each, "disk"), "wb") as file:
                file.truncate(1 << 20)
        os.mkdir(os.path.join(folder, "state"))
        state = os.path.join(folder, "state", "state.json")
        server = self.start("--allow-path", inside, "--state", state)
        if "--allow-path has no effect" in server.log_text():
            self.skipTest("this kernel has no Landlock")
        self.assertIn(f"files and disks must lie beneath {inside}", server.log_text())
        call = server.client.call
        call("bdev_aio_create", {"name": "a0", "filename": os.path.join(inside, "disk"), "block_size": 512})
        for method, more in (("bdev_aio_create", {"block_size": 512}), ("bdev_uring_create", {})):
            path = os.path.join(outside, "disk")
            self.assert_refused(lambda: call(method, {"name": "x", "filename": path, **more}), "Permission denied", path, f"--allow-path allows: {inside}")
        key = os.path.join(outside, "key")
        with open(key, "w", encoding="ascii") as file:
            file.write("0" * 32)
        os.chmod(key, 0o600)
        self.assert_refused(lambda: call("keyring_file_add_key", {"name": "k", "path": key}), key, "--allow-path")
        # Whatever the server reads of the machine for itself still works, and the state file is written.
        call("framework_get_reactors")
        call("thread_get_stats")
        call("bdev_malloc_create", {"name": "m0", "num_blocks": 2048, "block_size": 512})
        with open(state, encoding="utf-8") as file:
            self.assertIn('"m0"', file.read())
        path = server.path
        self.assertEqual(server.stop(), 0)
        self.assertFalse(os.path.exists(path), "the socket was not removed")


class RpcSocket(Started):
    def test_mode_owner_and_group_are_as_asked(self):
        server = self.start()
        self.assertEqual(stat.S_IMODE(os.stat(server.path).st_mode), 0o600)
        group = str(NOBODY if AS_ROOT else os.getgid())
        server = self.start("--rpc-socket-mode", "0660", "--rpc-socket-group", group)
        found = os.stat(server.path)
        self.assertEqual(stat.S_IMODE(found.st_mode), 0o660)
        self.assertEqual(found.st_gid, int(group))
        if AS_ROOT:
            server = self.start("--rpc-socket-owner", "nobody")
            self.assertEqual(os.stat(server.path).st_uid, NOBODY)


class AuditLog(Started):
    CHANGE = {"name": "n0", "num_blocks": 8, "block_size": 512}

    def test_changes_are_in_the_log_with_caller_parameters_and_result(self):
        server = self.start()
        server.client.call("bdev_null_create", self.CHANGE)
        self.assert_refused(lambda: server.client.call("bdev_null_create", self.CHANGE), "")
        server.client.call("bdev_get_bdevs")
        lines = [line for line in server.log_text().split("\n") if "audit: " in line]
        who = f"uid {os.getuid()} gid {os.getgid()} pid {os.getpid()} (unix): bdev_null_create"
        self.assertEqual(len(lines), 2, lines)
        for line in lines:
            self.assertIn(who, line)
            self.assertIn('"n0"', line)
        self.assertTrue(lines[0].endswith(": ok"), lines[0])
        self.assertIn("error -17", lines[1])

    def test_a_file_gets_a_line_of_json_per_change_and_secrets_are_not_in_it(self):
        path = os.path.join(self.folder(), "audit")
        server = self.start("--audit-log", path)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        secret = "0123456789abcdef0123456789abcdef"
        other = "fedcba9876543210fedcba9876543210"
        server.client.call("accel_crypto_key_create", {"cipher": "AES_XTS", "key": secret, "key2": other, "name": "k0"})
        server.client.call("bdev_null_create", self.CHANGE)
        self.assert_refused(lambda: server.client.call("bdev_null_create", {"name": 5}), "")
        server.client.call("bdev_get_bdevs")
        with open(path, encoding="utf-8") as file:
            text = file.read()
        for bytes_of_a_key in (secret, other):
            self.assertNotIn(bytes_of_a_key, text)
            self.assertNotIn(bytes_of_a_key, server.log_text())
        records = [json.loads(line) for line in text.splitlines()]
        self.assertEqual([record["method"] for record in records], ["accel_crypto_key_create", "bdev_null_create", "bdev_null_create"])
        self.assertEqual(records[1]["params"], self.CHANGE)
        self.assertEqual(records[1]["result"], "ok")
        self.assertEqual(records[2]["result"]["code"], -32602)
        for record in records:
            self.assertEqual(record["caller"]["pid"], os.getpid())
            self.assertEqual(record["caller"]["uid"], os.getuid())
            self.assertGreaterEqual(record["took_us"], 0)
        self.assertNotIn("audit:", server.log_text())

    def methods(self, path):
        with open(path, encoding="utf-8") as file:
            return [json.loads(line)["params"]["name"] for line in file]

    def hang_up(self, server, outcome):
        before = len(server.log_text())
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: outcome in server.log_text()[before:], outcome)

    def check_rotation(self, *options):
        folder = self.folder()
        disks = os.path.join(folder, "disks")
        os.mkdir(disks)
        os.chmod(folder, 0o777)
        path = os.path.join(folder, "audit")
        server = self.start("--audit-log", path, *[option.replace("DISKS", disks) for option in options])
        make = lambda name: server.client.call("bdev_null_create", {"name": name, "num_blocks": 8, "block_size": 512})
        make("n0")
        os.rename(path, path + ".1")
        make("n1")
        self.hang_up(server, f"the audit log is {path} from now on")
        make("n2")
        self.assertEqual(self.methods(path + ".1"), ["n0", "n1"])
        self.assertEqual(self.methods(path), ["n2"])
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        # What cannot be opened leaves the one that is: nothing is lost.
        os.rename(path, path + ".2")
        os.mkdir(path)
        self.hang_up(server, "the audit log goes on into the file that was open")
        make("n3")
        self.assertEqual(self.methods(path + ".2"), ["n2", "n3"])
        self.assertNotIn("was refused", server.log_text())
        self.assertEqual(server.stop(), 0)

    def test_sighup_opens_the_file_anew_for_logrotate(self):
        self.check_rotation()

    def test_sighup_opens_the_file_anew_behind_landlock(self):
        self.check_rotation("--allow-path", "DISKS")

    @unittest.skipUnless(AS_ROOT, "--user needs root")
    def test_sighup_opens_the_file_anew_as_another_user(self):
        self.check_rotation("--user", "nobody")

    def test_it_can_be_off(self):
        server = self.start("--audit-log", "off")
        server.client.call("bdev_null_create", self.CHANGE)
        self.assertNotIn("audit:", server.log_text())

    def test_a_file_that_cannot_be_opened_is_named(self):
        status, said = refusal("--audit-log", "/no/such/folder/audit")
        self.assertEqual(status, 1)
        self.assertIn("--audit-log '/no/such/folder/audit'", said)


if __name__ == "__main__":
    unittest.main()

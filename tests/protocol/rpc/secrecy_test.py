#!/usr/bin/env -S /usr/bin/python3
"""A search for key bytes in everything that the process lets out while keys are in use."""
import base64
import json
import os
import tempfile
import unittest
import uuid

from auth_host import Refused, dhchap
from auth_server import HOST, NQN, Server
from nvme_client import Controller
from server_process import RpcFailure


class SecrecyTest(unittest.TestCase):
    """Key bytes in no output: log, answers, saved configuration, state file, and a core made of the process while keys are in use."""

    def test_grep(self):
        folder = tempfile.TemporaryDirectory(prefix="catnap_auth_")
        self.addCleanup(folder.cleanup)
        state = os.path.join(folder.name, "state.json")
        server = Server("--state", state)
        try:
            server.set_up()
            secret = server.add_key("grep", dhchap.make_secret(64))
            server.call("nvmf_subsystem_set_keys", nqn=NQN, host=HOST, dhchap_key="grep", dhchap_ctrlr_key="grep")
            outputs = []
            queue = server.admin(secret, ctrlr_secret=secret).authenticate(groups=(1,))
            server.call("bdev_nvme_attach_controller", name="Nvme0", trtype="TCP", traddr="127.0.0.1", trsvcid=str(server.port), subnqn=NQN, hostnqn=HOST,
                        dhchap_key="grep", dhchap_ctrlr_key="grep")
            with self.assertRaises(Refused):
                server.admin(dhchap.make_secret()).authenticate()
            for method in server.call("rpc_get_methods"):
                if "_get_" in method or method.startswith(("framework_", "save")) and "start" not in method and "wait" not in method:
                    try:
                        outputs.append(json.dumps(server.call(method)))
                    except RpcFailure as failure:
                        outputs.append(str(failure))
            outputs.append(json.dumps([server.call("framework_get_config", name=name["subsystem"]) for name in server.call("framework_get_subsystems")]))
            self.assertIn('"dhchap_key": "grep"', outputs[-1])
            core = self.core_of(server.process.pid)
            outputs.append(server.log_text())
            with open(state, encoding="utf-8") as file:
                outputs.append(file.read())
            self.assertIn('"dhchap_key" : "grep"', outputs[-1])
            body = secret.split(":")[2]
            raw = base64.b64decode(body)[:-4]
            needles = [body.encode(), raw, raw.hex().encode(), raw[:16], raw[-16:]]
            for needle in needles:
                for text in outputs:
                    self.assertNotIn(needle, text.encode())
                self.assertNotIn(needle, core)
            self.assertIn(HOST.encode(), core, "the search finds what is there")
            queue.close()
            self.assertEqual(server.stop(), 0, server.log_text())
        finally:
            server.clean()

    def test_data_of_hosts_is_in_no_core(self):
        server = Server()
        try:
            server.set_up()
            pattern = os.urandom(32)
            host_id = uuid.uuid4()
            server.call("nvmf_subsystem_add_host", nqn=NQN, host=f"nqn.2014-08.org.nvmexpress:uuid:{host_id}")
            host = Controller(server.address, NQN, host_id=host_id, header_digest=True, data_digest=True)
            self.addCleanup(host.close)
            # In the capsule, by H2CData, and as large as they come; read again; left on the malloc disk.
            for size in (4096, 65536, 131072):
                host.write(1, 0, pattern * (size // len(pattern)))
                self.assertEqual(host.read(1, 0, size), pattern * (size // len(pattern)))
            core = self.core_of(server.process.pid)
            self.assertIn(NQN.encode(), core, "the search finds what is there")
            self.assertEqual(core.count(pattern), 0)
            self.assertEqual(server.stop(), 0, server.log_text())
        finally:
            server.clean()

    @staticmethod
    def core_of(pid):
        """What a core dump would have: all private memory but what is marked as not to be dumped."""
        core = []
        with open(f"/proc/{pid}/smaps", encoding="utf-8") as smaps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            area = None
            for line in smaps:
                head = line.split()[0]
                if "-" in head and not head.endswith(":"):
                    start, end = (int(each, 16) for each in head.split("-"))
                    area = (start, end) if line.split()[1].startswith("rw") else None
                elif head == "Rss:" and area and int(line.split()[1]) == 0:
                    area = None
                elif head == "VmFlags:" and area and "dd" not in line.split() and area[1] - area[0] < 1 << 32:
                    try:
                        memory.seek(area[0])
                        left = area[1] - area[0]
                        while left > 0:
                            part = memory.read(min(left, 1 << 24))
                            if not part:
                                break
                            core.append(part)
                            left -= len(part)
                    except (OSError, ValueError):
                        continue  # [vvar] and the like
        return b"".join(core)


if __name__ == "__main__":
    unittest.main()

#!/usr/bin/env -S /usr/bin/python3
"""A search for key bytes in everything that the process lets out while keys are in use."""
import base64
import hashlib
import json
import os
import tempfile
import unittest
import uuid

from auth_host import AuthQueue, Refused, dhchap
from auth_server import HOST, NQN, Server
from expect import end_well, wait_for
from nvme_client import Controller
from server_process import RpcFailure, free_tcp_port
from tls_bytes import TlsBytes
from tls_keys import GeneratedKey, HostKey, interchange, new_key


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
            outputs += self.answers_of(server)
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

    def test_keys_made_on_the_way(self):
        """What nobody configured: Diffie-Hellman secrets, keys out of authentication, PSKs derived of both kinds, secrets and keys of TLS connections."""
        server = Server("-L", "all")
        self.addCleanup(end_well, server)
        server.set_up()
        port = free_tcp_port()
        server.call("nvmf_subsystem_add_listener", nqn=NQN, secure_concatenation="allowed",
                    listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(port)})
        address, host_id = ("127.0.0.1", port), uuid.uuid4()
        first = AuthQueue(address, NQN, HOST, server.secrets["host"], host_id=host_id)
        self.addCleanup(first.close)
        first.authenticate(sc_c=dhchap.NEW_TLS_PSK, groups=(1,))
        raw = new_key()
        server.add_key("psk", interchange(raw, 1))
        server.call("nvmf_subsystem_set_keys", nqn=NQN, host=HOST, dhchap_key="host", dhchap_ctrlr_key="ctrlr", psk="psk")
        configured, generated = HostKey(raw, 1, HOST, NQN), GeneratedKey(first.generated, HOST, NQN)
        connections = []

        def dial(key):
            connections.append(TlsBytes(address, key).start().finish())
            return connections[-1]

        queues = [AuthQueue(address, NQN, HOST, server.secrets["host"], host_id=host_id, dial=lambda _, key=key: dial(key)) for key in (generated, configured)]
        for queue in queues:
            self.addCleanup(queue.close)
        queues[0].get_property().check("CSTS")
        queues[1].authenticate(groups=(1,))
        # Nowhere at any time, as they are in memory of their own, or gone when they have served.
        never = {"generated key": first.generated, "Diffie-Hellman secret": first.agreed, "session key": hashlib.new(first.hash, first.agreed).digest(),
                 "configured key": raw, "secret within TLS": queues[1].agreed}
        # In the memory of TLS connections, which core dumps may have, as long as these live.
        while_used = {}
        for number, (tls, key) in enumerate(zip(connections, (generated, configured))):
            while_used.update({f"PSK {number}": key.psk, f"handshake {number}": tls.client_handshake_secret})
            for side, protection in (("client", tls.to_server), ("server", tls.from_server)):
                while_used.update({f"{side}'s secret {number}": protection.secret, f"{side}'s key {number}": protection.key})
        self.assertEqual(self.found(server, never), [])
        first.close()
        for queue in queues:
            queue.close()
        wait_for(lambda: not server.call("nvmf_subsystem_get_qpairs", nqn=NQN), "queues to go")
        wait_for(lambda: not self.found(server, {**never, **while_used}), lambda: f"{self.found(server, {**never, **while_used})} to be cleared")
        text = "\n".join(self.answers_of(server))
        self.assertEqual(server.stop(), 0, server.log_text())
        text += server.log_text()
        self.assertIn(generated.identity.split()[1], text, "the search finds what is there")
        for name, secret in {**never, **while_used}.items():
            for form in (secret.hex(), base64.b64encode(secret).decode()[:-3], secret[:16].hex()):
                self.assertNotIn(form.lower(), text.lower(), name)

    def found(self, server, secrets):
        """Names of those that a core dump would have."""
        core = self.core_of(server.process.pid)
        self.assertIn(HOST.encode(), core, "the search finds what is there")
        return [name for name, secret in secrets.items() if secret[:16] in core]

    @staticmethod
    def answers_of(server):
        """What RPCs that ask say, the configuration as it is saved last."""
        answers = []
        for method in server.call("rpc_get_methods"):
            if "_get_" in method or method.startswith(("framework_", "save")) and "start" not in method and "wait" not in method:
                try:
                    answers.append(json.dumps(server.call(method)))
                except RpcFailure as failure:
                    answers.append(str(failure))
        answers.append(json.dumps([server.call("framework_get_config", name=name["subsystem"]) for name in server.call("framework_get_subsystems")]))
        return answers

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

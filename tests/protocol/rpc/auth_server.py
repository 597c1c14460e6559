"""catnapd with a keyring of files and a subsystem that some hosts must authenticate themselves to, for the tests of keys.

Left out: the host (auth_host.py).
"""
import os

from auth_host import AuthQueue, dhchap
from expect import wait_for
from server_process import ServerProcess, free_tcp_port

NQN, HOST, OPEN_HOST = "nqn.2026-11.io.catnap:auth", "nqn.2026-11.io.catnap:host", "nqn.2026-11.io.catnap:open"
DISCOVERY = "nqn.2014-08.org.nvmexpress.discovery"


class Server(ServerProcess):
    """With a keyring of files, a malloc bdev and a subsystem for HOST (keys) and OPEN_HOST (none)."""

    def __init__(self, *options, config=None, **keywords):
        if config is not None:
            options = (*options, "--wait-for-rpc")
            super().__init__(*options, wait=False, **keywords)
            self.client.call("nvmf_set_config", config)
            self.client.call("framework_start_init")
            self.client.call("framework_wait_init")
        else:
            super().__init__(*options, **keywords)
        self.secrets = {}
        self.port = free_tcp_port()
        self.address = ("127.0.0.1", self.port)

    def call(self, method, **params):
        return self.client.call(method, params)

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def write_key(self, name, secret=None, mode=0o600):
        self.secrets[name] = secret or dhchap.make_secret(length=32)
        with open(self.path_of_key(name), "w", encoding="utf-8") as file:
            file.write(self.secrets[name] + "\n")
        os.chmod(self.path_of_key(name), mode)

    def path_of_key(self, name):
        return os.path.join(self.folder.name, f"{name}.key")

    def add_key(self, name, secret=None):
        self.write_key(name, secret)
        self.call("keyring_file_add_key", name=name, path=self.path_of_key(name))
        return self.secrets[name]

    def listen(self, nqn=NQN):
        self.call("nvmf_subsystem_add_listener", nqn=nqn,
                  listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(self.port)})

    def set_up(self):
        self.call("nvmf_create_transport", trtype="TCP")
        self.call("bdev_malloc_create", name="Malloc0", num_blocks=2048, block_size=512)
        self.call("nvmf_create_subsystem", nqn=NQN, serial_number="AUTH")
        self.call("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": "Malloc0", "uuid": "11111111-2222-4333-8444-555555555555"})
        self.listen()
        for name in ("host", "ctrlr", "other"):
            self.add_key(name)
        self.call("nvmf_subsystem_add_host", nqn=NQN, host=HOST, dhchap_key="host", dhchap_ctrlr_key="ctrlr")
        self.call("nvmf_subsystem_add_host", nqn=NQN, host=OPEN_HOST)
        return self

    def admin(self, secret=None, hostnqn=HOST, **keywords):
        return AuthQueue(self.address, NQN, hostnqn, secret or self.secrets["host"], **keywords)

    def auth_of(self, qid=0):
        """Of the one queue with that id, once those whose connections have ended are gone."""
        found = []

        def only_one():
            found[:] = [queue.get("auth") for queue in self.call("nvmf_subsystem_get_qpairs", nqn=NQN) if queue["qid"] == qid]
            return len(found) == 1

        wait_for(only_one, lambda: f"one queue {qid}: {found}")
        return found[0]

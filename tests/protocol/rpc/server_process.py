"""catnapd as a child process for the Python tests of this folder, ended by its process id, with a folder of its own.

Left out: NVMe/TCP (tests/protocol/client).
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile

ROOT = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..", "..")
sys.path.insert(0, os.path.join(ROOT, "scripts"))

from catnap_rpc.client import Client, RpcFailure  # noqa: E402

PROGRAM = os.environ.get("CATNAP_SERVER", os.path.join(ROOT, "build", "debug", "bin", "catnapd"))
RPC_PY = os.path.join(ROOT, "scripts", "rpc.py")
# Sanitizer builds start slowly on busy machines; the client tries again every 0.2 s for this many times.
CONNECT_RETRIES = 150
# A system call that catnapd's filter does not know is a mistake in the filter, also where the caller found another way.
REFUSED = "was refused by catnapd's own filter"
# SIGTERM promises an end within 2 s; the bound only keeps a broken server from holding the test up.
END_TIMEOUT_S = 60


def free_tcp_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class ServerProcess:
    """`options` are added to the command line. `client` is connected and, unless `wait` is false, the server
    initialized. `program` is started instead of catnapd, to start it; `before` are words of a command line that starts it, `environment` is
    added to ours. `stdin`: by default nothing, so that it is no terminal whoever runs the tests."""

    def __init__(self, *options, wait=True, program=PROGRAM, before=(), environment=None, stdin=subprocess.DEVNULL):
        self.folder = tempfile.TemporaryDirectory(prefix="catnap_rpc_")
        self.path = os.path.join(self.folder.name, "rpc.sock")
        self.log = open(os.path.join(self.folder.name, "log"), "w+", encoding="utf-8", errors="replace")
        self.process = subprocess.Popen([*before, program, "-r", self.path, *options], stdin=stdin, stdout=self.log, stderr=self.log,
                                        env={**os.environ, **(environment or {})})
        self.client = None
        try:
            self.client = self.connect()
            if wait:
                self.client.call("framework_wait_init")
        except BaseException:
            status = self.stop()
            print(f"catnapd ended with status {status}:\n{self.log_text()}", file=sys.stderr)
            self.clean()
            raise

    def connect(self):
        for _ in range(CONNECT_RETRIES):
            try:
                return Client(self.path, retries=1)
            except RpcFailure:
                if self.process.poll() is not None:
                    raise
        return Client(self.path)

    def log_text(self):
        self.log.seek(0)
        return self.log.read()

    def rpc_py(self, *arguments, text=""):
        """Exit status, standard output and standard error of scripts/rpc.py."""
        done = subprocess.run([RPC_PY, "-s", self.path, *arguments], input=text, capture_output=True, text=True, timeout=120, check=False)
        return done.returncode, done.stdout, done.stderr

    def wait(self):
        """Exit status; -N when signal N ended it."""
        status = self.process.wait(END_TIMEOUT_S)
        refused = [line for line in self.log_text().splitlines() if REFUSED in line]
        assert not refused, "\n".join(refused)
        return status

    def stop(self):
        if self.client is not None:
            self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def clean(self):
        if self.client is not None:
            self.client.close()
        self.log.close()
        self.folder.cleanup()

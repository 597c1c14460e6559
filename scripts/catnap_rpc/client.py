"""JSON-RPC 2.0 over a Unix socket: one connection, calls one after another or as a batch.

Left out: HTTP (http_client.py), several calls in flight at once.
"""

import json
import os
import socket
import sys
import time

SERVICE_ADDRESS = "/run/catnap/rpc.sock"  # of the packaged service
ADDRESS_ENVIRONMENT = "CATNAP_RPC_SOCKET"
DEFAULT_ADDRESS = os.environ.get(ADDRESS_ENVIRONMENT) or (SERVICE_ADDRESS if os.path.exists(SERVICE_ADDRESS) else "/var/tmp/spdk.sock")
DEFAULT_TIMEOUT_S = 60.0
RETRY_INTERVAL_S = 0.2


def program_name(in_the_tree, installed):
    """What the program is called where it was called from: help texts and errors say that."""
    return installed if os.path.basename(sys.argv[0]) == installed else in_the_tree


class RpcFailure(Exception):
    """What went wrong, as text for people; `error` is the server's error object, or None, `method` what was called. `line`: of standard input, or ""."""

    def __init__(self, message, error=None, method=""):
        super().__init__(message)
        self.message = message
        self.error = error
        self.method = method
        self.line = ""


class NotConnected(RpcFailure):
    """There is nobody at the address."""


class TimedOut(RpcFailure):
    """No answer in time; the call may still be made."""


class ConnectionEnded(RpcFailure):
    """The server closed the connection before it answered."""


def error_text(request, error):
    """The words that clients of SPDK's Python client look for: they match the third line and parse what follows "response:"."""
    return "\n".join(["request:", json.dumps(request, indent=2), "Got JSON-RPC error response", "response:", json.dumps(error, indent=2)])


class Caller:
    """What all clients share: requests with rising ids, and what is made of replies. Who derives from it has _send(value) and _receive()."""

    def __init__(self, address, verbose):
        self.address = address
        self.verbose = verbose
        self._last_id = 0

    def call(self, method, params=None):
        """The result of one call; RpcFailure with the server's error otherwise."""
        request = self._request(method, params)
        self._send(request)
        try:
            reply = self._receive()
        except ConnectionEnded:
            if method == "spdk_kill_instance":
                return True  # it died before it could answer, as asked
            raise
        if not isinstance(reply, dict) or reply.get("id") != request["id"]:
            if isinstance(reply, dict) and "error" in reply:
                raise RpcFailure(error_text(request, reply["error"]), reply["error"], method)
            raise RpcFailure(f"the reply does not belong to the request: {json.dumps(reply)}")
        if "error" in reply:
            raise RpcFailure(error_text({"method": method, "params": params or {}}, reply["error"]), reply["error"], method)
        return reply.get("result")

    def call_batch(self, calls):
        """`calls` is a list of (method, params); the replies in the same order."""
        requests = [self._request(method, params) for method, params in calls]
        if not requests:
            return []
        self._send(requests)
        replies = self._receive()
        if not isinstance(replies, list):
            raise RpcFailure(f"the batch was refused: {json.dumps(replies)}")
        by_id = {reply.get("id"): reply for reply in replies}
        return [by_id.get(request["id"], {"error": {"code": 0, "message": "no reply"}}) for request in requests]

    def _request(self, method, params):
        self._last_id += 1
        request = {"jsonrpc": "2.0", "id": self._last_id, "method": method}
        if params:
            request["params"] = params
        return request

    def _log(self, what, value):
        if self.verbose:
            print(f"{what}:\n{json.dumps(value, indent=2)}", file=sys.stderr)


class Client(Caller):
    """A connected client. Times in seconds; `log` gets every request and reply when verbose."""

    def __init__(self, address=DEFAULT_ADDRESS, timeout_s=DEFAULT_TIMEOUT_S, retries=0, verbose=False):
        super().__init__(address, verbose)
        if timeout_s <= 0:
            raise RpcFailure(f"the timeout is {timeout_s} s, it must be more than 0")
        self.timeout_s = timeout_s
        self._received = b""
        self._socket = self._connect(retries)

    def _connect(self, retries):
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.settimeout(self.timeout_s)
                connection.connect(self.address)
                return connection
            except OSError as failure:
                connection.close()
                if retries <= 0:
                    raise NotConnected(f"Error while connecting to {self.address}\nIs catnapd running, and is this its -r/--rpc-socket?\n"
                                     f"Error details: {failure}") from failure
            retries -= 1
            time.sleep(RETRY_INTERVAL_S)

    def close(self):
        self._socket.close()

    def _send(self, value):
        self._log("request", value)
        try:
            self._socket.settimeout(self.timeout_s)
            self._socket.sendall(json.dumps(value).encode())
        except TimeoutError as failure:
            raise TimedOut(f"Timeout after {self.timeout_s} s while sending the request") from failure
        except OSError as failure:
            raise ConnectionEnded(f"Connection to {self.address} lost: {failure}") from failure

    def _receive(self):
        deadline = time.monotonic() + self.timeout_s
        while True:
            value = self._take_value()
            if value is not None:
                self._log("response", value)
                return value
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimedOut(f"Timeout while waiting for response ({self.timeout_s} s)")
            try:
                self._socket.settimeout(left_s)
                piece = self._socket.recv(65536)
            except TimeoutError:
                continue
            except OSError as failure:
                raise ConnectionEnded(f"Connection to {self.address} lost: {failure}") from failure
            if not piece:
                raise ConnectionEnded(f"Connection closed with partial response: {self._received[:200]!r}")
            self._received += piece

    def _take_value(self):
        # A whole reply ends here or with a line end; looking at every piece anew would take quadratic time.
        if not self._received.rstrip().endswith((b"}", b"]")) and b"\n" not in self._received:
            return None
        try:
            text = self._received.decode().lstrip()
            value, end = json.JSONDecoder().raw_decode(text)
        except ValueError:
            return None
        self._received = text[end:].encode()
        return value


class DryRunClient:
    """Prints what would be sent."""

    def call(self, method, params=None):
        print("Request:\n" + json.dumps({"method": method, "params": params or {}}, indent=2))

    def call_batch(self, calls):
        for method, params in calls:
            self.call(method, params)
        return []

    def close(self):
        pass


class RecordingClient:
    """Keeps calls for a later batch."""

    def __init__(self):
        self.calls = []

    def call(self, method, params=None):
        self.calls.append((method, params))

    def close(self):
        pass

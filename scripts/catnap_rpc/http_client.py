"""JSON-RPC over HTTP: POST to the server's URL, with credentials from a file or the environment, never from the command line (others can read that).

Left out: proxies, redirects (credentials would go where nobody meant them to).
"""

import base64
import http.client
import json
import os
import ssl
import stat
import urllib.parse

from .client import Caller, ConnectionEnded, NotConnected, RpcFailure, TimedOut

ENVIRONMENT = "CATNAP_HTTP_CREDENTIALS"
DEFAULT_PATH = "/rpc"
# What of an error page is shown.
MAX_SAID = 300


class NotAdmitted(RpcFailure):
    """The server wants other credentials, or does not permit this to them."""


def read_credentials(path=None):
    """USER:PASSWORD, or a token without a colon: the first line of the file, else what the environment says. None: no credentials. RpcFailure when others
    may read the file."""
    if path is None:
        return os.environ.get(ENVIRONMENT) or None
    try:
        with open(path, encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode) and mode & 0o077:
                raise RpcFailure(f"the credentials file {path} can be read by others (mode {stat.S_IMODE(mode):04o}); chmod 600 it")
            line = file.readline().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as failure:
        raise RpcFailure(f"the credentials file {path} cannot be read: {failure}") from failure
    if not line:
        raise RpcFailure(f"the credentials file {path} is empty; its first line is USER:PASSWORD or a token")
    return line


def authorization(credentials):
    if ":" in credentials:
        return "Basic " + base64.b64encode(credentials.encode()).decode()
    return "Bearer " + credentials


class HttpClient(Caller):
    """Calls by POST over one connection that is kept."""

    def __init__(self, url, timeout_s, verbose=False, credentials=None, ca_file=None):
        super().__init__(url, verbose)
        self.timeout_s = timeout_s
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise RpcFailure(f"the URL '{url}' is none of HTTP, as http://localhost:9420")
        if parts.username is not None:
            raise RpcFailure(f"credentials do not belong into the URL (others can read command lines); use --http-credentials or {ENVIRONMENT}")
        self._path = parts.path if parts.path not in ("", "/") else DEFAULT_PATH
        self._headers = {"Content-Type": "application/json"}
        if credentials:
            self._headers["Authorization"] = authorization(credentials)
        try:
            if parts.scheme == "https":
                self._connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout_s, context=ssl.create_default_context(cafile=ca_file))
            else:
                self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
            self._connection.connect()
        except (OSError, ValueError) as failure:
            raise NotConnected(f"Error while connecting to {url}\nIs catnapd running there with --http?\nError details: {failure}") from failure
        self._body = b""

    def close(self):
        self._connection.close()

    def _send(self, value):
        self._log("request", value)
        self._body = json.dumps(value).encode()

    def _exchange(self):
        """Status and body of the answer to what _send was given."""
        try:
            self._connection.request("POST", self._path, self._body, self._headers)
            response = self._connection.getresponse()
            return response.status, response.read()
        except TimeoutError as failure:
            raise TimedOut(f"Timeout while waiting for response ({self.timeout_s} s)") from failure
        except (OSError, http.client.HTTPException) as failure:
            raise ConnectionEnded(f"Connection to {self.address} lost: {failure or type(failure).__name__}") from failure

    def _receive(self):
        status, body = self._exchange()
        said = body.decode(errors="replace").strip()
        if status == 401:
            raise NotAdmitted(f"{self.address} asks for credentials{': ' + said[:MAX_SAID] if said else ''} (--http-credentials FILE, or {ENVIRONMENT})")
        try:
            value = json.loads(said) if said else None
        except ValueError:
            value = None
        if isinstance(value, (dict, list)):
            self._log("response", value)
            return value
        if status == 403:
            raise NotAdmitted(f"{self.address} does not permit this: {said[:MAX_SAID]}")
        raise RpcFailure(f"{self.address} answered with HTTP status {status}: {said[:MAX_SAID]}")

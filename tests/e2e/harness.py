"""What the end-to-end tests share: running named cases, skipping in words, catnapd as a process, JSON-RPC, free ports.

Left out: guests (guest.py), the raw NVMe/TCP client (nvme_client.py).
"""
import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import weakref
from pathlib import Path

from guest import REFUSED, GuestError, die_with_parent, missing_prerequisite, refused_in_guests

ROOT = Path(__file__).resolve().parents[2]
SKIPPED = 77  # ctest's SKIP_RETURN_CODE, see CMakeLists.txt
START_TIMEOUT_S = 60
# All end-to-end tests run with both filters on; what the servers are given to serve lies in temporary folders.
CONFINED = ("--seccomp", "on", "--allow-path", tempfile.gettempdir())
# catnapd promises to end within 2 s of SIGTERM; the rest is for a loaded machine.
STOP_TIMEOUT_S = 60


_servers = weakref.WeakSet()
_refused = []


def refused_lines():
  """What the filters of all servers had to refuse so far, here and in guests, also of those that have ended. None, when all is well: a system call that the
  filter does not know is a mistake in the filter, also where the caller found another way."""
  return _refused + [line for server in _servers for line in server.refused_lines()] + refused_in_guests()


def skip(reason):
  """Ends the program as skipped, with the reason as its last line."""
  print(f"SKIPPED: {reason}", flush=True)
  sys.exit(SKIPPED)


def options(description, *more):
  """Command line of a test program; `more` are (flag, keywords) pairs for argparse."""
  parser = argparse.ArgumentParser(description=description)
  parser.add_argument("--catnapd", type=Path, default=ROOT / "build" / "release" / "bin" / "catnapd", help="the server under test")
  parser.add_argument("--only", help="run only cases whose name contains this text")
  parser.add_argument("--logs", type=Path, help="keep logs in this folder (made if missing)")
  for flag, keywords in more:
    parser.add_argument(flag, **keywords)
  chosen = parser.parse_args()
  if chosen.logs:
    chosen.logs.mkdir(parents=True, exist_ok=True)
  return chosen


def free_port():
  """A TCP port of 127.0.0.1 that nobody listens on."""
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]


def wait_for(condition, timeout_s, what):
  """Polls until `condition()` gives something true; returns that, or fails naming `what`."""
  deadline = time.monotonic() + timeout_s
  while True:
    result = condition()
    if result:
      return result
    if time.monotonic() > deadline:
      raise AssertionError(f"waited {timeout_s} s in vain for {what}")
    time.sleep(0.05)


class NotHere(Exception):
  """This case cannot run on this machine; the text says why."""


class Cases:
  """Named cases that run in order of their declaration; one that fails does not stop the next, unless the guest is gone."""

  def __init__(self, title):
    self.title = title
    self.cases = []

  def case(self, name):
    def declare(function):
      self.cases.append((name, function))
      return function

    return declare

  @staticmethod
  def _tidied(tidy, context):
    """None, or why no further case can run."""
    try:
      if tidy:
        tidy(context)
    except Exception as problem:  # whatever it is, it is told with the case
      return str(problem) or traceback.format_exc()
    return None

  def run(self, context, only=None, tidy=None, judge=None, explain=None):
    """Runs all cases with `context`; returns the exit code for ctest. After each case `tidy` makes room for the next one (if it cannot, nothing more is
    run), and `judge` may find fault with what the case left behind. `explain` gives text that helps to understand a failure."""
    failed, not_run, passed, skipped = [], [], 0, 0
    started = time.monotonic()
    gone = None
    for name, function in self.cases:
      if only and only not in name:
        continue
      if gone:
        not_run.append(name)
        continue
      print(f"[ RUN    ] {name}", flush=True)
      begun = time.monotonic()
      try:
        try:
          function(context)
        finally:
          gone = self._tidied(tidy, context)
        if judge:
          judge(context)
        assert not gone, gone
      except NotHere as reason:
        skipped += 1
        print(f"[ SKIPPED] {name}: {reason}", flush=True)
      except Exception as problem:  # a case may fail in any way; all of them are reported
        text = str(problem) if isinstance(problem, (AssertionError, GuestError)) and str(problem) else traceback.format_exc()
        print(f"{text.rstrip()}\n[ FAILED ] {name} ({time.monotonic() - begun:.1f} s)", flush=True)
        failed.append(name)
        if explain and not gone:
          print(explain(context), flush=True)
        if gone:
          print(f"nothing can follow: {gone}", flush=True)
      else:
        passed += 1
        print(f"[     OK ] {name} ({time.monotonic() - begun:.1f} s)", flush=True)
    refused = refused_lines()
    if refused:
      print("[ FAILED ] no system call is refused\n" + "\n".join(refused), flush=True)
      failed.append("no system call is refused")
    print(f"{self.title}: {passed} passed, {len(failed)} failed, {len(not_run)} not run, {time.monotonic() - started:.0f} s", flush=True)
    for name in failed + not_run:
      print(f"  {'failed' if name in failed else 'not run'}: {name}", flush=True)
    return 1 if failed or not_run or not passed + skipped else 0


def run_program(cases, chosen, make_rig, in_guest=False):
  """What a test program's main() ends with: a folder of its own, `make_rig(folder, chosen)`, the cases; a rig with `close` is closed, and of one with a `guest`
  the console's end is printed when a case failed. Returns the exit code."""
  problem = missing_prerequisite() if in_guest else None
  if not problem and not chosen.catnapd.exists():
    problem = f"no server to test: {chosen.catnapd} is not there"
  if problem:
    skip(problem)
  if getattr(chosen, "seed", None) is not None:
    print(f"seed {chosen.seed} (--seed replays it)", flush=True)
  with tempfile.TemporaryDirectory(prefix=f"catnap-{cases.title}-") as folder:
    rig = make_rig(Path(folder), chosen)
    try:
      code = cases.run(rig, chosen.only)
      if code and getattr(rig, "guest", None):
        print(f"--- the guest's console ends\n{rig.guest.console()[-4000:]}")
    finally:
      if hasattr(rig, "close"):
        rig.close()
  return code or end_code()


def end_code():
  """1, if a server's filter had to refuse something at its end, when the cases were over."""
  refused = refused_lines()
  if refused:
    print("\n".join(refused), flush=True)
  return 1 if refused else 0


class RpcError(AssertionError):
  """The server's error answer."""

  def __init__(self, method, error):
    super().__init__(f"{method}: {error.get('message')} (code {error.get('code')})")
    self.code = error.get("code")
    self.message = error.get("message")


class Rpc:
  """JSON-RPC 2.0 over the server's Unix socket, one call at a time."""

  def __init__(self, path, timeout_s=30):
    self.path = str(path)
    self.timeout_s = timeout_s
    self.next_id = 1

  def call(self, method, **params):
    request = {"jsonrpc": "2.0", "id": self.next_id, "method": method}
    if params:
      request["params"] = params
    self.next_id += 1
    with socket.socket(socket.AF_UNIX) as connection:
      connection.settimeout(self.timeout_s)
      connection.connect(self.path)
      connection.sendall(json.dumps(request).encode())
      received = b""
      while True:
        part = connection.recv(65536)
        if not part:
          raise AssertionError(f"{method}: the server closed the connection after {received!r}")
        received += part
        try:
          answer = json.loads(received)
          break
        except ValueError:
          continue
    if "error" in answer:
      raise RpcError(method, answer["error"])
    return answer["result"]


class Catnapd:
  """The server as a child process with its own RPC socket and log; ended by its process id, and with the test that started it."""

  def __init__(self, binary, arguments=(), environment=None, name="catnapd", log_folder=None, confined=None):
    self.binary = Path(binary)
    if not os.access(self.binary, os.X_OK):
      skip(f"no server to test: {binary} is not there")
    self.arguments = list(arguments)
    self.environment = environment
    self.folder = Path(tempfile.mkdtemp(prefix="catnap-e2e-"))
    self.log_path = (Path(log_folder) if log_folder else self.folder) / f"{name}.log"
    self.socket_path = self.folder / "rpc.sock"
    self.process = None
    self.rpc = Rpc(self.socket_path)
    self.confined = CONFINED if confined is None else confined  # its options about that
    _servers.add(self)

  def __enter__(self):
    try:
      self.start()
    except BaseException:
      self.close()
      raise
    return self

  def __exit__(self, kind, *unused):
    try:
      if kind is None:
        self.check_nothing_refused()
    finally:
      self.close()

  def refused_lines(self):
    return [f"{self.log_path.name}: {line}" for line in self.log().splitlines() if REFUSED in line]

  def check_nothing_refused(self):
    refused = self.refused_lines()
    assert not refused, "\n".join(refused)

  def start(self):
    """Starts it and returns when it answers."""
    command = [str(self.binary), "-r", str(self.socket_path), *self.confined, *self.arguments]
    with open(self.log_path, "ab") as log:
      self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent,
                                      env={**os.environ, **(self.environment or {})})

    def answers():
      if self.process.poll() is not None:
        raise AssertionError(f"{self.binary} ended at its start with {self.process.returncode}:\n{self.log()[-3000:]}")
      try:
        return self.rpc.call("spdk_get_version")
      except (OSError, RpcError):
        return None

    wait_for(answers, START_TIMEOUT_S, f"the first answer of {self.binary}")

  def log(self):
    return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

  def alive(self):
    return self.process is not None and self.process.poll() is None

  def kill(self):
    """SIGKILL, as for a crash."""
    if self.alive():
      self.process.kill()
    self.process.wait()

  def terminate(self):
    """SIGTERM; its exit code must be 0."""
    assert self.alive(), f"catnapd ended by itself with {self.process.returncode}:\n{self.log()[-3000:]}"
    self.process.send_signal(signal.SIGTERM)
    try:
      code = self.process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
      self.kill()
      raise AssertionError(f"catnapd did not end within {STOP_TIMEOUT_S} s of SIGTERM; its log ends:\n{self.log()[-3000:]}") from None
    self.check_nothing_refused()
    assert code == 0, f"catnapd ended with {code} after SIGTERM; its log ends:\n{self.log()[-3000:]}"

  def close(self):
    if self.alive():
      self.kill()
    if self in _servers:
      _servers.discard(self)
      _refused.extend(self.refused_lines())
    shutil.rmtree(self.folder, ignore_errors=True)

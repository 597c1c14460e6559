#!/usr/bin/env -S /usr/bin/python3
"""The Debian package in a clean Debian 12: it installs, its service starts as its unit says, is confined, and goes without a trace.

The root is made by mmdebstrap from the mirror that this machine's apt uses, once, and kept beneath build/ (scripts/test fetches it while it builds).
systemd does not run in it: this test plays the service manager. Left out: a real boot of the unit.
"""

import argparse
import fcntl
import hashlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

from harness import Cases, free_port, skip  # noqa: E402 (needs the path above)

SUITE = "bookworm"
CACHE = ROOT / "build" / "cache"
# What Debian calls essential, and apt. Some seconds from a near mirror; a slow one shall not hold CI up for longer than this.
BOOTSTRAP_TIMEOUT_S = 600
STEP_TIMEOUT_S = 300
USER = "64000:64000"  # as DynamicUser= might choose
MOST_EXPOSURE = 2.0
# What dpkg, apt and the dynamic linker write for themselves.
NOT_OURS = ("var/lib/dpkg/", "var/cache/", "var/log/", "var/lib/apt/", "tmp/", "run/", "etc/ld.so.cache", "proc/", "sys/", "dev/")

cases = Cases("package_test")


def run(*command, timeout=STEP_TIMEOUT_S, check=True, **more):
  done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL, **more)
  assert not check or done.returncode == 0, f"{shlex.join(map(str, command))} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
  return done


def apt_mirror():
  """(URI, security URI or None) of Debian 12 in this machine's apt configuration; None where it has none."""
  done = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT) $(ORIGIN) $(SITE)", "Created-By: Packages", check=False)
  uris = {}
  for line in done.stdout.splitlines():
    words = line.split()
    if len(words) >= 4 and words[2] == "main" and words[3] == "Debian":
      uris[words[1]] = words[0]
  return (uris[SUITE], uris.get(f"{SUITE}-security")) if SUITE in uris else None


def proxies():
  """What this machine's apt says about proxies, as lines of an apt.conf."""
  done = run("apt-config", "dump", check=False)
  return "".join(f"{line}\n" for line in done.stdout.splitlines() if line.startswith("Acquire::") and "::Proxy" in line)


class Root:
  """A Debian 12 in a folder."""

  def __init__(self, folder):
    self.folder = Path(folder)

  def run(self, *command, **more):
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8", "HOME": "/root",
                   "PYTHONDONTWRITEBYTECODE": "1"}
    return run("chroot", str(self.folder), *command, env=environment, **more)

  def files(self):
    found = set()
    for folder, folders, names in os.walk(self.folder):
      for name in folders + names:
        path = os.path.relpath(os.path.join(folder, name), self.folder)
        if not (path + "/").startswith(NOT_OURS) and path not in NOT_OURS and "__pycache__" not in path:
          found.add(path)
    return found


def bootstrap(archive, mirror):
  """Fetches a clean root into a tar archive. Nothing of it need survive a power cut, so dpkg does not wait for disks; its package lists stay."""
  uri, security = mirror
  sources = [f"deb {uri} {SUITE} main"] + ([f"deb {security} {SUITE}-security main"] if security else [])
  part = archive.with_suffix(".part.tar")
  options = ["--mode=root", "--variant=apt", "--skip=cleanup/apt/lists", "--dpkgopt=force-unsafe-io"]
  options += [f"--aptopt={line}" for line in proxies().splitlines()]
  done = run("mmdebstrap", *options, SUITE, str(part), *sources, timeout=BOOTSTRAP_TIMEOUT_S, check=False)
  if done.returncode != 0:
    skip(f"mmdebstrap could not fetch a Debian 12 from {uri}: {(done.stdout + done.stderr).strip().splitlines()[-3:]}")
  part.rename(archive)


def make_base():
  """The cached archive of a clean root, made when it is not there."""
  mirror = apt_mirror()
  if not mirror:
    skip(f"this machine's apt configuration has no mirror of Debian's {SUITE}")
  key = hashlib.sha256(f"{mirror} 2".encode()).hexdigest()[:12]
  archive = CACHE / f"debian-12-{key}.tar"
  CACHE.mkdir(parents=True, exist_ok=True)
  with open(CACHE / "lock", "w", encoding="ascii") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not archive.exists():
      for old in CACHE.glob("debian-12-*"):
        old.unlink()
      bootstrap(archive, mirror)
  return archive


def make_package(build, folder):
  run("cpack", "-G", "DEB", "--config", str(build / "CPackConfig.cmake"), "-B", str(folder), cwd=build)
  found = list(Path(folder).glob("*.deb"))
  assert len(found) == 1, f"cpack made {found}"
  return found[0]


class Context:
  def __init__(self, root, package, build):
    self.root = root
    self.package = package
    self.build = build
    self.before = None
    self.after = None


def unit_of(context):
  return context.root.folder / "lib/systemd/system/catnapd.service"


def unit_values(context, name):
  return [line.split("=", 1)[1] for line in unit_of(context).read_text(encoding="utf-8").splitlines() if line.startswith(f"{name}=")]


@cases.case("lintian finds neither error nor warning")
def lintian(context):
  if not shutil.which("lintian"):
    from harness import NotHere
    raise NotHere("lintian is not installed")
  # The project has no mail address of its own, and the scripts' first line is the same in the tree.
  passed_over = "initial-upload-closes-no-bugs,bogus-mail-host,bogus-mail-host-in-debian-changelog,unusual-interpreter"
  done = run("lintian", "--fail-on", "error,warning", "--suppress-tags", passed_over, str(context.package), check=False)
  assert done.returncode == 0, done.stdout + done.stderr


@cases.case("cmake --install puts the same files beneath another prefix")
def installs_elsewhere(context):
  with tempfile.TemporaryDirectory(prefix="catnap-prefix-") as folder:
    run("cmake", "--install", str(context.build), "--prefix", folder)
    contents = run("dpkg-deb", "-c", str(context.package)).stdout
    packaged = {line.split()[5].removeprefix("./usr/") for line in contents.splitlines() if line.split()[5].startswith("./usr/") and line[0] != "d"}
    installed = {os.path.relpath(os.path.join(where, name), folder) for where, _, names in os.walk(folder) for name in names}
    assert installed - packaged == {"lib/systemd/system/catnapd.service"}, installed ^ packaged
    assert not packaged - installed, packaged - installed
    assert "usage: catnap-rpc" in run(f"{folder}/bin/catnap-rpc", "--help").stdout


@cases.case("installs with its dependencies")
def installs(context):
  root = context.root
  depends = run("dpkg-deb", "-f", str(context.package), "Depends").stdout.strip()
  root.run("apt-get", "satisfy", "-q", "-y", "--no-install-recommends", depends)
  context.before = root.files()
  shutil.copy(context.package, root.folder / "tmp/catnap.deb")
  root.run("dpkg", "-i", "/tmp/catnap.deb")
  context.after = root.files()
  new = context.after - context.before
  for path in ("usr/sbin/catnapd", "usr/bin/catnap-rpc", "usr/bin/catnap-perf", "usr/bin/catnap-top", "lib/systemd/system/catnapd.service",
               "etc/default/catnapd", "usr/share/man/man8/catnapd.8.gz", "usr/share/man/man1/catnap-rpc.1.gz", "usr/share/man/man1/catnap-perf.1.gz",
               "usr/share/man/man1/catnap-top.1.gz", "usr/share/bash-completion/completions/catnap-rpc", "usr/share/zsh/vendor-completions/_catnap-rpc",
               "usr/share/doc/catnap/copyright", "usr/share/doc/catnap/changelog.gz"):
    path = path if (root.folder / path).exists() else f"usr/{path}"
    assert os.path.lexists(root.folder / path), f"{path} was not installed; there are {sorted(new)}"
  assert "ok installed" in root.run("dpkg-query", "-W", "-f", "${Status}", "catnap").stdout


@cases.case("its programs run")
def programs(context):
  root = context.root
  assert root.run("catnapd", "--version").stdout.startswith("catnap")
  assert "--state" in root.run("catnapd", "--help").stdout
  assert "nvmf_create_subsystem" in root.run("catnap-rpc", "--help").stdout
  assert "usage: catnap-top" in root.run("catnap-top", "--help").stdout
  assert "--traddr" in root.run("catnap-perf", "--help").stdout
  root.run("bash", "-n", "/usr/share/bash-completion/completions/catnap-rpc")


class Service:
  """catnapd as the unit starts it, with this test as its manager."""

  def __init__(self, context):
    self.context = context
    folder = context.root.folder
    for each in ("var/lib/catnap", "run/catnap"):
      (folder / each).mkdir(parents=True, exist_ok=True)
      os.chown(folder / each, *map(int, USER.split(":")))
    self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    path = folder / "run/notify"
    path.unlink(missing_ok=True)
    self.notify.bind(str(path))
    os.chmod(path, 0o777)
    words = shlex.split(unit_values(context, "ExecStart")[0].replace("$CATNAPD_OPTIONS", ""))
    self.log = open(folder / "tmp/log", "a", encoding="utf-8")
    self.process = subprocess.Popen(["chroot", f"--userspec={USER}", str(folder), *words], stdout=self.log, stderr=self.log,
                                    env={"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "1000000", "PATH": "/usr/sbin:/usr/bin"})

  def wait_for(self, text):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
      self.notify.settimeout(max(0.01, deadline - time.monotonic()))
      try:
        message = self.notify.recv(4096).decode()
      except (TimeoutError, socket.timeout):
        break
      if text in message:
        return message
    raise AssertionError(f"'{text}' was not told; the log: {(self.context.root.folder / 'tmp/log').read_text(encoding='utf-8')[-3000:]}")

  def rpc(self, *words):
    return self.context.root.run("catnap-rpc", *words).stdout

  def stop(self):
    self.process.send_signal(signal.SIGTERM)
    code = self.process.wait(30)
    self.notify.close()
    self.log.close()
    said = (self.context.root.folder / "tmp/log").read_text(encoding="utf-8")
    assert "was refused by catnapd's own filter" not in said, said[-3000:]
    return code

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    if self.process.poll() is None:
      self.process.kill()
      self.process.wait()


@cases.case("starts as its unit says, as a user without rights, and keeps what it is told")
def starts(context):
  nqn = "nqn.2026-11.io.catnap:packaged"
  with Service(context) as service:
    service.wait_for("READY=1")
    service.wait_for("WATCHDOG=1")
    status = Path(f"/proc/{service.process.pid}/status").read_text(encoding="ascii")
    for field in ("CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
      assert field in status, status
    service.rpc("nvmf_create_transport", "-t", "tcp")
    service.rpc("bdev_malloc_create", "-b", "M0", "16", "4096")
    service.rpc("nvmf_create_subsystem", nqn, "-a")
    service.rpc("nvmf_subsystem_add_ns", nqn, "M0")
    service.rpc("nvmf_subsystem_add_listener", nqn, "-t", "tcp", "-f", "ipv4", "-a", "127.0.0.1", "-s", str(free_port()))
    assert service.stop() == 0
  with Service(context) as service:
    service.wait_for("READY=1")
    service.wait_for("serving 1 namespaces in 1 subsystems")
    assert nqn in service.rpc("nvmf_get_subsystems")
    assert service.stop() == 0
  said = (context.root.folder / "tmp/log").read_text(encoding="utf-8")
  assert "ERROR" not in said and "refused by" not in said, said


@cases.case("systemd finds no fault with the unit, and an exposure of at most 2.0")
def exposure(context):
  if not shutil.which("systemd-analyze"):
    from harness import NotHere
    raise NotHere("systemd-analyze is not installed")
  done = run("systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={int(MOST_EXPOSURE * 10)}", str(unit_of(context)), check=False)
  print(done.stdout.strip().splitlines()[-1])
  assert done.returncode == 0, done.stdout + done.stderr


@cases.case("removing leaves configuration and state, purging leaves nothing")
def removes(context):
  root = context.root
  root.run("dpkg", "--remove", "catnap")
  left = root.files() - context.before
  assert "etc/default/catnapd" in left and "var/lib/catnap/state.json" in left, left
  for path in left:
    assert path.startswith(("etc/", "var/lib/", "run/")), f"{path} is still there"
  root.run("dpkg", "--purge", "catnap")
  left = root.files() - context.before
  assert not left, f"left behind: {sorted(left)}"
  assert not context.before - root.files(), "files of others are gone"


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--build", type=Path, default=ROOT / "build" / "release")
  parser.add_argument("--only", help="run only cases whose name contains this text")
  args = parser.parse_args()
  if os.geteuid() != 0:
    skip("only root can make a Debian in a folder and change into it")
  for program in ("mmdebstrap", "chroot", "cpack", "dpkg-shlibdeps"):
    if not shutil.which(program):
      skip(f"{program} is not installed")
  base = make_base()
  with tempfile.TemporaryDirectory(dir=CACHE, prefix="root-") as folder, tempfile.TemporaryDirectory(dir=CACHE, prefix="deb-") as packages:
    run("tar", "--numeric-owner", "-C", folder, "-xpf", str(base))
    os.chmod(folder, 0o755)
    shutil.copy("/etc/resolv.conf", Path(folder) / "etc/resolv.conf")
    return cases.run(Context(Root(folder), make_package(args.build, packages), args.build), args.only)


if __name__ == "__main__":
  sys.exit(main())

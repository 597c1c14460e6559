#!/usr/bin/env -S /usr/bin/python3
"""Builds what the test guests boot, from Debian packages that are downloaded and unpacked, never installed.

Result, in build/e2e-cache/image-KEY/: `vmlinuz`, `base.cpio` (busybox, drivers, the agent of image/init) and `tools.cpio` (nvme-cli, fio, e2fsprogs,
util-linux, socat and the shared libraries they need; loaded after base.cpio by guests that want them). KEY names all inputs of this folder, so a second
run finds the first one's result. `--refresh` asks Debian's archive again for newer packages. `newer-KEY/` has `vmlinuz` and `base.cpio` with the kernel of Debian's backports suite, which
knows NVMe authentication (ensure_newer_kernel); tools.cpio serves both.
Left out: running guests (../guest.py), what a single test adds (guest.Guest's `overlay`).
"""
import argparse
import fcntl
import hashlib
import lzma
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
CACHE = ROOT / "build" / "e2e-cache"

KERNEL_META_PACKAGE = "linux-image-amd64"
BASE_PACKAGES = ["busybox-static"]
TOOL_PACKAGES = ["dash", "nvme-cli", "fio", "e2fsprogs", "util-linux", "mount", "socat"]
TOOL_PROGRAMS = ["dash", "nvme", "fio", "mke2fs", "e2fsck", "blkdiscard", "blockdev", "lsblk", "mount", "umount", "findmnt", "socat"]
# Other names of the same programs; Debian ships them as links.
TOOL_LINKS = {"mkfs.ext4": "mke2fs", "fsck.ext4": "e2fsck"}
TOOL_CONFIG = ["/etc/mke2fs.conf"]

# What the newer kernel has besides: authentication, and the algorithms that it asks for by name when it is used.
NEWER_MODULES = ["nvme-auth", "dh_generic", "sha256_generic", "sha512_generic", "hmac"]

# Packages per apt-get call: starting it takes half a second, and its progress should be seen.
DOWNLOAD_BATCH = 12

# Loaded by image/init; whatever else is listed can be loaded by a test with modprobe.
BOOT_MODULES = ["virtio_pci", "virtio_console", "virtio_net", "virtio_blk"]
MODULES = BOOT_MODULES + ["nvme-tcp", "nvmet-tcp", "nvme-fabrics", "ext4", "crc32c_generic", "crc32c-intel", "brd", "null_blk", "loop", "tls", "gcm", "ghash-generic", "ctr"]


class ImageUnavailable(Exception):
  """The image cannot be built here; the text says what is missing."""


def say(text):
  print(f"==> guest image: {text}", flush=True)


def input_key():
  """Names everything that decides the image's contents, apart from the package versions (kept until --refresh)."""
  digest = hashlib.sha256()
  for path in sorted(HERE.glob("*")):
    if path.is_file():
      digest.update(path.name.encode() + b"\0" + path.read_bytes())
  return digest.hexdigest()[:16]


def run_tool(command, **options):
  done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
  if done.returncode != 0:
    raise ImageUnavailable(f"`{' '.join(map(str, command[:6]))}` failed: {done.stdout.strip()[-600:]}")
  return done.stdout


def kernel_package():
  """The package that the meta package stands for, such as linux-image-6.1.0-56-amd64."""
  listing = run_tool(["apt-cache", "depends", KERNEL_META_PACKAGE])
  names = re.findall(r"Depends: (linux-image-\S+)", listing)
  if not names:
    raise ImageUnavailable(f"apt-cache knows no package {KERNEL_META_PACKAGE}; run apt-get update")
  return names[0]


def library_closure(packages):
  """All packages named lib* that `packages` depend on, directly or through other lib* packages."""
  seen, waiting = set(), list(packages)
  options = ["--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances"]
  while waiting:
    listing = run_tool(["apt-cache", "depends", *options, *waiting])
    seen.update(waiting)
    found = set(re.findall(r"(?:Pre)?Depends: (lib\S+)", listing))
    waiting = sorted(name for name in found - seen if not name.startswith("<"))
  return sorted(seen)


def download(packages):
  """Fetches the packages' .deb files into the cache; returns {package: path}."""
  debs = CACHE / "debs"
  debs.mkdir(parents=True, exist_ok=True)
  uris = run_tool(["apt-get", "download", "--print-uris", *packages])
  result, missing = {}, []
  for name in re.findall(r"^'\S+' (\S+\.deb) ", uris, re.MULTILINE):
    package = name.split("_")[0]
    result[package] = debs / name
    if not result[package].exists():
      missing.append(package)
  absent = sorted(set(packages) - set(result))
  if absent:
    raise ImageUnavailable(f"Debian's archive has no {', '.join(absent)} for download")
  for first in range(0, len(missing), DOWNLOAD_BATCH):
    batch = missing[first : first + DOWNLOAD_BATCH]
    say(f"downloading {first + 1} to {first + len(batch)} of {len(missing)} packages: {', '.join(batch)}")
    with tempfile.TemporaryDirectory(dir=debs) as folder:
      run_tool(["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", *batch], cwd=folder)
      for fetched in Path(folder).glob("*.deb"):
        fetched.rename(debs / fetched.name)
  return result


class Cpio:
  """Writes an initramfs archive in the kernel's "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst)."""

  def __init__(self, path):
    self.file = open(path, "wb")
    self.names = set()
    self.inode = 0

  def _entry(self, name, mode, data):
    self.inode += 1
    encoded = name.encode() + b"\0"
    fields = [self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0]
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + encoded
    self.file.write(head + b"\0" * (-len(head) % 4))
    self.file.write(data + b"\0" * (-len(data) % 4))

  def _parents(self, name):
    parent = os.path.dirname(name)
    if parent and parent not in self.names:
      self._parents(parent)
      self.names.add(parent)
      self._entry(parent, stat.S_IFDIR | 0o755, b"")

  def add(self, name, data, mode=0o644):
    """Adds a regular file; `name` is relative to the root. A name already there is left as it is."""
    if name in self.names:
      return
    self._parents(name)
    self.names.add(name)
    self._entry(name, stat.S_IFREG | mode, data)

  def link(self, name, target):
    """Adds a symbolic link."""
    if name in self.names:
      return
    self._parents(name)
    self.names.add(name)
    self._entry(name, stat.S_IFLNK | 0o777, target.encode())

  def close(self):
    self._entry("TRAILER!!!", 0, b"")
    self.file.write(b"\0" * (-self.file.tell() % 512))
    self.file.close()


def merged(path):
  """The place of a file below the merged /usr that base.cpio lays out."""
  path = path.lstrip("/")
  return path if path.startswith(("usr/", "etc/")) else "usr/" + path


def module_name(path):
  return path.name.split(".ko")[0].replace("-", "_")


def module_bytes(path):
  """A module's contents; newer kernels come with compressed ones."""
  return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()


def module_dependencies(path):
  """Names in the `depends=` field of a module's .modinfo section."""
  found = re.search(rb"\0depends=([^\0]*)\0", module_bytes(path))
  return [name.replace("-", "_") for name in found.group(1).decode().split(",") if name] if found else []


def collect_modules(tree, modules):
  """The wanted modules and what they depend on: {path below kernel/..: (file, all dependencies in modules.dep order)}."""
  folder = next((tree / "lib" / "modules").iterdir())
  available = {module_name(path): path for path in [*folder.rglob("*.ko"), *folder.rglob("*.ko.xz")]}
  builtin = {Path(line).name[: -len(".ko")].replace("-", "_") for line in (folder / "modules.builtin").read_text().split()}

  def visit(name, order):
    for dependency in module_dependencies(available[name]):
      if dependency not in builtin and dependency not in order:
        visit(dependency, order)
    order.append(name)
    return order

  def needs(name):
    # As depmod writes them: what has to be loaded first stands last.
    return visit(name, [])[-2::-1]

  chosen = {}
  for wanted in modules:
    name = wanted.replace("-", "_")
    if name in builtin:
      continue
    if name not in available:
      raise ImageUnavailable(f"the kernel package has no module {wanted}")
    for each in [name, *needs(name)]:
      chosen[each] = needs(each)
  relative = {name: str(available[name].relative_to(folder)).removesuffix(".xz") for name in chosen}
  return folder.name, {relative[name]: (available[name], [relative[each] for each in chosen[name]]) for name in chosen}


def write_base(tree, target, wanted=tuple(MODULES)):
  release, modules = collect_modules(tree, wanted)
  archive = Cpio(target)
  for folder in ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64"):
    archive._parents(folder + "/.")
    archive.link(os.path.basename(folder), folder)
  busybox = next(path for path in (tree / "bin" / "busybox", tree / "usr" / "bin" / "busybox") if path.exists())
  archive.add("usr/bin/busybox", busybox.read_bytes(), 0o755)
  archive.add("init", (HERE / "init").read_bytes(), 0o755)
  archive.add("etc/modules.boot", "\n".join(BOOT_MODULES).encode() + b"\n")
  archive.add("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
  archive.add("etc/group", b"root:x:0:\n")
  archive.add("etc/hosts", b"127.0.0.1 localhost guest\n")
  dependencies = []
  for name, (path, needs) in sorted(modules.items()):
    archive.add(f"usr/lib/modules/{release}/{name}", module_bytes(path))
    dependencies.append(f"{name}: {' '.join(needs)}".rstrip())
  archive.add(f"usr/lib/modules/{release}/modules.dep", "\n".join(dependencies).encode() + b"\n")
  archive.close()


def shared_libraries(program, tree=None):
  """Paths of the shared libraries (and the loader) that `program` needs; from `tree` when given, else from this machine."""
  if tree is None:
    listing = run_tool(["ldd", str(program)])
  else:
    loader = next(path for path in (tree / "lib64" / "ld-linux-x86-64.so.2", tree / "usr" / "lib64" / "ld-linux-x86-64.so.2") if path.exists())
    folders = [tree / "lib" / "x86_64-linux-gnu", tree / "usr" / "lib" / "x86_64-linux-gnu", tree / "usr" / "lib" / "x86_64-linux-gnu" / "ceph"]
    listing = run_tool([str(loader), "--inhibit-cache", "--library-path", ":".join(map(str, folders)), "--list", str(program)])
  if "not found" in listing:
    raise ImageUnavailable(f"{program} needs libraries that are not there:\n{listing}")
  result = {}
  for line in listing.splitlines():
    found = re.match(r"\s*(\S+) => (/\S+)", line) or re.match(r"\s*()(/\S+) \(", line)
    if found:
      result[os.path.basename(found.group(1) or found.group(2))] = Path(found.group(2))
  return result


def add_program(archive, program, place, tree=None):
  """Adds a program with its libraries at the places where its loader looks for them."""
  archive.add(place, Path(program).read_bytes(), 0o755)
  for name, path in shared_libraries(program, tree).items():
    folder = "usr/lib64" if name.startswith("ld-linux") else "usr/lib/x86_64-linux-gnu"
    archive.add(f"{folder}/{name}", path.read_bytes(), 0o755)


def write_tools(tree, target):
  archive = Cpio(target)
  for name in TOOL_PROGRAMS:
    places = [tree / folder / name for folder in ("usr/sbin", "usr/bin", "sbin", "bin")]
    program = next((path for path in places if path.exists()), None)
    if program is None:
      raise ImageUnavailable(f"none of the unpacked packages has a program {name}")
    add_program(archive, program.resolve(), merged(str(program.relative_to(tree))), tree)
  for name, other in TOOL_LINKS.items():
    archive.link(f"usr/sbin/{name}", other)
  for name in TOOL_CONFIG:
    archive.add(name.lstrip("/"), (tree / name.lstrip("/")).read_bytes())
  archive.close()


def build(target):
  for tool in ("apt-get", "apt-cache", "dpkg-deb"):
    if shutil.which(tool) is None:
      raise ImageUnavailable(f"{tool} is not there: the image is made of Debian packages")
  started = time.monotonic()
  kernel = kernel_package()
  packages = [kernel, *BASE_PACKAGES, *library_closure(TOOL_PACKAGES)]
  say(f"{len(packages)} Debian packages, kernel {kernel}")
  debs = download(packages)
  with tempfile.TemporaryDirectory(dir=CACHE) as folder:
    tree = Path(folder) / "tree"
    tree.mkdir()
    for package in packages:
      run_tool(["dpkg-deb", "-x", str(debs[package]), str(tree)])
    say("unpacked; writing the archives")
    made = Path(folder) / "image"
    made.mkdir()
    write_base(tree, made / "base.cpio")
    write_tools(tree, made / "tools.cpio")
    shutil.copyfile(next((tree / "boot").glob("vmlinuz-*")), made / "vmlinuz")
    (made / "packages.txt").write_text("".join(f"{debs[package].name}\n" for package in packages))
    shutil.rmtree(target, ignore_errors=True)
    made.rename(target)
  sizes = ", ".join(f"{name} {(target / name).stat().st_size >> 20} MiB" for name in ("vmlinuz", "base.cpio", "tools.cpio"))
  say(f"ready after {time.monotonic() - started:.0f} s: {sizes}")


def ensure_image(refresh=False):
  """The folder of the image, built first if it is not there. ImageUnavailable says why it cannot be."""
  CACHE.mkdir(parents=True, exist_ok=True)
  target = CACHE / f"image-{input_key()}"
  with open(CACHE / "lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if refresh or not (target / "packages.txt").exists():
      for old in CACHE.glob("image-*"):
        shutil.rmtree(old, ignore_errors=True)
      build(target)
  return target


def backports():
  """apt's options for the backports suite of this machine's own archive, its package lists fetched into the cache; nothing of the machine changes."""
  release = re.search(r"VERSION_CODENAME=(\S+)", Path("/etc/os-release").read_text())
  archive = re.search(rf"(https?://\S+) {release.group(1)}/main", run_tool(["apt-cache", "policy"])) if release else None
  if not archive:
    raise ImageUnavailable("apt-cache policy names no archive of this release")
  folder = CACHE / "backports"
  (folder / "lists" / "partial").mkdir(parents=True, exist_ok=True)
  (folder / "archives" / "partial").mkdir(parents=True, exist_ok=True)
  (folder / "sources.list").write_text(f"deb {archive.group(1)} {release.group(1)}-backports main\n")
  options = []
  for name, value in (("Dir::Etc::SourceList", folder / "sources.list"), ("Dir::Etc::SourceParts", "-"), ("Dir::State::Lists", folder / "lists"),
                      ("Dir::Cache", folder), ("APT::Sandbox::User", "root")):
    options += ["-o", f"{name}={value}"]
  run_tool(["apt-get", *options, "update"])
  return options


def build_newer(target):
  """The kernel and modules of the backports suite; what else the guest needs is in the usual image."""
  options = backports()
  names = re.findall(r"Depends: (linux-image-\S+)", run_tool(["apt-cache", *options, "depends", KERNEL_META_PACKAGE]))
  if not names:
    raise ImageUnavailable(f"the backports suite has no {KERNEL_META_PACKAGE}")
  say(f"newer kernel {names[0]}")
  debs = download(BASE_PACKAGES)
  with tempfile.TemporaryDirectory(dir=CACHE) as folder:
    run_tool(["apt-get", *options, "download", "-q", names[0]], cwd=folder)
    tree = Path(folder) / "tree"
    tree.mkdir()
    for deb in [*Path(folder).glob("*.deb"), *debs.values()]:
      run_tool(["dpkg-deb", "-x", str(deb), str(tree)])
    made = Path(folder) / "image"
    made.mkdir()
    write_base(tree, made / "base.cpio", MODULES + NEWER_MODULES)
    shutil.copyfile(next((tree / "boot").glob("vmlinuz-*")), made / "vmlinuz")
    (made / "packages.txt").write_text(names[0] + "\n")
    shutil.rmtree(target, ignore_errors=True)
    made.rename(target)


def ensure_newer_kernel():
  """The folder with `vmlinuz` and `base.cpio` of the newer kernel, built first if it is not there. ImageUnavailable says why it cannot be."""
  CACHE.mkdir(parents=True, exist_ok=True)
  target = CACHE / f"newer-{input_key()}"
  with open(CACHE / "lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not (target / "packages.txt").exists():
      for old in CACHE.glob("newer-*"):
        shutil.rmtree(old, ignore_errors=True)
      build_newer(target)
  return target


def main():
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--refresh", action="store_true", help="build again from the newest packages of Debian's archive")
  options = parser.parse_args()
  try:
    print(ensure_image(options.refresh))
  except ImageUnavailable as problem:
    print(f"guest image: {problem}", file=sys.stderr)
    return 77
  return 0


if __name__ == "__main__":
  sys.exit(main())

"""What a guest boots that is to be a Linux host with TLS: the kernel of Debian's backports suite for the release after this machine's, which knows secure
channel concatenation, and `tlshd` (ktls-utils), which does its handshakes. Both are downloaded from this machine's own archive and unpacked, never
installed.

Result, in build/e2e-cache/tls-host-KEY/: `vmlinuz`, `base.cpio` (as image/guest_image.py makes it) and `tlshd.cpio`, to be laid over the usual tools.
Left out: running it (guest.py), the usual image (image/guest_image.py).
"""
import fcntl
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "image"))
import guest_image  # noqa: E402
from guest_image import CACHE, ImageUnavailable, run_tool, say  # noqa: E402

SUITE = "trixie"
MODULES = ["virtio_pci", "virtio_console", "virtio_net", "nvme-tcp", "nvme-auth", "nvme-keyring", "nvme-fabrics", "tls", "gcm", "ctr", "ccm"]
TLSHD_CONF = b"""[debug]
loglevel=1
tls=0
nl=0
[authenticate]
keyrings=.nvme
"""


def archive_of_this_machine():
  release = re.search(r"VERSION_CODENAME=(\S+)", Path("/etc/os-release").read_text())
  archive = re.search(rf"(https?://\S+) {release.group(1)}/main", run_tool(["apt-cache", "policy"])) if release else None
  if not archive:
    raise ImageUnavailable("apt-cache policy names no archive of this release")
  return archive.group(1)


def apt_options():
  """For a suite of its own, its package lists in the cache; nothing of the machine changes."""
  folder = CACHE / "tls-host-apt"
  for part in ("lists/partial", "archives/partial"):
    (folder / part).mkdir(parents=True, exist_ok=True)
  archive = archive_of_this_machine()
  (folder / "sources.list").write_text(f"deb {archive} {SUITE} main\ndeb {archive} {SUITE}-backports main\n")
  options = []
  for name, value in (("Dir::Etc::SourceList", folder / "sources.list"), ("Dir::Etc::SourceParts", "-"), ("Dir::State::Lists", folder / "lists"),
                      ("Dir::Cache", folder), ("Dir::State::status", "/dev/null"), ("APT::Sandbox::User", "root")):
    options += ["-o", f"{name}={value}"]
  run_tool(["apt-get", *options, "update"])
  return options


def dependencies(options, names, pattern):
  """What these packages depend on, as far as its name fits."""
  plain = ["--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances"]
  return set(re.findall(rf"(?:Pre)?Depends: ({pattern})", run_tool(["apt-cache", *options, "depends", *plain, *names])))


def kernel_packages(options):
  """linux-image-VERSION and the packages of the same version that it consists of."""
  newest = run_tool(["apt-cache", *options, "madison", "linux-image-amd64"]).split("|")[1].strip()
  shown = run_tool(["apt-cache", *options, "show", f"linux-image-amd64={newest}"])
  images = re.findall(r"linux-image-[0-9][^ ,]*", shown)
  if not images:
    raise ImageUnavailable(f"linux-image-amd64 {newest} names no kernel")
  return images[0], sorted({images[0], *dependencies(options, images[:1], r"linux-(?:base|binary|modules)-[0-9]\S*")})


def library_closure(options, packages):
  seen, waiting = set(), set(packages)
  while waiting:
    seen |= waiting
    waiting = dependencies(options, sorted(waiting), r"lib\S+") - seen
  return sorted(seen)


def build(target):
  options = apt_options()
  kernel, packages = kernel_packages(options)
  packages += library_closure(options, ["ktls-utils", "keyutils"])
  say(f"host with TLS: {kernel}, {len(packages)} packages")
  debs = guest_image.download(guest_image.BASE_PACKAGES)
  with tempfile.TemporaryDirectory(dir=CACHE) as folder:
    run_tool(["apt-get", *options, "download", "-q", *packages], cwd=folder)
    tree = Path(folder) / "tree"
    (tree / "usr" / "lib").mkdir(parents=True)
    for name in ("lib", "lib64", "bin", "sbin"):
      (tree / "usr" / name).mkdir(exist_ok=True)
      (tree / name).symlink_to(f"usr/{name}")
    for deb in [*Path(folder).glob("*.deb"), *debs.values()]:
      # Not dpkg-deb -x, which would put folders in the place of the links.
      unpacked = subprocess.run(f"dpkg-deb --fsys-tarfile '{deb}' | tar -x --keep-directory-symlink -C '{tree}'", shell=True, capture_output=True, text=True,
                                check=False)
      if unpacked.returncode != 0:
        raise ImageUnavailable(f"unpacking {deb.name}: {unpacked.stderr.strip()[-300:]}")
    made = Path(folder) / "image"
    made.mkdir()
    guest_image.write_base(tree, made / "base.cpio", MODULES)
    kernels = [*(tree / "boot").glob("vmlinuz-*"), *tree.glob("usr/lib/modules/*/vmlinuz")]
    shutil.copyfile(kernels[0], made / "vmlinuz")
    overlay = guest_image.Cpio(made / "tlshd.cpio")
    for place in ("usr/sbin/tlshd", "usr/bin/keyctl"):
      guest_image.add_program(overlay, (tree / place).resolve(), place, tree)
    overlay.add("etc/tlshd.conf", TLSHD_CONF)
    overlay.close()
    (made / "packages.txt").write_text("".join(f"{name}\n" for name in packages))
    shutil.rmtree(target, ignore_errors=True)
    made.rename(target)


def ensure():
  """The folder of the result, built first if it is not there. ImageUnavailable says why it cannot be."""
  key = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16] + guest_image.input_key()[:4]
  CACHE.mkdir(parents=True, exist_ok=True)
  target = CACHE / f"tls-host-{key}"
  with open(CACHE / "tls-host-lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not (target / "packages.txt").exists():
      for old in CACHE.glob("tls-host-????????????????????"):
        shutil.rmtree(old, ignore_errors=True)
      build(target)
  return target


if __name__ == "__main__":
  print(ensure())

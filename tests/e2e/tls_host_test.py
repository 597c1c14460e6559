#!/usr/bin/env -S /usr/bin/python3
"""A real Linux host with TLS (kernel 6.18 or later of Debian's backports, handshakes by tlshd): keys out of authentication (secure channel
concatenation), configured keys, wrong ones, another secret, connecting anew.

Left out: hostile hosts (tests/protocol/rpc/concatenation_test.py, secure_channel_test.py), authentication without TLS (auth_test.py).
"""
import base64
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "protocol" / "rpc"))

import dhchap  # noqa: E402
import tls_host_image  # noqa: E402
from guest import HOST_ADDRESS, Guest, guest_image  # noqa: E402
from harness import Cases, free_port, options, run_program, skip, wait_for  # noqa: E402
from linux_host import EMULATED_MS, FRIEND, TargetWithKeys, only_disk  # noqa: E402
from tls_keys import HostKey, interchange, new_key  # noqa: E402

NQN = "nqn.2026-11.io.catnap:tls-host"
# tlshd 1.0.0 with GnuTLS 3.8.9 makes SHA-256 binders for SHA-384 keys, which nobody can take.
SUITE = "TLS_AES_128_GCM_SHA256"

cases = Cases("tls_host_test")
case = cases.case


class Rig:
  """The guest with tlshd, and a target for as long as `target()` is open."""

  def __init__(self, folder, chosen):
    self.folder, self.chosen = folder, chosen
    try:
      image = tls_host_image.ensure()
    except guest_image.ImageUnavailable as problem:
      skip(f"no Linux host with TLS: {problem}")
    # Without the usual tools, of which busybox has enough: a small image boots sooner.
    self.guest = Guest("tls-host", tools=False, log_folder=chosen.logs, boot_image=image, overlay=image / "tlshd.cpio")
    try:
      self.guest.start()
      self.guest.check("for module in nvme-keyring nvme-auth nvme-tcp tls gcm ctr; do modprobe $module; done; [ -e /dev/nvme-fabrics ]", 60)
      self.guest.check("/usr/sbin/tlshd -s -c /etc/tlshd.conf >/tmp/tlshd.log 2>&1 & until grep -q linked /tmp/tlshd.log; do sleep 0.1; done", 30)
    except BaseException:
      self.guest.stop()
      raise
    self.secrets = {name: dhchap.make_secret(32, 1) for name in ("host", "other")}
    self.port = self.rpc = None

  def close(self):
    self.guest.stop()

  def target(self, listener, **config):
    return Target(self, listener, config)

  def connect(self, more):
    """As the kernel has it; nvme-cli of Debian 12 does not know all of it."""
    words = f"transport=tcp,traddr={HOST_ADDRESS},trsvcid={self.port},nqn={NQN},hostnqn={FRIEND},hostid={FRIEND[-36:]},nr_io_queues=2,{more}"
    return self.guest.run(f"echo '{words}' 2>&1 >/dev/nvme-fabrics", EMULATED_MS // 1000)

  def connected(self, more):
    code, output = self.connect(more)
    assert code == 0, output + self.guest.check("dmesg | tail -20; cat /tmp/tlshd.log")
    return only_disk(self.guest)

  def not_connected(self, more):
    code, output = self.connect(more)
    assert code != 0, f"connected: {output}"
    assert not self.guest.check("ls /sys/class/nvme").split(), "a controller is left after the refusal"

  def write_and_read(self, disk):
    self.guest.check(f"""dd if=/dev/urandom of=/tmp/written bs=64k count=16
      dd if=/tmp/written of=/dev/{disk} bs=64k oflag=direct
      dd if=/dev/{disk} of=/tmp/read bs=64k count=16 iflag=direct
      cmp /tmp/written /tmp/read""", 60)

  def disconnect(self):
    self.guest.check("for one in /sys/class/nvme/*/delete_controller; do [ -e $one ] && echo 1 >$one; done; "
                     "until [ -z \"$(ls /sys/class/nvme)\" ]; do sleep 0.1; done", 60)

  def queues(self):
    return [queue for queue in self.rpc.call("nvmf_subsystem_get_qpairs", nqn=NQN) if queue["state"] == "enabled"]

  def keys(self):
    """By queue id: the key's name, by which the queue is secured."""
    return {queue["qid"]: queue["tls"] and queue["tls"]["key"] for queue in self.queues()}


class Target(TargetWithKeys):
  def __init__(self, rig, listener, config):
    super().__init__(rig, NQN, "catnapd-tls-host-test", {"dhchap_dhgroups": ["null", "ffdhe2048"], **config})
    self.listener = listener

  def add_to(self, rpc):
    self.rig.port = free_port()
    rpc.call("nvmf_subsystem_add_host", nqn=NQN, host=FRIEND, dhchap_key="host")
    self.listen(self.rig.port, **self.listener)


@case("keys out of authentication: every queue by TLS, again after a reset")
def concatenation(rig):
  with rig.target({"secure_concatenation": "required"}):
    disk = rig.connected(f"dhchap_secret={rig.secrets['host']},concat")
    wait_for(lambda: sorted(rig.keys()) == [0, 1, 2] and all(queue["tls"] for queue in rig.queues()), 30, "three queues by TLS")
    queues = rig.queues()
    for queue in queues:
      assert (queue["tls"]["key_type"], queue["tls"]["suite"]) == ("generated", SUITE), queue
    assert len(set(rig.keys().values())) == 1, rig.keys()
    rig.write_and_read(disk)
    # Connecting anew begins anew: another key.
    before = set(rig.keys().values())
    controller = rig.guest.check("ls /sys/class/nvme").split()[0]
    rig.guest.check(f"echo 1 >/sys/class/nvme/{controller}/reset_controller", EMULATED_MS // 1000)
    rig.guest.wait_until(f"[ $(cat /sys/class/nvme/{controller}/state) = live ]", EMULATED_MS // 1000, "the controller to be live")
    wait_for(lambda: len(rig.keys()) == 3 and None not in rig.keys().values() and not before & set(rig.keys().values()), 30, "queues by another key")
    rig.write_and_read(disk)


@case("another secret while connected by TLS: queues stay and stay secured, and a reset goes by it")
def another_secret(rig):
  with rig.target({"secure_concatenation": "required"}):
    disk = rig.connected(f"dhchap_secret={rig.secrets['host']},concat")
    wait_for(lambda: sorted(rig.keys()) == [0, 1, 2] and None not in rig.keys().values(), 30, "three queues by TLS")
    controller = rig.guest.check("ls /sys/class/nvme").split()[0]
    for name in ("host", "other"):
      rig.rpc.call("nvmf_subsystem_set_keys", nqn=NQN, host=FRIEND, dhchap_key=name)
      rig.guest.check(f"echo -n '{rig.secrets[name]}' >/sys/class/nvme/{controller}/dhchap_secret", EMULATED_MS // 1000)
      rig.guest.wait_until(f"[ $(cat /sys/class/nvme/{controller}/state) = live ]", EMULATED_MS // 1000, "the controller to be live")
      rig.write_and_read(disk)
      assert sorted(rig.keys()) == [0, 1, 2] and None not in rig.keys().values(), rig.keys()
    # A reset goes by the secret of now: keys that were made with another are good for nothing any more.
    rig.guest.check(f"echo 1 >/sys/class/nvme/{controller}/reset_controller", EMULATED_MS // 1000)
    rig.guest.wait_until(f"[ $(cat /sys/class/nvme/{controller}/state) = live ]", EMULATED_MS // 1000, "the controller to be live")
    wait_for(lambda: len(rig.keys()) == 3 and None not in rig.keys().values(), 30, "queues by TLS")
    rig.write_and_read(disk)


@case("what must not connect does not: the wrong secret, without concatenation where it is required, with it where there is none")
def refused(rig):
  with rig.target({"secure_concatenation": "required"}):
    rig.not_connected(f"dhchap_secret={rig.secrets['other']},concat")
    rig.not_connected(f"dhchap_secret={rig.secrets['host']}")
    rig.connected(f"dhchap_secret={rig.secrets['host']},concat")
  with rig.target({}):
    rig.not_connected(f"dhchap_secret={rig.secrets['host']},concat")
    rig.connected(f"dhchap_secret={rig.secrets['host']}")


@case("a host in cleartext and one with its own key, where both are allowed")
def allowed(rig):
  with rig.target({"secure_concatenation": "allowed"}):
    disk = rig.connected(f"dhchap_secret={rig.secrets['host']}")
    assert set(rig.keys().values()) == {None}, rig.keys()
    rig.write_and_read(disk)
    rig.disconnect()
    rig.write_and_read(rig.connected(f"dhchap_secret={rig.secrets['host']},concat"))
    wait_for(lambda: rig.keys() and None not in rig.keys().values(), 30, "every queue by TLS")


@case("a configured key; a wrong one is refused")
def configured(rig):
  with rig.target({"secure_channel": True}) as target:
    raw = new_key()
    target.add_key("psk", interchange(raw, 1))
    rig.rpc.call("nvmf_subsystem_remove_host", nqn=NQN, host=FRIEND)
    rig.rpc.call("nvmf_subsystem_add_host", nqn=NQN, host=FRIEND, psk="psk")
    key = HostKey(raw, 1, FRIEND, NQN)
    for psk in (new_key(), key.psk):
      text = base64.b64encode(psk).decode()
      serial = rig.guest.check(f"echo {text} | base64 -d | keyctl padd psk '{key.identity}' %:.nvme").strip()
      if psk != key.psk:
        rig.not_connected(f"tls,tls_key={serial}")
    disk = rig.connected(f"tls,tls_key={serial}")
    assert set(rig.keys().values()) == {"psk"}, rig.keys()
    assert all(queue["tls"]["suite"] == SUITE for queue in rig.queues())
    rig.write_and_read(disk)


def main():
  return run_program(cases, options(__doc__.split("\n", maxsplit=1)[0]), Rig, in_guest=True)


if __name__ == "__main__":
  sys.exit(main())

#!/usr/bin/env -S /usr/bin/python3
"""DH-HMAC-CHAP with a real Linux host (kernel 6.12 of Debian's backports suite): one way and mutual, every hash and group, right and wrong keys, new keys
while connected and writing, discovery.

CATNAP_SOAK=1: every hash with every group, both one way and mutual; otherwise each of them once. Left out: hostile messages (tests/protocol/rpc/auth_test.py), TLS.
"""
import os
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

import dhchap  # noqa: E402
from guest import HOST_ADDRESS, Guest, guest_image  # noqa: E402
from harness import Cases, free_port, options, run_program, skip, wait_for  # noqa: E402
from linux_host import EMULATED_MS, FRIEND, FioRounds, TargetWithKeys, only_disk  # noqa: E402

NQN = "nqn.2026-11.io.catnap:auth"
DISCOVERY = "nqn.2014-08.org.nvmexpress.discovery"
MODULES = "nvme-tcp nvme-auth dh_generic hmac sha256_generic sha512_generic crc32c-intel crc32c_generic"

cases = Cases("auth_test")
case = cases.case


class Rig:
  """The guest, and a target for as long as `target()` is open."""

  def __init__(self, folder, chosen):
    self.folder, self.chosen, self.port = folder, chosen, free_port()
    try:
      guest_image.ensure_newer_kernel()
    except guest_image.ImageUnavailable as problem:
      skip(f"no newer kernel: {problem}")
    self.guest = Guest("auth", log_folder=chosen.logs, newer_kernel=True)
    try:
      self.guest.start()
      self.guest.check("".join(f"modprobe {module} 2>/dev/null || true\n" for module in MODULES.split()) + "[ -e /dev/nvme-fabrics ]")
    except BaseException:
      self.guest.stop()
      raise
    self.secrets = {name: dhchap.make_secret(length, number) for name, length, number in (("host", 32, 1), ("ctrlr", 48, 0), ("other", 64, 3))}
    self.rpc = None

  def close(self):
    self.guest.stop()

  def target(self, **config):
    """catnapd with a subsystem for FRIEND, who must authenticate."""
    return Target(self, NQN, "catnapd-auth-test", config)

  def connect(self, host="host", ctrlr=None, more="-i 1", nqn=NQN):
    secrets = f"--dhchap-secret={self.secrets[host]}" if host else ""
    if ctrlr:
      secrets += f" --dhchap-ctrl-secret={self.secrets[ctrlr]}"
    return self.guest.run(f"nvme connect -t tcp -a {HOST_ADDRESS} -s {self.port} -n {nqn} -q {FRIEND} -I {FRIEND[-36:]} {secrets} {more}", EMULATED_MS // 1000)

  def connected(self, *arguments, **keywords):
    code, output = self.connect(*arguments, **keywords)
    assert code == 0, output + self.guest.check("dmesg | tail -20")
    return only_disk(self.guest)

  def disconnect(self):
    self.guest.check("nvme disconnect-all; until [ -z \"$(ls /sys/class/nvme)\" ]; do sleep 0.1; done", 60)

  def auth(self):
    """By queue id."""
    return {queue["qid"]: queue["auth"] for queue in self.rpc.call("nvmf_subsystem_get_qpairs", nqn=NQN)}


class Target(TargetWithKeys):
  log_began = 0

  def authentications(self):
    """How many have succeeded, of all queues, since the flag nvmf is on."""
    return len(re.findall(r"Queue \d+ of host .*: authenticated ", self.server.log()[self.log_began:]))

  def add_to(self, rpc):
    self.log_began = len(self.server.log())  # earlier runs may have left theirs before it
    rpc.call("nvmf_subsystem_add_host", nqn=NQN, host=FRIEND, dhchap_key="host", dhchap_ctrlr_key="ctrlr")
    self.listen(self.rig.port)


def try_one(rig, hash_name, group, ctrlr):
  with rig.target(dhchap_digests=[hash_name], dhchap_dhgroups=[group]):
    disk = rig.connected(ctrlr=ctrlr)
    expected = {"state": "completed", "digest": hash_name, "dhgroup": group}
    assert rig.auth() == {0: expected, 1: expected}, rig.auth()
    rig.guest.check(f"head -c 65536 /dev/{disk} >/dev/null")


def combinations():
  """(hash, group, controller's key). The large groups take an emulated CPU up to a minute each, so every hash and every group once, unless there is time."""
  hashes, groups = list(dhchap.HASHES), list(dhchap.GROUPS)
  if os.environ.get("CATNAP_SOAK"):
    return [(name, group, ctrlr) for name in hashes for group in groups for ctrlr in (None, "ctrlr")]
  return [(hashes[i % 3], group, (None, "ctrlr")[i % 2]) for i, group in enumerate(groups)]


for each in combinations():
  case(f"{each[0]} and {each[1]}, {'mutual' if each[2] else 'one way'}")(lambda rig, each=each: try_one(rig, *each))


@case("without a key, with the wrong one, and with the wrong one for the controller, nothing connects")
def wrong_keys(rig):
  with rig.target(dhchap_dhgroups=["null", "ffdhe2048"]):
    for host, ctrlr in ((None, None), ("other", None), ("host", "other")):
      code, output = rig.connect(host, ctrlr)
      assert code != 0, f"connected with {host}, {ctrlr}: {output}"
      assert not rig.guest.check("ls /sys/class/nvme").split(), "a controller is left after the refusal"
    wait_for(lambda: not rig.rpc.call("nvmf_subsystem_get_qpairs", nqn=NQN), 20, "the refused queues to go")
    rig.connected()


@case("new keys while connected and writing: nothing is dropped, and the next connection needs the new one")
def rekey(rig):
  with rig.target(dhchap_dhgroups=["null", "ffdhe2048"]) as target:
    rig.rpc.call("log_set_print_level", level="INFO")
    rig.rpc.call("log_set_flag", flag="nvmf")
    disk = rig.connected(more="-i 2")
    wait_for(lambda: target.authentications() == 3, 20, "the admin queue and two others to have authenticated")
    controller = rig.guest.check("ls /sys/class/nvme").split()[0]
    before = {(queue["qid"], queue["peer_address"]["trsvcid"]) for queue in rig.rpc.call("nvmf_subsystem_get_qpairs", nqn=NQN)}
    fio = FioRounds(rig, f"/dev/{disk}")
    for times, key in enumerate(("other", "host", "other"), start=2):
      rig.rpc.call("nvmf_subsystem_set_keys", nqn=NQN, host=FRIEND, dhchap_key=key)
      rig.guest.check(f"echo -n '{rig.secrets[key]}' >/sys/class/nvme/{controller}/dhchap_secret", 60)
      rig.guest.wait_until(f"[ $(cat /sys/class/nvme/{controller}/state) = live ]", 20, "the controller to be live")
      # Linux begins with the admin queue, and the others follow some time after it is live again. One that was still at it when the next key is set here
      # would prove the one before, and be refused.
      wait_for(lambda: target.authentications() == 3 * times, 20, "all queues to have authenticated anew")
      assert {auth["state"] for auth in rig.auth().values()} == {"completed"}, rig.auth()
    fio.finish()
    after = {(queue["qid"], queue["peer_address"]["trsvcid"]) for queue in rig.rpc.call("nvmf_subsystem_get_qpairs", nqn=NQN)}
    assert after == before, f"connections changed: {before} became {after}"
    rig.disconnect()
    code, output = rig.connect("host")
    assert code != 0, f"the old key still connects: {output}"
    rig.connected("other")


@case("the discovery service asks for it as well")
def discovery(rig):
  with rig.target(dhchap_dhgroups=["null"]):
    rig.rpc.call("nvmf_subsystem_add_host", nqn=DISCOVERY, host=FRIEND, dhchap_key="host")
    where = f"nvme discover -t tcp -a {HOST_ADDRESS} -s {rig.port} -q {FRIEND} -I {FRIEND[-36:]}"
    code, output = rig.guest.run(where, 40)
    assert code != 0 and NQN not in output, output
    # nvme-cli 2.4 does not hand a secret on to discovery controllers, so this one is made as the kernel has it.
    connect = (f"transport=tcp,traddr={HOST_ADDRESS},trsvcid={rig.port},nqn={DISCOVERY},hostnqn={FRIEND},hostid={FRIEND[-36:]},"
               f"dhchap_secret={rig.secrets['host']}")
    output = rig.guest.check(f"""
      echo '{connect}' > /dev/nvme-fabrics
      for made in /sys/class/nvme/nvme*; do grep -q discovery $made/subsysnqn && break; done
      nvme get-log /dev/${{made##*/}} --log-id=112 --log-len=4096 --raw-binary | tr '\\000' '\\n' | grep '^nqn'
      echo 1 > $made/delete_controller""", 40)
    assert NQN in output, output


def main():
  return run_program(cases, options(__doc__.split("\n", maxsplit=1)[0]), Rig, in_guest=True)


if __name__ == "__main__":
  sys.exit(main())

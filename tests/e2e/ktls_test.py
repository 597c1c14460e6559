#!/usr/bin/env -S /usr/bin/python3
"""Secure channels in the kernel (kTLS): catnapd inside a guest whose kernel has it, as target and as initiator, against a catnapd outside that has not.

A host outside writes and reads through TLS to the guest's catnapd, whose namespace is that of a controller outside, again through TLS. Left out: Linux as
host (its handshakes need tlshd, which Debian 12 has not), what TLS refuses (tests/protocol/rpc/secure_channel_test.py).
"""
import json
import os
import sys
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "protocol" / "rpc"))

from guest import HOST_ADDRESS, REFUSED, Guest  # noqa: E402
from guest_image import Cpio, add_program  # noqa: E402
from harness import Cases, Catnapd, free_port, options, run_program  # noqa: E402
from nvme_client import connect_when_ready  # noqa: E402
from tls_keys import HostKey, dialler, interchange  # noqa: E402

OUTSIDE, INSIDE = "nqn.2026-11.io.catnap:outside", "nqn.2026-11.io.catnap:inside"
HOST_ID = uuid.UUID("7065726f-0000-4000-8000-000000000007")
HOST = f"nqn.2014-08.org.nvmexpress:uuid:{HOST_ID}"
ADDRESS_IN_GUEST, PORT_IN_GUEST = "10.0.2.15", 4420
KEYS = {32: bytes(range(32)), 48: bytes(range(48))}
MODULES = "tls gcm ghash-generic ctr"
SIZES = (512, 4096, 131072)

cases = Cases("ktls_test")
case = cases.case


def method(method_name, **params):
  return {"method": method_name, "params": params}


def configuration(outside_port, ktls):
  """Of the catnapd in the guest."""
  keys = [method("keyring_file_add_key", name=f"k{size}", path=f"/run/k{size}.psk") for size in KEYS]
  # A guest in software emulation takes seconds for what takes milliseconds elsewhere.
  patience = method("bdev_nvme_set_options", tcp_connect_timeout_ms=60000)
  attach = method("bdev_nvme_attach_controller", name="out", trtype="TCP", traddr=HOST_ADDRESS, trsvcid=str(outside_port), subnqn=OUTSIDE, hostnqn=HOST, psk="k48",
                  fabrics_connect_timeout_us=60_000_000)
  address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": ADDRESS_IN_GUEST, "trsvcid": str(PORT_IN_GUEST)}
  nvmf = [method("nvmf_create_transport", trtype="TCP", enable_ktls=ktls, tls_handshake_timeout_ms=60000, icreq_timeout_ms=60000), method("nvmf_create_subsystem", nqn=INSIDE),
          method("nvmf_subsystem_add_host", nqn=INSIDE, host=HOST, psk="k32", further_psks=["k48"]),
          method("nvmf_subsystem_add_ns", nqn=INSIDE, namespace={"bdev_name": "outn1"}),
          method("nvmf_subsystem_add_listener", nqn=INSIDE, listen_address=address, secure_channel=True)]
  return json.dumps({"subsystems": [{"subsystem": "keyring", "config": keys}, {"subsystem": "bdev", "config": [patience, attach]},
                                    {"subsystem": "nvmf", "config": nvmf}]})


class Rig:
  def __init__(self, folder, chosen):
    self.port, self.outside_port = free_port(), free_port()
    self.server = Catnapd(chosen.catnapd, name="catnapd-outside", log_folder=chosen.logs)
    rpc = self.rpc = self.server.__enter__().rpc
    for size, key in KEYS.items():
      path = folder / f"k{size}.psk"
      path.touch(mode=0o600)
      path.write_text(interchange(key, 1 if size == 32 else 2))
      rpc.call("keyring_file_add_key", name=f"k{size}", path=str(path))
    rpc.call("nvmf_create_transport", trtype="TCP", tls_handshake_timeout_ms=60000, icreq_timeout_ms=60000, connect_timeout_ms=60000)
    rpc.call("bdev_malloc_create", name="m0", num_blocks=4096, block_size=512)
    rpc.call("nvmf_create_subsystem", nqn=OUTSIDE)
    rpc.call("nvmf_subsystem_add_ns", nqn=OUTSIDE, namespace={"bdev_name": "m0"})
    rpc.call("nvmf_subsystem_add_host", nqn=OUTSIDE, host=HOST, psk="k48")
    rpc.call("nvmf_subsystem_add_listener", nqn=OUTSIDE, secure_channel=True,
             listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(self.outside_port)})
    overlay = folder / "catnapd.cpio"
    archive = Cpio(overlay)
    add_program(archive, chosen.catnapd, "usr/bin/catnapd")
    archive.close()
    self.guest = Guest("ktls", tools=False, overlay=overlay, forwards=[(self.port, PORT_IN_GUEST)], log_folder=chosen.logs)
    self.guest.start()
    self.guest.check("mkdir -p /var/tmp; for module in " + MODULES + "; do modprobe $module; done; grep -qw tls /proc/modules\n" +
                     "".join(f"echo '{interchange(key, 1 if size == 32 else 2)}' >/run/k{size}.psk; chmod 600 /run/k{size}.psk\n" for size, key in KEYS.items()))

  def serve(self, ktls):
    self.guest.check(f"cat >/run/catnapd.json <<'END'\n{configuration(self.outside_port, ktls)}\nEND\n"
                     "catnapd -r /run/rpc.sock -L nvmf_tls -L nvme_tcp_host -c /run/catnapd.json >/run/log 2>&1 &\n"
                     f"catnapd=$!; echo $catnapd >/run/pid; until grep -q ':{PORT_IN_GUEST:04X} 00000000:0000 0A' /proc/net/tcp; do kill -0 $catnapd || "
                     "{ cat /run/log; exit 1; }; sleep 0.1; done", 90)

  def end(self):
    log = self.guest.check("kill $(cat /run/pid); while kill -0 $(cat /run/pid) 2>/dev/null; do sleep 0.1; done; cat /run/log", 30)
    assert "system calls are filtered" in log and REFUSED not in log, log
    return log

  def close(self):
    self.guest.stop()
    self.server.__exit__(None, None, None)


def move_data(rig):
  for size, transform in ((32, 1), (48, 2)):
    host = connect_when_ready(("127.0.0.1", rig.port), INSIDE, host_id=HOST_ID, dial=dialler(HostKey(KEYS[size], transform, HOST, INSIDE)))
    for length in SIZES:
      data = os.urandom(length)
      host.write(1, 0, data)
      assert host.read(1, 0, length) == data, f"{length} bytes are not what was written"
      host.flush(1)
    host.close()


@case("the guest's kernel encrypts and decrypts, on both sides of its catnapd, with both suites")
def in_kernel(rig):
  rig.serve(True)
  statistics = "grep -E 'TlsTxSw|TlsRxSw' /proc/net/tls_stat"
  move_data(rig)
  used = dict(line.split() for line in rig.guest.check(statistics).splitlines())
  log = rig.end()
  print("  " + ", ".join(f"{name} {value}" for name, value in used.items()))
  assert int(used["TlsTxSw"]) >= 6 and int(used["TlsRxSw"]) >= 6, f"{used}\n{log[-3000:]}"
  assert "sent by the kernel" in log, log[-3000:]
  errors = dict(line.split() for line in rig.guest.check("cat /proc/net/tls_stat").splitlines())
  assert int(errors["TlsDecryptError"]) == 0, errors


@case("with enable_ktls false the same goes through OpenSSL")
def in_process(rig):
  rig.serve(False)
  move_data(rig)
  log = rig.end()
  assert "is secured" in log and "sent by the kernel" not in log, log[-3000:]


def main():
  return run_program(cases, options(__doc__.split("\n", maxsplit=1)[0]), Rig, in_guest=True)


if __name__ == "__main__":
  sys.exit(main())

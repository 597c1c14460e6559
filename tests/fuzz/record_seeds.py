#!/usr/bin/env -S /usr/bin/python3
"""Records what a real Linux host sends and makes seeds for the fuzzers of it: a Debian kernel in QEMU (tests/e2e) uses a catnapd through a proxy here
that notes the host's PDUs. Each kind of command goes into seeds/{framing,fabrics,admin,io}, small and without doubles.

Usage: record_seeds.py CATNAPD [SEEDS_FOLDER]     Run by hand when hosts learn new commands; not part of any tier. Left out: digests.
"""
import hashlib
import pathlib
import socket
import struct
import sys
import threading

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))
from guest import HOST_ADDRESS, Guest  # noqa: E402
from targets import CatnapTarget  # noqa: E402

NQN = "nqn.2026-11.io.catnap:seeds"
FABRICS, CONNECT = 0x7F, 0x01
KEPT_DATA_BYTES = 4096
SCRIPT = """
modprobe nvme-tcp
nvme discover -t tcp -a {host} -s {port} || true
nvme connect -t tcp -a {host} -s {port} -n {nqn} -i 2 --keep-alive-tmo=5
until [ -b /dev/nvme0n1 ]; do sleep 0.1; done
nvme id-ctrl /dev/nvme0 >/dev/null; nvme id-ns /dev/nvme0n1 >/dev/null
"""
# What a tool or file system may ask for; a host or target that does not know one is no reason to stop.
ATTEMPTS = """
nvme smart-log /dev/nvme0; nvme error-log /dev/nvme0; nvme fw-log /dev/nvme0; nvme changed-ns-list-log /dev/nvme0; nvme effects-log /dev/nvme0
nvme ana-log /dev/nvme0; nvme supported-log-pages /dev/nvme0; nvme list-ns /dev/nvme0; nvme ns-descs /dev/nvme0n1; nvme list-ctrl /dev/nvme0
for f in 1 2 3 4 5 6 7 8 9 10 11 14 15 16 17 22 125 126 127 128 130 131; do nvme get-feature /dev/nvme0 -f $f -n 1; done
nvme set-feature /dev/nvme0 -f 4 -v 0x150; nvme set-feature /dev/nvme0 -f 11 -v 0x300; nvme show-regs /dev/nvme0
dd if=/dev/zero of=/dev/nvme0n1 bs=4k count=16 oflag=direct; dd if=/dev/urandom of=/dev/nvme0n1 bs=128k count=8 oflag=direct
dd if=/dev/nvme0n1 of=/dev/null bs=64k count=8 iflag=direct; sync; nvme flush /dev/nvme0 -n 1
blkdiscard -o 0 -l 1048576 /dev/nvme0n1; blkdiscard -z -o 0 -l 1048576 /dev/nvme0n1
nvme dsm /dev/nvme0n1 -n 1 -d -b 8,8 -s 0,64; nvme write-zeroes /dev/nvme0n1 -s 0 -c 7; nvme write-uncor /dev/nvme0n1 -s 8 -c 0
nvme verify /dev/nvme0n1 -s 0 -c 7; nvme copy /dev/nvme0n1 --sdlba=64 --slbs=0,8 --blocks=7,7
head -c 4096 /dev/urandom > /tmp/data; nvme write /dev/nvme0n1 -s 0 -c 7 -z 4096 -d /tmp/data; nvme compare /dev/nvme0n1 -s 0 -c 7 -z 4096 -d /tmp/data
nvme resv-register /dev/nvme0n1 -n 1 --nrkey=0x77 --rrega=0; nvme resv-acquire /dev/nvme0n1 -n 1 --crkey=0x77 --rtype=1 --racqa=0
nvme resv-report /dev/nvme0n1 -n 1 -d 64 -e; nvme resv-release /dev/nvme0n1 -n 1 --crkey=0x77 --rtype=1 --rrela=0
nvme resv-register /dev/nvme0n1 -n 1 --crkey=0x77 --rrega=1; nvme reset /dev/nvme0; nvme subsystem-reset /dev/nvme0; sleep 7
"""


def take(source, count):
  data = b""
  while len(data) < count:
    got = source.recv(count - len(data))
    if not got:
      raise ConnectionError
    data += got
  return data


class Recorder:
  """A TCP proxy that keeps the host's PDUs."""

  def __init__(self, target_port):
    self.target_port = target_port
    self.listener = socket.create_server(("127.0.0.1", 0))
    self.port = self.listener.getsockname()[1]
    self.connections = []  # per connection: list of PDUs
    threading.Thread(target=self.serve, daemon=True).start()

  def serve(self):
    while True:
      host, _ = self.listener.accept()
      target = socket.create_connection(("127.0.0.1", self.target_port))
      pdus = []
      self.connections.append(pdus)
      threading.Thread(target=self.record, args=(host, target, pdus), daemon=True).start()
      threading.Thread(target=self.forward, args=(target, host), daemon=True).start()

  @staticmethod
  def record(host, target, pdus):
    try:
      while True:
        header = take(host, 8)
        pdu = header + take(host, struct.unpack("<I", header[4:])[0] - 8)
        pdus.append(pdu)
        target.sendall(pdu)
    except OSError:
      target.close()

  @staticmethod
  def forward(source, sink):
    try:
      while data := source.recv(65536):
        sink.sendall(data)
    except OSError:
      pass
    sink.close()


def record_of(pdu):
  """A command capsule as the fuzzers take it: control byte, entry, data in units of 64 bytes."""
  data = pdu[pdu[3]:][:KEPT_DATA_BYTES] if pdu[3] else b""
  data += bytes(-len(data) % 64)
  return bytes([len(data) // 64]) + pdu[8:72] + data


class Seeds:
  def __init__(self, folder):
    self.folder = pathlib.Path(folder)
    self.seen = {}

  def add(self, kind, content, shape):
    """One of each shape is enough."""
    shapes = self.seen.setdefault(kind, set())
    if shape in shapes:
      return
    shapes.add(shape)
    folder = self.folder / kind
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ("linux_" + hashlib.sha256(content).hexdigest()[:16])).write_bytes(content)

  def add_connection(self, pdus):
    commands = [pdu for pdu in pdus if pdu[0] == 4]
    for pdu in pdus:
      self.add("framing", bytes([0, 0, 2, 31]) + pdu[:160], (pdu[0], pdu[1], len(pdu)))
    if not commands or commands[0][8] != FABRICS or commands[0][12] != CONNECT:
      return
    qid = struct.unpack("<H", commands[0][50:52])[0]
    self.add("fabrics", b"".join(record_of(pdu) for pdu in commands[:3]), (qid != 0, [pdu[12] for pdu in commands[:3]].__str__()))
    kind = "io" if qid else "admin"
    for pdu in commands[1:]:
      entry = pdu[8:72]
      self.add(kind, record_of(pdu), (entry[0], entry[4:8], entry[40:44] if kind == "admin" else None, len(pdu) > 72))


def main():
  catnapd = sys.argv[1]
  seeds = Seeds(sys.argv[2] if len(sys.argv) > 2 else HERE / "seeds")
  with CatnapTarget(catnapd) as target:
    target.add_subsystem(NQN)
    target.add_namespace(NQN, 1, 64)
    recorder = Recorder(int(target.port))
    with Guest("seeds") as guest:
      guest.check(SCRIPT.format(host=HOST_ADDRESS, port=recorder.port, nqn=NQN), 120)
      for line in ATTEMPTS.strip().replace("\n", ";").split(";"):
        if line.strip().startswith("for ") or line.strip() in ("do", "done"):
          continue
        guest.run(line, 30)
      guest.run("for f in 1 2 3 4 5 6 7 8 9 10 11 14 15 16 17 22 125 126 127 128 130 131; do nvme get-feature /dev/nvme0 -f $f -n 1; done", 60)
      guest.run("nvme disconnect-all", 30)
  for pdus in recorder.connections:
    seeds.add_connection(pdus)
  for kind, shapes in sorted(seeds.seen.items()):
    print(f"{kind}: {len(shapes)} seeds")


if __name__ == "__main__":
  main()

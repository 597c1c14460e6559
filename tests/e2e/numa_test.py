#!/usr/bin/env -S /usr/bin/python3
"""catnapd on a machine with two NUMA nodes of two CPUs each (an emulated one), a reactor on every CPU: its buffers lie on the node of the reactor that uses
them, and with prefer_incoming_cpu connections go to poll groups on the node at which their packets arrive, as far as balance lets them.

Left out: speed (the nodes are emulated), larger machines (tests/unit/placement on described ones).
"""
import json
import re
import sys
import uuid

from guest import PATIENCE, REFUSED, Guest
from guest_image import Cpio, add_program
from harness import Cases, free_port, options, run_program, wait_for
from nvme_client import connect_when_ready

NQN = "nqn.2026-11.io.catnap:numa"
PORT_IN_GUEST = 4420
CPUS, NODES = 4, 2
BLOCK = 131072  # more than fits into a capsule's buffer: the data is fetched into one of the pool
TOGETHER = 8

cases = Cases("numa_test")
case = cases.case


def node_of(thread):
  """Of a poll group by its name: groups are numbered as the reactors are, and each begins on its own."""
  return int(thread[-3:]) // (CPUS // NODES)


class Rig:
  def __init__(self, folder, chosen):
    self.port = free_port()
    overlay = folder / "catnapd.cpio"
    archive = Cpio(overlay)
    add_program(archive, chosen.catnapd, "usr/bin/catnapd")
    archive.close()
    self.guest = Guest("numa", overlay=overlay, forwards=[(self.port, PORT_IN_GUEST)], cpus=CPUS, nodes=NODES, memory_mib=1024, log_folder=chosen.logs)
    self.guest.start()
    self.guest.check("mkdir -p /var/tmp; ip link set lo up 2>/dev/null || true; modprobe crc32c-intel || modprobe crc32c_generic; truncate -s 64M /run/disk")

  def serve(self, **options):
    """The server, with a reactor on every CPU, one disk, and these options of nvmf_set_config."""
    self.start("server", f"-m 0x{(1 << CPUS) - 1:x} --mode interrupt --wait-for-rpc")
    if options:
      self.rpc("nvmf_set_config", **options)
    self.rpc("framework_start_init")
    # An emulated machine takes seconds for what takes milliseconds elsewhere.
    self.rpc("nvmf_create_transport", trtype="TCP", icreq_timeout_ms=60000, connect_timeout_ms=60000)
    self.rpc("bdev_aio_create", name="disk", filename="/run/disk", block_size=512)
    self.rpc("nvmf_create_subsystem", nqn=NQN, allow_any_host=True)
    self.rpc("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": "disk"})
    self.rpc("nvmf_subsystem_add_listener", nqn=NQN,
             listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": "0.0.0.0", "trsvcid": str(PORT_IN_GUEST)})

  def start(self, name, arguments, before=""):
    """A catnapd in the guest that answers at /run/NAME.sock."""
    self.guest.check(f"{before} catnapd -r /run/{name}.sock --allow-path /run {arguments} >/run/{name}.log 2>&1 &\n"
                     f"echo $! >/run/{name}.pid; until [ -S /run/{name}.sock ]; do kill -0 $(cat /run/{name}.pid) || {{ cat /run/{name}.log; exit 1; }}; sleep 0.1; done", 90)

  def end(self, name):
    log = self.guest.check(f"kill $(cat /run/{name}.pid); while kill -0 $(cat /run/{name}.pid) 2>/dev/null; do sleep 0.1; done; cat /run/{name}.log", 60)
    assert REFUSED not in log, log

  def rpc(self, method, _at="server", **params):
    request = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    answer = json.loads(self.guest.check(f"cat <<'END' | socat -t 60 - UNIX-CONNECT:/run/{_at}.sock | head -n 1\n{request}\nEND", 60))
    assert "error" not in answer, answer
    return answer["result"]

  def queue_pairs(self):
    """[(queue id, poll group)] of all connections."""
    return [(queue["qid"], queue["thread"]) for queue in self.rpc("nvmf_subsystem_get_qpairs", nqn=NQN)]

  def close(self):
    self.guest.stop()


@case("the kernel has two nodes, and every CPU its reactor")
def nodes(rig):
  rig.serve()
  lists = rig.guest.check("cat /sys/devices/system/node/node*/cpulist").split()
  assert lists == ["0-1", "2-3"], lists
  reactors = rig.rpc("framework_get_reactors")["reactors"]
  assert [reactor["lcore"] for reactor in reactors] == list(range(CPUS)), reactors


@case("buffers of each reactor lie on its node")
def buffers(rig):
  # Connections take turns over the groups, and each host has an admin queue and an I/O queue: one more admin queue lets the other two groups have an I/O queue.
  hosts = [connect_when_ready(("127.0.0.1", rig.port), NQN, host_id=uuid.uuid4(), io_queues=queues) for queues in (1, 1, 0, 1, 1)]
  writers = [host for host in hosts if host.io]
  data = bytes(range(256)) * (BLOCK // 256)
  for number, host in enumerate(writers):
    for place in range(TOGETHER):
      host.submit_write(1, (number * TOGETHER + place) * BLOCK, data)
    for _ in range(TOGETHER):
      host.io.reap().check("Write")
    assert host.read(1, number * TOGETHER * BLOCK, BLOCK) == data
  used = {thread for qid, thread in rig.queue_pairs() if qid > 0}
  assert len(used) == CPUS, f"I/O queues on {used} only"
  pages = {node: [0] * NODES for node in range(NODES)}  # by preferred node, by the node that they are on
  for line in rig.guest.check("cat /proc/$(cat /run/server.pid)/numa_maps").splitlines():
    asked = re.search(r" prefer:(\d+)", line)
    for node, count in re.findall(r" N(\d+)=(\d+)", line) if asked else ():
      pages[int(asked.group(1))][int(node)] += int(count)
  print(f"  pages of buffers by the node asked for, on each node: {pages}", flush=True)
  for node, on in pages.items():
    assert on[node] * 4096 >= BLOCK, f"reactors of node {node} have no buffers there: {pages}"
    assert sum(on) == on[node], f"buffers of reactors of node {node} lie elsewhere: {pages}"
  for host in hosts:
    host.close()
  rig.end("server")


@case("connections go to the node at which their packets arrive")
def incoming(rig):
  rig.serve(prefer_incoming_cpu=True)
  for cpu in (3, 0):
    # What a pinned process sends over loopback arrives on its CPU. The second connection finds the group there taken, and goes to its neighbour.
    for name in ("first", "second"):
      rig.start(name, f"-m [{cpu}] --mode interrupt", f"taskset -c {cpu}")
      rig.rpc("framework_wait_init", name)
      rig.rpc("bdev_nvme_set_options", name, tcp_connect_timeout_ms=60000)
      rig.rpc("bdev_nvme_attach_controller", name, name="N", trtype="TCP", adrfam="IPv4", traddr="127.0.0.1", trsvcid=str(PORT_IN_GUEST), subnqn=NQN,
              fabrics_connect_timeout_us=60_000_000)
    groups = [group for _, group in rig.queue_pairs()]
    print(f"  from CPU {cpu}: {groups}", flush=True)
    assert len(groups) == len(set(groups)) == 2, f"balance comes first: {groups}"
    assert {node_of(group) for group in groups} == {cpu // (CPUS // NODES)}, f"from CPU {cpu}: {groups}"
    for name in ("first", "second"):
      rig.end(name)
    wait_for(lambda: not rig.queue_pairs(), 60 * PATIENCE, "the connections' end")
  rig.end("server")


def main():
  return run_program(cases, options(__doc__.split("\n", maxsplit=1)[0]), Rig, in_guest=True)


if __name__ == "__main__":
  sys.exit(main())

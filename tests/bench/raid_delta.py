#!/usr/bin/env -S /usr/bin/python3
"""What a delta rebuild copies: a member of a raid1 is away while a part of the array is written, and comes back.

Prints, for each region size, how much was written, marked and copied. With 1 % of 10 GiB in contiguous extents of at least 16 regions no more than 2 % may be
copied, and never more than what is marked; that is asserted, speed is not. Members are malloc bdevs (10 GiB take no memory until they are written), of which one
is reached through a passthru bdev, so that it can go and come back with its data.

  raid_delta.py [--catnapd PROGRAM] [--only TEXT]
"""
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))
from harness import Cases, Catnapd, free_port, options, wait_for  # noqa: E402
from nvme_client import connect_when_ready  # noqa: E402

NQN = "nqn.2026-11.io.catnap:delta"
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
BLOCK_SIZE = 512
WRITE_BYTES = 128 * KIB
REGION_SIZES = [size * KIB for size in (64, 256, 1024, 4096, 16384)]
MOST_COPIED = 0.02
UUID = "11111111-2222-4333-8444-555555555555"

cases = Cases("raid_delta")


class Mirror:
  """catnapd with a raid1 "R" of "A" and "P" (over "B"), and a host connected to it."""

  def __init__(self, chosen, size_bytes, region_bytes):
    self.size_bytes = size_bytes
    self.server = Catnapd(chosen.catnapd, name="raid-delta", log_folder=chosen.logs)
    self.region_bytes = region_bytes

  def __enter__(self):
    self.server.__enter__()
    call = self.server.rpc.call
    # Room for superblock and bitmap besides.
    for name in ("A", "B"):
      call("bdev_malloc_create", name=name, num_blocks=(self.size_bytes + 16 * MIB) // BLOCK_SIZE, block_size=BLOCK_SIZE)
    self.take_back()
    call("bdev_raid_create", name="R", raid_level="raid1", base_bdevs=["A", "P"], superblock=True, assume_clean=True,
         bitmap_region_kb=self.region_bytes // KIB)
    self.until_whole()
    port = free_port()
    call("nvmf_create_transport", trtype="TCP")
    call("nvmf_create_subsystem", nqn=NQN, serial_number="DELTA", allow_any_host=True)
    call("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": "R"})
    call("nvmf_subsystem_add_listener", nqn=NQN, listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(port)})
    self.host = connect_when_ready(("127.0.0.1", port), NQN)
    return self

  def __exit__(self, *unused):
    self.host.close()
    self.server.close()

  def info(self):
    return self.server.rpc.call("bdev_raid_get_bdevs", category="all")[0]

  def until_whole(self):
    def whole():
      info = self.info()
      return info["state"] == "online" and "process" not in info and all(member["state"] == "in_sync" for member in info["base_bdevs_list"])
    wait_for(whole, 600, "the array to be whole")

  def send_away(self):
    self.server.rpc.call("bdev_passthru_delete", name="P")
    wait_for(lambda: self.info()["base_bdevs_list"][1]["state"] != "in_sync", 30, "the member to be missed")

  def take_back(self):
    self.server.rpc.call("bdev_passthru_create", name="P", base_bdev_name="B", uuid=UUID)

  def write(self, places, length):
    """Keeps a few writes under way; places in bytes."""
    content = b"\xA5" * length
    under_way = 0
    for place in places:
      if under_way == 32:
        self.host.io.reap().check("Write")
        under_way -= 1
      self.host.submit_write(1, place, content)
      under_way += 1
    for _ in range(under_way):
      self.host.io.reap().check("Write")

  def marked(self):
    bitmap = self.server.rpc.call("bdev_raid_get_bitmap", name="R")
    return bitmap["marked_regions"] * bitmap["region_size_kb"] * KIB

  def rebuild(self):
    """Bytes copied."""
    self.take_back()
    self.until_whole()
    return self.info()["last_rebuild"]["copied_blocks"] * BLOCK_SIZE


def report(pattern, size, region, written, marked, copied):
  print(f"  {pattern}, {size // GIB} GiB, regions of {region // KIB:>5} KiB: written {written / size:7.3%}, marked {marked / size:7.3%}, "
        f"copied {copied / size:7.3%}", flush=True)


@cases.case("1 % of 10 GiB in extents of at least 16 regions: at most 2 % are copied")
def extents(chosen):
  size = 10 * GIB
  generator = random.Random(1)
  for region in REGION_SIZES:
    with Mirror(chosen, size, region) as mirror:
      mirror.send_away()
      left, written = size // 100, 0
      while left >= 16 * region or not written:
        length = 16 * region
        start = generator.randrange((size - length) // WRITE_BYTES) * WRITE_BYTES
        mirror.write(range(start, start + length, WRITE_BYTES), WRITE_BYTES)
        written += length
        left -= length
      marked = mirror.marked()
      copied = mirror.rebuild()
      report("extents of 16 regions", size, region, written, marked, copied)
      assert copied <= marked, f"regions of {region}: {copied} bytes were copied, {marked} were marked"
      # 16 of the largest regions are more than 1 % of it: then twice what was written.
      assert copied <= max(MOST_COPIED * size, 2 * written), f"regions of {region}: {copied} bytes were copied, {written} were written"


@cases.case("1 % of 1 GiB in random writes of 4 KiB: never more than the marked regions are copied")
def scattered(chosen):
  size = 1 * GIB
  for region in REGION_SIZES:
    generator = random.Random(2)
    with Mirror(chosen, size, region) as mirror:
      mirror.send_away()
      count = size // 100 // 4096
      mirror.write((generator.randrange(size // 4096) * 4096 for _ in range(count)), 4096)
      marked = mirror.marked()
      copied = mirror.rebuild()
      report("random 4 KiB writes", size, region, count * 4096, marked, copied)
      assert copied <= marked, f"regions of {region}: {copied} bytes were copied, {marked} were marked"


def main():
  chosen = options(__doc__.split("\n")[0])
  return cases.run(chosen, chosen.only)


if __name__ == "__main__":
  sys.exit(main())

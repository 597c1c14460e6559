"""Writes through a target and knows, block by block, what it may have lost and what it must not: the judge of the power-cut and kill tests.

Every 4 KiB block carries its namespace, number and version in each of its 512-byte sectors. A sector may later hold any version that was ever submitted
for it, but none older than the newest one promised to last: acknowledged with FUA, or acknowledged before a flush that was acknowledged.
Left out: how power is cut (power_cut_test.py), sectors torn within themselves.
"""
import random
import struct
import threading
import time

from nvme_client import Lost

BLOCK = 4096
SECTOR = 512
READ_BLOCKS = 16  # in one read of read_back
_STAMP = struct.Struct("<8sIIQ8x")  # 32 bytes: magic, nsid, block, version
_MAGIC = b"catnap!\n"


def stamp(nsid, block, version):
  return _STAMP.pack(_MAGIC, nsid, block, version) * (BLOCK // _STAMP.size)


class Ledger:
  """What was submitted, acknowledged and promised for the blocks of one namespace."""

  def __init__(self, nsid, blocks, acknowledged_lasts=False):
    self.nsid = nsid
    self.blocks = blocks
    self.acknowledged_lasts = acknowledged_lasts  # kill -9: the kernel keeps what it has, so every acknowledged write has to be there
    self.submitted = [0] * blocks
    self.acknowledged = [0] * blocks
    self.promised = [0] * blocks
    self.busy = set()  # blocks with a write in flight: a second one would have no order
    self.writes = self.flushes = self.fua_writes = 0

  def _promise(self, block, version):
    self.promised[block] = max(self.promised[block], version)

  def written(self, first, count, version, fua):
    """A write was acknowledged."""
    self.writes += 1
    self.fua_writes += fua
    for block in range(first, first + count):
      self.busy.discard(block)
      self.acknowledged[block] = version
      if fua or self.acknowledged_lasts:
        self._promise(block, version)

  def flushed(self, acknowledged_before):
    """A flush was acknowledged; the argument is `acknowledged` as it was when the flush was submitted."""
    self.flushes += 1
    for block, version in enumerate(acknowledged_before):
      self._promise(block, version)

  def losses(self, block, data):
    """Sentences about what is wrong with a block's contents after the cut; none when all is well. The block's history begins anew with what is there."""
    result, found = [], []
    for sector in range(BLOCK // SECTOR):
      part = data[sector * SECTOR : (sector + 1) * SECTOR]
      magic, nsid, number, version = _STAMP.unpack_from(part)
      if part == bytes(SECTOR):
        version = 0
      elif (magic, nsid, number) != (_MAGIC, self.nsid, block) or part != _STAMP.pack(magic, nsid, number, version) * (SECTOR // _STAMP.size):
        result.append(f"namespace {self.nsid}, block {block}, sector {sector}: foreign contents {part[:32].hex()}")
        continue
      found.append(version)
      if version < self.promised[block]:
        result.append(f"namespace {self.nsid}, block {block}, sector {sector}: version {version}, but {self.promised[block]} was promised to last")
      if version > self.submitted[block]:
        result.append(f"namespace {self.nsid}, block {block}, sector {sector}: version {version} was never written")
    kept = min(found, default=0)
    self.acknowledged[block] = self.promised[block] = kept
    return result


class Writer:
  """Keeps several writes and flushes in flight on all namespaces of a controller until told to stop, or until the connection is lost."""

  def __init__(self, controller, ledgers, seed, depth=12):
    self.controller = controller
    self.ledgers = ledgers
    self.random = random.Random(seed)
    self.depth = depth
    self.flush_share, self.fua_share = 0.08, 0.1  # of all commands, of all writes; may be changed while it runs
    self.blocks = None  # only the first so many of each namespace are written from now on
    self.version = max(max(ledger.submitted) for ledger in ledgers)
    self.in_flight = {}
    self.stopping = False
    self.problem = None

  def _submit(self):
    ledger = self.random.choice(self.ledgers)
    if self.random.random() < self.flush_share:
      self.in_flight[self.controller.submit_flush(ledger.nsid)] = (ledger, None, list(ledger.acknowledged))
      return
    count = self.random.choice((1, 1, 1, 2, 4, 8))
    first = self.random.randrange((self.blocks or ledger.blocks) - count)
    wanted = range(first, first + count)
    if ledger.busy.intersection(wanted):
      return
    self.version += 1
    version, fua = self.version, self.random.random() < self.fua_share
    ledger.busy.update(wanted)
    for block in wanted:
      ledger.submitted[block] = version
    data = b"".join(stamp(ledger.nsid, block, version) for block in wanted)
    cid = self.controller.submit_write(ledger.nsid, first * BLOCK, data, fua=fua)
    self.in_flight[cid] = (ledger, (first, count, version, fua), None)

  def _reap(self):
    done = self.controller.io.reap().check("a command of the writer")
    ledger, write, acknowledged_before = self.in_flight.pop(done.cid)
    if write:
      ledger.written(*write)
    else:
      ledger.flushed(acknowledged_before)

  def run(self):
    """For a thread; `problem` tells an unexpected end. A lost connection is what the tests cause."""
    try:
      while not self.stopping:
        while len(self.in_flight) < self.depth:
          self._submit()
        self._reap()
      while self.in_flight:
        self._reap()
    except Lost:
      pass
    except Exception as problem:  # told by the main thread
      self.problem = problem
    for ledger in self.ledgers:
      ledger.busy.clear()


def read_back(controller, ledgers):
  """Reads all blocks of all namespaces; returns sentences about what is lost, by namespace id."""
  result = {}
  for ledger in ledgers:
    lost = []
    for first in range(0, ledger.blocks, READ_BLOCKS):
      count = min(READ_BLOCKS, ledger.blocks - first)
      data = controller.read(ledger.nsid, first * BLOCK, count * BLOCK)
      for number in range(count):
        lost += ledger.losses(first + number, data[number * BLOCK : (number + 1) * BLOCK])
    result[ledger.nsid] = lost
  return result


def write_and_kill(server, controller, ledgers, seed, count, timeout_s=60):
  """Writes until `count` more writes were acknowledged, and kills the server (harness.Catnapd) in the midst of them."""
  writer = Writer(controller, ledgers, seed)
  wanted = sum(ledger.writes for ledger in ledgers) + count
  thread = threading.Thread(target=writer.run, daemon=True)
  thread.start()
  deadline = time.monotonic() + timeout_s
  while sum(ledger.writes for ledger in ledgers) < wanted:
    assert thread.is_alive(), f"the writer ended: {writer.problem or 'connection lost'}\n{server.log()[-3000:]}"
    assert time.monotonic() < deadline, f"fewer than {count} writes in {timeout_s} s"
    time.sleep(0.01)
  assert thread.is_alive(), "the writer ended before the kill"
  server.kill()
  thread.join(30)
  assert not thread.is_alive() and writer.problem is None, f"the writer: {writer.problem or 'does not end'}"
  writer.controller.close()

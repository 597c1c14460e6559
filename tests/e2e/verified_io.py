"""Verified I/O over a raw NVMe/TCP connection, in a thread of its own, while a test does things to what lies behind.

Each block carries its place and the number of the write that made it, so that lost, stale and misplaced blocks are all found. Left out: what is done
meanwhile (initiator_test.py, failover_test.py).
"""
import random
import struct
import threading
import time

from nvme_client import Controller

BLOCK = 512
SIZES = (512, 4096, 16384, 65536)
DEPTH = 8
# Far longer than any failover; an I/O that takes longer counts as lost.
PATIENCE_S = 60


class VerifiedIo:
  """Writes and reads `size` bytes of namespace 1 until it leaves the `with` block; then all of it is read and compared. Errors are raised there, and in
  wait_progress()."""

  def __init__(self, address, nqn, size, seed):
    self.host = Controller(address, nqn, timeout_s=PATIENCE_S)
    self.size = size
    self.choice = random.Random(seed)
    self.written = [0] * (size // BLOCK)  # number of the last write per block, 0: what was there before
    self.writes = 0
    self.done = 0
    self.longest_pause_s = 0.0
    self.last_done = time.monotonic()
    self.failure = None
    self.stopping = False
    self.thread = threading.Thread(target=self._run, daemon=True)

  def __enter__(self):
    self._fill()
    self.thread.start()
    return self

  def __exit__(self, kind, *unused):
    self.stopping = True
    self.thread.join(2 * PATIENCE_S)
    if kind is None:
      assert not self.thread.is_alive(), "I/O hangs"
      self.check()
      self._verify_all()
    self.host.close()

  def check(self):
    if self.failure:
      raise AssertionError(f"I/O failed: {self.failure}") from self.failure

  def wait_progress(self, count, timeout_s=PATIENCE_S):
    """Returns when `count` more I/Os are done."""
    wanted = self.done + count
    deadline = time.monotonic() + timeout_s
    while self.done < wanted:
      self.check()
      assert time.monotonic() < deadline, f"no I/O came through for {timeout_s} s"
      time.sleep(0.01)

  def take_longest_pause(self):
    """The longest time without a completion since the last call, in seconds."""
    pause, self.longest_pause_s = self.longest_pause_s, 0.0
    return pause

  def _stamp(self, block):
    number = self.written[block]
    return struct.pack("<QQ", block, number) * (BLOCK // 16)

  def _content(self, place, size):
    return b"".join(self._stamp(block) for block in range(place // BLOCK, (place + size) // BLOCK))

  def _fill(self):
    self.writes += 1
    for place in range(0, self.size, 65536):
      self._mark(place, 65536)
      self.host.write(1, place, self._content(place, 65536))

  def _mark(self, place, size):
    for block in range(place // BLOCK, (place + size) // BLOCK):
      self.written[block] = self.writes

  @staticmethod
  def _difference(place, found, expected):
    """The first block that is wrong, and what it says of itself."""
    for offset in range(0, len(expected), BLOCK):
      if found[offset : offset + BLOCK] != expected[offset : offset + BLOCK]:
        is_block, is_number = struct.unpack_from("<QQ", found, offset)
        block, number = struct.unpack_from("<QQ", expected, offset)
        return f"wrong data at {place + offset}: block {is_block} of write {is_number} instead of block {block} of write {number}"
    return f"{len(found)} bytes instead of {len(expected)} at {place}"

  def _verify_all(self):
    for place in range(0, self.size, 65536):
      found, expected = self.host.read(1, place, 65536), self._content(place, 65536)
      assert found == expected, self._difference(place, found, expected)

  def _run(self):
    try:
      in_flight = {}  # cid -> (place, size, expected bytes or None)
      while not self.stopping or in_flight:
        while len(in_flight) < DEPTH and not self.stopping:
          self._start_one(in_flight)
        self._finish_one(in_flight)
    except Exception as problem:  # handed to the test's thread
      self.failure = problem

  def _start_one(self, in_flight):
    size = self.choice.choice(SIZES)
    place = self.choice.randrange(0, (self.size - size) // BLOCK + 1) * BLOCK
    if any(place < other + length and other < place + size for other, length, _ in in_flight.values()):
      return  # what overlaps has no certain outcome
    if self.choice.random() < 0.5:
      self.writes += 1
      self._mark(place, size)
      in_flight[self.host.submit_write(1, place, self._content(place, size))] = (place, size, None)
    else:
      in_flight[self.host.submit_read(1, place, size)] = (place, size, self._content(place, size))

  def _finish_one(self, in_flight):
    if not in_flight:
      return
    done = self.host.io.reap()
    place, size, expected = in_flight.pop(done.cid)
    done.check(f"{'Write' if expected is None else 'Read'} of {size} bytes at {place}")
    if expected is not None:
      assert done.data == expected, self._difference(place, done.data, expected)
    now = time.monotonic()
    self.longest_pause_s = max(self.longest_pause_s, now - self.last_done)
    self.last_done = now
    self.done += 1

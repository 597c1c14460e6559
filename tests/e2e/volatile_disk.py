"""A disk that forgets unflushed writes when its power is cut: an NBD server on a Unix socket, which QEMU attaches as a virtio disk with a write cache.

Writes are answered at once and stay in a volatile layer (reads see them) until FLUSH, or FUA on the write itself, makes them stable. `cut` drops what
is still volatile, all of it or a part, as a real cache might. A disk can also break: everything ends with an error until it is whole again. Protocol: the NBD project's doc/proto.md, fixed newstyle, simple replies.
Left out: torn sectors; more than one client at a time; persistence beyond this process.
"""
import contextlib
import random
import socket
import struct
import threading

SECTOR = 512
INIT_MAGIC, OPTION_MAGIC, REPLY_MAGIC = 0x4E42444D41474943, 0x49484156454F5054, 0x3E889045565A9
REQUEST_MAGIC, SIMPLE_REPLY_MAGIC = 0x25609513, 0x67446698
OPT_EXPORT_NAME, OPT_ABORT, OPT_INFO, OPT_GO = 1, 2, 6, 7
REP_ACK, REP_INFO, REP_ERR_UNSUP = 1, 3, (1 << 31) + 1
FIXED_NEWSTYLE, NO_ZEROES = 1, 2
HAS_FLAGS, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES = 1, 4, 8, 32, 64
TRANSMISSION_FLAGS = HAS_FLAGS | SEND_FLUSH | SEND_FUA | SEND_TRIM | SEND_WRITE_ZEROES
READ, WRITE, DISCONNECT, FLUSH, TRIM, WRITE_ZEROES = 0, 1, 2, 3, 4, 6
COMMAND_FUA = 1
EIO, EINVAL = 5, 22


class VolatileDisk:
  """One disk of `size` bytes, or with the contents of `image`; serves until `close`. Its own thread owns the socket, a lock guards the contents."""

  def __init__(self, socket_path, size=0, image=None):
    self.path = str(socket_path)
    self.current = bytearray(image) if image else bytearray(size)  # what reads see
    self.stable = bytearray(self.current)                          # what survives a cut
    self.volatile = set()                                          # sectors in which the two may differ
    self.written = set()                                           # sectors that were written since somebody cleared this
    self.broken = False
    self.flushes = 0
    self.powered = True
    self.lock = threading.Lock()
    self.client = None
    self.listener = socket.socket(socket.AF_UNIX)
    self.listener.bind(self.path)
    self.listener.listen(4)
    self.thread = threading.Thread(target=self._serve, daemon=True)
    self.thread.start()

  def drive(self):
    """QEMU's -drive value. cache=writeback tells the guest that there is a volatile write cache; QEMU itself keeps nothing."""
    return f"driver=raw,cache=writeback,discard=unmap,file.driver=nbd,file.server.type=unix,file.server.path={self.path}"

  def cut(self, keep=None):
    """The power goes: unflushed sectors are gone; nothing is answered until `power_on`. `keep`, a random.Random: half of them happen to survive; a function
    of the sector: those for which it is true do. Returns how many were volatile, and how many of them lost what was written to them."""
    with self.lock:
      return self.cut_locked(keep)

  def cut_locked(self, keep):
    """`cut`, by who holds the lock."""
    self.powered = False
    return self._forget(keep)

  def power_on(self):
    with self.lock:
      self.powered = True

  def forget(self, keep=None):
    """As `cut`, with the power back at once."""
    with self.lock:
      return self._forget(keep)

  def _forget(self, keep):
    volatile, lost = sorted(self.volatile), 0
    survives = keep if callable(keep) else lambda _: keep is not None and keep.random() < 0.5
    for sector in volatile:
      place = slice(sector * SECTOR, (sector + 1) * SECTOR)
      if survives(sector):
        self.stable[place] = self.current[place]
      else:
        lost += self.current[place] != self.stable[place]
        self.current[place] = self.stable[place]
    self.volatile.clear()
    return len(volatile), lost

  def close(self):
    self.cut()
    self.listener.close()
    client = self.client
    if client:
      try:
        client.shutdown(socket.SHUT_RDWR)
      except OSError:
        pass  # it is gone already

  def _serve(self):
    while True:
      try:
        self.client, _ = self.listener.accept()
      except OSError:
        return
      with self.client:
        try:
          if self._negotiate(self.client):
            while self._request(self.client):
              pass
        except (OSError, EOFError):
          pass  # QEMU was killed: that is what the test does

  @staticmethod
  def _exactly(client, count):
    result = bytearray()
    while len(result) < count:
      part = client.recv(count - len(result))
      if not part:
        raise EOFError
      result += part
    return bytes(result)

  def _negotiate(self, client):
    client.sendall(struct.pack(">QQH", INIT_MAGIC, OPTION_MAGIC, FIXED_NEWSTYLE | NO_ZEROES))
    no_zeroes = struct.unpack(">I", self._exactly(client, 4))[0] & NO_ZEROES
    while True:
      magic, option, length = struct.unpack(">QII", self._exactly(client, 16))
      if magic != OPTION_MAGIC:
        return False
      self._exactly(client, length)

      def reply(kind, data=b"", option=option):
        client.sendall(struct.pack(">QIII", REPLY_MAGIC, option, kind, len(data)) + data)

      if option == OPT_EXPORT_NAME:
        client.sendall(struct.pack(">QH", len(self.current), TRANSMISSION_FLAGS) + (b"" if no_zeroes else bytes(124)))
        return True
      if option in (OPT_GO, OPT_INFO):
        reply(REP_INFO, struct.pack(">HQH", 0, len(self.current), TRANSMISSION_FLAGS))
        reply(REP_ACK)
        if option == OPT_GO:
          return True
      elif option == OPT_ABORT:
        reply(REP_ACK)
        return False
      else:
        reply(REP_ERR_UNSUP)

  def _request(self, client):
    magic, flags, command, cookie, offset, length = struct.unpack(">IHHQQI", self._exactly(client, 28))
    if magic != REQUEST_MAGIC or command == DISCONNECT:
      return False
    data = self._exactly(client, length) if command == WRITE else b""
    with self.lock:
      if not self.powered:
        return True  # a disk without power says nothing
      error, answer = self._execute(command, flags, offset, length, data)
      client.sendall(struct.pack(">IIQ", SIMPLE_REPLY_MAGIC, error, cookie) + answer)
    return True

  def _execute(self, command, flags, offset, length, data):
    if self.broken:
      return EIO, b""
    if offset + length > len(self.current) or (command != FLUSH and (offset % SECTOR or length % SECTOR)):
      return EINVAL, b""
    if command == READ:
      return 0, bytes(self.current[offset : offset + length])
    sectors = range(offset // SECTOR, (offset + length) // SECTOR)
    if command == FLUSH:
      self.flushes += 1
      self._make_stable(self.volatile)
      self.volatile.clear()
    elif command in (WRITE, WRITE_ZEROES, TRIM):
      self.current[offset : offset + length] = data if command == WRITE else bytes(length)
      self.volatile.update(sectors)
      self.written.update(sectors)
      if flags & COMMAND_FUA:
        self._make_stable(sectors)
        self.volatile.difference_update(sectors)
    else:
      return EINVAL, b""
    return 0, b""

  def _make_stable(self, sectors):
    for sector in sectors:
      place = slice(sector * SECTOR, (sector + 1) * SECTOR)
      self.stable[place] = self.current[place]


def cut_together(disks, least, keep):
  """Cuts all of them at one moment, if each that is not broken has at least so many volatile sectors then: what `cut` returns, of each; else None."""
  with contextlib.ExitStack() as locks:
    for disk in disks:
      locks.enter_context(disk.lock)
    if any(len(disk.volatile) < least for disk in disks if not disk.broken):
      return None
    return [disk.cut_locked(keep) for disk in disks]


def seeded(seed):
  """The random source of a run, whose seed a failing test prints."""
  return random.Random(seed)

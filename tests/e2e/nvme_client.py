"""A small NVMe/TCP host in Python: connects, enables the controller, reads, writes, flushes, several commands at a time.

It can stay quiet for ever (KATO 0) and knows exactly which commands were acknowledged, which a kernel host does not tell. Field names and layouts follow
NVM Express TCP Transport Specification 1.0 section 3.6 and Base Specification 2.0 sections 3.3.3 and 6. Left out: hostile behaviour (tests/protocol has a
client for that), TLS, authentication.
"""
import socket
import struct
import time
import uuid

IC_REQ, IC_RESP, C2H_TERM, CAPSULE_CMD, CAPSULE_RESP, H2C_DATA, C2H_DATA, R2T = 0, 1, 3, 4, 5, 6, 7, 9
HEADER_DIGEST, DATA_DIGEST, LAST, SUCCESS = 1, 2, 4, 8
FABRICS, IDENTIFY, SET_FEATURES = 0x7F, 0x06, 0x09
FLUSH, WRITE, READ = 0x00, 0x01, 0x02
FUA = 1 << 30  # in command dword 12
SGL_IN_CAPSULE, SGL_TRANSPORT = 0x01, 0x5A
CAPSULE_BYTES = 64


def _crc32c_table():
  table = []
  for value in range(256):
    for _ in range(8):
      value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    table.append(value)
  return table


_TABLE = _crc32c_table()


def crc32c(data):
  """CRC32C as in the digests (RFC 3720 appendix B.4: 32 zero bytes give 8A9136AAh)."""
  value = 0xFFFFFFFF
  for byte in data:
    value = _TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
  return value ^ 0xFFFFFFFF


class Lost(Exception):
  """The connection ended or stayed silent too long."""


class Completion:
  """One finished command: its id, 15-bit status (type and code with the flags above), result dwords 0 and 1, data read."""

  def __init__(self, cid, status, result, data):
    self.cid = cid
    self.status = status & 0x7FF
    self.result = result
    self.data = data

  def check(self, what):
    assert self.status == 0, f"{what} ended with status type {self.status >> 8}, code {self.status & 0xFF:02x}h"
    return self


class QueuePair:
  """One connection. Commands are submitted without waiting; `reap` waits for the next completion."""

  def __init__(self, address, timeout_s=60, header_digest=False, data_digest=False, dial=None):
    """`dial(address)` gives a connected socket instead of TCP's: one that a TLS client stands behind."""
    self.header_digest = header_digest
    self.data_digest = data_digest
    self.outgoing = {}  # cid -> data of a write that waits for R2T
    self.incoming = {}  # cid -> bytearray of a read
    self.next_cid = 0
    self.buffer = b""
    self.timeout_s = timeout_s
    try:
      if dial is not None:
        self.socket = dial(address)
        self.socket.settimeout(timeout_s)
      else:
        self.socket = socket.create_connection(address, timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
      digests = (HEADER_DIGEST if header_digest else 0) | (DATA_DIGEST if data_digest else 0)
      self.socket.sendall(struct.pack("<BBBBIHBBI", IC_REQ, 0, 128, 0, 128, 0, 0, digests, 0).ljust(128, b"\0"))
      answer = self._exactly(128)
    except OSError as problem:
      raise Lost(str(problem)) from problem
    kind, _, _, _, _, version, alignment, agreed, self.max_h2c = struct.unpack_from("<BBBBIHBBI", answer)
    assert (kind, version, alignment, agreed) == (IC_RESP, 0, 0, digests) and self.max_h2c >= 4096, f"ICResp is {answer[:16].hex()}"

  def close(self):
    self.socket.close()

  def _exactly(self, count):
    while len(self.buffer) < count:
      try:
        part = self.socket.recv(1 << 17)
      except OSError as problem:
        raise Lost(str(problem)) from problem
      if not part:
        raise Lost("the target closed the connection")
      self.buffer += part
    result, self.buffer = self.buffer[:count], self.buffer[count:]
    return result

  def _send_pdu(self, kind, header, data=b"", flags=0):
    """`header` is what follows the common header."""
    length = 8 + len(header)
    offset = length + (4 if self.header_digest else 0)
    total = offset + len(data) + (4 if data and self.data_digest else 0)
    flags |= (HEADER_DIGEST if self.header_digest else 0) | (DATA_DIGEST if data and self.data_digest else 0)
    pdu = struct.pack("<BBBBI", kind, flags, length, offset if data else 0, total) + header
    if self.header_digest:
      pdu += struct.pack("<I", crc32c(pdu))
    pdu += data
    if data and self.data_digest:
      pdu += struct.pack("<I", crc32c(data))
    try:
      self.socket.sendall(pdu)
    except OSError as problem:
      raise Lost(str(problem)) from problem

  def _receive_pdu(self):
    common = self._exactly(8)
    kind, flags, length, offset, total = struct.unpack("<BBBBI", common)
    assert 8 <= length <= total < 1 << 24, f"common header {common.hex()}"
    header = self._exactly(length - 8)
    position = length
    if flags & HEADER_DIGEST:
      digest = struct.unpack("<I", self._exactly(4))[0]
      assert self.header_digest and digest == crc32c(common + header), "header digest"
      position += 4
    data = b""
    if offset and offset < total:
      self._exactly(offset - position)
      data_length = total - offset - (4 if flags & DATA_DIGEST else 0)
      data = self._exactly(data_length)
      if flags & DATA_DIGEST:
        assert self.data_digest and struct.unpack("<I", self._exactly(4))[0] == crc32c(data), "data digest"
    if kind == C2H_TERM:
      raise Lost(f"the target ended the connection: FES {header[0]}, offset {struct.unpack_from('<I', header, 2)[0]}")
    return kind, flags, header, data

  def submit(self, opcode, nsid=0, dwords=(), data=b"", read_bytes=0, in_capsule=False, fields=None):
    """Sends a command; returns its id. `dwords` are command dwords 10 to 15, `fields` (bytes from offset 40, for Fabrics) replaces them."""
    while self.next_cid in self.incoming or self.next_cid in self.outgoing:
      self.next_cid = (self.next_cid + 1) & 0x7FFF
    cid = self.next_cid
    self.next_cid = (self.next_cid + 1) & 0x7FFF
    size = len(data) or read_bytes
    descriptor = struct.pack("<QI3xB", 0, size, SGL_IN_CAPSULE if in_capsule else SGL_TRANSPORT)
    tail = fields if fields is not None else struct.pack("<6I", *(tuple(dwords) + (0,) * 6)[:6])
    command = struct.pack("<BBHI16x", opcode, 0x40, cid, nsid) + descriptor + tail.ljust(24, b"\0")
    self.incoming[cid] = bytearray(read_bytes)
    if data and not in_capsule:
      self.outgoing[cid] = data
    self._send_pdu(CAPSULE_CMD, command, data if in_capsule else b"")
    return cid

  def _answer_r2t(self, header):
    cid, tag, offset, length = struct.unpack_from("<HHII", header)
    data = self.outgoing[cid][offset : offset + length]
    assert len(data) == length, f"R2T beyond the command's data: offset {offset}, length {length}"
    sent = 0
    while sent < length:
      part = data[sent : sent + self.max_h2c]
      self._send_pdu(H2C_DATA, struct.pack("<HHIII", cid, tag, offset + sent, len(part), 0), part, LAST if sent + len(part) == length else 0)
      sent += len(part)

  def reap(self, timeout_s=None):
    """The next completion, in the order of the target's choice."""
    self.socket.settimeout(timeout_s or self.timeout_s)
    while True:
      kind, flags, header, data = self._receive_pdu()
      if kind == R2T:
        self._answer_r2t(header)
      elif kind == C2H_DATA:
        cid, _, offset, length = struct.unpack_from("<HHII", header)
        assert length == len(data) and offset + length <= len(self.incoming[cid]), f"C2HData with offset {offset}, length {length}"
        self.incoming[cid][offset : offset + length] = data
        if flags & SUCCESS:
          return self._finish(cid, 0, 0)
      elif kind == CAPSULE_RESP:
        result, _, _, cid, status = struct.unpack("<QHHHH", header)
        return self._finish(cid, status >> 1, result)
      else:
        raise AssertionError(f"PDU type {kind}")

  def _finish(self, cid, status, result):
    self.outgoing.pop(cid, None)
    return Completion(cid, status, result, bytes(self.incoming.pop(cid)))

  def call(self, what, *arguments, **keywords):
    """One command alone, which must succeed."""
    cid = self.submit(*arguments, **keywords)
    done = self.reap()
    assert done.cid == cid, f"{what}: completion of another command ({done.cid} instead of {cid})"
    return done.check(what)


class Controller:
  """An enabled I/O controller with one I/O queue, `io`. Without `kato_ms` no keep-alive is asked for."""

  def __init__(self, address, nqn, header_digest=False, data_digest=False, timeout_s=60, kato_ms=0, dial=None, host_id=None, io_queues=1):
    self.kato_ms = kato_ms
    self.address = address
    self.nqn = nqn
    self.host_id = host_id or uuid.uuid4()
    self.digests = {"header_digest": header_digest, "data_digest": data_digest, "timeout_s": timeout_s, "dial": dial}
    self.admin = QueuePair(address, **self.digests)
    self.io = None
    self.cntlid = self._connect(self.admin, 0, 0xFFFF, 31).result & 0xFFFF
    capabilities = self._get_property(0x0, 8)
    self._set_property(0x14, 0x00460001 | (0x60 if capabilities >> 43 & 1 else 0))
    deadline = time.monotonic() + timeout_s
    while not self._get_property(0x1C, 4) & 1:
      assert time.monotonic() < deadline, "the controller does not become ready"
    identify = self.admin.call("Identify Controller", IDENTIFY, dwords=(1,), read_bytes=4096).data
    self.in_capsule_bytes = struct.unpack_from("<I", identify, 1792)[0] * 16 - CAPSULE_BYTES
    self.volatile_write_cache = identify[525] & 1
    self.abort_limit = identify[258] + 1
    self.admin.call("Set Features Number of Queues", SET_FEATURES, dwords=(7, 0))
    if io_queues == 0:
      return
    self.io = QueuePair(address, **self.digests)
    self._connect(self.io, 1, self.cntlid, 127)

  def _connect(self, queue, qid, cntlid, size):
    data = self.host_id.bytes + struct.pack("<H", cntlid) + bytes(238)
    data += self.nqn.encode().ljust(256, b"\0") + f"nqn.2014-08.org.nvmexpress:uuid:{self.host_id}".encode().ljust(256, b"\0") + bytes(256)
    fields = struct.pack("<HHHBxI", 0, qid, size, 0, self.kato_ms if qid == 0 else 0)
    return queue.call(f"Connect of queue {qid}", FABRICS, nsid=1, data=data, in_capsule=True, fields=fields)

  def _get_property(self, offset, size):
    return self.admin.call(f"Property Get {offset:x}h", FABRICS, nsid=4, fields=struct.pack("<B3xI", 1 if size == 8 else 0, offset)).result

  def _set_property(self, offset, value):
    self.admin.call(f"Property Set {offset:x}h", FABRICS, nsid=0, fields=struct.pack("<B3xIQ", 0, offset, value))

  def identify_namespace(self, nsid):
    """(number of blocks, bytes per block)."""
    data = self.admin.call("Identify Namespace", IDENTIFY, nsid=nsid, dwords=(0,), read_bytes=4096).data
    lba_format = struct.unpack_from("<I", data, 128 + 4 * (data[26] & 0xF))[0]
    return struct.unpack_from("<Q", data)[0], 1 << (lba_format >> 16 & 0xFF)

  def _io_dwords(self, byte_offset, size, block_size, fua):
    lba = byte_offset // block_size
    return lba & 0xFFFFFFFF, lba >> 32, (size // block_size - 1) | (FUA if fua else 0)

  def submit_write(self, nsid, byte_offset, data, block_size=512, fua=False):
    dwords = self._io_dwords(byte_offset, len(data), block_size, fua)
    return self.io.submit(WRITE, nsid, dwords, data=data, in_capsule=len(data) <= self.in_capsule_bytes)

  def submit_read(self, nsid, byte_offset, size, block_size=512):
    return self.io.submit(READ, nsid, self._io_dwords(byte_offset, size, block_size, False), read_bytes=size)

  def submit_flush(self, nsid):
    return self.io.submit(FLUSH, nsid)

  def write(self, *arguments, **keywords):
    self.submit_write(*arguments, **keywords)
    self.io.reap().check("Write")

  def read(self, nsid, byte_offset, size, block_size=512):
    self.submit_read(nsid, byte_offset, size, block_size)
    return self.io.reap().check("Read").data

  def flush(self, nsid):
    self.submit_flush(nsid)
    self.io.reap().check("Flush")

  def close(self):
    for queue in (self.io, self.admin):
      if queue:
        queue.close()


def connect_when_ready(address, nqn, timeout_s=60, **keywords):
  """A controller of a target that may still be starting."""
  deadline = time.monotonic() + timeout_s
  while True:
    try:
      return Controller(address, nqn, **keywords)
    except Lost:
      if time.monotonic() > deadline:
        raise
      time.sleep(0.1)

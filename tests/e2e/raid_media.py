"""What stands on the members of a raid1 with superblocks, read from their raw contents: which regions are marked, and where members differ without a mark.

For tests that look at disks while nobody writes to them, as after a power cut. The format is that of docs/raid.md, "On disk" (superblock.cpp, bitmap_pages.cpp),
read here a second time and independently. Left out: arrays without superblocks, forks.
"""
import struct

COPY_BYTES = 16384
IN_SYNC, REBUILDING, FAILED = 1, 2, 3
_HEADER = struct.Struct("<8sIIII16sQQQQQQIIIHH")
_HEADER_BYTES, _SLOT_BYTES, _PAGE_HEADER_BYTES = 512, 40, 16


def _crc32c_table():
  table = []
  for value in range(256):
    for _ in range(8):
      value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    table.append(value)
  return table


_TABLE = _crc32c_table()


def crc32c(data):
  """CRC32C (Castagnoli), as both superblocks and bitmap pages have it."""
  crc = 0xFFFFFFFF
  for byte in data:
    crc = (crc >> 8) ^ _TABLE[(crc ^ byte) & 0xFF]
  return crc ^ 0xFFFFFFFF


class Superblock:
  """The newer good copy of one member; None from `of` where there is none."""

  def __init__(self, copy):
    (magic, crc, _, length, _, self.array_uuid, self.events, _, self.num_blocks, data_offset, bitmap_offset, region, self.bitmap_blocks, self.block_size, _,
     slots, self.this_slot) = _HEADER.unpack_from(copy)
    if magic != b"catnapRD" or length > COPY_BYTES or crc32c(copy[:8] + bytes(4) + copy[12:length]) != crc:
      raise ValueError("no good superblock")
    self.data_offset, self.bitmap_offset, self.region_bytes = (value * self.block_size for value in (data_offset, bitmap_offset, region))
    self.states = [copy[_HEADER_BYTES + slot * _SLOT_BYTES + 16] for slot in range(slots)]

  @staticmethod
  def of(member):
    found = []
    for copy in (0, 1):
      try:
        found.append(Superblock(bytes(member[copy * COPY_BYTES : (copy + 1) * COPY_BYTES])))
      except ValueError:
        pass  # torn, or never written: then the other one counts
    return max(found, key=lambda each: each.events, default=None)


class Media:
  """The members of one array as their disks are now. `members`: one bytes-like object each, in the order of slots."""

  def __init__(self, members):
    self.members = members
    known = [superblock for superblock in map(Superblock.of, members) if superblock]
    assert known, "no member has a superblock"
    self.superblock = max(known, key=lambda each: each.events)
    self.states = self.superblock.states
    self.region_bytes, self.data_offset = self.superblock.region_bytes, self.superblock.data_offset
    self.regions = -(-self.superblock.num_blocks * self.superblock.block_size // self.region_bytes)

  def marked(self):
    """Regions that are marked on any member in sync; a page that is not good counts as all marked."""
    page_bytes = self.superblock.block_size
    per_page = (page_bytes - _PAGE_HEADER_BYTES) * 8
    marked = set()
    for slot, member in enumerate(self.members):
      if self.states[slot] != IN_SYNC:
        continue
      for page in range(-(-self.regions // per_page)):
        at = self.superblock.bitmap_offset + page * page_bytes
        bits = bytes(member[at : at + page_bytes])
        crc, index = struct.unpack_from("<II", bits)
        good = index == page and bits[8:16] == self.superblock.array_uuid[:8] and crc == crc32c(bits[4:])
        for region in range(page * per_page, min((page + 1) * per_page, self.regions)):
          bit = region - page * per_page
          if not good or bits[_PAGE_HEADER_BYTES + bit // 8] >> (bit % 8) & 1:
            marked.add(region)
    return marked

  def _data(self, member, region):
    at = self.data_offset + region * self.region_bytes
    return member[at : at + self.region_bytes]

  def different(self):
    """Regions in which members differ that hold all data but what is marked."""
    slots = [slot for slot, state in enumerate(self.states) if state in (IN_SYNC, REBUILDING, FAILED)]
    reference = next(slot for slot in slots if self.states[slot] == IN_SYNC)
    return {region for region in range(self.regions) for slot in slots
            if self._data(self.members[slot], region) != self._data(self.members[reference], region)}

  def region_of_sector(self, sector):
    """Of a 512-byte sector of a member; None: it is not data."""
    at = sector * 512 - self.data_offset
    return at // self.region_bytes if at >= 0 else None

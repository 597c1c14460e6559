#!/usr/bin/env -S /usr/bin/python3
"""Writes vectors.h: secrets, transformed keys and responses as tests/lib/dhchap.py computes them, from fixed inputs.

Run it again only when vectors are to be added; the file is in the repository.
"""
import hashlib
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..", "lib"))
import dhchap  # noqa: E402

HOST, SUBSYSTEM = "nqn.2014-08.org.nvmexpress:uuid:5bc8a1f3-58a4-4d4a-8f0e-14b3f3f5ad0b", "nqn.2026-11.io.catnap:vectors"


def some_bytes(what, count):
  return b"".join(hashlib.sha256(f"{what} {i}".encode()).digest() for i in range((count + 31) // 32))[:count]


def main():
  lines = ["// Vectors of DH-HMAC-CHAP, written by generate_vectors.py with Python's own HMAC and arithmetic. Not to be edited.",
           "// Owner: none (values).", "#pragma once", "", "#include <cstdint>", "", "namespace catnap::dhchap::vectors {", "",
           f'inline constexpr const char* host = "{HOST}";', f'inline constexpr const char* subsystem = "{SUBSYSTEM}";', "",
           "struct SecretVector {", "  const char* text;", "  int transform;", "  const char* host_key;", "  const char* subsystem_key;", "};",
           "// Keys in hexadecimal, as each NQN uses them.", "inline constexpr SecretVector secrets[] = {"]
  for number, length in ((0, 32), (0, 48), (0, 64), (1, 32), (2, 48), (3, 64), (1, 48)):
    secret = dhchap.make_secret(hash_number=number, key=some_bytes(f"key {number}", length))
    keys = ", ".join(f'"{dhchap.key_of(secret, nqn).hex()}"' for nqn in (HOST, SUBSYSTEM))
    lines.append(f'    {{"{secret}", {number}, {keys}}},')
  lines += ["};", "", "struct ResponseVector {", "  int hash;", "  const char* key;", "  const char* dh_secret;", "  const char* challenge;",
            "  std::uint32_t seqnum;", "  std::uint16_t t_id;", "  const char* of_host;", "  const char* of_controller;", "};",
            "inline constexpr ResponseVector responses[] = {"]
  for name, number in dhchap.HASHES.items():
    for dh_bytes in (0, 256, 1024):
      key, size = some_bytes("response key", 32), hashlib.new(name).digest_size
      challenge, dh_secret = some_bytes(f"challenge {name}", size), some_bytes("shared", dh_bytes)
      host = dhchap.respond(name, key, dh_secret, challenge, 0xFEDCBA98, 0x1234, "HostHost", HOST, SUBSYSTEM)
      controller = dhchap.respond(name, key, dh_secret, challenge, 0xFEDCBA98, 0x1234, "Controller", SUBSYSTEM, HOST)
      lines.append(f'    {{{number}, "{key.hex()}", "{dh_secret.hex()}", "{challenge.hex()}", 0xFEDCBA98U, 0x1234, "{host.hex()}", "{controller.hex()}"}},')
  lines += ["};", "", "struct PrimeVector {", "  int group;", "  const char* prime;", "};", "inline constexpr PrimeVector primes[] = {"]
  for name, number in dhchap.GROUPS.items():
    if number:
      lines.append(f'    {{{number}, "{dhchap.prime(name):x}"}},')
  lines += ["};", "", "}  // namespace catnap::dhchap::vectors", ""]
  path = os.path.join(os.path.dirname(os.path.realpath(__file__)), "vectors.h")
  with open(path, "w", encoding="utf-8") as file:
    file.write("\n".join(lines))


if __name__ == "__main__":
  main()

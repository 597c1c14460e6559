// The file in which the reservations of one namespace outlive the process and the power: its text, reading it, and replacing it so that a power cut
// at any moment leaves the old contents or the new.
//
//   catnap-reservations 1
//   namespace 6f0c0c0e-0000-4000-8000-000000000001
//   persist 1
//   generation 12
//   reservation 3 000102030405060708090a0b0c0d0e0f     (type; holder, "-" when nobody or every registrant holds it)
//   registrants 2
//   000102030405060708090a0b0c0d0e0f 000000000000beef  (host identifier, key; by host identifier)
//   100102030405060708090a0b0c0d0e0f 0000000000000001
//   checksum 89abcdef                                   (CRC32C of every byte before this line)
//
// Owner: none; every call may block and belongs on the worker pool. Left out: when it is written (namespace_reservations.h), SPDK's own files.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "reactor/base/error.h"
#include "server/durable_file.h"
#include "server/reservations/rules.h"

namespace catnap::server {

// A file of max_registrants is 430 KB; what is far longer was not written here.
inline constexpr std::size_t max_ptpl_file_bytes = 1U << 20;

struct PtplImage {
  std::array<std::uint8_t, 16> namespace_uuid{};  // whose reservations these are
  // With `persist` 0 only the generation is kept: registrants do not survive (Base 2.0 section 8.19.5).
  ReservationState state;
  bool operator==(const PtplImage&) const = default;
};

std::string encode_ptpl(const PtplImage& image);
// Errors: EINVAL with the line and what is wrong there; EPROTONOSUPPORT for another version.
Result<PtplImage> decode_ptpl(std::string_view text);

// Nothing: there is no such file yet. Checks that it can be written as well. Errors: EINVAL (relative path, damaged or foreign file, named), and what
// the system says (EACCES, ENOENT for the directory, EISDIR…).
Result<std::optional<PtplImage>> load_ptpl(const std::string& path);

}  // namespace catnap::server

// The file of persistent reservations. See ptpl_file.h.
// Owner: none; calls block. Left out: everything else about reservations.
#include "server/reservations/ptpl_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <span>
#include <vector>

#include "reactor/base/crc32c.h"
#include "server/names.h"

namespace catnap::server {

namespace {

constexpr std::string_view first_line = "catnap-reservations ";
constexpr unsigned version = 1;
constexpr std::string_view nobody = "-";

std::string lower_hex(std::span<const std::uint8_t> bytes) {
  std::string text;
  for (const std::uint8_t byte : bytes) fmt::format_to(std::back_inserter(text), "{:02x}", byte);
  return text;
}

// --- reading, line by line ---

class Lines {
 public:
  explicit Lines(std::string_view text) : rest_(text) {}

  // The words of the next line, of which the first must be `keyword` and is left out (empty keyword: any).
  Result<std::vector<std::string_view>> next(std::string_view keyword, std::size_t words) {
    ++number_;
    const std::size_t end = rest_.find('\n');
    if (end == std::string_view::npos) return wrong("the file ends here");
    std::string_view line = rest_.substr(0, end);
    rest_.remove_prefix(end + 1);
    std::vector<std::string_view> found;
    while (!line.empty()) {
      const std::size_t space = std::min(line.find(' '), line.size());
      found.push_back(line.substr(0, space));
      line.remove_prefix(std::min(space + 1, line.size()));
    }
    if (!keyword.empty()) {
      if (found.empty() || found.front() != keyword) return wrong(fmt::format("'{}' is expected", keyword));
      found.erase(found.begin());
    }
    if (found.size() != words) return wrong(fmt::format("{} values are expected", words));
    return found;
  }
  std::unexpected<Error> wrong(const std::string& what) const { return fail(EINVAL, fmt::format("line {}: {}", number_, what)); }
  bool at_end() const { return rest_.empty(); }

  template <typename Number>
  Result<Number> number(std::string_view text, int base = 10) const {
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (error != std::errc() || end != text.data() + text.size()) return wrong(fmt::format("'{}' is no number in range", text));
    return value;
  }
  Result<HostId> host(std::string_view text) const {
    HostId id{};
    if (text.size() != 2 * id.size() || !parse_hex_bytes("host", text, id)) return wrong(fmt::format("'{}' is no host identifier", text));
    return id;
  }

 private:
  std::string_view rest_;
  unsigned number_ = 0;
};

Result<void> read_reservation(Lines& lines, ReservationState& state) {
  const auto words = lines.next("reservation", 2);
  if (!words) return std::unexpected(words.error());
  const auto type = lines.number<std::uint8_t>((*words)[0]);
  if (!type) return std::unexpected(type.error());
  if (*type > nvme::last_reservation_type) return lines.wrong(fmt::format("there is no reservation type {}", *type));
  state.type = static_cast<nvme::ReservationType>(*type);
  const bool one_holder = state.type != nvme::ReservationType::none && !state.all_registrants();
  if (one_holder == ((*words)[1] == nobody)) return lines.wrong(fmt::format("holder '{}' does not go with type {}", (*words)[1], *type));
  if (!one_holder) return {};
  const auto holder = lines.host((*words)[1]);
  if (!holder) return std::unexpected(holder.error());
  state.holder = *holder;
  return {};
}

Result<void> read_registrants(Lines& lines, ReservationState& state) {
  const auto counted = lines.next("registrants", 1);
  if (!counted) return std::unexpected(counted.error());
  const auto count = lines.number<std::size_t>(counted->front());
  if (!count) return std::unexpected(count.error());
  if (*count > max_registrants) return lines.wrong(fmt::format("more than {} registrants", max_registrants));
  for (std::size_t i = 0; i < *count; ++i) {
    const auto words = lines.next("", 2);
    if (!words) return std::unexpected(words.error());
    const auto host = lines.host((*words)[0]);
    if (!host) return std::unexpected(host.error());
    const auto key = lines.number<std::uint64_t>((*words)[1], 16);
    if (!key) return std::unexpected(key.error());
    if (!state.registrants.empty() && !(state.registrants.back().host < *host)) return lines.wrong("host identifiers must ascend");
    state.registrants.push_back({*host, *key});
  }
  const bool held =
      state.type == nvme::ReservationType::none || (state.all_registrants() ? !state.registrants.empty() : state.find(state.holder) != nullptr);
  if (!held) return lines.wrong("the holder of the reservation is no registrant");
  return {};
}

Result<void> check_sum(std::string_view text) {
  constexpr std::string_view keyword = "checksum ";
  const std::size_t at = text.rfind(keyword);
  if (at == std::string_view::npos || (at != 0 && text[at - 1] != '\n')) return fail(EINVAL, "there is no checksum line: the file is cut off");
  const std::string wanted = fmt::format("{}{:08x}\n", keyword, crc32c(text.data(), at));
  if (text.substr(at) != wanted) return fail(EINVAL, "the checksum does not fit: the file was damaged or changed by hand");
  return {};
}

Result<PtplImage> decode_lines(std::string_view text) {
  Lines lines(text);
  const auto head = lines.next("catnap-reservations", 1);
  if (!head) return std::unexpected(head.error());
  PtplImage image;
  const auto name = lines.next("namespace", 1);
  if (!name) return std::unexpected(name.error());
  const auto uuid = parse_uuid(name->front());
  if (!uuid) return lines.wrong(uuid.error().message);
  image.namespace_uuid = *uuid;
  const auto persist = lines.next("persist", 1);
  if (!persist) return std::unexpected(persist.error());
  image.state.persist = persist->front() == "1";
  if (!image.state.persist && persist->front() != "0") return lines.wrong("0 or 1 is expected");
  const auto counted = lines.next("generation", 1);
  if (!counted) return std::unexpected(counted.error());
  const auto generation = lines.number<std::uint32_t>(counted->front());
  if (!generation) return std::unexpected(generation.error());
  image.state.generation = *generation;
  if (auto read = read_reservation(lines, image.state); !read) return std::unexpected(read.error());
  if (auto read = read_registrants(lines, image.state); !read) return std::unexpected(read.error());
  if (auto last = lines.next("checksum", 1); !last) return std::unexpected(last.error());
  if (!lines.at_end()) return lines.wrong("nothing may follow the checksum");
  return image;
}

}  // namespace

std::string encode_ptpl(const PtplImage& image) {
  const ReservationState& state = image.state;
  std::string text = fmt::format("{}{}\nnamespace {}\npersist {}\ngeneration {}\n", first_line, version, uuid_text(image.namespace_uuid),
                                 state.persist ? 1 : 0, state.generation);
  if (state.persist) {
    const bool one_holder = state.type != nvme::ReservationType::none && !state.all_registrants();
    fmt::format_to(std::back_inserter(text), "reservation {} {}\nregistrants {}\n", static_cast<unsigned>(state.type),
                   one_holder ? lower_hex(state.holder) : std::string(nobody), state.registrants.size());
    for (const Registrant& each : state.registrants) fmt::format_to(std::back_inserter(text), "{} {:016x}\n", lower_hex(each.host), each.key);
  } else {
    fmt::format_to(std::back_inserter(text), "reservation 0 {}\nregistrants 0\n", nobody);
  }
  fmt::format_to(std::back_inserter(text), "checksum {:08x}\n", crc32c(text.data(), text.size()));
  return text;
}

Result<PtplImage> decode_ptpl(std::string_view text) {
  if (!text.starts_with(first_line)) return fail(EINVAL, "it is no file of reservations that catnapd has written");
  const std::string_view told = text.substr(first_line.size(), text.find('\n') - std::min(first_line.size(), text.find('\n')));
  if (told != std::to_string(version)) return fail(EPROTONOSUPPORT, fmt::format("its version is '{}', known is {}", told.substr(0, 16), version));
  if (auto whole = check_sum(text); !whole) return std::unexpected(whole.error());
  return decode_lines(text);
}

Result<std::optional<PtplImage>> load_ptpl(const std::string& path) {
  if (!path.starts_with('/')) return fail(EINVAL, fmt::format("'{}' is no absolute path", path));
  if (auto writable = check_replaceable(path); !writable) return std::unexpected(writable.error());
  const auto text = read_whole(path, max_ptpl_file_bytes);
  if (!text) return std::unexpected(text.error());
  if (!*text) return std::optional<PtplImage>();
  auto image = decode_ptpl(**text);
  if (!image) {
    return fail(image.error().err,
                fmt::format("'{}': {}. It is left as it is; without it the reservations it held are gone", path, image.error().message));
  }
  return std::optional<PtplImage>(std::move(*image));
}

}  // namespace catnap::server

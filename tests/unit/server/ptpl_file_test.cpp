// The file of persistent reservations: its text, damaged and foreign files, and power cuts at every step of replacing it, with a disk that forgets
// what was not synced. The order of steps is proven by leaving each out.
#include "server/reservations/ptpl_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>

#include "tests/unit/server/forgetful_disk.h"

namespace catnap::server {
namespace {

HostId host_of(std::size_t number) {
  HostId id{};
  id[0] = static_cast<std::uint8_t>(number >> 8);
  id[1] = static_cast<std::uint8_t>(number);
  return id;
}

PtplImage image_of(std::size_t registrants, nvme::ReservationType type = nvme::ReservationType::write_exclusive) {
  PtplImage image;
  image.namespace_uuid = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
  image.state.persist = true;
  image.state.generation = 0xFFFFFFFE;
  for (std::size_t i = 1; i <= registrants; ++i) image.state.registrants.push_back({host_of(i), 0xFFFF'FFFF'FFFF'FF00 + i});
  image.state.type = registrants == 0 ? nvme::ReservationType::none : type;
  if (registrants != 0 && !image.state.all_registrants()) image.state.holder = host_of(1);
  return image;
}

// --- text ---

TEST(PtplFile, ReadsWhatItWrote) {
  for (const std::size_t registrants : {std::size_t{0}, std::size_t{1}, std::size_t{2}, std::size_t{5000}, max_registrants}) {
    const PtplImage image = image_of(registrants);
    const std::string text = encode_ptpl(image);
    EXPECT_LT(text.size(), max_ptpl_file_bytes);
    const auto back = decode_ptpl(text);
    ASSERT_TRUE(back.has_value()) << back.error().message;
    EXPECT_EQ(*back, image) << registrants;
  }
  for (std::uint8_t type = 1; type <= nvme::last_reservation_type; ++type) {
    const PtplImage image = image_of(3, static_cast<nvme::ReservationType>(type));
    const auto back = decode_ptpl(encode_ptpl(image));
    ASSERT_TRUE(back.has_value());
    EXPECT_EQ(*back, image);
  }
}

TEST(PtplFile, KeepsNoRegistrantsWithoutPersistence) {
  PtplImage image = image_of(3);
  image.state.persist = false;
  const auto back = decode_ptpl(encode_ptpl(image));
  ASSERT_TRUE(back.has_value());
  EXPECT_TRUE(back->state.registrants.empty());
  EXPECT_EQ(back->state.type, nvme::ReservationType::none);
  EXPECT_EQ(back->state.generation, image.state.generation);
}

// Every single change of a byte, and every cut, is noticed.
TEST(PtplFile, NoticesEveryDamage) {
  const std::string text = encode_ptpl(image_of(2));
  for (std::size_t at = 0; at < text.size(); ++at) {
    for (const char change : {'\x01', '\x10', '\x80'}) {
      std::string damaged = text;
      damaged[at] = static_cast<char>(damaged[at] ^ change);
      EXPECT_FALSE(decode_ptpl(damaged).has_value()) << "byte " << at;
    }
    EXPECT_FALSE(decode_ptpl(text.substr(0, at)).has_value()) << "cut at " << at;
  }
  EXPECT_FALSE(decode_ptpl(text + "x").has_value());
  EXPECT_FALSE(decode_ptpl(text + text).has_value());
}

TEST(PtplFile, SaysWhatIsWrong) {
  const auto foreign = decode_ptpl(R"({"ptpl": true, "rtype": 1})");
  ASSERT_FALSE(foreign.has_value());
  EXPECT_NE(foreign.error().message.find("no file of reservations"), std::string::npos);
  const auto later = decode_ptpl("catnap-reservations 2\n");
  ASSERT_FALSE(later.has_value());
  EXPECT_EQ(later.error().err, EPROTONOSUPPORT);
  const std::string text = encode_ptpl(image_of(1));
  const auto cut = decode_ptpl(text.substr(0, text.size() / 2));
  ASSERT_FALSE(cut.has_value());
  EXPECT_NE(cut.error().message.find("cut off"), std::string::npos) << cut.error().message;
}

// --- power cuts ---

const std::string path = "/ptpl/ns1";
const std::string old_text = encode_ptpl(image_of(2));
const std::string new_text = encode_ptpl(image_of(3));

// How a replacement fares with a power cut after `cut_after` steps: true if the file is the old one or the new one whatever the disk kept, and the
// new one for certain when success was told.
bool survives(std::size_t cut_after, std::optional<Step> left_out) {
  ForgetfulDisk disk;
  EXPECT_TRUE(write_durably(disk, path, old_text).has_value());
  disk.steps = 0;
  disk.cut_after = cut_after;
  disk.left_out = left_out;
  const bool told = write_durably(disk, path, new_text).has_value();
  for (const std::string& found : disk.after_power_cut(path)) {
    if (found != new_text && (told || found != old_text)) return false;
  }
  return true;
}

bool survives_every_cut(std::optional<Step> left_out) {
  bool all = true;
  for (std::size_t cut = 0; cut <= 5; ++cut) all = all && survives(cut, left_out);
  return all;
}

// Proves: reservation | Persist through power loss | Base 8.19
TEST(PtplFile, IsTheOldOrTheNewOneAfterAPowerCutAtAnyStep) {
  for (std::size_t cut = 0; cut <= 5; ++cut) EXPECT_TRUE(survives(cut, {})) << "power cut after step " << cut;
}

// The test above would notice if a step were missing.
TEST(PtplFile, NeedsEachStepOfItsReplacement) {
  for (const Step step : {Step::sync, Step::rename, Step::sync_directory}) EXPECT_FALSE(survives_every_cut(step)) << static_cast<int>(step);
}

// --- the file system ---

class PtplFileOnDisk : public testing::Test {
 protected:
  PtplFileOnDisk() {
    std::string name = (std::filesystem::temp_directory_path() / "ptplXXXXXX").string();
    directory_ = ::mkdtemp(name.data());
  }
  ~PtplFileOnDisk() override { std::filesystem::remove_all(directory_); }
  std::string at(const std::string& name) const { return directory_ + "/" + name; }
  static void put(const std::string& where, const std::string& text) { std::ofstream(where) << text; }

  std::string directory_;
};

TEST_F(PtplFileOnDisk, IsWrittenReadAndReplaced) {
  const std::string file = at("ns");
  auto nothing = load_ptpl(file);
  ASSERT_TRUE(nothing.has_value()) << nothing.error().message;
  EXPECT_FALSE(nothing->has_value());
  for (const std::size_t registrants : {std::size_t{1}, std::size_t{3000}, std::size_t{2}}) {
    ASSERT_TRUE(write_durably(posix_files(), file, encode_ptpl(image_of(registrants))).has_value());
    const auto loaded = load_ptpl(file);
    ASSERT_TRUE(loaded.has_value() && loaded->has_value());
    EXPECT_EQ(**loaded, image_of(registrants));
  }
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory_), {}), 1) << "nothing is left beside it";
}

TEST_F(PtplFileOnDisk, RefusesWhatItCannotUse) {
  const auto refused = [this](const std::string& name) {
    const auto loaded = load_ptpl(name.starts_with('/') ? name : at(name));
    EXPECT_FALSE(loaded.has_value()) << name;
    return loaded.has_value() ? Error(0, "") : loaded.error();
  };
  put(at("empty"), "");
  EXPECT_EQ(refused("empty").err, EINVAL);
  put(at("foreign"), "hello\n");
  EXPECT_NE(refused("foreign").message.find("foreign"), std::string::npos) << "names the file";
  EXPECT_TRUE(std::filesystem::exists(at("foreign"))) << "and leaves it";
  std::filesystem::create_directory(at("directory"));
  refused("directory");
  EXPECT_EQ(refused("no/such/place").err, ENOENT);
  EXPECT_EQ(load_ptpl("relative").error().err, EINVAL);
  put(at("long"), std::string(max_ptpl_file_bytes + 1, 'x'));
  EXPECT_EQ(refused("long").err, EINVAL);
}

TEST_F(PtplFileOnDisk, AFailedReplacementLeavesTheOldOne) {
  const std::string file = at("ns");
  ASSERT_TRUE(write_durably(posix_files(), file, old_text).has_value());
  std::filesystem::create_directory(file + ".new");  // in the way of the new one
  EXPECT_FALSE(write_durably(posix_files(), file, new_text).has_value());
  std::ifstream in(file);
  std::stringstream text;
  text << in.rdbuf();
  EXPECT_EQ(text.str(), old_text);
}

}  // namespace
}  // namespace catnap::server

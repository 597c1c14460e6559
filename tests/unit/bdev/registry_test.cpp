// The list of bdevs: names, claims, waiting for one to appear, the null bdev's size.
#include <gtest/gtest.h>

#include <memory>

#include "bdev/null/null.h"
#include "tests/unit/reactor/by_hand.h"

namespace catnap::bdev {
namespace {

std::shared_ptr<NullBdev> make_null(const std::string& name, const std::string& uuid = "") {
  NullOptions options;
  options.name = name;
  options.num_blocks = 2048;
  options.uuid = uuid;
  auto made = NullBdev::create(options);
  EXPECT_TRUE(made.has_value());
  return *made;
}

class RegistryTest : public testing::Test {
 protected:
  void TearDown() override {
    hand_.on_thread([&] {
      for (const auto& bdev : registry_.all()) registry_.remove(bdev->name(), [](Result<void>) {});
    });
    hand_.settle();
    EXPECT_TRUE(registry_.all().empty());
  }
  Error add_fails(const std::string& name, const std::string& uuid = "") {
    Error error(0, "");
    hand_.on_thread([&] {
      auto added = registry_.add(make_null(name, uuid));
      ASSERT_FALSE(added.has_value());
      error = added.error();
    });
    return error;
  }
  void add(const std::string& name, const std::string& uuid = "") {
    hand_.on_thread([&] { ASSERT_TRUE(registry_.add(make_null(name, uuid)).has_value()); });
  }

  ByHand hand_;
  Registry& registry_ = Registry::instance();
};

constexpr const char* a_uuid = "0f0e0d0c-0b0a-4908-8706-050403020100";

TEST_F(RegistryTest, FindsByNameAndByUuidInAnyCase) {
  add("N1", a_uuid);
  add("N2");
  EXPECT_EQ(registry_.find("N1")->name(), "N1");
  EXPECT_EQ(registry_.find(a_uuid)->name(), "N1");
  EXPECT_EQ(registry_.find("0F0E0D0C-0B0A-4908-8706-050403020100")->name(), "N1");
  EXPECT_EQ(registry_.find("n1"), nullptr);
  EXPECT_EQ(registry_.find(registry_.find("N2")->info().uuid)->name(), "N2");
  EXPECT_EQ(registry_.all().size(), 2u);
}

TEST_F(RegistryTest, RefusesNamesAndUuidsThatAreTaken) {
  add("N1", a_uuid);
  EXPECT_EQ(add_fails("N1").err, EEXIST);
  const Error taken = add_fails("N2", a_uuid);
  EXPECT_EQ(taken.err, EEXIST);
  EXPECT_NE(taken.message.find("N1"), std::string::npos);
  EXPECT_EQ(add_fails(a_uuid).err, EEXIST);
  EXPECT_EQ(add_fails("N3", "no uuid").err, EINVAL);
  EXPECT_EQ(registry_.all().size(), 1u);
}

TEST_F(RegistryTest, RefusesShapesNoDiskHas) {
  for (const auto& [block_size, num_blocks, word] : {std::tuple{513u, 1u, "block_size 513"}, std::tuple{256u, 1u, "block_size 256"},
                                                     std::tuple{131072u, 1u, "block_size 131072"}, std::tuple{512u, 0u, "num_blocks 0"}}) {
    NullOptions options;
    options.name = "N1";
    options.block_size = block_size;
    options.num_blocks = num_blocks;
    const auto made = NullBdev::create(options);
    ASSERT_FALSE(made.has_value());
    EXPECT_EQ(made.error().err, EINVAL);
    EXPECT_NE(made.error().message.find(word), std::string::npos) << made.error().message;
  }
  NullOptions huge;
  huge.name = "N1";
  huge.num_blocks = ~std::uint64_t{0};
  EXPECT_TRUE(NullBdev::create(huge).has_value());  // every number that can be named
}

TEST_F(RegistryTest, OneOpenerWritesOthersMayRead) {
  add("N1");
  hand_.on_thread([&] {
    auto first = registry_.open("N1", "one", true, {});
    ASSERT_TRUE(first.has_value());
    EXPECT_EQ(registry_.claimed_by((*first)->bdev()), "one");
    auto refused = registry_.open("N1", "two", true, {});
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().err, EBUSY);
    EXPECT_NE(refused.error().message.find("claimed by one"), std::string::npos);
    auto reader = registry_.open("N1", "two", false, {});
    EXPECT_TRUE(reader.has_value());
    auto same = registry_.open("N1", "one", true, {});
    EXPECT_TRUE(same.has_value());
    first->reset();
    EXPECT_FALSE(registry_.open("N1", "two", true, {}).has_value());
    same->reset();
    EXPECT_TRUE(registry_.open("N1", "two", true, {}).has_value());
    EXPECT_EQ(registry_.open("N9", "two", true, {}).error().err, ENODEV);
  });
}

TEST_F(RegistryTest, AnOpenerMayCloseWithinItsEvent) {
  add("N1");
  std::unique_ptr<Descriptor> mine;
  bool removed = false;
  hand_.on_thread([&] { mine = std::move(*registry_.open("N1", "one", true, [&](Event) { mine.reset(); })); });
  hand_.on_thread([&] { registry_.remove("N1", [&](Result<void> result) { removed = result.has_value(); }); });
  EXPECT_TRUE(removed);
}

TEST_F(RegistryTest, ADescriptorClosedBeforeItsEventArrivesHearsNothing) {
  add("N1");
  int heard = 0;
  hand_.on_thread([&] {
    auto mine = std::move(*registry_.open("N1", "one", false, [&](Event) { ++heard; }));
    registry_.remove("N1", [](Result<void>) {});
  });
  EXPECT_EQ(heard, 0);
}

TEST_F(RegistryTest, ANameIsTakenUntilItsRemovalIsOver) {
  add("N1");
  std::unique_ptr<Descriptor> mine;
  hand_.on_thread([&] {
    mine = std::move(*registry_.open("N1", "slow user", true, {}));
    registry_.remove("N1", [](Result<void>) {});
    registry_.remove("N1", [](Result<void> again) { EXPECT_EQ(again.error().err, ENODEV); });
  });
  const Error waits = add_fails("N1");
  EXPECT_EQ(waits.err, EEXIST);
  EXPECT_NE(waits.message.find("slow user"), std::string::npos);
  hand_.on_thread([&] { mine.reset(); });
  add("N1");
}

TEST_F(RegistryTest, TellsWhenABdevAppears) {
  int told = 0;
  std::shared_ptr<void> wait;
  std::shared_ptr<void> given_up;
  hand_.on_thread([&] {
    wait = registry_.when_added("N1", [&] { ++told; });
    given_up = registry_.when_added("N1", [&] { told += 100; });
    given_up.reset();
  });
  add("N2");
  EXPECT_EQ(told, 0);
  add("N1");
  EXPECT_EQ(told, 1);
  hand_.on_thread([&] { wait = registry_.when_added("N1", [&] { ++told; }); });
  EXPECT_EQ(told, 2);
}

TEST_F(RegistryTest, ANullBdevGrowsAnyTimeAndShrinksOnlyUnopened) {
  add("N1");
  const auto bdev = std::dynamic_pointer_cast<NullBdev>(registry_.find("N1"));
  int resized = 0;
  hand_.on_thread([&] {
    auto mine = std::move(*registry_.open("N1", "one", false, [&](Event event) { resized += event == Event::resized ? 1 : 0; }));
    EXPECT_TRUE(bdev->resize(4096).has_value());
    EXPECT_EQ(bdev->resize(1024).error().err, EBUSY);
    EXPECT_EQ(bdev->resize(0).error().err, EINVAL);
  });
  EXPECT_EQ(bdev->num_blocks(), 4096u);
  hand_.on_thread([&] { EXPECT_TRUE(bdev->resize(1024).has_value()); });
  EXPECT_EQ(bdev->num_blocks(), 1024u);
}

TEST(Uuid, IsCheckedAndMadeUpWell) {
  EXPECT_EQ(*parse_uuid("0F0E0D0C-0B0A-4908-8706-050403020100"), a_uuid);
  for (const char* wrong : {"", "0f0e0d0c", "0f0e0d0c-0b0a-4908-8706-05040302010", "0f0e0d0c-0b0a-4908-8706-0504030201000",
                            "0f0e0d0c00b0a-4908-8706-050403020100", "gf0e0d0c-0b0a-4908-8706-050403020100"}) {
    EXPECT_FALSE(parse_uuid(wrong).has_value()) << wrong;
  }
  const std::string made = random_uuid();
  EXPECT_TRUE(parse_uuid(made).has_value());
  EXPECT_EQ(made[14], '4');
  EXPECT_NE(made, random_uuid());
}

}  // namespace
}  // namespace catnap::bdev

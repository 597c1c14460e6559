// Which paths lie beneath --allow-path, and what a refused open says.
#include "reactor/base/allowed_paths.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

namespace catnap {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class AllowedPaths : public ::testing::Test {
 protected:
  AllowedPaths() {
    std::string pattern = (std::filesystem::temp_directory_path() / "catnap_paths_XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
    std::filesystem::create_directories(folder_ / "in" / "deep");
    std::filesystem::create_directories(folder_ / "inside");
  }
  ~AllowedPaths() override {
    set_allowed_paths({});
    std::filesystem::remove_all(folder_);
  }
  std::filesystem::path folder_;
};

TEST_F(AllowedPaths, WithoutAnyEverythingIsAllowed) {
  EXPECT_TRUE(is_allowed_path("/etc/passwd"));
  EXPECT_THAT(open_error_text(EACCES, "/etc/passwd"), Not(HasSubstr("--allow-path")));
}

TEST_F(AllowedPaths, BeneathAndItselfAreAllowedAndAPrefixOfANameIsNot) {
  set_allowed_paths({folder_ / "in"});
  EXPECT_TRUE(is_allowed_path((folder_ / "in").string()));
  EXPECT_TRUE(is_allowed_path((folder_ / "in/deep/file").string()));
  EXPECT_TRUE(is_allowed_path((folder_ / "in/not/there/yet").string()));
  EXPECT_FALSE(is_allowed_path((folder_ / "inside/file").string()));
  EXPECT_FALSE(is_allowed_path((folder_ / "in/../inside/file").string()));
  EXPECT_FALSE(is_allowed_path(folder_.string()));
}

TEST_F(AllowedPaths, ATrailingSlashAndLinksMakeNoDifference) {
  set_allowed_paths({(folder_ / "in").string() + "/"});
  EXPECT_TRUE(is_allowed_path((folder_ / "in/deep/file").string()));
  std::filesystem::create_directory_symlink(folder_ / "inside", folder_ / "in" / "way_out");
  EXPECT_FALSE(is_allowed_path((folder_ / "in/way_out/file").string()));
  std::filesystem::create_directory_symlink(folder_ / "in", folder_ / "way_in");
  EXPECT_TRUE(is_allowed_path((folder_ / "way_in/file").string()));
}

TEST_F(AllowedPaths, ARefusedOpenNamesTheOptionAndWhatItAllows) {
  set_allowed_paths({folder_ / "in"});
  EXPECT_THAT(open_error_text(EACCES, "/etc/passwd"), HasSubstr("--allow-path allows: " + (folder_ / "in").string()));
  EXPECT_THAT(open_error_text(ENOENT, "/etc/passwd"), Not(HasSubstr("--allow-path")));
  EXPECT_THAT(open_error_text(EACCES, (folder_ / "in/file").string()), Not(HasSubstr("--allow-path")));
}

}  // namespace
}  // namespace catnap

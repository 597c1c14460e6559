// Opening files: what is refused, and in which words; and what a failed sync means afterwards.
#include "bdev/file/file_target.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

namespace catnap::bdev {
namespace {

class FileTargetTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = testing::TempDir() + "/catnap_file_XXXXXX";
    const int fd = mkstemp(path_.data());
    ASSERT_GE(fd, 0);
    close(fd);
    resize(1 << 20);
  }
  void TearDown() override { unlink(path_.c_str()); }
  void resize(off_t size_bytes) const { ASSERT_EQ(truncate(path_.c_str(), size_bytes), 0); }
  static Error refused(const FileOptions& options) {
    const auto opened = FileTarget::open(options);
    EXPECT_FALSE(opened.has_value());
    return opened ? Error(0, "") : opened.error();
  }
  FileOptions options(std::uint32_t block_size = 4096) const {
    FileOptions chosen;
    chosen.filename = path_;
    chosen.block_size = block_size;
    return chosen;
  }
  std::string path_;
};

TEST_F(FileTargetTest, SaysWhatIsWrongWithAFile) {
  FileOptions missing = options();
  missing.filename += ".not-there";
  EXPECT_EQ(refused(missing).err, ENOENT);
  EXPECT_EQ(refused(missing).message, "No such file or directory: filename '" + missing.filename + "'");

  FileOptions directory = options();
  directory.filename = "/";
  EXPECT_TRUE(refused(directory).err == EISDIR || refused(directory).err == EINVAL);
  FileOptions device = options();
  device.filename = "/dev/null";
  EXPECT_EQ(refused(device).err, EINVAL);
  EXPECT_NE(refused(device).message.find("neither a regular file nor a block device"), std::string::npos);

  EXPECT_NE(refused(options(1000)).message.find("block_size 1000"), std::string::npos);
  EXPECT_NE(refused(options(256)).message.find("block_size 256"), std::string::npos);
  resize((1 << 20) + 512);
  EXPECT_EQ(refused(options()).err, EINVAL);
  EXPECT_NE(refused(options()).message.find("1049088 bytes, which is not a multiple of block_size 4096"), std::string::npos);
  resize(0);
  EXPECT_NE(refused(options()).message.find("0 bytes"), std::string::npos);
}

TEST_F(FileTargetTest, TakesTheBlockSizeOfTheFileSystem) {
  const auto target = std::move(*FileTarget::open(options(0)));
  struct stat info{};
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(target->block_size(), static_cast<std::uint32_t>(info.st_blksize));
  EXPECT_FALSE(target->block_size_given());
}

TEST_F(FileTargetTest, ReadonlyOpensWhatMayNotBeWritten) {
  ASSERT_EQ(chmod(path_.c_str(), 0400), 0);
  FileOptions readonly = options();
  readonly.readonly = true;
  const auto target = std::move(*FileTarget::open(readonly));
  EXPECT_EQ(fcntl(target->fd(), F_GETFL) & O_ACCMODE, O_RDONLY);
}

TEST_F(FileTargetTest, MeasuresAgain) {
  const auto target = std::move(*FileTarget::open(options()));
  EXPECT_EQ(target->num_blocks(), 256u);
  resize((2 << 20) + 100);
  EXPECT_EQ(*target->measure_blocks(), 512u);
  resize(100);
  EXPECT_FALSE(target->measure_blocks().has_value());
}

// The kernel tells of a lost write-back once; who asks later must not be told that all is well.
TEST_F(FileTargetTest, AFailedSyncThroughThePageCacheIsNeverForgotten) {
  FileOptions buffered = options();
  buffered.direct = false;
  const auto target = std::move(*FileTarget::open(buffered));
  EXPECT_FALSE(target->direct());
  EXPECT_EQ(target->sync(), 0);
  EXPECT_EQ(target->judge_sync(ENOMEM), EIO);
  EXPECT_EQ(target->sync(), EIO);
  EXPECT_EQ(target->judge_sync(0), EIO);
}

}  // namespace
}  // namespace catnap::bdev

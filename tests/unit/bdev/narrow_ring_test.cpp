// What a ring of bdev_uring takes, and that it takes nothing else: no files opened, no sockets, no links of requests, nothing registered.
// Owner: the test's thread. Left out: bdev_uring's own requests as a disk (conformance_test.cpp).
#include "bdev/uring/narrow_ring.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>

namespace catnap::bdev {
namespace {

class NarrowRing : public testing::Test {
 protected:
  void SetUp() override {
    const int error = make_narrow_ring(8, ring_, &narrow_);
    if (error == EPERM || error == ENOSYS) GTEST_SKIP() << "io_uring is not available to this process: " << std::strerror(error);
    ASSERT_EQ(error, 0) << std::strerror(error);
    made_ = true;
    if (!narrow_) GTEST_SKIP() << "this kernel knows no restrictions of rings (before 5.10)";
    std::string path = testing::TempDir() + "catnap_narrow_XXXXXX";
    file_ = ::mkstemp(path.data());
    ASSERT_GE(file_, 0);
    ::unlink(path.c_str());
  }
  void TearDown() override {
    if (file_ >= 0) ::close(file_);
    if (made_) io_uring_queue_exit(&ring_);
  }
  // What becomes of one request.
  int result_of(const std::function<void(io_uring_sqe*)>& prepare) {
    io_uring_sqe* entry = io_uring_get_sqe(&ring_);
    EXPECT_NE(entry, nullptr);
    prepare(entry);
    EXPECT_GE(io_uring_submit(&ring_), 0);
    io_uring_cqe* done = nullptr;
    int waited = 0;
    do waited = io_uring_wait_cqe(&ring_, &done);
    while (waited == -EINTR);
    EXPECT_EQ(waited, 0);
    if (done == nullptr) return waited;
    const int result = done->res;
    io_uring_cqe_seen(&ring_, done);
    return result;
  }

  io_uring ring_{};
  bool made_ = false;
  bool narrow_ = false;
  int file_ = -1;
  std::array<char, 512> data_{};
  iovec vector_{data_.data(), data_.size()};
};

TEST_F(NarrowRing, ReadsWritesSyncsAndAllocates) {
  EXPECT_EQ(result_of([&](io_uring_sqe* entry) { io_uring_prep_writev2(entry, file_, &vector_, 1, 0, RWF_DSYNC); }), 512);
  EXPECT_EQ(result_of([&](io_uring_sqe* entry) { io_uring_prep_readv2(entry, file_, &vector_, 1, 0, 0); }), 512);
  EXPECT_EQ(result_of([&](io_uring_sqe* entry) { io_uring_prep_fsync(entry, file_, IORING_FSYNC_DATASYNC); }), 0);
  const int allocated = result_of([&](io_uring_sqe* entry) { io_uring_prep_fallocate(entry, file_, FALLOC_FL_KEEP_SIZE, 0, 4096); });
  EXPECT_TRUE(allocated == 0 || allocated == -EOPNOTSUPP) << allocated;
}

TEST_F(NarrowRing, NothingElseIsTaken) {
  EXPECT_EQ(result_of([](io_uring_sqe* entry) { io_uring_prep_openat(entry, AT_FDCWD, "/dev/null", O_RDONLY, 0); }), -EACCES);
  EXPECT_EQ(result_of([](io_uring_sqe* entry) { io_uring_prep_unlinkat(entry, AT_FDCWD, "/nonexistent", 0); }), -EACCES);
  EXPECT_EQ(result_of([&](io_uring_sqe* entry) { io_uring_prep_close(entry, file_); }), -EACCES);
  EXPECT_EQ(result_of([&](io_uring_sqe* entry) { io_uring_prep_read(entry, file_, data_.data(), 512, 0); }), -EACCES);
  EXPECT_EQ(result_of([&](io_uring_sqe* entry) { io_uring_prep_connect(entry, file_, nullptr, 0); }), -EACCES);
  EXPECT_EQ(result_of([&](io_uring_sqe* entry) { io_uring_prep_send(entry, file_, data_.data(), 1, 0); }), -EACCES);
  EXPECT_EQ(result_of([](io_uring_sqe* entry) { io_uring_prep_nop(entry); }), -EACCES);
  // Nor a request that is allowed, with a flag.
  for (const unsigned flag : {IOSQE_IO_LINK, IOSQE_ASYNC, IOSQE_FIXED_FILE, IOSQE_IO_DRAIN}) {
    EXPECT_EQ(result_of([&](io_uring_sqe* entry) {
                io_uring_prep_fsync(entry, file_, 0);
                io_uring_sqe_set_flags(entry, flag);
              }),
              -EACCES)
        << flag;
  }
}

TEST_F(NarrowRing, OnlyAnEventfdIsRegistered) {
  EXPECT_EQ(io_uring_register_files(&ring_, &file_, 1), -EACCES);
  EXPECT_EQ(io_uring_register_buffers(&ring_, &vector_, 1), -EACCES);
  EXPECT_LT(io_uring_register(static_cast<unsigned>(ring_.ring_fd), IORING_REGISTER_RESTRICTIONS, nullptr, 0), 0) << "they cannot be loosened again";
  const int event = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  ASSERT_GE(event, 0);
  EXPECT_EQ(io_uring_register_eventfd(&ring_, event), 0);
  EXPECT_EQ(io_uring_unregister_eventfd(&ring_), 0);
  ::close(event);
}

}  // namespace
}  // namespace catnap::bdev

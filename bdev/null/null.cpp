// See null.h.
#include "bdev/null/null.h"

#include <fmt/core.h>

#include "bdev/iov.h"
#include "bdev/json_text.h"
#include "bdev/zero_area.h"

namespace catnap::bdev {
namespace {

class NullChannel final : public Channel {
 public:
  NullChannel(Bdev& bdev, Thread& thread) : Channel(bdev, thread) {}

 private:
  void execute(BdevIo& io) override {
    const std::uint64_t length_bytes = io.num_blocks * bdev().block_size();
    Status status = Status::ok;
    if (io.op == Op::read) {
      status = read(io, length_bytes);
    } else if (io.op == Op::compare && !IovCursor(io.iov, io.iov_count).equals_zero(length_bytes)) {
      status = Status::compare_failed;
    }
    complete(io, status);
  }

  Status read(BdevIo& io, std::uint64_t length_bytes) {
    if (io.accepts_lease && length_bytes <= zero_area_bytes) {
      io.lease = lend_zeroes();
      return Status::ok;
    }
    if (io.iov == nullptr) return Status::invalid;  // longer than what can be lent
    IovCursor(io.iov, io.iov_count).fill_zero(length_bytes);
    return Status::ok;
  }
};

}  // namespace

Result<std::shared_ptr<NullBdev>> NullBdev::create(NullOptions options) {
  BdevInfo info;
  info.name = std::move(options.name);
  info.uuid = std::move(options.uuid);
  info.product_name = "Null disk";
  info.block_size = options.block_size;
  info.physical_block_size = options.physical_block_size != 0 ? options.physical_block_size : options.block_size;
  info.num_blocks = options.num_blocks;
  info.lends_reads = true;
  info.consumes_inline = true;
  info.native_verify = true;
  if (auto fits = check_geometry(info, ~std::uint64_t{0}); !fits) return std::unexpected(fits.error());
  return std::shared_ptr<NullBdev>(new NullBdev(std::move(info)));
}

bool NullBdev::supports(Op op) const { return op != Op::write_uncorrectable; }  // it remembers nothing

Result<std::unique_ptr<Channel>> NullBdev::create_channel(Thread& thread) { return std::make_unique<NullChannel>(*this, thread); }

std::string NullBdev::config_json() const {
  JsonObject params;
  params.add("name", name()).add("num_blocks", num_blocks()).add("block_size", block_size());
  params.add("physical_block_size", info().physical_block_size).add("uuid", info().uuid);
  return config_call("bdev_null_create", params);
}

Result<void> NullBdev::resize(std::uint64_t num_blocks) {
  if (num_blocks == 0) return fail(EINVAL, fmt::format("Invalid argument: bdev '{}' cannot have 0 blocks", name()));
  if (num_blocks < this->num_blocks() && is_open()) {
    return fail(EBUSY, fmt::format("Device or resource busy: bdev '{}' is open and cannot shrink from {} to {} blocks", name(), this->num_blocks(),
                                   num_blocks));
  }
  set_num_blocks(num_blocks);
  return {};
}

}  // namespace catnap::bdev

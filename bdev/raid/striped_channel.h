// The channel of raid0 and concat: see striped.h.
// Owner: the channel's thread. Left out: the layout.
#pragma once

#include <memory>
#include <vector>

#include "bdev/raid/striped.h"

namespace catnap::bdev {

class StripedChannel final : public RaidChannel {
 public:
  StripedChannel(RaidBdev& bdev, Thread& thread, const StripedLayout& layout);

 private:
  struct Fan;
  // What goes to one member for one I/O.
  struct Part {
    BdevIo io;
    std::vector<iovec> iov;  // gathered; empty where the user's own fits
    std::uint32_t slot = 0;
    bool under_way = false;
    Fan* fan = nullptr;
    Part* next = nullptr;  // of the same fan, or free
  };
  // An I/O of the user with its parts.
  struct Fan {
    BdevIo* parent = nullptr;
    Part* parts = nullptr;
    std::uint32_t under_way = 0;  // parts, and one while they are being submitted
    Status status = Status::ok;   // the first that was not
    bool aborted = false;
    Fan* next_free = nullptr;
  };

  void start(BdevIo& io) override;
  bool abort_in_module(BdevIo& io) override;
  void spread(Fan& fan);
  void deal_memory(const BdevIo& io);
  void submit_parts(Fan& fan);
  Fan& take_fan(BdevIo& parent);
  Part& take_part(Fan& fan, std::uint32_t slot);
  static void part_done(BdevIo& io);
  void step_over(Fan& fan);

  const StripedLayout& layout_;
  std::vector<std::unique_ptr<Fan>> fans_;
  std::vector<std::unique_ptr<Part>> parts_;
  Fan* free_fans_ = nullptr;
  Part* free_parts_ = nullptr;
  std::vector<Part*> by_slot_;  // of the fan that is being spread
};

}  // namespace catnap::bdev

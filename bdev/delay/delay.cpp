// See delay.h. Answers that are kept stand in one list per latency, in the order of their deadlines; one timer waits for the earliest.
#include "bdev/delay/delay.h"

#include <algorithm>

#include "bdev/json_text.h"
#include "bdev/stack/child_list.h"
#include "reactor/clock.h"
#include "reactor/timer.h"

namespace catnap::bdev {
namespace {

// One answer in so many gets the p99 latency.
constexpr std::uint64_t p99_share = 100;

class DelayChannel final : public StackedChannel {
 public:
  DelayChannel(Bdev& bdev, Thread& thread, ChannelRef base_channel, std::shared_ptr<DelayLatencies> latencies)
      : StackedChannel(bdev, thread, std::move(base_channel)),
        latencies_(std::move(latencies)),
        random_(0x9E37'79B9'7F4A'7C15 ^ thread.id()),
        due_([this] { answer_due(); }) {}

 private:
  void execute(BdevIo& io) override {
    ChildIo& child = children().take(io);
    child.word = 0;
    submit_below(child, [](BdevIo& done) {
      ChildIo& answered = ChildPool::of(done);
      static_cast<DelayChannel*>(answered.parent->channel)->base_answered(answered);
    });
  }

  void base_answered(ChildIo& child) {
    const int kind = kind_of(child.io.op);
    const std::uint64_t delay_us = kind < 0 || child.io.status == Status::aborted ? 0 : latencies_->us[static_cast<std::size_t>(kind)].load(relaxed);
    if (delay_us == 0) {
      answer(child, child.io.status);
      return;
    }
    child.word = thread().now_ns() + delay_us * ns_per_us;
    ChildList& list = kept_[static_cast<std::size_t>(kind)];
    // From the back: only after a latency was lowered, others with later deadlines stand there.
    ChildIo* before = list.last();
    while (before != nullptr && before->word > child.word) before = before->list_previous;
    list.insert_after(before, child);
    child.extra = &list;
    if (!due_.armed() || child.word < due_.deadline_ns()) thread().arm_at(due_, child.word);
  }

  void answer(ChildIo& child, Status status) {
    BdevIo& parent = *child.parent;
    if (child.io.accepts_lease) parent.lease = child.io.lease;
    children().give_back(child);
    complete(parent, status);
  }

  // Which latency; negative: none.
  int kind_of(Op op) {
    switch (op) {
      case Op::read:
      case Op::compare:
      case Op::verify:
        return DelayLatencies::avg_read + unlucky();
      case Op::write:
      case Op::compare_and_write:
      case Op::copy:
        return DelayLatencies::avg_write + unlucky();
      default:
        return -1;
    }
  }
  int unlucky() {  // xorshift64: chance, not secrecy
    random_ ^= random_ << 13;
    random_ ^= random_ >> 7;
    random_ ^= random_ << 17;
    return random_ % p99_share == 0 ? 1 : 0;
  }

  void answer_due() {
    const std::uint64_t now_ns = thread().now_ns();
    for (ChildList& list : kept_) {
      while (!list.empty() && list.first()->word <= now_ns) {
        ChildIo& child = *list.first();
        list.remove(child);
        answer(child, child.io.status);
      }
    }
    arm_nearest();
  }

  void arm_nearest() {
    std::uint64_t nearest_ns = TimerHeap::never_ns;
    for (const ChildList& list : kept_) {
      if (!list.empty()) nearest_ns = std::min(nearest_ns, list.first()->word);
    }
    if (nearest_ns == TimerHeap::never_ns) {
      due_.disarm();
    } else {
      thread().arm_at(due_, nearest_ns);
    }
  }

  bool abort_in_module(BdevIo& io) override {
    ChildIo* child = children().find(io);
    if (child == nullptr) return false;
    if (child->word == 0) return below().abort(child->io);
    static_cast<ChildList*>(child->extra)->remove(*child);
    arm_nearest();
    answer(*child, Status::aborted);
    return true;
  }

  static constexpr auto relaxed = std::memory_order_relaxed;

  std::shared_ptr<DelayLatencies> latencies_;
  std::array<ChildList, 4> kept_;
  std::uint64_t random_;
  Timer due_;
};

std::string option_name(std::size_t kind) { return std::string(DelayLatencies::names[kind]) + "_latency"; }

JsonObject described(const DelayOptions& options, std::string_view base_name) {
  JsonObject json;
  json.add("name", options.name).add("base_bdev_name", base_name);
  if (!options.uuid.empty()) json.add("uuid", options.uuid);
  std::uint64_t average_us = 0;
  for (std::size_t kind = 0; kind < options.latencies->us.size(); ++kind) {
    const std::uint64_t now_us = options.latencies->us[kind].load(std::memory_order_relaxed);
    const bool is_p99 = kind == DelayLatencies::p99_read || kind == DelayLatencies::p99_write;
    // bdev_delay_update_latency may bring a p99 below the average; a create call may not, and this is one.
    json.add(option_name(kind), is_p99 ? std::max(now_us, average_us) : now_us);
    average_us = now_us;
  }
  return json;
}

}  // namespace

Result<std::shared_ptr<DelayBdev>> DelayBdev::create(const DelayOptions& options, const std::shared_ptr<Bdev>& base) {
  auto claimed = claim_base(*base, product);
  if (!claimed) return std::unexpected(claimed.error());
  BdevInfo info = info_over(*base, options.name, product, options.uuid);
  return std::shared_ptr<DelayBdev>(new DelayBdev(std::move(info), std::move(*claimed), options.latencies));
}

VirtualRecipe DelayBdev::recipe(DelayOptions options) {
  VirtualRecipe recipe;
  recipe.name = options.name;
  recipe.base_name = options.base_bdev_name;
  recipe.product_name = product;
  recipe.make = [options](const std::shared_ptr<Bdev>& base) -> Result<VirtualRecipe::Made> {
    auto made = create(options, base);
    if (!made) return std::unexpected(made.error());
    return VirtualRecipe::Made{std::move(*made)};
  };
  recipe.config_json = [options] { return config_call("bdev_delay_create", described(options, options.base_bdev_name)); };
  return recipe;
}

Result<std::unique_ptr<Channel>> DelayBdev::create_channel(Thread& thread) {
  auto below = base_channel();
  if (!below) return std::unexpected(below.error());
  return std::make_unique<DelayChannel>(*this, thread, std::move(*below), latencies_);
}

std::string DelayBdev::driver_specific_json() const {
  DelayOptions options;
  options.name = name();
  options.uuid = info().uuid;
  options.latencies = latencies_;
  return JsonObject().add_raw("delay", described(options, base().name()).text()).text();
}

}  // namespace catnap::bdev

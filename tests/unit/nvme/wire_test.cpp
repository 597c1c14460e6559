// Wire structs against bytes written down by hand from the specifications: what a size assertion cannot see (bit positions, byte order).
// Owner: the test. Left out: offsets asserted beside the structs.
#include <gtest/gtest.h>

#include <cstring>

#include "transport/nvme/dsm.h"
#include "transport/nvme/fabrics.h"
#include "transport/nvme/features.h"
#include "transport/nvme/identify.h"
#include "transport/nvme/log_page.h"
#include "transport/nvme/status.h"
#include "transport/tcp/pdu.h"

namespace catnap {
namespace {

template <typename T>
std::array<std::uint8_t, sizeof(T)> bytes_of(const T& value) {
  std::array<std::uint8_t, sizeof(T)> bytes{};
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

TEST(SubmissionEntry, PlacesEveryFieldWhereTheSpecificationDoes) {
  nvme::SubmissionEntry sqe;
  sqe.opcode = 0x01;
  sqe.set_psdt(nvme::Psdt::sgl);
  sqe.cid = 0x1234;
  sqe.nsid = 0x89ABCDEF;
  sqe.sgl.address = 0x10;
  sqe.sgl.length = 0x2000;
  sqe.sgl.set_type(nvme::SglType::transport_data_block, nvme::SglSubtype::transport);
  sqe.set_slba(0x1122334455667788);
  sqe.cdw15 = 0xAABBCCDD;
  auto bytes = bytes_of(sqe);
  EXPECT_EQ(bytes[0], 0x01);
  EXPECT_EQ(bytes[1], 0x40);
  EXPECT_EQ(bytes[2], 0x34);
  EXPECT_EQ(bytes[3], 0x12);
  EXPECT_EQ(bytes[4], 0xEF);
  EXPECT_EQ(bytes[24], 0x10);
  EXPECT_EQ(bytes[33], 0x20);
  EXPECT_EQ(bytes[39], 0x5A);
  EXPECT_EQ(bytes[40], 0x88);
  EXPECT_EQ(bytes[47], 0x11);
  EXPECT_EQ(bytes[63], 0xAA);
  EXPECT_EQ(sqe.slba(), 0x1122334455667788U);
}

TEST(SglDescriptor, TellsInCapsuleFromTransport) {
  nvme::SglDescriptor sgl;
  sgl.set_type(nvme::SglType::data_block, nvme::SglSubtype::offset);
  EXPECT_EQ(sgl.type_and_subtype, 0x01);
  EXPECT_TRUE(sgl.is_in_capsule());
  EXPECT_FALSE(sgl.is_transport());
  sgl.type_and_subtype = 0x5A;
  EXPECT_TRUE(sgl.is_transport());
}

TEST(Status, BecomesTheBitsOfACompletion) {
  nvme::CompletionEntry cqe;
  nvme::set_status(cqe, nvme::Status(nvme::FabricsStatus::connect_invalid_parameters).with_dnr());
  EXPECT_EQ(std::uint16_t{cqe.status}, 0x8304);  // DNR, SCT 1, SC 82h, phase 0
  EXPECT_EQ(bytes_of(cqe)[15], 0x83);
  auto back = nvme::status_of(cqe);
  EXPECT_TRUE(back.dnr);
  EXPECT_TRUE(back.same_code(nvme::FabricsStatus::connect_invalid_parameters));
}

TEST(Status, SurvivesARoundTripInEveryField) {
  for (unsigned field = 0; field < 1U << 15; ++field) {
    ASSERT_EQ(nvme::Status::from_field(static_cast<std::uint16_t>(field)).field(), field);
  }
}

TEST(Status, OnlyGenericZeroIsSuccess) {
  EXPECT_TRUE(nvme::Status().is_success());
  EXPECT_FALSE(nvme::Status(nvme::CommandStatus::completion_queue_invalid).is_success());
  EXPECT_FALSE(nvme::Status(nvme::GenericStatus::lba_out_of_range).is_success());
}

TEST(Cap, HasTheBitsALinuxHostReads) {
  nvme::Cap cap;
  cap.mqes = 127;
  cap.to = 30;
  cap.crwms = true;
  EXPECT_EQ(cap.value(), 0x080000201E01007FULL);
  EXPECT_EQ(nvme::Cap::from_value(cap.value()), cap);
}

TEST(Cc, ReadsWhatALinuxHostWrites) {
  auto enable = nvme::Cc::from_value(0x00460001);
  EXPECT_TRUE(enable.en);
  EXPECT_EQ(enable.iosqes, 6);
  EXPECT_EQ(enable.iocqes, 4);
  EXPECT_EQ(enable.shn, nvme::ShutdownNotification::none);
  EXPECT_EQ(nvme::Cc::from_value(0x00464001).shn, nvme::ShutdownNotification::normal);
  EXPECT_EQ(enable.value(), 0x00460001U);
}

TEST(Csts, HasReadyInBitZeroAndShutdownInBitsTwoAndThree) {
  nvme::Csts csts;
  csts.rdy = true;
  csts.shst = nvme::ShutdownStatus::complete;
  EXPECT_EQ(csts.value(), 0x9U);
  EXPECT_EQ(nvme::Csts::from_value(0x9), csts);
}

TEST(Connect, SharesTheBytesOfASubmissionEntry) {
  nvme::ConnectCommand connect;
  connect.opcode = static_cast<std::uint8_t>(nvme::AdminOpcode::fabrics);
  connect.fctype = static_cast<std::uint8_t>(nvme::FabricsType::connect);
  connect.qid = 3;
  connect.sqsize = 31;
  connect.kato = 5000;
  auto sqe = nvme::view_as<nvme::SubmissionEntry>(connect);
  EXPECT_EQ(sqe.fctype(), 0x01);
  EXPECT_EQ(std::uint32_t{sqe.cdw10}, 3U << 16);
  EXPECT_EQ(std::uint32_t{sqe.cdw11}, 31U);
  EXPECT_EQ(std::uint32_t{sqe.cdw12}, 5000U);
}

TEST(Connect, InvalidParametersRoundTrip) {
  nvme::ConnectInvalidParameters bad{256, true};
  EXPECT_EQ(bad.dw0(), 0x00010100U);
  EXPECT_EQ(nvme::ConnectInvalidParameters::from_dw0(bad.dw0()), bad);
}

TEST(AsyncEvents, MakeTheDoublewordsALinuxHostExpects) {
  auto notice = [](nvme::AsyncNoticeInfo info, nvme::LogPage page) {
    return nvme::async_event_dw0(nvme::AsyncEventType::notice, static_cast<std::uint8_t>(info), static_cast<std::uint8_t>(page));
  };
  EXPECT_EQ(notice(nvme::AsyncNoticeInfo::namespace_attribute_changed, nvme::LogPage::changed_namespaces), 0x00040002U);
  EXPECT_EQ(notice(nvme::AsyncNoticeInfo::ana_changed, nvme::LogPage::ana), 0x000C0302U);
  EXPECT_EQ(notice(nvme::AsyncNoticeInfo::discovery_log_changed, nvme::LogPage::discovery), 0x0070F002U);
}

TEST(Pdu, TermReqHasItsInformationUnaligned) {
  tcp::TermReq term;
  term.fes = 0x0102;
  term.fei = 0x03040506;
  auto bytes = bytes_of(term);
  EXPECT_EQ(bytes[8], 0x02);
  EXPECT_EQ(bytes[10], 0x06);
  EXPECT_EQ(bytes[13], 0x03);
}

TEST(Pdu, HeaderLengthsFollowTheType) {
  EXPECT_EQ(tcp::header_bytes_of(tcp::PduType::ic_req), 128);
  EXPECT_EQ(tcp::header_bytes_of(tcp::PduType::capsule_cmd), 72);
  EXPECT_EQ(tcp::header_bytes_of(tcp::PduType::r2t), 24);
  EXPECT_EQ(tcp::header_bytes_of(static_cast<tcp::PduType>(0x08)), 0);
}

TEST(Pdu, DataAlignmentIsZeroBasedDwords) {
  EXPECT_EQ(tcp::pda_alignment_bytes(0), 4U);
  EXPECT_EQ(tcp::pda_alignment_bytes(tcp::max_pda), 128U);
}

}  // namespace
}  // namespace catnap

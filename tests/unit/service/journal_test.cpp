// Records as systemd's journal takes them.
#include "reactor/base/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <string>

namespace catnap::detail {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(JournalRecord, HasAFieldPerLineAndTheMessageLast) {
  const std::array fields = {LogField{"CATNAP_AUDIT_METHOD", "bdev_null_create"}};
  const std::string record = journal_record(LogLevel::warning, "nvmf", "something", fields);
  EXPECT_THAT(record, StartsWith("PRIORITY=4\nSYSLOG_IDENTIFIER=catnapd\nCATNAP_LEVEL=WARNING\nCATNAP_FLAG=nvmf\n"));
  EXPECT_THAT(record, HasSubstr("\nCATNAP_AUDIT_METHOD=bdev_null_create\n"));
  EXPECT_THAT(record, EndsWith("\nMESSAGE=something\n"));
}

TEST(JournalRecord, AValueWithALineEndCannotMakeAFieldOfItsOwn) {
  const std::array fields = {LogField{"CATNAP_X", "a\nMESSAGE=forged"}};
  const std::string record = journal_record(LogLevel::notice, nullptr, "true", fields);
  const std::string length("\x10\0\0\0\0\0\0\0", 8);
  EXPECT_THAT(record, HasSubstr("CATNAP_X\n" + length + "a\nMESSAGE=forged\n"));
}

TEST(SyslogPriority, FollowsTheLevels) {
  EXPECT_EQ(syslog_priority(LogLevel::error), 3);
  EXPECT_EQ(syslog_priority(LogLevel::warning), 4);
  EXPECT_EQ(syslog_priority(LogLevel::notice), 5);
  EXPECT_EQ(syslog_priority(LogLevel::info), 6);
  EXPECT_EQ(syslog_priority(LogLevel::debug), 7);
}

TEST(Journal, ASocketThatIsNotThereIsSaidByItsPathOnlyWhenItIsTooLong) {
  const auto outcome = log_to_journal("/" + std::string(200, 'x'));
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().err, ENAMETOOLONG);
}

}  // namespace
}  // namespace catnap::detail

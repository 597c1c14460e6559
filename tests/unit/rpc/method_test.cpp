// Decoding: every way in which parameters can be wrong has its own sentence, naming parameter, value and reason.
#include "rpc/method.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rpc/json.h"

namespace catnap::rpc {
namespace {

using testing::HasSubstr;

Method sample() {
  return Method("sample_create", "A method with a parameter of every kind")
      .with({Param("name", ParamType::string, "Name").required(), Param("block_size", ParamType::integer, "Bytes").required().range(512, 4096),
             Param("offset", ParamType::integer, "Signed").range(-8, 7), Param("big", ParamType::integer, "Any"),
             Param("ratio", ParamType::number, "Share").range(0, 1), Param("trtype", ParamType::string, "Transport").one_of({"TCP", "RDMA"}, true),
             Param("level", ParamType::string, "Level").one_of({"low", "high"}), Param("thin", ParamType::boolean, "Thin").or_default(true),
             Param("allow", ParamType::boolean, "Allow").alias("permit"), Param("uring", ParamType::boolean, "Old").ignored(),
             Param("tags", ParamType::array_of_string, "Tags"),
             Param("address", ParamType::object, "Where")
                 .with_fields(
                     {Param("traddr", ParamType::string, "Address").required(), Param("trsvcid", ParamType::string, "Port").or_default("4420")}),
             Param("parts", ParamType::array_of_object, "Parts").with_fields({Param("nsid", ParamType::integer, "Id").required().range(1, 9)}),
             Param("free", ParamType::any, "Anything")})
      .handler([](const Params&) -> RpcResult<Json::Value> { return Json::Value(true); });
}

RpcResult<Params> decode(const std::string& text) {
  const auto value = parse_json("[" + text + "]");
  EXPECT_TRUE(value.has_value()) << text;
  return MethodTable::decode(sample(), (*value)[0]);
}

struct Wrong {
  const char* params;
  const char* says;
};

class WrongParams : public testing::TestWithParam<Wrong> {};

TEST_P(WrongParams, IsRefusedInWords) {
  const auto decoded = decode(GetParam().params);
  ASSERT_FALSE(decoded.has_value()) << GetParam().params;
  EXPECT_EQ(decoded.error().code, invalid_params);
  EXPECT_THAT(decoded.error().message, testing::StartsWith("Invalid parameters: "));
  EXPECT_THAT(decoded.error().message, HasSubstr(GetParam().says));
}

INSTANTIATE_TEST_SUITE_P(
    Table, WrongParams,
    testing::Values(
        Wrong{R"(null)", "missing parameter 'name' (a string, Name)"}, Wrong{R"({})", "missing parameter 'name'"},
        Wrong{R"({"name":"a"})", "missing parameter 'block_size' (an integer"},
        Wrong{R"({"name":null,"block_size":512})", "missing parameter 'name'"},
        Wrong{R"({"name":"a","block_size":512,"nmae":1})", "unknown parameter 'nmae' (sample_create takes name, block_size"},
        Wrong{R"({"name":7,"block_size":512})", "parameter 'name' is 7, it must be a string"},
        Wrong{R"({"name":"a\u0000b","block_size":512})", "must not contain a NUL"},
        Wrong{R"({"name":"a","block_size":"512"})", "parameter 'block_size' is \"512\", it must be an integer"},
        Wrong{R"({"name":"a","block_size":512.5})", "parameter 'block_size' is 512.5, it must be an integer"},
        Wrong{R"({"name":"a","block_size":true})", "parameter 'block_size' is true, it must be an integer"},
        Wrong{R"({"name":"a","block_size":511})", "parameter 'block_size' is 511, it must be from 512 to 4096"},
        Wrong{R"({"name":"a","block_size":4097})", "is 4097, it must be from 512 to 4096"},
        Wrong{R"({"name":"a","block_size":-512})", "is -512, it must be from 512 to 4096"},
        Wrong{R"({"name":"a","block_size":18446744073709551615})", "is 18446744073709551615, it must be from"},
        Wrong{R"({"name":"a","block_size":18446744073709551616})", "must be an integer"},
        Wrong{R"({"name":"a","block_size":512,"offset":-9})", "parameter 'offset' is -9, it must be from -8 to 7"},
        Wrong{R"({"name":"a","block_size":512,"offset":8})", "parameter 'offset' is 8"},
        Wrong{R"({"name":"a","block_size":512,"ratio":1.5})", "parameter 'ratio' is 1.5, it must be from 0 to 1"},
        Wrong{R"({"name":"a","block_size":512,"trtype":"FC"})", "parameter 'trtype' is \"FC\", it must be one of TCP, RDMA"},
        Wrong{R"({"name":"a","block_size":512,"level":"LOW"})", "parameter 'level' is \"LOW\", it must be one of low, high"},
        Wrong{R"({"name":"a","block_size":512,"thin":1})", "parameter 'thin' is 1, it must be true or false"},
        Wrong{R"({"name":"a","block_size":512,"allow":true,"permit":true})",
              "duplicate parameter 'allow': given under two of its names (allow, permit)"},
        Wrong{R"({"name":"a","block_size":512,"tags":"x"})", "parameter 'tags' is \"x\", it must be an array of strings"},
        Wrong{R"({"name":"a","block_size":512,"tags":["x",1]})", "must be an array of strings"},
        Wrong{R"({"name":"a","block_size":512,"address":[]})", "parameter 'address' is [], it must be an object"},
        Wrong{R"({"name":"a","block_size":512,"address":{}})", "missing parameter 'address.traddr'"},
        Wrong{R"({"name":"a","block_size":512,"address":{"traddr":"1","x":1}})", "unknown parameter 'address.x' (address takes traddr, trsvcid)"},
        Wrong{R"({"name":"a","block_size":512,"address":{"traddr":"1","trsvcid":4420}})", "parameter 'address.trsvcid' is 4420, it must be a string"},
        Wrong{R"({"name":"a","block_size":512,"parts":[{"nsid":1},{"nsid":10}]})", "parameter 'parts[1].nsid' is 10, it must be from 1 to 9"},
        Wrong{R"({"name":"a","block_size":512,"parts":[1]})", "must be an array of objects"},
        Wrong{R"(["a",512])", "params is [\"a\",512], it must be an object"}, Wrong{R"("a")", "params is \"a\", it must be an object"}));

TEST(Decode, FillsDefaultsRenamesAliasesAndDropsIgnored) {
  const auto decoded =
      decode(R"({"name":"a","block_size":1e3,"permit":true,"uring":5,"trtype":"tcp","address":{"traddr":"1"},"big":-3,"tags":["x"]})");
  ASSERT_TRUE(decoded.has_value()) << decoded.error().message;
  EXPECT_EQ(decoded->string("name"), "a");
  EXPECT_EQ(decoded->integer("block_size"), 1000u);
  EXPECT_TRUE(decoded->boolean("allow"));
  EXPECT_FALSE(decoded->has("permit"));
  EXPECT_FALSE(decoded->has("uring"));
  EXPECT_TRUE(decoded->boolean("thin"));
  EXPECT_EQ(decoded->string("trtype"), "TCP") << "choices come out as declared";
  EXPECT_EQ(decoded->object("address").string("trsvcid"), "4420");
  EXPECT_EQ(decoded->signed_integer("big"), -3);
  EXPECT_EQ(decoded->strings("tags"), std::vector<std::string>{"x"});
  EXPECT_FALSE(decoded->has("offset"));
  EXPECT_EQ(decoded->integer("offset"), 0u);
}

TEST(Decode, KeepsAllBitsOfIntegers) {
  const auto decoded = decode(R"({"name":"a","block_size":512,"big":18446744073709551615})");
  ASSERT_TRUE(decoded.has_value());
  EXPECT_EQ(decoded->integer("big"), 18446744073709551615u);
}

TEST(Decode, NullIsAbsent) {
  const auto decoded = decode(R"({"name":"a","block_size":512,"offset":null,"address":null,"free":null})");
  ASSERT_TRUE(decoded.has_value()) << decoded.error().message;
  EXPECT_FALSE(decoded->has("offset"));
  EXPECT_FALSE(decoded->has("address"));
  EXPECT_TRUE(decoded->has("free"));
}

TEST(MethodTable, FindsByNameAndAliasAndSorts) {
  MethodTable table;
  table.add(Method("zeta", "").handler([](const Params&) -> RpcResult<Json::Value> { return Json::Value(); }));
  table.add(Method("alpha", "").alias("first").handler([](const Params&) -> RpcResult<Json::Value> { return Json::Value(); }));
  ASSERT_NE(table.find("first"), nullptr);
  EXPECT_EQ(table.find("first")->name, "alpha");
  EXPECT_EQ(table.find("beta"), nullptr);
  ASSERT_EQ(table.all().size(), 2u);
  EXPECT_EQ(table.all()[0]->name, "alpha");
}

}  // namespace
}  // namespace catnap::rpc

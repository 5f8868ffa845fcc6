// Whether two generations are the same.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "gpt/generate/generate_options.h"

namespace gpt::test {

inline bool same_bits(const std::vector<double>& a, const std::vector<double>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0);
}

/// To the last bit, timing apart.
inline void expect_same(const GenerateResult& got, const GenerateResult& expected,
                        const std::string& which = "") {
  EXPECT_EQ(got.prompt_ids, expected.prompt_ids) << which;
  EXPECT_EQ(got.ids, expected.ids) << which;
  EXPECT_EQ(got.text, expected.text) << which;
  EXPECT_EQ(got.finish_reason, expected.finish_reason) << which;
  EXPECT_TRUE(same_bits(got.logprobs, expected.logprobs)) << which;
  ASSERT_EQ(got.top_logprobs.size(), expected.top_logprobs.size()) << which;
  for (std::size_t t = 0; t < got.top_logprobs.size(); ++t) {
    ASSERT_EQ(got.top_logprobs[t].size(), expected.top_logprobs[t].size()) << which;
    for (std::size_t i = 0; i < got.top_logprobs[t].size(); ++i) {
      EXPECT_EQ(got.top_logprobs[t][i].id, expected.top_logprobs[t][i].id) << which;
      EXPECT_EQ(got.top_logprobs[t][i].logprob, expected.top_logprobs[t][i].logprob) << which;
    }
  }
}

}  // namespace gpt::test

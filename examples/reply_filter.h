// The text of a reply on its way to its reader.
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace program {

/// Takes text as it is generated and gives what of it is the reply: without the stop string that ends it, of which not even a
/// beginning is shown, and without what the form puts before every reply.
class ReplyFilter {
 public:
  /// `before`: the end of what stands before the reply, where a stop string may begin.
  ReplyFilter(std::span<const std::string> stop_strings, std::string_view before, std::string_view begin)
      : stop_strings_(stop_strings.begin(), stop_strings.end()),
        begin_(begin),
        held_(before),
        hidden_(before.size()) {}

  /// What of the text so far can be shown now.
  std::string push(std::string_view text) {
    if (ended_) return {};
    held_ += text;
    std::size_t shown = held_.size();
    for (const std::string& stop : stop_strings_)
      // Not one that stands before the reply as a whole.
      if (const std::size_t place = held_.find(stop, hidden_ - std::min(hidden_, stop.size() - 1));
          place != held_.npos) {
        shown = std::min(shown, place);
        ended_ = true;
      }
    if (!ended_)
      for (const std::string& stop : stop_strings_) shown = std::min(shown, held_.size() - begun(stop));
    return take(shown);
  }

  /// What was held back, since a stop string might have begun in it.
  std::string finish() { return ended_ ? std::string() : take(held_.size()); }

 private:
  /// How many bytes at the end of what is held a stop string begins with.
  std::size_t begun(std::string_view stop) const {
    std::size_t length = std::min(stop.size() - 1, held_.size());
    while (!held_.ends_with(stop.substr(0, length))) --length;
    return length;
  }

  std::string take(std::size_t count) {
    std::string text = held_.substr(0, count);
    held_.erase(0, count);
    const std::size_t unseen = std::min(hidden_, text.size());
    hidden_ -= unseen;
    text.erase(0, unseen);
    if (text.empty() || begin_.empty()) return text;
    // A form begins replies by one character, if at all.
    if (std::exchange(begins_, false) && text.starts_with(begin_)) text.erase(0, begin_.size());
    return text;
  }

  std::vector<std::string> stop_strings_;
  std::string begin_, held_;
  std::size_t hidden_;  // bytes at the beginning of what is held that stand before the reply
  bool begins_ = true;  // nothing was shown yet
  bool ended_ = false;
};

}  // namespace program

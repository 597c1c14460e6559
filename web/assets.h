// The dashboard's files, compiled into the program (web/dashboard, embed.cmake).
// Owner: none (constants). Left out: serving them.
#pragma once

#include <cstddef>
#include <string_view>

namespace catnap::web {

struct Asset {
  std::string_view path;  // "/index.html"
  std::string_view content_type;
  std::string_view etag;  // with its quotes
  std::string_view content;
};

// Null: there is none. "/" is "/index.html".
const Asset* find_asset(std::string_view path);

}  // namespace catnap::web

# Writes the files of a folder as one C++ source: cmake -D FOLDER=... -D OUTPUT=... -P embed.cmake
# Left out: compression (the page is small, and is asked for once).
set(types html "text/html\\; charset=utf-8" css "text/css\\; charset=utf-8" js "text/javascript\\; charset=utf-8" svg "image/svg+xml" png "image/png"
  ico "image/x-icon" json "application/json" webmanifest "application/manifest+json" txt "text/plain\\; charset=utf-8" woff2 "font/woff2")
file(GLOB_RECURSE paths RELATIVE ${FOLDER} ${FOLDER}/*)
list(SORT paths)
set(arrays "")
set(table "")
set(number 0)
foreach(path ${paths})
  get_filename_component(extension ${path} LAST_EXT)
  string(SUBSTRING "${extension}" 1 -1 extension)
  list(FIND types "${extension}" at)
  if(at EQUAL -1)
    continue()  # an editor's, or nobody's
  endif()
  math(EXPR at "${at} + 1")
  list(GET types ${at} type)
  file(READ ${FOLDER}/${path} hex HEX)
  file(SHA256 ${FOLDER}/${path} hash)
  string(SUBSTRING ${hash} 0 32 hash)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
  string(APPEND arrays "const unsigned char file_${number}[] = {${bytes}0};\n")
  string(APPEND table "    {\"/${path}\", \"${type}\", \"\\\"${hash}\\\"\", content_of(file_${number}, sizeof file_${number} - 1)},\n")
  math(EXPR number "${number} + 1")
endforeach()
file(WRITE ${OUTPUT}.new "// The files of web/dashboard. Made by web/embed.cmake. Owner: none. Left out: nothing.
#include <algorithm>

#include \"web/assets.h\"

namespace catnap::web {
namespace {

std::string_view content_of(const unsigned char* bytes, std::size_t length) { return {reinterpret_cast<const char*>(bytes), length}; }

${arrays}
const Asset* all(std::size_t& count) {
  static const Asset assets[] = {
${table}  };
  count = sizeof assets / sizeof assets[0];
  return assets;
}

}  // namespace

const Asset* find_asset(std::string_view path) {
  if (path == \"/\") path = \"/index.html\";
  std::size_t count = 0;
  const Asset* const first = all(count);
  const Asset* const found = std::find_if(first, first + count, [path](const Asset& asset) { return asset.path == path; });
  return found == first + count ? nullptr : found;
}

}  // namespace catnap::web
")
file(COPY_FILE ${OUTPUT}.new ${OUTPUT} ONLY_IF_DIFFERENT)

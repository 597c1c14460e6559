# Compiler settings, dependencies and the two functions with which every folder declares its targets.

set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)

find_program(CCACHE ccache)
if(CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # What ccache must be told before it takes sources that use a precompiled header.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${CCACHE})
endif()

# address (with undefined), thread, or empty; chosen by the presets.
set(CATNAP_SANITIZE "" CACHE STRING "address or thread")
option(CATNAP_LTO "Link-time optimisation" OFF)
# Halves the build with clang; g++ 12 gains nothing by it. The build without it shows that every file includes what it uses.
option(CATNAP_PCH "Precompiled headers (clang)" OFF)

add_library(catnap_options INTERFACE)
target_include_directories(catnap_options INTERFACE ${CMAKE_SOURCE_DIR})
# g++ 12 reports false positives of -Wmaybe-uninitialized and -Wdangling-reference in coroutine frames and std::expected; clang's checks cover them.
target_compile_options(catnap_options INTERFACE -Wall -Wextra -Werror -Wshadow -Wnon-virtual-dtor -Wold-style-cast -Wcast-align
  -Woverloaded-virtual -Wnull-dereference -Wno-missing-field-initializers -fno-omit-frame-pointer)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  target_compile_options(catnap_options INTERFACE -Wno-maybe-uninitialized -Wno-null-dereference)
endif()
if(CATNAP_SANITIZE STREQUAL address)
  target_compile_options(catnap_options INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all)
  target_link_options(catnap_options INTERFACE -fsanitize=address,undefined)
elseif(CATNAP_SANITIZE STREQUAL thread)
  target_compile_options(catnap_options INTERFACE -fsanitize=thread)
  target_link_options(catnap_options INTERFACE -fsanitize=thread)
  if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    target_compile_options(catnap_options INTERFACE -Wno-tsan)  # about fences, which it does not model; the sleep contract uses none (docs/architecture.md)
  endif()
endif()
if(CATNAP_LTO)
  set(CMAKE_INTERPROCEDURAL_OPTIMIZATION ON)
endif()

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
pkg_check_modules(JSONCPP REQUIRED IMPORTED_TARGET jsoncpp)
pkg_check_modules(URING REQUIRED IMPORTED_TARGET liburing)
pkg_check_modules(ISAL REQUIRED IMPORTED_TARGET libisal)
pkg_check_modules(NUMA REQUIRED IMPORTED_TARGET numa)
pkg_check_modules(CRYPTO REQUIRED IMPORTED_TARGET libcrypto)
pkg_check_modules(SECCOMP REQUIRED IMPORTED_TARGET libseccomp)

# Two precompiled headers, as the tests are built with another optimisation and GoogleTest.
if(CATNAP_PCH)
  foreach(pch catnap_pch catnap_test_pch)
    add_library(${pch} OBJECT ${CMAKE_CURRENT_LIST_DIR}/pch.cpp)
    target_link_libraries(${pch} PRIVATE catnap_options fmt::fmt spdlog::spdlog PkgConfig::JSONCPP)
    target_compile_options(${pch} PUBLIC "SHELL:-Xclang -fno-pch-timestamp")
  endforeach()
  set(pch_headers <algorithm> <array> <atomic> <chrono> <coroutine> <deque> <expected> <functional> <map> <memory> <optional> <random> <set> <span>
    <string> <string_view> <unordered_map> <utility> <variant> <vector> <fmt/format.h> <json/json.h>)
  target_precompile_headers(catnap_pch PRIVATE ${pch_headers})
  find_package(GTest REQUIRED)
  target_link_libraries(catnap_test_pch PRIVATE GTest::gmock)
  target_compile_options(catnap_test_pch PRIVATE $<$<CONFIG:Debug>:-O0>)
  target_precompile_headers(catnap_test_pch PRIVATE ${pch_headers} <gmock/gmock.h> <gtest/gtest.h>)
endif()

# catnap_use_pch(TARGET PCH): only where every source of TARGET is compiled with the options of PCH.
function(catnap_use_pch name pch)
  if(CATNAP_PCH)
    target_compile_options(${name} PRIVATE "SHELL:-Xclang -fno-pch-timestamp")
    target_precompile_headers(${name} REUSE_FROM ${pch})
  endif()
endfunction()

# The build whose libraries tests/fuzz feeds.
set(CATNAP_FUZZERS OFF)
if(CMAKE_CXX_COMPILER_ID STREQUAL Clang AND CATNAP_SANITIZE STREQUAL address)
  set(CATNAP_FUZZERS ON)
endif()

# catnap_library(NAME SOURCES file... [DEPENDS target...] [FUZZED]): a static library of the project. FUZZED: libFuzzer sees which of its code runs.
function(catnap_library name)
  cmake_parse_arguments(ARG "FUZZED" "" "SOURCES;DEPENDS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC catnap_options ${ARG_DEPENDS})
  if(ARG_FUZZED AND CATNAP_FUZZERS)
    target_compile_options(${name} PRIVATE -fsanitize=fuzzer-no-link)  # which the precompiled header was made without
  else()
    catnap_use_pch(${name} catnap_pch)
  endif()
endfunction()

# catnap_test(NAME SOURCES file... [DEPENDS target...] [LABELS label...] [BY_HAND] [SECONDS count]): a GoogleTest program, one ctest entry.
# Labels name the tier (quick, ci, soak) and what it needs. BY_HAND: everything runs on one OS thread, so ThreadSanitizer has nothing to look at.
# SECONDS: about how long it takes, of those that take long: they begin first, so that nobody waits for the last one alone.
function(catnap_test name)
  cmake_parse_arguments(ARG "BY_HAND" "TIMEOUT;SECONDS" "SOURCES;DEPENDS;LABELS" ${ARGN})
  if(ARG_BY_HAND AND CATNAP_SANITIZE STREQUAL thread)
    return()
  endif()
  find_package(GTest REQUIRED)
  add_executable(${name} ${ARG_SOURCES})
  # No test measures itself, and building the tests is most of the wait. What they test is a library, optimised as always.
  target_compile_options(${name} PRIVATE -O0)
  target_link_libraries(${name} PRIVATE ${ARG_DEPENDS} GTest::gmock GTest::gtest_main)
  catnap_use_pch(${name} catnap_test_pch)
  add_test(NAME ${name} COMMAND ${name})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 400)  # for the slowest build on a machine that does other things too
  endif()
  if(NOT ARG_LABELS)
    set(ARG_LABELS quick)
  endif()
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}")
  if(ARG_SECONDS)
    set_tests_properties(${name} PROPERTIES COST ${ARG_SECONDS})
  endif()
endfunction()

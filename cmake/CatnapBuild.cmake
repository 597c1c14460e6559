# Compiler settings, dependencies and the two functions with which every folder declares its targets.

set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)

find_program(CCACHE ccache)
if(CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()

# address (with undefined), thread, or empty; chosen by the presets.
set(CATNAP_SANITIZE "" CACHE STRING "address or thread")
option(CATNAP_LTO "Link-time optimisation" OFF)

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

# catnap_library(NAME SOURCES file... [DEPENDS target...]): a static library of the project.
function(catnap_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC catnap_options ${ARG_DEPENDS})
endfunction()

# catnap_test(NAME SOURCES file... [DEPENDS target...] [LABELS label...] [BY_HAND]): a GoogleTest program, one ctest entry.
# Labels name the tier (quick, ci, soak) and what it needs. BY_HAND: everything runs on one OS thread, so ThreadSanitizer has nothing to look at.
function(catnap_test name)
  cmake_parse_arguments(ARG "BY_HAND" "TIMEOUT" "SOURCES;DEPENDS;LABELS" ${ARGN})
  if(ARG_BY_HAND AND CATNAP_SANITIZE STREQUAL thread)
    return()
  endif()
  find_package(GTest REQUIRED)
  add_executable(${name} ${ARG_SOURCES})
  # Where speed is not measured, building the tests is most of the wait.
  target_compile_options(${name} PRIVATE $<$<CONFIG:Debug>:-O0>)
  target_link_libraries(${name} PRIVATE ${ARG_DEPENDS} GTest::gmock GTest::gtest_main)
  add_test(NAME ${name} COMMAND ${name})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 400)  # for the slowest build on a machine that does other things too
  endif()
  if(NOT ARG_LABELS)
    set(ARG_LABELS quick)
  endif()
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}")
endfunction()

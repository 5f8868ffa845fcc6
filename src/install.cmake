# What `cmake --install` gives to a consumer: the library, its headers, the CMake package and the pkg-config file.
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/gpt)

install(TARGETS gpt EXPORT gptTargets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT gptTargets NAMESPACE gpt:: DESTINATION ${package_dir})

# An archive must be linked together with what it uses; a shared library brings it along.
if(gpt_type STREQUAL STATIC_LIBRARY)
  set(GPT_IS_STATIC ON)
else()
  set(GPT_IS_STATIC OFF)
endif()
configure_package_config_file(${PROJECT_SOURCE_DIR}/third_party/cmake/gptConfig.cmake.in gptConfig.cmake
  INSTALL_DESTINATION ${package_dir} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(gptConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/gptConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/gptConfigVersion.cmake
  DESTINATION ${package_dir})

# pkg-config. Only one kind of library is installed, so that an archive's needs are not "private" (left out of a plain
# `pkg-config --libs`): without them no program links.
set(GPT_PC_REQUIRES "")
set(GPT_PC_LINK_FLAGS "")
if(GPT_IS_STATIC)
  set(GPT_PC_REQUIRES "libutf8proc >= 2.6, re2")
  if(GPT_WITH_SENTENCEPIECE)
    string(APPEND GPT_PC_REQUIRES ", sentencepiece >= 0.1.97")
  endif()
  set(GPT_PC_LINK_FLAGS " -pthread")
  if(GPT_WITH_OPENMP)
    string(PREPEND GPT_PC_LINK_FLAGS " ${OpenMP_CXX_FLAGS}")
  endif()
endif()
cmake_path(IS_ABSOLUTE CMAKE_INSTALL_LIBDIR libdir_is_absolute)
if(libdir_is_absolute)
  set(GPT_PC_PREFIX ${CMAKE_INSTALL_PREFIX})
else()  # found from the file's own place: the installed tree may be moved
  file(RELATIVE_PATH to_prefix /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
  string(REGEX REPLACE "/$" "" to_prefix ${to_prefix})
  set(GPT_PC_PREFIX "\${pcfiledir}/${to_prefix}")
endif()
foreach(dir LIBDIR INCLUDEDIR)
  set(GPT_PC_${dir} ${CMAKE_INSTALL_${dir}})
  cmake_path(ABSOLUTE_PATH GPT_PC_${dir} BASE_DIRECTORY "\${prefix}")
endforeach()
configure_file(${PROJECT_SOURCE_DIR}/third_party/cmake/gpt.pc.in gpt.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/gpt.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

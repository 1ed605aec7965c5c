# What `make install` puts where.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(TARGETS leveret RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY core/include/leveret DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS ${plugins} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/leveret/plugins)
install(DIRECTORY handlers DESTINATION ${CMAKE_INSTALL_DATADIR}/leveret)
# `leveret migrate` has them inside; these are for those who read them first.
install(DIRECTORY sql DESTINATION ${CMAKE_INSTALL_DATADIR}/leveret FILES_MATCHING PATTERN *.sql)

# ---- for programs that embed a worker: CMake and pkg-config ----
# The static library needs the client libraries' own packages, the shared one does not: so each has
# a file of its own, and the package looks for them only where the static one is asked for.
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/leveret)
install(TARGETS leveret_shared EXPORT leveret
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS leveret_core EXPORT leveret-static
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
foreach(export leveret leveret-static)
  install(EXPORT ${export} NAMESPACE leveret:: FILE ${export}-targets.cmake DESTINATION ${package})
endforeach()
configure_package_config_file(core/install/leveret-config.cmake.in leveret-config.cmake
  INSTALL_DESTINATION ${package} NO_SET_AND_CHECK_MACRO)
if(PROJECT_VERSION_MAJOR EQUAL 0)
  set(compatible SameMinorVersion)
else()
  set(compatible SameMajorVersion)
endif()
write_basic_package_version_file(leveret-config-version.cmake COMPATIBILITY ${compatible})
configure_file(core/install/leveret.pc.in leveret.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/leveret-config.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/leveret-config-version.cmake DESTINATION ${package})
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/leveret.pc
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# ---- man pages; the keys in leveret.lua(5) are what the program says of them ----
set(man_keys ${CMAKE_CURRENT_BINARY_DIR}/leveret.lua.5)
configure_file(core/install/man/leveret.1.in leveret.1 @ONLY)
configure_file(core/install/man/leveret.lua.5.in leveret.lua.5.in @ONLY)
add_custom_command(OUTPUT ${man_keys}
  COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/core/install/man/keys.sh $<TARGET_FILE:leveret> ${man_keys}.in
    ${man_keys}
  DEPENDS leveret ${man_keys}.in core/install/man/keys.sh
  VERBATIM)
add_custom_target(man ALL DEPENDS ${man_keys})
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/leveret.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${man_keys} DESTINATION ${CMAKE_INSTALL_MANDIR}/man5)

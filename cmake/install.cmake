# `cmake --install build/release --component library` lays out the library for other programs: the layers
# base, collectors and server as tcpvitals::NAME, their headers as <tcpvitals/server/server.h>. Component
# `agent` is the program.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(TARGETS tcpvitals RUNTIME COMPONENT agent)

set(library_layers base collectors server)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/tcpvitals)
install(TARGETS ${library_layers} EXPORT tcpvitals
  ARCHIVE COMPONENT library
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT tcpvitals NAMESPACE tcpvitals:: FILE tcpvitalsTargets.cmake
  DESTINATION ${package_dir} COMPONENT library)

write_basic_package_version_file(${CMAKE_BINARY_DIR}/tcpvitalsConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES cmake/tcpvitalsConfig.cmake ${CMAKE_BINARY_DIR}/tcpvitalsConfigVersion.cmake
  DESTINATION ${package_dir} COMPONENT library)

# Here a header includes "server/options.h". Among the folders of another program that may be another
# file, so what is installed includes "tcpvitals/server/options.h".
install(CODE "
  set(source \"${CMAKE_SOURCE_DIR}\")
  set(include \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_INCLUDEDIR}/tcpvitals\")
  foreach(layer ${library_layers})
    file(GLOB_RECURSE headers RELATIVE \${source} \${source}/\${layer}/*.h)
    foreach(header \${headers})
      file(READ \${source}/\${header} text)
      string(REGEX REPLACE \"(#include \\\")([a-z]+/)\" \"\\\\1tcpvitals/\\\\2\" text \"\${text}\")
      message(STATUS \"Installing: \${include}/\${header}\")
      file(WRITE \${include}/\${header} \"\${text}\")
    endforeach()
  endforeach()
" COMPONENT library)

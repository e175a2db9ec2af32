# find_package(tcpvitals): targets tcpvitals::base, tcpvitals::collectors and tcpvitals::server, each with
# those before it.
include(CMakeFindDependencyMacro)
find_dependency(Threads)
find_dependency(OpenSSL 3.0)
find_dependency(fmt)
find_dependency(spdlog)
find_dependency(nlohmann_json)
find_dependency(absl)

# prometheus-cpp's own package would ask for what its push and pull parts need.
find_dependency(PkgConfig)
pkg_check_modules(TCPVITALS_PROMETHEUS IMPORTED_TARGET prometheus-cpp-core)
pkg_check_modules(TCPVITALS_MNL IMPORTED_TARGET libmnl)
if(NOT TCPVITALS_PROMETHEUS_FOUND OR NOT TCPVITALS_MNL_FOUND)
  set(tcpvitals_FOUND FALSE)
  set(tcpvitals_NOT_FOUND_MESSAGE "pkg-config knows no prometheus-cpp-core or no libmnl")
  return()
endif()

include(${CMAKE_CURRENT_LIST_DIR}/tcpvitalsTargets.cmake)

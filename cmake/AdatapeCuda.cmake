# libadatape_cuda.so: every .cu of adatape/ops. The program never links it; core/device.cc loads it when a CUDA device is asked for, so that a
# build made where nvcc is also runs where no CUDA is.
# ADATAPE_CUDA: AUTO, ON or OFF. CMAKE_CUDA_ARCHITECTURES: default 90 (H100, H200), the first with thread-block clusters.
macro(adatape_cuda_library)
  if(NOT ADATAPE_CUDA STREQUAL "OFF" AND NOT ADATAPE_SANITIZE)
    include(CheckLanguage)
    if(NOT CMAKE_CUDA_COMPILER AND EXISTS /usr/local/cuda/bin/nvcc)
      set(CMAKE_CUDA_COMPILER /usr/local/cuda/bin/nvcc)
    endif()
    check_language(CUDA)
    if(ADATAPE_CUDA STREQUAL "ON" AND NOT CMAKE_CUDA_COMPILER)
      message(FATAL_ERROR "ADATAPE_CUDA=ON: expected nvcc on the path or in /usr/local/cuda/bin, found none; install the CUDA toolkit or leave it out")
    endif()
  endif()
  if(CMAKE_CUDA_COMPILER AND NOT ADATAPE_CUDA STREQUAL "OFF" AND NOT ADATAPE_SANITIZE)
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      set(CMAKE_CUDA_ARCHITECTURES 90)
    endif()
    set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
    enable_language(CUDA)
    find_library(ADATAPE_CUBLASLT cublasLt HINTS "${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES}/../lib64" /usr/local/cuda/lib64
      PATHS "${_torch_cuda_lib}")
    file(GLOB_RECURSE cuda_sources CONFIGURE_DEPENDS "ops/*.cu")
    add_library(adatape_cuda SHARED ${cuda_sources})
    # CMake 3.25 knows no later standard of nvcc 13.
    set_target_properties(adatape_cuda PROPERTIES CUDA_STANDARD 17 CUDA_STANDARD_REQUIRED ON)
    target_include_directories(adatape_cuda PRIVATE "${CMAKE_SOURCE_DIR}")
    target_include_directories(adatape_cuda SYSTEM PRIVATE
      "${ADATAPE_TORCH_DIR}/include" "${ADATAPE_TORCH_DIR}/include/torch/csrc/api/include")
    target_compile_definitions(adatape_cuda PRIVATE _GLIBCXX_USE_CXX11_ABI=1)
    target_compile_options(adatape_cuda PRIVATE --expt-relaxed-constexpr -diag-suppress=20012)
    target_link_libraries(adatape_cuda PRIVATE "${CMAKE_BINARY_DIR}/libadatape_ops.so" "${ADATAPE_TORCH_DIR}/lib/libtorch_cuda.so"
      "${ADATAPE_TORCH_DIR}/lib/libc10_cuda.so" "${ADATAPE_TORCH_DIR}/lib/libtorch_cpu.so" "${ADATAPE_TORCH_DIR}/lib/libc10.so" ${ADATAPE_CUBLASLT})
    # libtorch_cuda.so needs libraries that a machine without a GPU lacks.
    target_link_options(adatape_cuda PRIVATE "-Wl,--allow-shlib-undefined" "-Wl,--unresolved-symbols=ignore-in-shared-libs"
      "-Wl,--disable-new-dtags,-rpath,$ORIGIN" "-Wl,-rpath-link,${_torch_cuda_lib}" "-Wl,--no-as-needed")
    add_dependencies(adatape_cuda adatape_ops)
  else()
    message(STATUS "CUDA: no nvcc, libadatape_cuda.so is not built")
  endif()
endmacro()

# Finds the CPU half of a PyTorch wheel and offers it as the imported target torch_cpu.
# find_package(Torch) of a CUDA wheel demands a whole CUDA toolkit; libtorch_cpu and libc10 need none.
# ADATAPE_TORCH_DIR: .../site-packages/torch (default: the folder that scripts/setup.sh fills).
set(ADATAPE_TORCH_DIR "${CMAKE_SOURCE_DIR}/third_party/torch/torch" CACHE PATH "folder of the torch package (holds include/ and lib/)")
if(NOT EXISTS "${ADATAPE_TORCH_DIR}/lib/libtorch_cpu.so")
  message(FATAL_ERROR "LibTorch: expected ${ADATAPE_TORCH_DIR}/lib/libtorch_cpu.so, found nothing there. "
    "Run scripts/setup.sh, or pass -DADATAPE_TORCH_DIR=<site-packages>/torch.")
endif()
get_filename_component(_torch_site "${ADATAPE_TORCH_DIR}/.." ABSOLUTE)
set(_torch_cuda_lib "${_torch_site}/nvidia/cu13/lib")
file(GLOB _torch_gomp "${ADATAPE_TORCH_DIR}/lib/libgomp*.so*")
if(NOT _torch_gomp)
  file(GLOB _torch_gomp "${_torch_site}/torch.libs/libgomp*.so*")
endif()
add_library(torch_cpu INTERFACE)
target_include_directories(torch_cpu SYSTEM INTERFACE
  "${ADATAPE_TORCH_DIR}/include" "${ADATAPE_TORCH_DIR}/include/torch/csrc/api/include")
# -fopenmp makes at::parallel_for in our own files parallel; the runtime is the one that torch ships.
target_compile_options(torch_cpu INTERFACE -fopenmp)
target_compile_definitions(torch_cpu INTERFACE _GLIBCXX_USE_CXX11_ABI=1)
target_link_libraries(torch_cpu INTERFACE
  "${ADATAPE_TORCH_DIR}/lib/libtorch_cpu.so" "${ADATAPE_TORCH_DIR}/lib/libc10.so" ${_torch_gomp})
target_link_options(torch_cpu INTERFACE
  "-Wl,--disable-new-dtags,-rpath,${ADATAPE_TORCH_DIR}/lib" "-Wl,-rpath-link,${_torch_cuda_lib}" "-Wl,--no-as-needed")

# What makes a mistake in C harder to use, in every kind of build; tests/e2e/test_install.py reads
# the outcome. Sanitizers bring checks of their own, which these would only hide.
include(CheckCCompilerFlag)
include(CheckCSourceCompiles)
include(CheckPIESupported)

check_pie_supported(LANGUAGES C)
add_link_options(LINKER:-z,relro LINKER:-z,now LINKER:-z,noexecstack)

if(NOT LEVERET_SANITIZE)
  foreach(flag -fstack-protector-strong -fstack-clash-protection -fcf-protection=full
               -mbranch-protection=standard)
    string(MAKE_C_IDENTIFIER "LEVERET_HAS${flag}" has)
    check_c_compiler_flag("-Werror ${flag}" ${has})
    if(${has})
      add_compile_options(${flag})
    endif()
  endforeach()
  # Where the C library or the compiler is too old for the third level it says so in a warning.
  set(CMAKE_REQUIRED_FLAGS "-O2 -Werror -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3")
  check_c_source_compiles("#include <stdio.h>\nint main(void) { return puts(\"\") < 0; }"
    LEVERET_FORTIFIES_3)
  unset(CMAKE_REQUIRED_FLAGS)
  set(level 2)
  if(LEVERET_FORTIFIES_3)
    set(level 3)
  endif()
  # It needs an optimizing compiler. Some distributions' compilers come with a level of their own.
  add_compile_options(
    "$<$<CONFIG:Release,RelWithDebInfo,MinSizeRel>:SHELL:-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=${level}>")
endif()

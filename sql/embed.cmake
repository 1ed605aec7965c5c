# Writes the C file OUTPUT with every numbered *.sql of this folder in it.
file(GLOB files "${CMAKE_CURRENT_LIST_DIR}/[0-9][0-9][0-9][0-9]_*.sql")
list(SORT files)
set(arrays "")
set(rows "")
foreach(file ${files})
  get_filename_component(name "${file}" NAME_WE)
  string(SUBSTRING "${name}" 0 4 digits)
  math(EXPR version "1${digits} - 10000")
  file(READ "${file}" hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
  string(APPEND arrays "static const char sql_${digits}[] = {${bytes}0};\n")
  string(APPEND rows "    {${version}, \"${name}\", sql_${digits}},\n")
endforeach()
list(LENGTH files count)
file(WRITE "${OUTPUT}.new" "#include \"ledger/migrations.h\"\n\n${arrays}
const struct lvt_migration lvt_migrations[] = {\n${rows}};
const size_t lvt_migration_count = ${count};\n")
file(RENAME "${OUTPUT}.new" "${OUTPUT}")

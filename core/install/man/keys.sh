#!/bin/sh
# Fills a man page's tables of keys in: core/install/man/keys.sh LEVERET TEMPLATE OUTPUT
# A line "@keys N@" of the template becomes the Nth table that `leveret run --help-config` prints.
set -eu
tables=$3.tables
"$1" run --help-config >"$tables"
awk '
    function escaped(text) {
        gsub(/\\/, "\\e", text)
        gsub(/-/, "\\-", text)
        gsub(/`/, "", text)
        gsub(/\047/, "\\(aq", text)
        return text
    }
    # "| `name` | type | default | range | reloads | meaning |": a cell holds no bar.
    FNR == NR && /^\| `/ {
        sub(/^\| /, ""); sub(/ \|$/, "")
        split($0, cell, / *\| */)
        kind = escaped(cell[2])
        if (cell[4] != "") kind = kind ", " escaped(cell[4])
        if (cell[3] != "") kind = kind "; default " escaped(cell[3])
        if (cell[5] == "yes") kind = kind "; reloads"
        rows[table] = rows[table] ".TP\n\\fB" escaped(cell[1]) "\\fR (" kind ")\n" \
            escaped(cell[6]) "\n"
        next
    }
    FNR == NR { if (/^\| Key/) table++; next }
    /^@keys [0-9]+@$/ {
        if (rows[$2 + 0] == "") exit 1
        printf "%s", rows[$2 + 0]
        next
    }
    { print }
' "$tables" "$2" >"$3.new"
rm -f "$tables"
mv -f "$3.new" "$3"

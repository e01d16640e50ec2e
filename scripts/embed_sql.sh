#!/bin/sh
# Prints the numbered migrations given as a C array: struct dk_migration dk_sqlite_migrations[].
set -eu
echo '#include "store/migrations.h"'
echo 'const struct dk_migration dk_sqlite_migrations[] = {'
for file in "$@"; do
    number=$(basename "$file" | sed 's/^0*\([0-9][0-9]*\)_.*/\1/')
    printf '    {%s, "%s",\n' "$number" "$(basename "$file")"
    sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/^/     "/' -e 's/$/\\n"/' "$file"
    echo '    },'
done
echo '};'
printf 'const unsigned dk_sqlite_migration_count = %s;\n' "$#"

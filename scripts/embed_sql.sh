#!/bin/sh
# Prints SQL files as C: the numbered ones of each folder of sql/ given as the array
# dk_<folder>_migrations[], any other as the text dk_<folder>_<name>[].
set -eu
text() {
    sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/^/     "/' -e 's/$/\\n"/' "$1"
}
echo '#include "store/migrations.h"'
for folder in "$@"; do
    name=$(basename "$folder")
    count=0
    echo "const struct dk_migration dk_${name}_migrations[] = {"
    for file in "$folder"/[0-9]*.sql; do
        number=$(basename "$file" | sed 's/^0*\([0-9][0-9]*\)_.*/\1/')
        printf '    {%s, "%s",\n' "$number" "$(basename "$file")"
        text "$file"
        echo '    },'
        count=$((count + 1))
    done
    echo '};'
    printf 'const unsigned dk_%s_migration_count = %s;\n' "$name" "$count"
    for file in "$folder"/[!0-9]*.sql; do
        if [ -e "$file" ]; then
            printf 'const char dk_%s_%s[] =\n' "$name" "$(basename "$file" .sql)"
            text "$file"
            echo '    ;'
        fi
    done
done

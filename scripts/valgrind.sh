#!/bin/sh
# Runs test programs under valgrind's memcheck, two at a time; `make valgrind`.
#
# Usage: valgrind.sh FOLDER PROGRAM..: what each printed is in FOLDER. A program fails when a test
# of it does, or memcheck finds an error or a block that is lost for certain. Ends 1 when one does.
set -u
folder=$1
shift
mkdir -p "$folder"
rm -f "$folder"/*
export folder

# One test starts 500 threads. The error code is no code of a test.
run='
name=$(basename "$1")
begun=$(date +%s)
CMOCKA_MESSAGE_OUTPUT=STDOUT timeout 900 valgrind -q --error-exitcode=99 --leak-check=full \
    --errors-for-leak-kinds=definite --show-leak-kinds=definite --max-threads=2000 \
    --fair-sched=try --suppressions=tests/valgrind.supp "$1" >"$folder/$name" 2>&1
code=$?
if [ $code = 0 ]; then
    grep -h "PASSED" "$folder/$name" >"$folder/$name.passed"
    verdict=passed
else
    verdict="failed ($code): $folder/$name"
    touch "$folder/$name.failed"
fi
echo "valgrind: $name $verdict, $(($(date +%s) - begun)) s"
'
printf '%s\n' "$@" | xargs -P 2 -I PROGRAM sh -c "$run" run PROGRAM
passed=$(find "$folder" -name '*.passed' -size +0 | wc -l)
failed=$(($# - passed))
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]

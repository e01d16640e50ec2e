#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

/* The code of each fuzz target over the inputs that are kept for it, crashes of old among them. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#define FOLDER "tests/fuzz/corpus" /* tests run in the repository's root */
#define INPUT_MAX (1 << 20)

/* The Makefile names the targets (X(field_fuzz) ..) and builds each under its own name. */
#define X(target) int target(const uint8_t *data, size_t size);
FUZZ_TARGETS
#undef X

static const struct {
    const char *name;
    int (*run)(const uint8_t *data, size_t size);
} targets[] = {
#define X(target) {#target, target},
    FUZZ_TARGETS
#undef X
};

#define TARGETS (sizeof targets / sizeof targets[0])

/* In memory of exactly its size: a sanitizer sees each byte too far. */
static void run_file(size_t target, const char *path)
{
    static uint8_t all[INPUT_MAX];
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        fail_msg("%s cannot be read", path);
    }
    size_t n = fread(all, 1, sizeof all, file);
    fclose(file);
    assert_true(n < sizeof all);
    uint8_t *exact = malloc(n + (n == 0));
    assert_non_null(exact);
    memcpy(exact, all, n);
    assert_int_equal(targets[target].run(exact, n), 0); /* it aborts on what must not be */
    free(exact);
}

static size_t run_folder(size_t target)
{
    char folder[128], path[512];
    size_t inputs = 0;
    snprintf(folder, sizeof folder, FOLDER "/%.*s",
             (int)(strlen(targets[target].name) - strlen("_fuzz")), targets[target].name);
    DIR *list = opendir(folder);
    if (list == NULL) {
        fail_msg("%s: no inputs are kept for %s", folder, targets[target].name);
    }
    for (const struct dirent *entry; (entry = readdir(list)) != NULL;) {
        if (entry->d_name[0] != '.') {
            snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
            run_file(target, path);
            inputs++;
        }
    }
    closedir(list);
    return inputs;
}

static void each_target_holds_for_the_inputs_that_are_kept(void **state)
{
    (void)state;
    for (size_t i = 0; i < TARGETS; i++) {
        assert_int_not_equal(run_folder(i), 0);
        assert_int_equal(targets[i].run((const uint8_t *)"", 0), 0);
    }
}

static void each_folder_of_inputs_has_its_target(void **state)
{
    (void)state;
    DIR *list = opendir(FOLDER);
    size_t folders = 0;
    assert_non_null(list);
    for (const struct dirent *entry; (entry = readdir(list)) != NULL;) {
        folders += entry->d_name[0] != '.';
    }
    closedir(list);
    assert_int_equal(folders, TARGETS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_target_holds_for_the_inputs_that_are_kept),
        cmocka_unit_test(each_folder_of_inputs_has_its_target),
    };
    return cmocka_run_group_tests_name("corpus", tests, NULL, NULL);
}

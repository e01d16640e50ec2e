/*
 * Any bytes as a file of ~/.aws: members that fit, or an error; and what a command in it would be
 * cut into.
 */
#include <stdlib.h>

#include "provider/aws_process.h"
#include "provider/aws_profile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void check_command(const char *command)
{
    size_t room = strlen(command) + 1;
    char *words[DK_AWS_WORDS + 1], *text = malloc(room);
    must(text != NULL);
    size_t n = dk_aws_process_words(command, text, words);
    must(n <= DK_AWS_WORDS && (n == 0 || words[n] == NULL));
    for (size_t i = 0; i < n; i++) {
        must(words[i] >= text && words[i] + strlen(words[i]) < text + room);
    }
    free(text);
}

static void read_as(struct dk_view text, bool config, const char *name)
{
    struct dk_aws_profile profile;
    struct dk_err err;
    dk_err_clear(&err);
    dk_aws_profile_init(&profile, &dk_mem_default);
    dk_rc rc = dk_aws_profile_read(&profile, text, config, name, &err);
    must(rc == DK_OK || err.text[0] != '\0');
    for (size_t i = 0; i < DK_AWS_P_MEMBERS; i++) {
        const char *value = profile.member[i];
        must(value == NULL || (profile.found && value[0] != '\0' && strlen(value) <= text.n));
        must(value == NULL || strchr(value, '\n') == NULL);
    }
    if (profile.member[DK_AWS_P_CREDENTIAL_PROCESS] != NULL) {
        check_command(profile.member[DK_AWS_P_CREDENTIAL_PROCESS]);
    }
    dk_aws_profile_clear(&profile);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dk_view text = dk_view_of(data, size);
    char url[32];
    struct dk_err err;
    read_as(text, false, "default");
    read_as(text, true, "default");
    read_as(text, true, "x");
    dk_err_clear(&err);
    dk_rc rc = dk_aws_services_read(text, "x", "kms", url, sizeof url, &err);
    must(rc != DK_OK || strlen(url) < sizeof url);
    return 0;
}

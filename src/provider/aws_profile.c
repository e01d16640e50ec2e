#include "provider/aws_profile.h"

#include <stdio.h>

#include "base/secret.h"

static const char *const members[DK_AWS_P_MEMBERS] = {
    [DK_AWS_P_ACCESS_KEY_ID] = "aws_access_key_id",
    [DK_AWS_P_SECRET_ACCESS_KEY] = "aws_secret_access_key",
    [DK_AWS_P_SESSION_TOKEN] = "aws_session_token",
    [DK_AWS_P_ROLE_ARN] = "role_arn",
    [DK_AWS_P_SOURCE_PROFILE] = "source_profile",
    [DK_AWS_P_CREDENTIAL_SOURCE] = "credential_source",
    [DK_AWS_P_EXTERNAL_ID] = "external_id",
    [DK_AWS_P_ROLE_SESSION_NAME] = "role_session_name",
    [DK_AWS_P_DURATION_SECONDS] = "duration_seconds",
    [DK_AWS_P_WEB_IDENTITY_TOKEN_FILE] = "web_identity_token_file",
    [DK_AWS_P_CREDENTIAL_PROCESS] = "credential_process",
    [DK_AWS_P_REGION] = "region",
    [DK_AWS_P_ENDPOINT_URL] = "endpoint_url",
    [DK_AWS_P_SERVICES] = "services",
    [DK_AWS_P_USE_FIPS] = "use_fips_endpoint",
    [DK_AWS_P_USE_DUALSTACK] = "use_dualstack_endpoint",
};

void dk_aws_profile_init(struct dk_aws_profile *profile, const struct dk_mem *mem)
{
    *profile = (struct dk_aws_profile){.mem = mem};
}

static void let_go(const struct dk_mem *mem, char *text)
{
    if (text != NULL) {
        dk_wipe(text, strlen(text));
        dk_mem_free(mem, text);
    }
}

void dk_aws_profile_clear(struct dk_aws_profile *profile)
{
    for (size_t i = 0; i < DK_AWS_P_MEMBERS; i++) {
        let_go(profile->mem, profile->member[i]);
        profile->member[i] = NULL;
    }
    profile->found = false;
}

/* ---- lines ----------------------------------------------------------------------------------- */

enum kind { BLANK, SECTION, SETTING, NESTED };

struct line {
    enum kind kind;
    struct dk_view name; /* of the section, or before `=` */
    struct dk_view value;
};

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static struct dk_view trim(struct dk_view v)
{
    while (v.n > 0 && is_blank(v.p[0])) {
        v.p++;
        v.n--;
    }
    while (v.n > 0 && is_blank(v.p[v.n - 1])) {
        v.n--;
    }
    return v;
}

/* A comment behind a value begins with a blank and # or ;. */
static struct dk_view without_comment(struct dk_view v)
{
    for (size_t i = 1; i < v.n; i++) {
        if ((v.p[i] == '#' || v.p[i] == ';') && is_blank(v.p[i - 1])) {
            v.n = i;
        }
    }
    return trim(v);
}

static struct line read_line(struct dk_view text)
{
    bool nested = text.n > 0 && is_blank(text.p[0]);
    struct dk_view v = trim(text);
    if (v.n == 0 || v.p[0] == '#' || v.p[0] == ';') {
        return (struct line){.kind = BLANK};
    }
    if (v.p[0] == '[') {
        const uint8_t *close = memchr(v.p, ']', v.n);
        size_t n = close != NULL ? (size_t)(close - v.p) - 1 : 0;
        return (struct line){SECTION, trim(dk_view_of(v.p + 1, n)), {NULL, 0}};
    }
    const uint8_t *equals = memchr(v.p, '=', v.n);
    if (equals == NULL) {
        return (struct line){.kind = BLANK};
    }
    size_t n = (size_t)(equals - v.p);
    return (struct line){nested ? NESTED : SETTING, trim(dk_view_of(v.p, n)),
                         without_comment(dk_view_of(equals + 1, v.n - n - 1))};
}

static bool next_line(struct dk_view *text, struct line *out)
{
    if (text->n == 0) {
        return false;
    }
    const uint8_t *end = memchr(text->p, '\n', text->n);
    size_t n = end != NULL ? (size_t)(end - text->p) : text->n;
    *out = read_line(dk_view_of(text->p, n));
    n += end != NULL;
    text->p += n;
    text->n -= n;
    return true;
}

/* A name with blanks in it may stand in quotes. */
static struct dk_view unquote(struct dk_view v)
{
    bool quoted = v.n >= 2 && (v.p[0] == '"' || v.p[0] == '\'') && v.p[v.n - 1] == v.p[0];
    return quoted ? dk_view_of(v.p + 1, v.n - 2) : v;
}

/* `[default]`, `[name]`, `[profile name]`, `[services name]`: the word before, and the name. */
static bool is_section(struct dk_view section, const char *word, const char *name)
{
    size_t n = strlen(word);
    if (n > 0) {
        if (section.n <= n || memcmp(section.p, word, n) != 0 || !is_blank(section.p[n])) {
            return false;
        }
        section = trim(dk_view_of(section.p + n, section.n - n));
    }
    return dk_view_equal(unquote(section), dk_view_str(name));
}

/* ---- profiles -------------------------------------------------------------------------------- */

/* Whatever their case, as Python's parser has it. */
static bool is_named(struct dk_view name, const char *member)
{
    return name.n == strlen(member) && strncasecmp((const char *)name.p, member, name.n) == 0;
}

static dk_rc keep(struct dk_aws_profile *profile, const struct line *line, struct dk_err *err)
{
    for (size_t i = 0; i < DK_AWS_P_MEMBERS; i++) {
        if (!is_named(line->name, members[i]) || profile->member[i] != NULL || line->value.n == 0) {
            continue;
        }
        char *copy = dk_mem_alloc(profile->mem, line->value.n + 1);
        if (copy == NULL) {
            return DK_FAIL(err, NOMEM, "no memory for a profile");
        }
        memcpy(copy, line->value.p, line->value.n);
        copy[line->value.n] = '\0';
        profile->member[i] = copy;
    }
    return DK_OK;
}

static dk_rc check_bytes(struct dk_view text, struct dk_err *err)
{
    return text.n > 0 && memchr(text.p, '\0', text.n) != NULL
               ? DK_FAIL(err, CONFIG, "it holds a zero byte")
               : DK_OK;
}

dk_rc dk_aws_profile_read(struct dk_aws_profile *profile, struct dk_view text, bool config,
                          const char *name, struct dk_err *err)
{
    struct line line;
    bool here = false, below = false; /* a name without a value: what is indented is that name's */
    bool is_default = strcmp(name, "default") == 0;
    DK_TRY(check_bytes(text, err));
    while (next_line(&text, &line)) {
        if (line.kind == SECTION) {
            here = is_section(line.name, config ? "profile" : "", name) ||
                   (config && is_default && is_section(line.name, "", name));
            profile->found = profile->found || here;
            below = false;
        } else if (line.kind == SETTING || (line.kind == NESTED && !below)) {
            below = line.kind == SETTING && line.value.n == 0;
            DK_TRY(here ? keep(profile, &line, err) : DK_OK);
        }
    }
    return DK_OK;
}

dk_rc dk_aws_services_read(struct dk_view text, const char *name, const char *service, char *out,
                           size_t cap, struct dk_err *err)
{
    struct line line;
    bool here = false, of_service = false;
    out[0] = '\0';
    DK_TRY(check_bytes(text, err));
    while (next_line(&text, &line)) {
        if (line.kind == SECTION) {
            here = is_section(line.name, "services", name);
            of_service = false;
        } else if (here && line.kind == SETTING) {
            of_service = dk_view_equal(line.name, dk_view_str(service));
        } else if (here && of_service && line.kind == NESTED &&
                   dk_view_equal(line.name, dk_view_str("endpoint_url"))) {
            if (line.value.n >= cap) {
                return DK_FAIL(err, CONFIG, "an endpoint_url in it is too long");
            }
            memcpy(out, line.value.p, line.value.n);
            out[line.value.n] = '\0';
        }
    }
    return DK_OK;
}

#include "provider/aws_setup.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/secret.h"

#define FILE_MAX_BYTES (256 * 1024)

struct reading {
    const struct dk_settings *settings;
    const struct dk_mem *mem;
    struct dk_buf config; /* the texts of the two files; empty: not there */
    struct dk_buf credentials;
    struct dk_aws_profile profile;
    const char *name; /* of the profile */
    struct dk_aws_setup *out;
    struct dk_err *err;
};

static const char *setting(const struct reading *r, enum dk_option_id id)
{
    return dk_settings_str(r->settings, id);
}

static bool is_set(const struct reading *r, enum dk_option_id id)
{
    return dk_settings_is_set(r->settings, id);
}

/* A copy into the plan; NULL stays NULL. */
static dk_rc keep(const struct reading *r, const char *text, char **out)
{
    *out = text != NULL ? dk_mem_strdup(r->mem, text) : NULL;
    return text == NULL || *out != NULL ? DK_OK : DK_FAIL(r->err, NOMEM, "no memory for settings");
}

/* ---- the files ------------------------------------------------------------------------------- */

static dk_rc read_file(struct reading *r, enum dk_option_id id, const char *usual,
                       struct dk_buf *out)
{
    char path[DK_PATH_MAX];
    const char *set = setting(r, id);
    const char *home = getenv("HOME");
    if (set == NULL && (home == NULL || home[0] != '/')) {
        return DK_OK;
    }
    if (set == NULL) {
        DK_TRY(dk_path_join(path, home, usual, r->err));
    }
    struct dk_err cause;
    dk_err_clear(&cause);
    dk_rc rc = dk_file_read(set != NULL ? set : path, out, &cause);
    /* One that is not there, or not ours to read, is none; one that was asked for has to be. */
    if (rc != DK_OK && set == NULL && (rc == DK_E_NOT_FOUND || rc == DK_E_IO)) {
        return DK_OK;
    }
    return rc == DK_OK ? rc
                       : dk_err_set(r->err, rc == DK_E_NOMEM ? rc : DK_E_CONFIG, __FILE__, __LINE__,
                                    "%s: %s", dk_options[id].name, cause.text);
}

static dk_rc read_profile(struct reading *r, const char *name, struct dk_aws_profile *out)
{
    DK_TRY(dk_aws_profile_read(out, dk_view_of(r->credentials.p, r->credentials.n), false, name,
                               r->err));
    return dk_aws_profile_read(out, dk_view_of(r->config.p, r->config.n), true, name, r->err);
}

static dk_rc read_files(struct reading *r)
{
    DK_TRY(read_file(r, DK_OPT_AWS_CONFIG_FILE, ".aws/config", &r->config));
    DK_TRY(read_file(r, DK_OPT_AWS_SHARED_CREDENTIALS_FILE, ".aws/credentials", &r->credentials));
    DK_TRY(read_profile(r, r->name, &r->profile));
    if (!r->profile.found && is_set(r, DK_OPT_AWS_PROFILE)) {
        return DK_FAIL(r->err, CONFIG, "AWS_PROFILE: there is no profile %.64s in the AWS files",
                       r->name);
    }
    return DK_OK;
}

/* ---- key and places -------------------------------------------------------------------------- */

static dk_rc find_key(struct reading *r)
{
    struct dk_aws_setup *out = r->out;
    const char *id = setting(r, DK_OPT_AWS_KMS_KEY_ID);
    if (id == NULL) {
        return DK_FAIL(r->err, CONFIG, "AWS_KMS_KEY_ID is required");
    }
    if (strlen(id) >= sizeof out->key_id || !dk_aws_key_parse(id, &out->key)) {
        return DK_FAIL(r->err, CONFIG,
                       "AWS_KMS_KEY_ID: it is neither a key id, nor an ARN of a key or alias, nor "
                       "alias/NAME");
    }
    memcpy(out->key_id, id, strlen(id) + 1);
    return DK_OK;
}

/* The region of an ARN is enough; another one beside it is an error, not a guess. */
static dk_rc find_region(struct reading *r)
{
    struct dk_aws_setup *out = r->out;
    const char *region = setting(r, DK_OPT_AWS_REGION);
    region = region != NULL ? region : setting(r, DK_OPT_AWS_DEFAULT_REGION);
    region = region != NULL ? region : r->profile.member[DK_AWS_P_REGION];
    if (region == NULL && out->key.region[0] != '\0') {
        region = out->key.region;
    }
    if (region == NULL) {
        return DK_FAIL(r->err, CONFIG, "AWS_REGION is required");
    }
    if (!dk_aws_is_region(region)) {
        return DK_FAIL(r->err, CONFIG, "AWS_REGION: it is no name of a region");
    }
    snprintf(out->region, sizeof out->region, "%s", region);
    if (out->key.region[0] == '\0' || strcmp(out->key.region, region) == 0) {
        return DK_OK;
    }
    return DK_FAIL(r->err, CONFIG, "AWS_KMS_KEY_ID is a key of %s, and the region is %s%s",
                   out->key.region, region,
                   dk_aws_key_is_multi_region(&out->key)
                       ? ": give the ARN of its replica in that region"
                       : "");
}

static bool flag(const struct reading *r, enum dk_option_id id, enum dk_aws_member member)
{
    const char *text = r->profile.member[member];
    return is_set(r, id) ? dk_settings_bool(r->settings, id)
                         : text != NULL && strcasecmp(text, "true") == 0;
}

/* Own setting, setting for all, the profile's services, the profile. */
static dk_rc find_endpoint(struct reading *r, const char *service, enum dk_option_id own,
                           struct dk_endpoint *out)
{
    char of_services[DK_URL_MAX + 1] = "";
    const char *services = r->profile.member[DK_AWS_P_SERVICES];
    struct dk_aws_service asked = {.name = service,
                                   .region = r->out->region,
                                   .fips = flag(r, DK_OPT_AWS_USE_FIPS, DK_AWS_P_USE_FIPS),
                                   .dual_stack =
                                       flag(r, DK_OPT_AWS_USE_DUALSTACK, DK_AWS_P_USE_DUALSTACK),
                                   .setting = "endpoint_url of the profile",
                                   .allowed = setting(r, DK_OPT_ALLOWED_ENDPOINTS)};
    if (services != NULL) {
        DK_TRY(dk_aws_services_read(dk_view_of(r->config.p, r->config.n), services, service,
                                    of_services, sizeof of_services, r->err));
    }
    if (dk_settings_bool(r->settings, DK_OPT_AWS_IGNORE_ENDPOINTS)) {
        return dk_aws_endpoint(&asked, out, r->err);
    }
    if (is_set(r, own) || is_set(r, DK_OPT_AWS_ENDPOINT_URL)) {
        enum dk_option_id id = is_set(r, own) ? own : DK_OPT_AWS_ENDPOINT_URL;
        asked.url = setting(r, id);
        asked.setting = dk_options[id].name;
    } else {
        asked.url = of_services[0] != '\0' ? of_services : r->profile.member[DK_AWS_P_ENDPOINT_URL];
    }
    return dk_aws_endpoint(&asked, out, r->err);
}

/* ---- credentials ----------------------------------------------------------------------------- */

static dk_rc fill_role(const struct reading *r, struct dk_aws_role *role, const char *arn,
                       const char *session)
{
    if (strncmp(arn, "arn:", 4) != 0) {
        return DK_FAIL(r->err, CONFIG, "AWS_ROLE_ARN or role_arn: it is no ARN of a role");
    }
    role->seconds = 3600;
    DK_TRY(keep(r, arn, &role->arn));
    return keep(r, session != NULL ? session : setting(r, DK_OPT_AWS_ROLE_SESSION_NAME),
                &role->session);
}

static dk_rc from_environment(struct reading *r)
{
    struct dk_aws_plan *plan = &r->out->plan;
    if (!is_set(r, DK_OPT_AWS_SECRET_ACCESS_KEY)) {
        return DK_FAIL(r->err, CONFIG,
                       "AWS_SECRET_ACCESS_KEY is required: AWS_ACCESS_KEY_ID is set without it");
    }
    plan->source = DK_AWS_STATIC;
    plan->told = "AWS_ACCESS_KEY_ID";
    DK_TRY(keep(r, setting(r, DK_OPT_AWS_ACCESS_KEY_ID), &plan->access_key_id));
    DK_TRY(keep(r, setting(r, DK_OPT_AWS_SECRET_ACCESS_KEY), &plan->secret));
    return keep(r, setting(r, DK_OPT_AWS_SESSION_TOKEN), &plan->session_token);
}

static dk_rc from_web_identity(struct reading *r, const char *file, const char *arn,
                               const char *session, const char *told)
{
    struct dk_aws_plan *plan = &r->out->plan;
    if (arn == NULL) {
        return DK_FAIL(r->err, CONFIG,
                       "AWS_ROLE_ARN is required: AWS_WEB_IDENTITY_TOKEN_FILE is set without it");
    }
    plan->source = DK_AWS_WEB_IDENTITY;
    plan->told = told;
    DK_TRY(keep(r, file, &plan->token_file));
    return fill_role(r, &plan->web_role, arn, session);
}

static dk_rc metadata_endpoint(struct reading *r, const char *url, enum dk_option_id id)
{
    struct dk_endpoint_policy policy = {.kind = DK_ENDPOINT_METADATA,
                                        .setting = dk_options[id].name};
    return dk_endpoint_parse(url, &policy, &r->out->plan.metadata, r->err);
}

static dk_rc from_container(struct reading *r)
{
    struct dk_aws_plan *plan = &r->out->plan;
    const char *relative = setting(r, DK_OPT_AWS_CONTAINER_RELATIVE);
    plan->source = DK_AWS_CONTAINER;
    plan->told = "AWS_CONTAINER_CREDENTIALS_..";
    DK_TRY(keep(r, setting(r, DK_OPT_AWS_CONTAINER_TOKEN_FILE), &plan->token_file));
    DK_TRY(keep(r, setting(r, DK_OPT_AWS_CONTAINER_TOKEN), &plan->token));
    if (relative != NULL) {
        size_t n = strcspn(relative, "\r\n @#");
        if (relative[0] != '/' || relative[n] != '\0' || n >= sizeof plan->container_path) {
            return DK_FAIL(r->err, CONFIG, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: it is no path");
        }
        memcpy(plan->container_path, relative, n + 1);
        return metadata_endpoint(r, "http://169.254.170.2", DK_OPT_AWS_CONTAINER_RELATIVE);
    }
    return metadata_endpoint(r, setting(r, DK_OPT_AWS_CONTAINER_FULL), DK_OPT_AWS_CONTAINER_FULL);
}

static dk_rc from_instance(struct reading *r)
{
    r->out->plan.source = DK_AWS_INSTANCE;
    r->out->plan.told = "the instance's metadata";
    if (dk_settings_bool(r->settings, DK_OPT_AWS_EC2_METADATA_DISABLED)) {
        return DK_FAIL(r->err, CONFIG,
                       "AWS_ACCESS_KEY_ID is required, or another source of AWS credentials: "
                       "neither environment nor profile nor container has any, and "
                       "AWS_EC2_METADATA_DISABLED is set");
    }
    return metadata_endpoint(r, setting(r, DK_OPT_AWS_EC2_METADATA), DK_OPT_AWS_EC2_METADATA);
}

static dk_rc add_role(struct reading *r, const struct dk_aws_profile *profile)
{
    struct dk_aws_plan *plan = &r->out->plan;
    const char *seconds = profile->member[DK_AWS_P_DURATION_SECONDS];
    if (plan->role_count == DK_AWS_ROLES) {
        return DK_FAIL(r->err, CONFIG, "source_profile: more than %d roles in a row, or a circle",
                       DK_AWS_ROLES);
    }
    struct dk_aws_role *role = &plan->roles[plan->role_count++];
    DK_TRY(fill_role(r, role, profile->member[DK_AWS_P_ROLE_ARN],
                     profile->member[DK_AWS_P_ROLE_SESSION_NAME]));
    long asked = seconds != NULL ? strtol(seconds, NULL, 10) : 0;
    role->seconds = asked >= 900 && asked <= 43200 ? asked : role->seconds;
    return keep(r, profile->member[DK_AWS_P_EXTERNAL_ID], &role->external_id);
}

static dk_rc from_static_profile(struct reading *r, const struct dk_aws_profile *profile)
{
    struct dk_aws_plan *plan = &r->out->plan;
    if (profile->member[DK_AWS_P_SECRET_ACCESS_KEY] == NULL) {
        return DK_FAIL(r->err, CONFIG, "the AWS profile has no aws_secret_access_key");
    }
    plan->source = DK_AWS_STATIC;
    plan->told = "the profile";
    DK_TRY(keep(r, profile->member[DK_AWS_P_ACCESS_KEY_ID], &plan->access_key_id));
    DK_TRY(keep(r, profile->member[DK_AWS_P_SECRET_ACCESS_KEY], &plan->secret));
    return keep(r, profile->member[DK_AWS_P_SESSION_TOKEN], &plan->session_token);
}

static dk_rc from_named_source(struct reading *r, const char *source)
{
    if (strcmp(source, "Environment") == 0) {
        return is_set(r, DK_OPT_AWS_ACCESS_KEY_ID)
                   ? from_environment(r)
                   : DK_FAIL(r->err, CONFIG,
                             "AWS_ACCESS_KEY_ID is required: credential_source of the profile says "
                             "Environment");
    }
    if (strcmp(source, "EcsContainer") == 0) {
        return is_set(r, DK_OPT_AWS_CONTAINER_RELATIVE) || is_set(r, DK_OPT_AWS_CONTAINER_FULL)
                   ? from_container(r)
                   : DK_FAIL(r->err, CONFIG,
                             "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is required: "
                             "credential_source of the profile says EcsContainer");
    }
    if (strcmp(source, "Ec2InstanceMetadata") == 0) {
        return from_instance(r);
    }
    return DK_FAIL(r->err, CONFIG,
                   "credential_source: it is neither Environment nor EcsContainer nor "
                   "Ec2InstanceMetadata");
}

static bool has_static(const struct dk_aws_profile *profile)
{
    return profile->member[DK_AWS_P_ACCESS_KEY_ID] != NULL;
}

static bool is_role(const struct dk_aws_profile *profile)
{
    return profile->member[DK_AWS_P_ROLE_ARN] != NULL &&
           (profile->member[DK_AWS_P_SOURCE_PROFILE] != NULL ||
            profile->member[DK_AWS_P_CREDENTIAL_SOURCE] != NULL);
}

static bool has_credentials(const struct dk_aws_profile *profile)
{
    return has_static(profile) || is_role(profile) ||
           profile->member[DK_AWS_P_WEB_IDENTITY_TOKEN_FILE] != NULL ||
           profile->member[DK_AWS_P_CREDENTIAL_PROCESS] != NULL;
}

/* A profile that takes no role: the end of the way. */
static dk_rc from_last_profile(struct reading *r, const struct dk_aws_profile *profile,
                               const char *name)
{
    if (profile->member[DK_AWS_P_WEB_IDENTITY_TOKEN_FILE] != NULL) {
        return from_web_identity(r, profile->member[DK_AWS_P_WEB_IDENTITY_TOKEN_FILE],
                                 profile->member[DK_AWS_P_ROLE_ARN],
                                 profile->member[DK_AWS_P_ROLE_SESSION_NAME], "the profile");
    }
    if (has_static(profile)) {
        return from_static_profile(r, profile);
    }
    if (profile->member[DK_AWS_P_CREDENTIAL_PROCESS] != NULL) {
        r->out->plan.source = DK_AWS_PROCESS;
        r->out->plan.told = "credential_process of the profile";
        return keep(r, profile->member[DK_AWS_P_CREDENTIAL_PROCESS], &r->out->plan.command);
    }
    return DK_FAIL(r->err, CONFIG, "the AWS profile %.64s has no credentials", name);
}

/* From role to role, until a profile has credentials of its own. A profile that names itself and
   has some is its own source. */
static dk_rc follow(struct reading *r, struct dk_aws_profile *profile)
{
    char name[128];
    snprintf(name, sizeof name, "%s", r->name);
    while (is_role(profile)) {
        const char *source = profile->member[DK_AWS_P_CREDENTIAL_SOURCE];
        const char *next = profile->member[DK_AWS_P_SOURCE_PROFILE];
        DK_TRY(add_role(r, profile));
        if (next == NULL) {
            return from_named_source(r, source);
        }
        if (strcmp(next, name) == 0 && has_static(profile)) {
            break;
        }
        snprintf(name, sizeof name, "%s", next);
        dk_aws_profile_clear(profile);
        DK_TRY(read_profile(r, name, profile));
        if (!profile->found) {
            return DK_FAIL(r->err, CONFIG, "source_profile: there is no profile %.64s", name);
        }
    }
    return from_last_profile(r, profile, name);
}

static dk_rc from_profile(struct reading *r)
{
    struct dk_aws_profile profile;
    dk_aws_profile_init(&profile, r->mem);
    dk_rc rc = read_profile(r, r->name, &profile);
    rc = rc == DK_OK ? follow(r, &profile) : rc;
    dk_aws_profile_clear(&profile);
    return rc;
}

static dk_rc find_credentials(struct reading *r)
{
    if (is_set(r, DK_OPT_AWS_ACCESS_KEY_ID)) {
        return from_environment(r);
    }
    if (is_set(r, DK_OPT_AWS_SECRET_ACCESS_KEY)) {
        return DK_FAIL(r->err, CONFIG,
                       "AWS_ACCESS_KEY_ID is required: AWS_SECRET_ACCESS_KEY is set without it");
    }
    if (is_set(r, DK_OPT_AWS_WEB_IDENTITY_TOKEN_FILE)) {
        return from_web_identity(r, setting(r, DK_OPT_AWS_WEB_IDENTITY_TOKEN_FILE),
                                 setting(r, DK_OPT_AWS_ROLE_ARN), NULL,
                                 "AWS_WEB_IDENTITY_TOKEN_FILE");
    }
    if (has_credentials(&r->profile) || is_set(r, DK_OPT_AWS_PROFILE)) {
        return from_profile(r);
    }
    if (is_set(r, DK_OPT_AWS_CONTAINER_RELATIVE) || is_set(r, DK_OPT_AWS_CONTAINER_FULL)) {
        return from_container(r);
    }
    return from_instance(r);
}

/* ---- all of it ------------------------------------------------------------------------------- */

/* Nothing but a note of the doctor hangs on it: why it will not do is told there. */
static dk_rc find_iam(struct reading *r)
{
    struct reading again = *r; /* the texts stay the first one's */
    struct dk_err cause;
    dk_err_clear(&cause);
    again.err = &cause;
    dk_rc rc = find_endpoint(&again, "iam", DK_OPT_AWS_ENDPOINT_URL_IAM, &r->out->iam);
    if (rc == DK_E_CONFIG) {
        snprintf(r->out->iam_why, sizeof r->out->iam_why, "%.*s", DK_AWS_WHY, cause.text);
        return DK_OK;
    }
    if (rc != DK_OK) {
        *r->err = cause;
    }
    return rc;
}

static dk_rc read_all(struct reading *r)
{
    DK_TRY(find_key(r));
    DK_TRY(read_files(r));
    DK_TRY(find_region(r));
    DK_TRY(find_endpoint(r, "kms", DK_OPT_AWS_ENDPOINT_URL_KMS, &r->out->kms));
    DK_TRY(find_endpoint(r, "sts", DK_OPT_AWS_ENDPOINT_URL_STS, &r->out->sts));
    DK_TRY(find_iam(r));
    return find_credentials(r);
}

dk_rc dk_aws_setup_read(const struct dk_settings *settings, const struct dk_mem *mem,
                        struct dk_aws_setup *out, struct dk_err *err)
{
    struct reading r = {.settings = settings,
                        .mem = mem,
                        .name = dk_settings_str(settings, DK_OPT_AWS_PROFILE),
                        .out = out,
                        .err = err};
    *out = (struct dk_aws_setup){.plan.mem = mem};
    dk_buf_init(&r.config, mem, FILE_MAX_BYTES);
    dk_buf_init(&r.credentials, mem, FILE_MAX_BYTES);
    dk_aws_profile_init(&r.profile, mem);
    dk_rc rc = read_all(&r);
    dk_aws_profile_clear(&r.profile);
    dk_buf_wipe(&r.config);
    dk_buf_wipe(&r.credentials);
    if (rc != DK_OK) {
        dk_aws_setup_clear(out);
    }
    return rc;
}

static void let_go(const struct dk_mem *mem, char *text)
{
    if (text != NULL) {
        dk_wipe(text, strlen(text));
        dk_mem_free(mem, text);
    }
}

static void clear_role(const struct dk_mem *mem, struct dk_aws_role *role)
{
    let_go(mem, role->arn);
    let_go(mem, role->session);
    let_go(mem, role->external_id);
}

void dk_aws_setup_clear(struct dk_aws_setup *setup)
{
    struct dk_aws_plan *plan = &setup->plan;
    const struct dk_mem *mem = plan->mem;
    let_go(mem, plan->access_key_id);
    let_go(mem, plan->secret);
    let_go(mem, plan->session_token);
    let_go(mem, plan->token_file);
    let_go(mem, plan->token);
    let_go(mem, plan->command);
    clear_role(mem, &plan->web_role);
    for (size_t i = 0; i < plan->role_count; i++) {
        clear_role(mem, &plan->roles[i]);
    }
    *plan = (struct dk_aws_plan){.mem = mem};
}

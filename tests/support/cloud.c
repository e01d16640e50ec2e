#include "support/cloud.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define PYTHON "build/cache/python/bin/python" /* it finds its packages by this name */
#define LOCAL_KMS "build/cache/local-kms"

enum { LINES = 64, TEXT = 512 };

static struct {
    char name[48];
    char value[TEXT];
} lines[LINES];
static size_t line_count;

static void give_up(const char *why)
{
    fprintf(stderr, "cloud: %s\n", why);
    abort();
}

/* ---- the program ----------------------------------------------------------------------------- */

/* Each prints the names that it is asked for by, as lines NAME=VALUE. */
struct program {
    const char *name; /* NULL = all that the others do not have */
    const char *argv[4];
};

static const struct program programs[] = {
    {"MOTO", {PYTHON, "tests/cloud.py", "--only-moto", NULL}},
    {"LOCAL_KMS", {LOCAL_KMS, NULL}},
    {NULL, {PYTHON, "tests/cloud.py", NULL}},
};

static const struct program *program_of(const char *name)
{
    const struct program *program = programs;
    while (program->name != NULL && strcmp(program->name, name) != 0) {
        program++;
    }
    return program;
}

static void run(int input, int output, const struct program *program)
{
    dup2(input, 0);
    dup2(output, 1);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    execv(program->argv[0], (char *const *)(uintptr_t)program->argv);
    _exit(127);
}

static void read_lines(FILE *from)
{
    char text[TEXT + 64];
    while (fgets(text, sizeof text, from) != NULL && text[0] != '\n') {
        char *equals = strchr(text, '=');
        if (equals == NULL || line_count == LINES) {
            give_up("a line of tests/cloud.py is none");
        }
        text[strcspn(text, "\n")] = '\0';
        *equals = '\0';
        snprintf(lines[line_count].name, sizeof lines[0].name, "%.47s", text);
        snprintf(lines[line_count].value, sizeof lines[0].value, "%s", equals + 1);
        line_count++;
    }
}

/* Its standard input is ours to hold: it ends when we do. */
static void start(const struct program *program)
{
    size_t before = line_count;
    int in[2], out[2];
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) {
        give_up("no pipes");
    }
    pid_t pid = fork();
    if (pid == 0) {
        run(in[0], out[1], program);
    }
    close(in[0]);
    close(out[1]);
    FILE *from = fdopen(out[0], "r");
    if (pid < 0 || from == NULL) {
        give_up("it cannot be started");
    }
    read_lines(from);
    fclose(from);
    if (line_count == before) {
        fprintf(stderr, "cloud: %s did not start: scripts/need.sh test makes it\n",
                program->argv[0]);
        abort();
    }
}

static const char *find(const char *name)
{
    for (size_t i = 0; i < line_count; i++) {
        if (strcmp(lines[i].name, name) == 0) {
            return lines[i].value;
        }
    }
    return NULL;
}

const char *dk_cloud(const char *name)
{
    const struct program *program = program_of(name);
    if (find(program->name != NULL ? program->name : "FAKE_PLAIN") == NULL) {
        start(program);
    }
    const char *value = find(name);
    if (value == NULL) {
        give_up(name);
    }
    return value;
}

/* ---- asking it ------------------------------------------------------------------------------- */

static int connect_to(const char *url)
{
    unsigned port = 0;
    if (sscanf(url, "http://127.0.0.1:%u", &port) != 1) {
        give_up(url);
    }
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0) {
        give_up("it does not answer");
    }
    return fd;
}

/* The body of an answer of 200. */
static const char *post(const char *url, const char *path, const char *head, const char *body)
{
    static char answer[DK_CLOUD_ANSWER];
    char request[4096];
    int fd = connect_to(url);
    int n =
        snprintf(request, sizeof request,
                 "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n%sContent-Length: "
                 "%zu\r\n\r\n%s",
                 path, head, strlen(body), body);
    size_t got = 0;
    ssize_t more;
    if (n >= (int)sizeof request || write(fd, request, (size_t)n) != n) {
        give_up("a question is too long");
    }
    while (got + 1 < sizeof answer &&
           (more = read(fd, answer + got, sizeof answer - got - 1)) > 0) {
        got += (size_t)more;
    }
    close(fd);
    answer[got] = '\0';
    char *end = strstr(answer, "\r\n\r\n");
    if (strncmp(answer, "HTTP/1.1 200", 12) != 0 || end == NULL) {
        give_up(answer);
    }
    return end + 4;
}

const char *dk_cloud_control(const char *verb, const char *json)
{
    char path[96];
    snprintf(path, sizeof path, "/_control/%s", verb);
    return post(dk_cloud("FAKE_PLAIN"), path, "Content-Type: application/json\r\n", json);
}

void dk_cloud_script(const char *service, const char *operation, const char *answer, int times)
{
    char json[2048];
    snprintf(json, sizeof json, "{\"service\":\"%s\",%s%s%s\"answers\":[%s],\"times\":%d}", service,
             operation != NULL ? "\"operation\":\"" : "", operation != NULL ? operation : "",
             operation != NULL ? "\"," : "", answer, times);
    (void)dk_cloud_control("script", json);
}

int dk_cloud_count(const char *operation)
{
    char quoted[96];
    snprintf(quoted, sizeof quoted, "\"%s\":", operation);
    const char *at = strstr(dk_cloud_control("counts", "{}"), quoted);
    return at != NULL ? atoi(at + strlen(quoted)) : 0;
}

void dk_cloud_reset(void)
{
    (void)dk_cloud_control("reset", "{}");
}

/* The body of a 200 of a KMS that looks at no signature. */
static const char *ask_kms(const char *url, const char *operation, const char *json)
{
    char head[320];
    snprintf(head, sizeof head,
             "Content-Type: application/x-amz-json-1.1\r\nX-Amz-Target: TrentService.%s\r\n"
             "Authorization: AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/kms/aws4_request, "
             "SignedHeaders=host, Signature=0\r\n",
             operation);
    return post(url, "/", head, json);
}

static void make_key(const char *url, char arn[static 128])
{
    const char *answer = ask_kms(url, "CreateKey", "{}");
    const char *at = strstr(answer, "\"arn:aws:kms:");
    if (at == NULL) {
        give_up(answer);
    }
    snprintf(arn, 128, "%.*s", (int)strcspn(at + 1, "\""), at + 1);
}

const char *dk_cloud_moto_key(void)
{
    static char arn[128];
    if (arn[0] == '\0') {
        make_key(dk_cloud("MOTO"), arn);
    }
    return arn;
}

void dk_cloud_local_kms_do(const struct dk_settings *settings, const char *operation,
                           const char *more)
{
    char json[256];
    snprintf(json, sizeof json, "{\"KeyId\":\"%s\"%s}",
             dk_settings_str(settings, DK_OPT_AWS_KMS_KEY_ID), more);
    (void)ask_kms(dk_cloud("LOCAL_KMS"), operation, json);
}

void dk_cloud_boto3_wraps(const uint8_t *key, size_t n, const char *timestamp, char *blob,
                          size_t cap)
{
    char text[128], command[2048];
    dk_base64_encode(key, n, text);
    int length = snprintf(
        command, sizeof command,
        "printf '%%s' '{\"plaintext\":\"%s\",\"context\":{\"TenantId\":\"acme\",\"Purpose\":"
        "\"DataEncryption\",\"Timestamp\":\"%s\"}}' | AWS_ACCESS_KEY_ID=%s "
        "AWS_SECRET_ACCESS_KEY='%s' " PYTHON " tests/oracle_aws.py wrap %s %s %s",
        text, timestamp, dk_cloud("AWS_ID"), dk_cloud("AWS_SECRET"), dk_cloud("FAKE_TLS"),
        dk_cloud("FAKE_CA"), dk_cloud("AWS_KEY_ARN"));
    FILE *from = length < (int)sizeof command ? popen(command, "r") : NULL;
    if (from == NULL || fgets(blob, (int)cap, from) == NULL || pclose(from) != 0) {
        give_up("boto3 did not wrap");
    }
    blob[strcspn(blob, "\n")] = '\0';
}

/* ---- settings -------------------------------------------------------------------------------- */

void dk_cloud_set(struct dk_settings *settings, const char *name, const char *value)
{
    struct dk_err err;
    dk_err_clear(&err);
    if (dk_settings_set(settings, name, value, DK_FROM_FLAG, &err) != DK_OK) {
        give_up(err.text);
    }
}

static void set_aws(struct dk_settings *settings, const char *key, const char *url)
{
    dk_settings_init(settings, &dk_mem_default);
    dk_cloud_set(settings, "AWS_KMS_KEY_ID", key);
    dk_cloud_set(settings, "AWS_REGION", "us-east-1");
    dk_cloud_set(settings, "AWS_ENDPOINT_URL", url);
    dk_cloud_set(settings, "AWS_ACCESS_KEY_ID", dk_cloud("AWS_ID"));
    dk_cloud_set(settings, "AWS_SECRET_ACCESS_KEY", dk_cloud("AWS_SECRET"));
    dk_cloud_set(settings, "AWS_CONFIG_FILE", "/dev/null");
    dk_cloud_set(settings, "AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    dk_cloud_set(settings, "KMS_CA_FILE", dk_cloud("FAKE_CA"));
}

void dk_cloud_aws(struct dk_settings *settings)
{
    set_aws(settings, dk_cloud("AWS_KEY_ARN"), dk_cloud("FAKE_TLS"));
}

void dk_cloud_moto(struct dk_settings *settings)
{
    set_aws(settings, dk_cloud_moto_key(), dk_cloud("MOTO"));
}

void dk_cloud_local_kms(struct dk_settings *settings)
{
    char arn[128];
    make_key(dk_cloud("LOCAL_KMS"), arn);
    set_aws(settings, arn, dk_cloud("LOCAL_KMS"));
}

void dk_cloud_azure(struct dk_settings *settings, const char *key)
{
    dk_settings_init(settings, &dk_mem_default);
    dk_cloud_set(settings, "AZURE_KEY_VAULT_URL", dk_cloud("AZURE_VAULT"));
    dk_cloud_set(settings, "AZURE_KEY_NAME", key);
    dk_cloud_set(settings, "AZURE_TENANT_ID", dk_cloud("AZURE_TENANT"));
    dk_cloud_set(settings, "AZURE_CLIENT_ID", dk_cloud("AZURE_CLIENT"));
    dk_cloud_set(settings, "AZURE_CLIENT_SECRET", dk_cloud("AZURE_SECRET"));
    dk_cloud_set(settings, "AZURE_AUTHORITY_HOST", dk_cloud("FAKE_TLS"));
    dk_cloud_set(settings, "KMS_CA_FILE", dk_cloud("FAKE_CA"));
}

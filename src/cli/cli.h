/*
 * cli: what the subcommands share: arguments, settings, an open library, output, messages.
 *
 * One file a subcommand, each ending in a function that main.c's table names. Data goes to standard
 * output (cli_out), everything else to standard error (cli_say). Exit codes are those of
 * errors.def; a command returns its own.
 */
#ifndef DK_CLI_H
#define DK_CLI_H

#include <stdio.h>

#include "base/file.h"
#include "base/json_out.h"
#include "base/options.h"
#include "dekhand_admin.h"

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_ATTENTION = 3, CLI_FINDINGS = 7 };

struct cli_option {
    const char *name; /* without the dashes */
    char letter;      /* of the short form, 0 = none */
    const char *arg;  /* what its value is called; NULL = a switch */
    bool many;        /* may be given more than once */
    const char *help;
};

struct cli;

struct cli_command {
    const char *name;
    const char *sub; /* second word, or NULL */
    const char *summary;
    const struct cli_option *options; /* ends with a NULL name */
    int (*run)(struct cli *cli);
    bool looks; /* runs with settings that are none, too, and tells of them */
};

extern const struct cli_command cli_commands[]; /* main.c; ends with a NULL name */
extern const struct cli_option cli_common[];    /* options of every command */

#define CLI_ARGS_MAX 64
#define CLI_FAULTS_MAX 16

struct cli_arg {
    const char *name;
    const char *value; /* "" for a switch */
};

struct cli {
    const struct cli_command *command;
    struct cli_arg args[CLI_ARGS_MAX];
    size_t arg_count;
    struct dk_settings settings;
    const char *fault[CLI_FAULTS_MAX]; /* of the settings */
    size_t fault_count;
    struct dekhand *library; /* cli_open */
    char actor[80];
    bool json;
};

/* ---- args.c ---------------------------------------------------------------------------------- */

/* Parses what follows the command. Prints what is wrong and returns CLI_USAGE, or CLI_OK. */
int cli_parse(struct cli *cli, int argc, char **argv);
/* The value given last, or NULL. */
const char *cli_get(const struct cli *cli, const char *name);
bool cli_has(const struct cli *cli, const char *name);
/* Value number i of an option that may be repeated, or NULL. */
const char *cli_nth(const struct cli *cli, const char *name, size_t i);
/* A required option: prints and returns NULL when it is missing. */
const char *cli_need(const struct cli *cli, const char *name);
/* A decimal number of 1 to `max`, plain: no sign, no blank, no leading zero. */
bool cli_read_count(const char *text, unsigned long max, unsigned long *out);
void cli_help(FILE *to, const struct cli_command *command);

/* ---- session.c ------------------------------------------------------------------------------- */

/* Reads flags, environment and file into cli->settings; faults end it unless the command looks. */
int cli_load_settings(struct cli *cli);
/* Opens the library with them. */
int cli_open(struct cli *cli);
/* The same, saying nothing: the library's code. */
int cli_open_quietly(struct cli *cli, struct dekhand_error *error);
/* Closes it and adds its trouble to the exit code. */
int cli_close(struct cli *cli, int code);
/* The settings as the library takes them; `list` has room for DK_OPT_COUNT. */
struct dekhand_config cli_config(struct cli *cli, struct dekhand_setting *list);
/* Prints an error record in the form of all errors; returns its exit code. */
int cli_fail(const struct cli *cli, const struct dekhand_error *error);
int cli_fail_internal(const struct cli *cli, const struct dk_err *err);
/* A mistake in the call: "dekhand: ..." and CLI_USAGE. */
int cli_usage(const char *format, ...) DK_PRINTF(1, 2);
/* A line on standard error, control characters made visible. */
void cli_say(const char *format, ...) DK_PRINTF(1, 2);
/* After a listing: 0 = all was believed; else says so. The exit code. */
int cli_tell_tampered(size_t rows);
/* The same done to a text, in place; lines stay lines. */
void cli_make_printable(char *text);
int cli_exit_code(int code);
/* The text that may leave the process: a wrong key and a failed tag read the same. */
const char *cli_error_text(const struct dekhand_error *error);

/* ---- output.c -------------------------------------------------------------------------------- */

/* Standard output, or the file of -o that appears whole or not at all. */
struct cli_out {
    int fd;
    bool to_file;
    bool failed;
    struct dk_new_file file;
    struct dk_err err;
    size_t n;
    char buffer[65536];
};

/* `path` NULL = standard output. */
int cli_out_open(struct cli_out *out, const char *path);
void cli_out_write(struct cli_out *out, const void *p, size_t n);
void cli_out_str(struct cli_out *out, const char *s);
void cli_out_printf(struct cli_out *out, const char *format, ...) DK_PRINTF(2, 3);
/* Flushes, puts the file in place; prints what went wrong and returns CLI_FAILED. */
int cli_out_finish(struct cli_out *out);
/* Leaves no file; what went to standard output has gone. */
void cli_out_abandon(struct cli_out *out);
/* A JSON writer onto the output. */
struct dk_json cli_out_json(struct cli_out *out);
/* null for version 0 and for an empty text. */
void cli_json_version(struct dk_json *json, const char *name, uint32_t version);
void cli_json_text(struct dk_json *json, const char *name, const char *text);

/* doctor.c: a check as a line. */
void cli_print_check(struct cli_out *out, const struct dekhand_check *check);

/* A new folder below TMPDIR, `out` of DK_PATH_MAX bytes; prints what went wrong. */
int cli_scratch_make(const char *what, char *out);
/* The same in `base` (NULL = TMPDIR), saying nothing. */
DK_MUST_USE dk_rc cli_scratch_make_in(const char *base, const char *what, char *out,
                                      struct dk_err *err);
/* Takes it away with the files that lie in it. */
void cli_scratch_remove(const char *dir);

/* A line on a terminal's standard error with rate and time left; silent elsewhere. */
struct cli_progress {
    bool shown;
    int64_t started_ms;
    int64_t printed_ms;
    int64_t total_bytes; /* 0 = unknown */
};
void cli_progress_start(struct cli_progress *progress, int input_fd);
void cli_progress_show(struct cli_progress *progress, int64_t bytes, int64_t rows);
void cli_progress_end(struct cli_progress *progress);
int64_t cli_now_ms(void);

/* ---- signal.c -------------------------------------------------------------------------------- */

/* From here on SIGINT, SIGTERM and SIGHUP end the program and take temporary files with it. */
void cli_signals_catch(void);
/* .. and the first of them is answered by the command, which asks cli_interrupted(). */
void cli_signals_cooperate(void);
bool cli_interrupted(void);
/* Says how far it came ("5 rows, ..") and returns CLI_FAILED; main then ends by the signal. */
int cli_give_up(int64_t done, const char *what);
/* Last in main: `code`, or the end by the signal for which the command gave up. */
int cli_signals_end(int code);
/* dk_new_file_open() of a file whose temporary goes when a signal ends the program. */
DK_MUST_USE dk_rc cli_new_file_open(struct dk_new_file *file, const char *path, struct dk_err *err);

/* ---- contexts -------------------------------------------------------------------------------- */

struct cli_context {
    struct dekhand_pair pairs[17];
    char *storage[17];
    size_t count;
};
/* The `--context k=v` of the call, split at the first `=`. */
int cli_context_read(const struct cli *cli, struct cli_context *out);
void cli_context_free(struct cli_context *context);

/* ---- the commands ---------------------------------------------------------------------------- */

int cli_init(struct cli *cli);
int cli_migrate(struct cli *cli);
int cli_demo(struct cli *cli);
int cli_encrypt(struct cli *cli);
int cli_decrypt(struct cli *cli);
int cli_keys_list(struct cli *cli);
int cli_keys_show(struct cli *cli);
int cli_keys_export(struct cli *cli);
int cli_keys_disable(struct cli *cli);
int cli_keys_enable(struct cli *cli);
int cli_tenants_list(struct cli *cli);
int cli_tenants_set(struct cli *cli);
int cli_rotate(struct cli *cli);
int cli_rewrap(struct cli *cli);
int cli_audit_list(struct cli *cli);
int cli_audit_verify(struct cli *cli);
int cli_audit_export(struct cli *cli);
int cli_audit_prune(struct cli *cli);
int cli_report(struct cli *cli);
int cli_registry_show(struct cli *cli);
int cli_registry_accept(struct cli *cli);
int cli_health(struct cli *cli);
int cli_doctor(struct cli *cli);
int cli_cache_clear(struct cli *cli);
int cli_registry_rekey(struct cli *cli);
int cli_config_show(struct cli *cli);
int cli_bench(struct cli *cli);
int cli_completion(struct cli *cli);
int cli_version(struct cli *cli);

/* bulk.c: encrypt and decrypt with --csv or --jsonl. */
int cli_bulk(struct cli *cli, bool encrypt);

#endif

/* The table of subcommands, and the way from argv to one of them. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"

#define END                                                                                        \
    {                                                                                              \
        NULL, 0, NULL, false, NULL                                                                 \
    }

static const struct cli_option no_options[] = {END};

/* Of encrypt and decrypt alike. */
#define VALUE_OPTIONS                                                                              \
    {"tenant", 0, "ID", false, "the tenant; a UUID may be in either case"},                        \
        {"context", 0, "NAME=VALUE", true, "a pair that must be the same for decrypting"},         \
        {"csv", 0, NULL, false, "a CSV file with a header, from standard input"},                  \
        {"columns", 0, "A,B", true, "the columns to work on (with --csv)"},                        \
        {"jsonl", 0, NULL, false, "a file of JSON objects, one a line, from standard input"},      \
        {"fields", 0, "A,B", true, "the fields to work on (with --jsonl)"},                        \
        {"tenant-column", 0, "C", false, "the column or field that names each row's tenant"},      \
        {"threads", 0, "N", false, "1 to 8, for files (default 2, on one core 1)"},                \
    {                                                                                              \
        "output", 'o', "FILE", false,                                                              \
            "write there, whole or not at all, instead of standard output"                         \
    }

static const struct cli_option encrypt_options[] = {
    VALUE_OPTIONS,
    {"rejects", 0, "FILE", false, "a new file for bad rows, byte for byte"},
    END,
};

static const struct cli_option decrypt_options[] = {
    VALUE_OPTIONS,
    END,
};

static const struct cli_option list_options[] = {
    {"tenant", 0, "ID", false, "only this tenant"},
    END,
};

static const struct cli_option show_options[] = {
    {"tenant", 0, "ID", false, "the tenant"},
    END,
};

static const struct cli_option export_options[] = {
    {"tenant", 0, "ID", false, "the tenant"},
    {"version", 0, "N", false, "the key version"},
    {"allow-key-export", 0, NULL, false, "yes, the key itself shall leave"},
    END,
};

static const struct cli_option version_options[] = {
    {"tenant", 0, "ID", false, "the tenant"},
    {"version", 0, "N", false, "the key version"},
    END,
};

static const struct cli_option tenant_options[] = {
    {"tenant", 0, "ID", false, "the tenant"},
    {"rotation-days", 0, "DAYS", false, "how long its versions encrypt, or `default`"},
    END,
};

static const struct cli_option doctor_options[] = {
    {"print-policy", 0, NULL, false,
     "print the least rights that are needed at the provider of the master key, and do nothing "
     "else"},
    END,
};

static const struct cli_option rotate_options[] = {
    {"tenant", 0, "ID", false, "this tenant, due or not"},
    {"due", 0, NULL, false, "every tenant whose key is due"},
    {"all", 0, NULL, false, "every tenant"},
    {"dry-run", 0, NULL, false, "say what would be done, change nothing"},
    {"compromised", 0, NULL, false, "the old version never encrypts again (not with --due)"},
    END,
};

#define AUDIT_OPTIONS                                                                              \
    {"tenant", 0, "ID", false, "only this tenant's chain"},                                        \
        {"operation", 0, "NAME", false,                                                            \
         "only create, rotate, compromise, export, decrypt, warning, accept-restore, "             \
         "cache-clear, rekey, rewrap, prune, disable, enable or tenant-set"},                      \
        {"since", 0, "TIME", false, "from this day or moment on (UTC)"},                           \
        {"until", 0, "TIME", false, "before this day or moment (UTC)"},                            \
    {                                                                                              \
        "limit", 0, "N", false, "at most so many rows, 0 = all"                                    \
    }

static const struct cli_option audit_list_options[] = {
    AUDIT_OPTIONS,
    END,
};

static const struct cli_option audit_export_options[] = {
    AUDIT_OPTIONS,
    {"output", 'o', "FILE", false, "write there, whole or not at all"},
    END,
};

static const struct cli_option prune_options[] = {
    {"before", 0, "TIME", false, "rows in seals of before this day or moment (UTC)"},
    {"dry-run", 0, NULL, false, "say how many rows would go, change nothing"},
    END,
};

static const struct cli_option rewrap_options[] = {
    {"to", 0, "PROVIDER", false,
     "local, aws-kms or azure-key-vault: one of the two in the settings"},
    {"tenant", 0, "ID", false, "only this tenant's keys, and not the registry's"},
    {"drop", 0, "PROVIDER", false,
     "delete the further wraps of this provider, which is not in the settings any more"},
    END,
};

static const struct cli_option report_options[] = {
    {"cost", 0, NULL, false, "calls of the providers, hit rate, and a forecast at list price"},
    {"days", 0, "N", false, "of the last N days, today with them (default 30)"},
    {"format", 0, "FORM", false, "text, md, html or json"},
    END,
};

static const struct cli_option rekey_options[] = {
    {"leave-damaged", 0, NULL, false, "end it although damaged rows are left: lost for good"},
    END,
};

static const struct cli_option accept_options[] = {
    {"confirm", 0, "ID", false, "the registry's id, as `registry show` prints it"},
    END,
};

static const struct cli_option health_options[] = {
    {"events", 0, NULL, false,
     "a JSON line on standard error for each key that entered its warning phase, once"},
    {"exec", 0, "COMMAND", false, "run it for each of them, with that line as its input"},
    END,
};

static const struct cli_option bench_options[] = {
    {"rows", 0, "N", false, "rows of each file (default 1000000)"},
    {"rounds", 0, "N", false, "interleaved rounds of each figure (default 201)"},
    {"keys", 0, "N", false, "cached keys whose memory is measured (default 1000000)"},
    {"postgres", 0, NULL, false, "the figures of PostgreSQL alone; DATABASE_URL says where"},
    {"tenants", 0, "N", false, "whose keys are made and read in PostgreSQL (default 20000)"},
    {"postgres-tenants", 0, "N", false,
     "so many more stand in the registry when its health is asked for (default 0)"},
    {"kms", 0, NULL, false, "the figures of AWS KMS alone: some 11,000 calls of the settings' key"},
    END,
};

static const struct cli_option migrate_options[] = {
    {"print", 0, NULL, false, "the SQL script, for psql as a role administrator; asks no server"},
    {"supabase", 0, NULL, false, "with --print: as a file of supabase/migrations"},
    END,
};

static const struct cli_option demo_options[] = {
    {"keep", 0, NULL, false, "leave the demo's folder behind"},
    {"here", 0, NULL, false,
     "with the settings' master key, beside the settings' registry; all of it goes at the end"},
    END,
};

const struct cli_option cli_common[] = {
    {"json", 0, NULL, false, "one JSON object instead of text"},
    {"env-file", 0, "FILE", false, "settings (default ./.env, then /etc/dekhand/dekhand.env)"},
    {"help", 'h', NULL, false, "this text"},
    END,
};

const struct cli_command cli_commands[] = {
    {"init", NULL, "make the local master key and the registry, or look whether they are there",
     no_options, cli_init, false},
    {"migrate", NULL,
     "make the registry's schema in PostgreSQL or bring it up to date, without keys",
     migrate_options, cli_migrate, false},
    {"demo", NULL, "two tenants' data encrypted, kept apart and rotated, in a folder of its own",
     demo_options, cli_demo, false},
    {"encrypt", NULL, "encrypt one value, or those of a CSV or JSONL file", encrypt_options,
     cli_encrypt, false},
    {"decrypt", NULL, "decrypt one value, or those of a CSV or JSONL file", decrypt_options,
     cli_decrypt, false},
    {"keys", "list", "every key version", list_options, cli_keys_list, false},
    {"keys", "show", "one tenant's key versions and history", show_options, cli_keys_show, false},
    {"keys", "export", "print a data key, and write down that it left", export_options,
     cli_keys_export, false},
    {"keys", "disable", "have a version open nothing more, for now", version_options,
     cli_keys_disable, false},
    {"keys", "enable", "have a disabled version open again", version_options, cli_keys_enable,
     false},
    {"tenants", "list", "every tenant and its rotation period", list_options, cli_tenants_list,
     false},
    {"tenants", "set", "give a tenant a rotation period of its own", tenant_options,
     cli_tenants_set, false},
    {"rotate", NULL, "give tenants a new key version", rotate_options, cli_rotate, false},
    {"audit", "list", "who changed or opened which key, newest first (100 rows)",
     audit_list_options, cli_audit_list, false},
    {"audit", "verify", "whether every row is one that dekhand wrote, and none is missing",
     no_options, cli_audit_verify, false},
    {"audit", "export", "the whole log, oldest first, one JSON object a line", audit_export_options,
     cli_audit_export, false},
    {"audit", "prune", "delete old rows of the log; what stays still verifies", prune_options,
     cli_audit_prune, false},
    {"report", NULL, "what the master keys cost: calls, hit rate, forecast", report_options,
     cli_report, false},
    {"rewrap", NULL, "put the same data keys under another master key; values stay as they are",
     rewrap_options, cli_rewrap, false},
    {"registry", "show", "the registry's id, pin, seals and anchor", no_options, cli_registry_show,
     false},
    {"registry", "rekey", "make a new registry key, or go on with a rekey that was cut short",
     rekey_options, cli_registry_rekey, false},
    {"registry", "accept-restore", "take a restored, older registry as it stands", accept_options,
     cli_registry_accept, false},
    {"health", NULL, "how keys, provider and database are: 3 = degraded, 7 = unhealthy",
     health_options, cli_health, true},
    {"doctor", NULL, "look at everything, one line a check with its fix: 7 = findings",
     doctor_options, cli_doctor, true},
    {"cache", "clear", "have every process read its keys again", no_options, cli_cache_clear,
     false},
    {"config", NULL, "every setting, its value and where it comes from", no_options,
     cli_config_show, false},
    {"bench", NULL, "measure beside yardsticks, on this machine", bench_options, cli_bench, false},
    {"completion", "bash", "a script that completes dekhand's words in bash", no_options,
     cli_completion, false},
    {"completion", "zsh", "the same for zsh", no_options, cli_completion, false},
    {"completion", "fish", "the same for fish", no_options, cli_completion, false},
    {"version", NULL, "the version", no_options, cli_version, false},
    {NULL, NULL, NULL, NULL, NULL, false},
};

static void print_commands(FILE *to)
{
    fprintf(to, "dekhand: a data key for every tenant\n\nusage: dekhand <command> [options]\n\n");
    for (const struct cli_command *c = cli_commands; c->name != NULL; c++) {
        char name[32];
        snprintf(name, sizeof name, "%s%s%s", c->name, c->sub != NULL ? " " : "",
                 c->sub != NULL ? c->sub : "");
        fprintf(to, "  %-25s %s\n", name, c->summary);
    }
    fprintf(to, "\n`dekhand <command> --help` tells more. `dekhand demo` shows it at work.\n");
}

/*
 * A stream that the caller closed would leave its number to the next file, and that file would get
 * what was meant for the stream. Its place is taken; using it the way it is meant still fails.
 */
static bool keep_streams(void)
{
    static const int other_way[] = {O_WRONLY, O_RDONLY, O_RDWR};
    for (int fd = 0; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", other_way[fd]) != fd) {
            return false;
        }
    }
    return true;
}

/* M2: no core file with keys in it, files for the owner alone. */
static void harden(void)
{
    struct rlimit none = {0, 0};
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    setrlimit(RLIMIT_CORE, &none);
    umask(077);
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error with an exit code */
    cli_signals_catch();
}

static const struct cli_command *find(int argc, char **argv, int *words)
{
    const struct cli_command *half = NULL;
    for (const struct cli_command *c = cli_commands; c->name != NULL; c++) {
        if (strcmp(c->name, argv[1]) != 0) {
            continue;
        }
        half = c;
        *words = c->sub == NULL ? 1 : 2;
        if (c->sub == NULL || (argc > 2 && strcmp(c->sub, argv[2]) == 0)) {
            return c;
        }
    }
    if (half == NULL) {
        cli_say("dekhand: there is no command `%s`; `dekhand --help` lists them", argv[1]);
    } else {
        char words_of[64] = "";
        for (const struct cli_command *c = cli_commands; c->name != NULL; c++) {
            if (strcmp(c->name, argv[1]) == 0) {
                snprintf(words_of + strlen(words_of), sizeof words_of - strlen(words_of), "%s%s",
                         words_of[0] != '\0' ? ", " : "", c->sub);
            }
        }
        cli_say("dekhand: `%s` wants a second word: %s", argv[1], words_of);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct cli cli = {0};
    int words = 0;
    harden();
    if (!keep_streams()) {
        return CLI_FAILED;
    }
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_commands(argc < 2 ? stderr : stdout);
        return argc < 2 ? CLI_USAGE : fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
    }
    if (strcmp(argv[1], "--version") == 0) {
        argv[1] = (char *)(uintptr_t) "version";
    }
    cli.command = find(argc, argv, &words);
    if (cli.command == NULL) {
        return CLI_USAGE;
    }
    dk_settings_init(&cli.settings, &dk_mem_default);
    int code = cli_parse(&cli, argc - 1 - words, argv + 1 + words);
    if (code == CLI_OK && cli_has(&cli, "help")) {
        cli_help(stdout, cli.command);
        code = fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
    } else if (code == CLI_OK) {
        cli.json = cli_has(&cli, "json");
        code = cli_load_settings(&cli);
        code = code == CLI_OK ? cli.command->run(&cli) : code;
    }
    dk_settings_clear(&cli.settings);
    for (size_t i = 0; i < cli.fault_count; i++) {
        free((char *)(uintptr_t)cli.fault[i]);
    }
    return cli_signals_end(code);
}

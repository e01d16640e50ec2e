/*
 * demo_app: where `dekhand demo` works, and the table of the application that it plays.
 *
 * Called by demo.c. A back end chooses a place that nobody else has, makes the table there, and at
 * the end takes away all that the demo made, the registry too. One thread.
 */
#ifndef DK_CLI_DEMO_APP_H
#define DK_CLI_DEMO_APP_H

#include "cli/cli.h"

#define DEMO_VALUE_MAX 512
#define DEMO_URL_MAX 2048

struct demo_row {
    size_t id;
    const char *tenant, *name, *phone, *email;
};

struct demo_app {
    const struct demo_app_ops *ops;
    char dir[DK_PATH_MAX];           /* of the demo's files, the registry's anchor among them */
    char database_url[DEMO_URL_MAX]; /* of the demo's registry; "" = in its state directory */
    char migrate_url[DEMO_URL_MAX];  /* "" = the same login makes it */
    char registry[DK_PATH_MAX + 64]; /* where it is, for people */
    char table[DK_PATH_MAX + 64];
    void *self;
};

struct demo_app_ops {
    /*
     * Fills `app` for the store that the settings name. Makes a folder for `dir` and nothing else:
     * on an error not even that.
     */
    dk_rc (*choose)(struct demo_app *app, const struct dk_settings *settings, struct dk_err *err);
    /* Makes the table; the demo's registry is there. */
    dk_rc (*open)(struct demo_app *app, struct dk_err *err);
    dk_rc (*insert)(struct demo_app *app, const struct demo_row *row, struct dk_err *err);
    /* The stored text of a row's column; "" when it is not there. */
    void (*stored)(struct demo_app *app, size_t id, const char *column,
                   char out[static DEMO_VALUE_MAX]);
    /* Also when it is not open. */
    void (*close)(struct demo_app *app);
    /* Takes all away but `dir`, however much of it there is; the error says what is left. */
    dk_rc (*remove)(struct demo_app *app, struct dk_err *err);
};

extern const struct demo_app_ops demo_app_sqlite, demo_app_postgres;

#endif

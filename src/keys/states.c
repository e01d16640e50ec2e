#include "keys/states.h"

const struct dk_limits dk_limits_default = {
    .rotation_us = 90 * DK_DAY_US,
    .warning_us = 7 * DK_DAY_US,
    .ttl_ms = INT64_C(3600) * 1000,
    .hard_ttl_ms = INT64_C(14400) * 1000,
    .poll_ms = 5000,
    .lease_ms = INT64_C(300) * 1000,
    .canary_us = DK_DAY_US,
    .max_keys = 100000,
    .flush_messages = INT64_C(1) << 20,
    .unflushed_max = INT64_C(1) << 28,
    .rotate_messages = INT64_C(1) << 31,
    /* 1024 threads may hold 2^14 uncounted messages each */
    .encrypt_messages = (INT64_C(1) << 32) - (INT64_C(1) << 24),
};

/* Rows: from. Columns: active, retired, disabled, purged. sql/ has the same table as triggers. */
static const bool may_become[DK_STATE_COUNT][DK_STATE_COUNT] = {
    [DK_ACTIVE] = {false, true, false, false},
    [DK_RETIRED] = {false, false, true, false},
    [DK_DISABLED] = {false, true, false, true}, /* the one step back: enable */
    [DK_PURGED] = {false, false, false, false},
};

bool dk_state_may_become(enum dk_state from, enum dk_state to)
{
    return may_become[from][to];
}

dk_rc dk_state_check_open(const struct dk_key_row *row, struct dk_err *err)
{
    char when[DK_TIME_TEXT];
    switch (row->state) {
    case DK_ACTIVE:
    case DK_RETIRED:
        return DK_OK;
    case DK_DISABLED:
        return DK_FAIL(err, DISABLED, "version %u of tenant %s is disabled", row->version,
                       row->tenant.s);
    default:
        dk_time_format(row->purged_at, when);
        return DK_FAIL(err, PURGED, "version %u of tenant %s was purged at %s", row->version,
                       row->tenant.s, when);
    }
}

dk_rc dk_state_check_encrypt(const struct dk_key_row *row, int64_t now_us,
                             const struct dk_limits *limits, struct dk_err *err)
{
    if (row->state != DK_ACTIVE) {
        return DK_FAIL(err, TAMPERED, "version %u of tenant %s is not active", row->version,
                       row->tenant.s);
    }
    if (row->compromised_at != DK_TIME_NONE) {
        return DK_FAIL(err, COMPROMISED, "version %u of tenant %s is marked compromised",
                       row->version, row->tenant.s);
    }
    if (now_us - row->created_at > DK_ENCRYPT_MAX_US) {
        return DK_FAIL(err, EXPIRED, "version %u of tenant %s is older than two years",
                       row->version, row->tenant.s);
    }
    if (row->messages >= limits->encrypt_messages) {
        return DK_FAIL(err, KEY_EXHAUSTED, "version %u of tenant %s has sealed %lld messages",
                       row->version, row->tenant.s, (long long)row->messages);
    }
    return DK_OK;
}

bool dk_state_is_due(const struct dk_key_row *row, int64_t now_us, const struct dk_limits *limits)
{
    return row->compromised_at != DK_TIME_NONE || row->expires_at - limits->warning_us <= now_us ||
           row->messages >= limits->rotate_messages;
}
